"""From a query clip and a reference library to ranked matches, each with a confidence."""
