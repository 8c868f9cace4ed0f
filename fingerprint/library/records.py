"""The records of a library's catalog: segments, files and tracks. Small and frozen."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from fingerprint.audio.objects import address_of, look
from fingerprint.audio.peaks import FRAME_RATE, kept_of
from fingerprint.config import INDEXED_DIMS
from fingerprint.library.profiles import Profile
from fingerprint.types import Ints, Track

REMOVED = -1  # owner of rows whose track has been removed
WIDENING = 2  # where an index has not all the numbers of an embedding


def hop_block(hop: float) -> int:
    """Frames of `audio.peaks` nearest to a model's hop (s)."""
    return max(1, round(hop * FRAME_RATE))


@dataclass(frozen=True, slots=True)
class Meta:
    """The properties of a library. Its model makes an embedding of `dim` dimensions every `hop` s.

    The profile says which of the embeddings are kept. Their first `indexed_dims` dimensions are in
    the index: as many as the model has Matryoshka dimensions, and at most `dim`.
    """

    model_id: str
    dim: int
    hop: float  # s
    profile: Profile
    indexed_dims: int = INDEXED_DIMS

    def __post_init__(self) -> None:
        object.__setattr__(self, "indexed_dims", min(self.dim, self.indexed_dims))

    @property
    def stored_indexed_dims(self) -> int | None:
        """The number that a library stores; None for the default, which older libraries lack."""
        default = min(self.dim, INDEXED_DIMS)
        return None if self.indexed_dims == default else self.indexed_dims

    @property
    def widening(self) -> int:
        """Hits taken from an index for each one returned; they are reranked by all dimensions."""
        return max(self.profile.widening, WIDENING if self.indexed_dims < self.dim else 1)

    @property
    def peak_block(self) -> int:
        """Frames of `audio.peaks` per row."""
        return hop_block(self.hop) * self.profile.step

    @property
    def peaks_kept(self) -> int:
        """Peaks per row."""
        return kept_of(hop_block(self.hop)) * self.profile.step

    @property
    def row_hop(self) -> float:
        """Seconds between a track's rows in the library."""
        return self.hop * self.profile.step

    @property
    def full_rows(self) -> int:
        """Maximum rows per segment."""
        return self.profile.full_rows(self.dim)


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A segment's file as it was written; digests by `segments.digest` and SHA-256."""

    suffix: str
    bytes: int
    digest: str
    sha256: str


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """A segment and its files."""

    id: int
    rows: int
    files: tuple[FileInfo, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Which tracks a segment holds, in the order of its rows: `owners[i]` has the next `rows[i]`.

    Rows of a removed track, whose embeddings still lie there, have the owner `REMOVED`.
    """

    owners: Ints  # (n,) track ids
    rows: Ints  # (n,)

    @classmethod
    def of(cls, owners: Iterable[int], rows: Iterable[int]) -> Self:
        return cls(
            np.fromiter(owners, dtype=np.int64),
            np.fromiter(rows, dtype=np.int64),
        )

    @property
    def starts(self) -> Ints:
        """First row of every span, and the row after the last: (n + 1,)."""
        return np.concatenate([[0], np.cumsum(self.rows)]).astype(np.int64)

    @property
    def alive(self) -> Ints:
        """Numbers of the spans that belong to a track."""
        return np.flatnonzero(self.owners != REMOVED)

    @property
    def living(self) -> int:
        """How many rows belong to a track."""
        return int(self.rows[self.alive].sum())


@dataclass(frozen=True, slots=True)
class Stamp:
    """The size and the modification time of a file, which show whether it has changed."""

    size: int  # bytes
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Raises OSError if there is no such file or object."""
        if address_of(path):
            return cls(*look(path))
        status = path.stat()
        return cls(status.st_size, _stored(status.st_mtime_ns))


def _stored(number: int) -> int:
    """As SQLite stores it: in 64 bits, which nanoseconds since 1970 outgrow in the year 2262."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


@dataclass(frozen=True, slots=True)
class Listed:
    """The catalog's entry of a track; `content` is the digest of its decoded audio."""

    track: Track
    stamp: Stamp
    content: bytes
    added: float  # s since 1970
    id: int


@dataclass(frozen=True, slots=True)
class LibraryInfo:
    """The size of a library."""

    tracks: int
    hours: float  # of audio
    bytes: int  # on disk
    segments: int
    profile: str
    model_id: str
    format: int
