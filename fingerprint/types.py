"""The records that pass between modules, small and frozen. NumPy only.

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

FULL_SCALE = 32_768  # int16 samples are divided by it to give floats in [-1, 1)


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
    """Embeddings of a recording's overlapping windows.

    Row i of `vectors` (N, D) float32 describes the window that begins `start + i * hop` seconds
    into the recording. Rows have unit length, except rows of zeros, which stand for silence and
    match nothing. `start` is negative for a query shorter than a window, which is padded.
    `clearness` (N,), above 0, is the length of each embedding before normalisation: noise lowers
    it. None if unknown, as for stored rows.
    """

    vectors: Floats
    hop: float  # s
    start: float = 0.0  # s
    clearness: Floats | None = None


class SpeedWanted(Exception):  # noqa: N818 - a request to the client, not an error
    """Recognition needs an outline of the query at another speed, which it does not have."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        super().__init__(f"the query is needed with a change of speed of {speed} undone")


@dataclass(frozen=True, slots=True, eq=False)
class Outline(Clip):
    """A query without its sound: what recognition needs of it, computed by the client.

    `samples` are zeros. `rows` are its embeddings, `heights` (F, bins) those of its spectral
    template, and `peaks` those of its landmarks. `others` are outlines of the same sound with
    changes of speed undone, by speed.
    """

    rows: Fingerprint
    heights: Floats
    peaks: PeakCodes
    others: "Mapping[float, Outline]" = field(default_factory=dict)

    def at_speed(self, speed: float) -> "Outline":
        """The outline with a change of speed undone.

        Raises:
            SpeedWanted: it is not among `others`.
        """
        if (found := self.others.get(round(speed, 6))) is None:
            raise SpeedWanted(speed)
        return found


@dataclass(frozen=True, slots=True)
class Tags:
    """A recording's tags; empty strings if the file has none."""

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
    """M hits, nearest neighbours of query rows, in no particular order.

    `query` (M,) is the query's row, `row` (M,) the library's row, `similarity` (M,) their cosine.
    """

    query: Ints
    row: Ints
    similarity: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Which library rows belong to which track: track i has `starts[i]:starts[i + 1]`, (n + 1,)."""

    starts: Ints

    def __len__(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """P passages of other music for small libraries: embeddings (P, R, D), peaks (P, R, kept).

    Rows are `hop` (s) apart. See `recognition.cohort`.
    """

    vectors: Floats
    peaks: PeakCodes
    hop: float  # s


@dataclass(frozen=True, slots=True)
class PeakFit:
    """How well a candidate's spectral peaks fit the query; see `recognition.verification`.

    `score`: in spreads above the scores of random places of the library. `sharpness`: its distance,
    in spreads, from the scores at nearby shifts. `peaks`: number of peaks under the query. `shift`
    (s): added to the offset, gives the best fit. `breadth`: over how many frequencies the fit is
    spread, about the square root of their number.
    """

    score: float
    sharpness: float
    peaks: int
    shift: float = 0.0
    breadth: float = 0.0


NO_PEAKS = PeakFit(0.0, 0.0, 0)  # of a candidate that is not verified


@dataclass(frozen=True, slots=True)
class Candidate:
    """An alignment of the query with a track, before it has a name and a confidence.

    `track`: the track's number in `Rows`. `offset`: s into the track at which the query's start
    falls. `rate`: track time per query time. `score`: mean aligned cosine, at most 1, less a
    handicap if a change of speed was undone to find it. `speed`: that change, or a nearby one at
    which the spectral peaks fit best. `fit`: that of its spectral peaks.
    """

    track: int
    offset: float  # s
    rate: float
    score: float
    speed: float = 1.0
    fit: PeakFit = NO_PEAKS


@dataclass(frozen=True, slots=True)
class Level:
    """Mean and standard deviation of a query's aligned score in its cohort."""

    mean: float
    spread: float


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the evidence for any candidate of a query is relative to.

    `seconds`: length of the query without silence. `level`: that of its cohort, see
    `recognition.cohort`. `rows`: size of the library; the more rows, the higher the best impostor.
    """

    seconds: float
    level: Level
    rows: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence for one candidate, from which its confidence is computed.

    `score`: its mean aligned cosine. `margin`: that score less the best score of any other
    recording. `fit`: that of its spectral peaks. `fit_margin`: the fit's score less the best fit of
    any other recording.
    """

    score: float
    margin: float
    given: Circumstances
    fit: PeakFit = NO_PEAKS
    fit_margin: float = 0.0


@dataclass(frozen=True, slots=True)
class Match:
    """A track that may be the one that plays, with an offset and a confidence.

    `offset`: seconds into the track at which the query's start falls. `rate`: playback speed
    against the track (1.02: played 2 % faster). `confidence`: probability, 0..1, that this is the
    right track, computed from `evidence`. `score`: mean aligned cosine, less a handicap if a change
    of speed was undone to find the track. `repeats`: later offsets at which the track sounds the
    same, from which the query may be as well. `part`: where in the query (s) it plays, if something
    else plays there as well, before it or behind it.
    """

    track: Track
    offset: float  # s
    rate: float
    confidence: float
    score: float
    repeats: tuple[float, ...] = ()  # s
    evidence: Evidence | None = field(default=None, repr=False)
    part: tuple[float, float] | None = None  # s
