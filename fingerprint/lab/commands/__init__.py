"""The laboratory's commands, one a file; see `fingerprint.lab.__main__`."""
