"""The tables of docs/performance.md, one a module."""
