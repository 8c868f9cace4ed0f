"""Assemble the corpus of music, sounds and rooms from Debian packages.

python scripts/corpus.py                          # all of it, about 5 GB of downloads
python scripts/corpus.py --package lugaru-data    # a few packages only

The same as `python -m fingerprint.lab corpus`.
"""

from fingerprint.lab.__main__ import main

if __name__ == "__main__":
    import sys

    main(["corpus", *sys.argv[1:]], prog_name="corpus.py")
