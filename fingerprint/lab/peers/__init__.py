"""Other recognisers on the queries and the library of `fingerprint evaluate`.

Each of them runs in a process and a virtual environment of its own (`workers`, which import
nothing of `fingerprint`); `python -m fingerprint.lab peers` is the command.
"""
