"""What recognition works with: a model, a reference to search, and one query of the two."""

from dataclasses import dataclass
from typing import Protocol

from fingerprint.config import SearchConfig
from fingerprint.index.landmarks import Query as Landmarks
from fingerprint.recognition.alignment import StoredTracks
from fingerprint.recognition.confidence import Calibration
from fingerprint.recognition.verification import StoredPeaks
from fingerprint.types import Background, Candidate, Clip, Fingerprint, Floats, Hits, Track


class Model(Protocol):
    """What recognition needs of a model; `fingerprint.model` has the real one."""

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
    """Tracks that can be searched: a library at one moment, or some tracks of it."""

    @property
    def cohort(self) -> Floats:
        """Rows (R, D) of random passages, against which a query's scores are normalised."""
        ...

    def search(self, vectors: Floats, *, neighbours: int, search_k: int) -> Hits:
        """The nearest rows of each of `vectors` (M, D) that is not silent."""
        ...

    def vote(self, query: Landmarks, most: int) -> list[Candidate]:
        """At most `most` places with landmarks in common with a query; none without an index."""
        ...

    def track(self, number: int) -> Track | None:
        """The track of that number in `rows`; None if it is gone since."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A clip with all that answering it needs; `rows` are its dense embeddings."""

    clip: Clip
    rows: Fingerprint
    model: Model
    reference: Reference
    config: SearchConfig
