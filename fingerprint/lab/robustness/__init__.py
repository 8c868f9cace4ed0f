"""Fault injection, soak and fuzz tests of a library."""
