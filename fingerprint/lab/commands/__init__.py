"""The lab's commands, one a file; see `fingerprint.lab.__main__`."""
