"""The corpus: music, sounds and rooms for training and tests, and their splits."""

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
