"""A library over HTTP: the API, the page, and the client that asks it."""
