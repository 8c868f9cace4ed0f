"""One module a recogniser, run as `python -m fingerprint.lab.peers.workers.NAME FOLDER SETTINGS`.

They share nothing with `fingerprint`, and run with the packages of their own environments.
"""
