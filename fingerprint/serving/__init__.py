"""A library served over HTTP: the API, the web page, and the client (`remote`)."""
