"""The start and the end of a track along a line. Pure NumPy.

The cosine between the recording and the track is high while the track plays, and falls to that of
other music where it does not. The stretch with the largest sum of cosines above the middle between
the two levels is the likeliest one for two levels in noise (Page, "Continuous inspection schemes",
Biometrika 1954); short gaps, such as a word spoken over the music, do not split it.
"""

from dataclasses import dataclass

import numpy as np

from fingerprint.recognition.alignment import nearest_windows
from fingerprint.types import Doubles, Fingerprint, Floats

ASIDE = (-3.0, 3.0)  # s beside the line, where the cosines are those of other music


@dataclass(frozen=True, slots=True)
class Line:
    """At the second t of the recording, the second `place + rate * t` of the track plays."""

    place: float
    rate: float

    def moment(self, place: float) -> float:
        """When (s into the recording) the second `place` of the track plays."""
        return (place - self.place) / self.rate


@dataclass(frozen=True, slots=True)
class Extent:
    """The track plays from `start` to `end` (s); `clearness`: its cosine above other music's."""

    start: float
    end: float
    clearness: float


def extent(
    recording: Fingerprint,
    track: Fingerprint,
    line: Line,
    *,
    window: float,
    sure: tuple[float, float],
    earliest: float,
) -> Extent | None:
    """Where the track plays along a line; None if no rows of the recording are left there.

    Args:
        recording: dense rows, `start` in the recording's time.
        track: its rows, from its beginning.
        line: the line.
        window: s of audio that a row describes. Rows match if their middles hold the same moment.
        sure: from when to when (s) the track is known to play.
        earliest: s, before which its start is not searched.
    """
    middles = np.arange(len(track.vectors), dtype=np.float64) * track.hop + window / 2
    moments: Doubles = (middles - line.place) / line.rate  # (R,) s into the recording
    until = recording.start + len(recording.vectors) * recording.hop + window
    near = (moments >= max(earliest, recording.start)) & (moments <= until)
    rows, moments = track.vectors[near], moments[near]
    along = _cosines(recording, rows, moments - window / 2)
    compared = ~np.isnan(along)
    (inside,) = np.nonzero(compared & (moments >= sure[0]) & (moments <= sure[1]))
    if not len(inside):
        return None
    aside = np.concatenate([_cosines(recording, rows, moments - window / 2 + s) for s in ASIDE])
    level = float(np.median(along[inside]))
    other = float(np.median(aside[~np.isnan(aside)])) if not np.isnan(aside).all() else 0.0
    gain = np.where(compared, along - (level + other) / 2, 0.0)
    first, last = best_stretch(gain, int(inside[np.argmax(along[inside])]))
    reach = window / 2  # windows across the edge count as other music
    return Extent(float(moments[first] - reach), float(moments[last] + reach), level - other)


def best_stretch(gain: Doubles, anchor: int) -> tuple[int, int]:
    """First and last element of the stretch around `anchor` with the largest sum.

    `gain` (R,) is above 0 where the track seems to play, as at `anchor`, and below 0 elsewhere.
    """
    after = np.cumsum(gain[anchor:])
    before = np.cumsum(gain[: anchor + 1][::-1])
    return anchor - int(np.argmax(before)), anchor + int(np.argmax(after))


def _cosines(recording: Fingerprint, rows: Floats, times: Doubles) -> Doubles:
    """Cosines of a track's rows (R, D) with the recording's windows nearest to `times` (R,).

    NaN where the recording has no window, or a silent one.
    """
    number, there = nearest_windows(recording, times)
    cosines: Doubles = np.sum(recording.vectors[number] * rows, axis=1, dtype=np.float64)
    return np.where(there, cosines, np.nan)
