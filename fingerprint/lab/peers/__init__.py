"""Other recognisers, asked the queries of `fingerprint evaluate` against the same library.

Each of them runs in a process and a virtual environment of its own (`workers`, which import
nothing of `fingerprint`); `python -m fingerprint.lab peers` is the command.
"""
