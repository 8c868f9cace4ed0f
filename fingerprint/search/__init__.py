"""From a query's vectors to ranked places in tracks: the index, the matcher, the confidence."""
