"""Tables of docs/performance.md, one a module."""
