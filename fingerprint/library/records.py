"""What a library's catalog says of segments, files and tracks: small frozen records."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fingerprint.audio.peaks import FRAME_RATE, kept_of
from fingerprint.config import KEY
from fingerprint.library.profiles import Profile
from fingerprint.types import Track

WIDENING = 2  # where an index has not all the numbers of an embedding


def hop_block(hop: float) -> int:
    """Frames of `audio.peaks` nearest to a model's hop (s)."""
    return max(1, round(hop * FRAME_RATE))


@dataclass(frozen=True, slots=True)
class Meta:
    """What a library is made for: embeddings of one model, `dim` wide, one every `hop` seconds.

    Of those, the profile says how many are kept.
    """

    model_id: str
    dim: int
    hop: float  # s
    profile: Profile

    @property
    def key(self) -> int:
        """How many numbers of an embedding its index has."""
        return min(self.dim, KEY)

    @property
    def widening(self) -> int:
        """How many times as many rows as asked for are compared again by all that is stored."""
        return max(self.profile.widening, WIDENING if self.key < self.dim else 1)

    @property
    def peak_block(self) -> int:
        """Frames of `audio.peaks` whose peaks a row holds."""
        return hop_block(self.hop) * self.profile.step

    @property
    def peaks_kept(self) -> int:
        """How many peaks a row holds."""
        return kept_of(hop_block(self.hop)) * self.profile.step

    @property
    def row_hop(self) -> float:
        """Seconds between a track's rows in the library."""
        return self.hop * self.profile.step

    @property
    def full_rows(self) -> int:
        """Rows of which no more than one segment is made."""
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


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a track's embeddings lie: `rows` rows of a segment, from `first_row` on."""

    track_id: int
    segment: int
    first_row: int
    rows: int

    @property
    def end(self) -> int:
        """The row after the last."""
        return self.first_row + self.rows


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells a changed file from an unchanged one."""

    size: int  # bytes
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Raises OSError if there is no such file."""
        status = path.stat()
        return cls(status.st_size, _stored(status.st_mtime_ns))


def _stored(number: int) -> int:
    """As SQLite stores it: in 64 bits, which nanoseconds since 1970 outgrow in the year 2262."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


@dataclass(frozen=True, slots=True)
class Listed:
    """All that the catalog says of a track; `content` is the digest of its decoded audio."""

    track: Track
    stamp: Stamp
    content: bytes
    added: float  # s since 1970
    place: Extent

    @property
    def id(self) -> int:
        return self.place.track_id


@dataclass(frozen=True, slots=True)
class LibraryInfo:
    """A library in numbers."""

    tracks: int
    hours: float  # of audio
    bytes: int  # on disk
    segments: int
    profile: str
    model_id: str
    format: int
