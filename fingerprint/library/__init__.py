"""The folder that remembers music: catalog, immutable segments, indexing, identifying."""
