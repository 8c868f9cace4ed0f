"""One module a recogniser, run as `python -m comparison.workers.NAME FOLDER SETTINGS`.

They share nothing with `fingerprint`, and run with the packages of their own environments.
"""
