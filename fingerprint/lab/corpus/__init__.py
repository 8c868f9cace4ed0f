"""The music, sounds and rooms to train and test on, and how they are split."""

from fingerprint.lab.corpus.manifest import Corpus, CorpusFile
from fingerprint.lab.corpus.recordings import Recordings, load_recordings, load_sounds
from fingerprint.lab.corpus.rooms import Responses, load_responses

__all__ = [
    "Corpus",
    "CorpusFile",
    "Recordings",
    "Responses",
    "load_recordings",
    "load_responses",
    "load_sounds",
]
