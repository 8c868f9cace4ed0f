"""What recognition needs of a model and of the tracks that it searches, as protocols."""

from typing import Protocol

from fingerprint.index.landmarks import Query as Landmarks
from fingerprint.recognition.alignment import StoredTracks
from fingerprint.recognition.confidence import Calibration
from fingerprint.recognition.verification import StoredPeaks
from fingerprint.types import Background, Candidate, Clip, Fingerprint, Floats, Hits, Track


class Model(Protocol):
    """The part of a model that recognition uses; `fingerprint.model` has the implementation."""

    @property
    def sample_rate(self) -> int: ...
    @property
    def hop(self) -> float: ...
    @property
    def window(self) -> float: ...
    @property
    def calibration(self) -> Calibration: ...
    @property
    def background(self) -> Background | None: ...
    def embed(self, clip: Clip, /) -> Fingerprint: ...
    def embed_query(self, clip: Clip, /) -> Fingerprint: ...


class Reference(StoredTracks, StoredPeaks, Protocol):
    """Tracks that can be searched: a snapshot of a library, or some of its tracks."""

    @property
    def cohort(self) -> Floats:
        """Rows (R, D) of random passages, against which a query's scores are normalised."""
        ...

    def search(self, vectors: Floats, *, neighbours: int, search_k: int) -> Hits:
        """The nearest rows of each of `vectors` (M, D) that is not silent."""
        ...

    def vote(self, query: Landmarks, most: int) -> list[Candidate]:
        """At most `most` candidates by landmarks; empty if the library has no landmarks."""
        ...

    def track(self, number: int) -> Track | None:
        """The track with that number in `rows`; None if it has been removed."""
        ...
