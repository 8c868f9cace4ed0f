"""The library on disk: catalog, immutable segments, indexing, sync, verify, merge, exchange."""
