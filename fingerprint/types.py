"""The nouns of the package: small frozen records that pass between modules. NumPy only.

Times are in seconds and frequencies in Hz in every record; frames and rows stay inside modules.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
PeakCodes = NDArray[np.uint16]  # of spectral peaks; see `audio.peaks`


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Mono audio: samples (T,) float32 in [-1, 1], all finite."""

    samples: Floats
    sample_rate: int  # Hz

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """Embeddings of a recording's overlapping windows (segments).

    Row i of `vectors` (N, D) float32 describes the window that begins `start + i * hop` seconds
    into the recording. Rows have unit length, but for rows of zeros, which stand for silence and
    match nothing. `start` is negative for a query shorter than a window, which is padded.
    `clearness` (N,) is above 0, and the greater the more of the window the embedder could make out;
    None where it is not known, as of rows that have been stored.
    """

    vectors: Floats
    hop: float  # s
    start: float = 0.0  # s
    clearness: Floats | None = None


class SpeedWanted(Exception):  # noqa: N818 - it is a question
    """An outline is needed as it is at another speed, which it does not have."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        super().__init__(f"the query is wanted with a change of speed of {speed} undone")


@dataclass(frozen=True, slots=True, eq=False)
class Outline(Clip):
    """A clip without its sound: all that recognition needs of it, computed where the sound is.

    `samples` are zeros. `rows` are its embeddings; `heights` (F, bins) of its spectral template
    and `peaks` of its landmarks, which are those of a query. `others` are outlines of the same
    sound with changes of speed undone, by speed.
    """

    rows: Fingerprint
    heights: Floats
    peaks: PeakCodes
    others: "Mapping[float, Outline]" = field(default_factory=dict)

    def at_speed(self, speed: float) -> "Outline":
        """With a change of speed undone.

        Raises:
            SpeedWanted: it is not among the others.
        """
        if (found := self.others.get(round(speed, 6))) is None:
            raise SpeedWanted(speed)
        return found


@dataclass(frozen=True, slots=True)
class Tags:
    """What a file says about its recording; empty where it says nothing."""

    title: str = ""
    artist: str = ""
    album: str = ""
    isrc: str = ""
    musicbrainz_recording: str = ""
    musicbrainz_release: str = ""


@dataclass(frozen=True, slots=True)
class Track:
    """A recording in the library."""

    path: Path
    duration: float  # s
    tags: Tags = field(default_factory=Tags)


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """Nearest neighbours of query windows in long form, M of them, in no particular order.

    `query` (M,) is the query's row, `row` (M,) the library's row, `similarity` (M,) their cosine.
    """

    query: Ints
    row: Ints
    similarity: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Whose library rows are whose: track i owns `starts[i]:starts[i + 1]`, (n + 1,)."""

    starts: Ints

    def __len__(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """P passages of music as a library's rows: embeddings (P, R, D) and peaks (P, R, kept).

    Rows lie `hop` (s) apart. See `recognition.cohort`.
    """

    vectors: Floats
    peaks: PeakCodes
    hop: float  # s


@dataclass(frozen=True, slots=True)
class PeakFit:
    """How well a track's spectral peaks fit the query at a place; see `recognition.verification`.

    `score` in spreads above what random places of the library score; `sharpness` is how far it
    stands out from that at shifts nearby, in their spreads; `peaks` lie under the query; `shift`
    (s) added to the offset is where they fit best.
    """

    score: float
    sharpness: float
    peaks: int
    shift: float = 0.0


NO_PEAKS = PeakFit(0.0, 0.0, 0)  # of a candidate that is not verified yet, or cannot be


@dataclass(frozen=True, slots=True)
class Candidate:
    """One track's best alignment with the query, before it has a name and a confidence.

    `track` is the track's number in `Rows`; `offset` (s into the track at which the query's start
    falls); `rate` (playback speed against the track); `score` mean aligned cosine, at most 1, less
    a handicap where it was found by undoing a change of speed; `speed` is the one that was undone,
    or the one nearby at which its spectral peaks fit best; `fit` is that of its spectral peaks.
    """

    track: int
    offset: float  # s
    rate: float
    score: float
    speed: float = 1.0
    fit: PeakFit = NO_PEAKS


@dataclass(frozen=True, slots=True)
class Level:
    """Mean and standard deviation of a query's aligned score at places that it is not from."""

    mean: float
    spread: float


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What makes a score more or less telling, the same for every candidate of a query.

    `seconds` of the query that are not silent; `level` of its cohort, see `recognition.cohort`;
    `rows` of the library: the best impostor of many is better than that of few.
    """

    seconds: float
    level: Level
    rows: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for one candidate.

    `score` is its mean aligned cosine; `margin` that score less the best score of any track that is
    another recording; `fit` is that of its spectral peaks, and `fit_margin` its score less the best
    such score of another recording.
    """

    score: float
    margin: float
    given: Circumstances
    fit: PeakFit = NO_PEAKS
    fit_margin: float = 0.0


@dataclass(frozen=True, slots=True)
class Match:
    """A track that may be the one that plays, the place in it, and how sure we are.

    `offset` is in seconds into the track at which the query's start falls; `rate` is the playback
    speed against the track (1.02: played 2 % faster); `confidence` is the estimated probability
    in 0..1 that this is the right track, and rests on `evidence`; `score` is the mean aligned
    cosine similarity, less a handicap if a change of speed had to be undone to find the track.
    `repeats` are later offsets at which the track sounds the same, so that the query may be from
    there as well.
    """

    track: Track
    offset: float  # s
    rate: float
    confidence: float
    score: float
    repeats: tuple[float, ...] = ()  # s
    evidence: Evidence | None = field(default=None, repr=False)
