"""Scores of alignments of a query with a stretch of a track. Pure NumPy.

Query time t plays track time `offset + rate * t`: a line. A line's score is the weighted mean
cosine of the library rows under the query with the query's windows at those moments. A window's
weight is a power of its clearness, because windows covered by noise say little. Query windows are
denser than library rows (`query.hop` divides `hop`), so one is at most half a query hop away from
each row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fingerprint.types import Candidate, Doubles, Fingerprint, Floats, Ints, Rows

POWER = 4.0  # exponent of a window's clearness in its weight (`bench-clearness` measures it)
TINY = 1e-12
BLOCK = 100_000  # cosines processed at a time: more do not fit the processor's cache


class StoredTracks(Protocol):
    """Embeddings of tracks, `hop` seconds apart; `rows` says which belong to which track."""

    @property
    def rows(self) -> Rows: ...
    @property
    def hop(self) -> float: ...
    def vectors(self, rows: Ints, /) -> Floats:
        """The embeddings (K, D) of rows (K,)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """C stretches of tracks, one around each guess, each wide enough for every line tried in it.

    `times` (C, R) of the library's rows; the grid continues past the track's ends. `similarity`
    (C, R, N + 1) holds their cosines with the query's N windows: 0 past the ends of the track and
    in the last column, which stands for "no window here". `weight` (N + 1,) of each window is 0 if
    it is silent. `counted` (C, R) is False for rows that do not count: for a query shorter than a
    window, whose every window holds the whole query, those are the rows past the track's ends.
    """

    guesses: tuple[Candidate, ...]
    times: Doubles  # s into the track
    similarity: Floats
    weight: Floats
    counted: NDArray[np.bool_]

    def some(self, which: Sequence[int]) -> Self:
        """The stretches with these numbers; a number may occur more than once."""
        return replace(
            self,
            guesses=tuple(self.guesses[i] for i in which),
            times=self.times[which],
            similarity=self.similarity[which],
            counted=self.counted[which],
        )


def places_of(
    guesses: Sequence[Candidate],
    query: Fingerprint,
    stored: StoredTracks,
    *,
    reach: float,
) -> Places:
    """Compare the query with the tracks around each guess; `guesses` must not be empty.

    A stretch holds every line through a point of the guess whose rate is within `reach` of 1, and
    a hop or two more at both ends.
    """
    count, hop, starts = len(query.vectors), stored.hop, stored.rows.starts
    span = (count - 1) * query.hop
    first = np.array([guess.offset for guess in guesses]) + query.start - reach * span - 2 * hop
    width = int(np.ceil((span * (1 + 2 * reach)) / hop)) + 5
    position = np.floor(first / hop).astype(np.int64)[:, None] + np.arange(width)  # (C, R)
    start, end = (starts[[guess.track + i for guess in guesses], None] for i in (0, 1))
    number = np.where((position >= 0) & (start + position < end), start + position, -1)
    needed, which = np.unique(number, return_inverse=True)
    missing = int(needed[0] < 0)
    vectors = np.zeros((len(needed), query.vectors.shape[1]), np.float32)
    vectors[missing:] = stored.vectors(needed[missing:])  # One read for all places.
    windows = np.zeros((vectors.shape[1], count + 1), np.float32)
    windows[:, :count] = query.vectors.T
    weight = np.append(weights_of(query), np.float32(0))
    which = which.reshape(number.shape)
    similarity = (vectors @ windows)[which]
    times = (position * hop).astype(np.float64)
    counted = np.logical_or(vectors.any(axis=1), query.start >= 0)[which]
    return Places(tuple(guesses), times, similarity, weight, counted)


def nearest_windows(query: Fingerprint, moments: Doubles) -> tuple[Ints, NDArray[np.bool_]]:
    """The number of the query's window nearest to each moment (s), and whether there is one.

    Both have the shape of `moments`. Silent windows count as missing; the number of a missing
    window is that of any other.
    """
    number = np.rint((moments - query.start) / query.hop).astype(np.int64)
    there = (number >= 0) & (number < len(query.vectors))
    number = np.where(there, number, 0)
    return number, there & np.any(query.vectors, axis=1)[number]


def interpolated(near: Floats, far: Floats, share: Doubles) -> Doubles:
    """Embeddings between rows `near` and `far` (N, D), at a share (N,) of the way.

    They are shorter than the rows that they are mixed of.
    """
    mixed: Doubles = (1 - share[:, None]) * near + share[:, None] * far
    return mixed


def weights_of(query: Fingerprint) -> Floats:
    """The weight of each window of a query, (N,): a power of its clearness, 0 if silent."""
    weights = np.ones(len(query.vectors), np.float32)
    if query.clearness is not None:
        weights = (query.clearness / max(float(query.clearness.max(initial=0)), TINY)) ** POWER
    weights[~query.vectors.any(axis=1)] = 0
    return weights


def coarse_scores(places: Places, query: Fingerprint, offsets: Doubles, rates: Doubles) -> Doubles:
    """Weighted mean cosine along each line, of each row with the window nearest to it: (C, A).

    A row past the track's ends has a cosine of 0, so a query that overruns the track scores less.
    Rows where the query is silent do not count. 0 if the query covers no row.
    """

    def score(places: Places, position: Doubles) -> Doubles:
        column = _column(places, position)
        return _mean(places, column, _cosines(places, column))

    return _in_blocks(score, places, query, offsets, rates)


def fine_scores(places: Places, query: Fingerprint, offsets: Doubles, rates: Doubles) -> Doubles:
    """As `coarse_scores`, but between windows: by a parabola through the three nearest cosines."""

    def score(places: Places, position: Doubles) -> Doubles:
        column = _column(places, position)
        last = places.similarity.shape[2] - 2
        inner = (column > 0) & (column < last)
        part = np.where(inner, position - column, 0.0)  # -0.5..0.5
        here = _cosines(places, column)
        before = _cosines(places, np.maximum(column - 1, 0))
        after = _cosines(places, np.minimum(column + 1, last))
        cosines = here + part * ((after - before) + part * (before - 2 * here + after)) / 2
        return _mean(places, column, cosines)

    return _in_blocks(score, places, query, offsets, rates)


def rows_covered(places: Places, query: Fingerprint, offsets: Doubles, rates: Doubles) -> Ints:
    """The number of rows that the score of each line, (C,) offsets and rates, averages: (C,)."""
    position = _position(places, query, offsets[:, None], rates[:, None])
    covered: Ints = (places.weight[_column(places, position)[:, 0]] > 0).sum(axis=1)
    return covered


def _in_blocks(
    score: Callable[[Places, Doubles], Doubles],
    places: Places,
    query: Fingerprint,
    offsets: Doubles,
    rates: Doubles,
) -> Doubles:
    """The scores (C, A) of all lines, a few places at a time."""
    count = len(places.guesses)
    step = max(1, BLOCK // (offsets.shape[1] * places.times.shape[1]))
    if step >= count:
        return score(places, _position(places, query, offsets, rates))
    parts = []
    for first in range(0, count, step):
        which = range(first, min(first + step, count))
        here = places.some(which)
        parts.append(score(here, _position(here, query, offsets[which], rates[which])))
    return np.concatenate(parts)


def _position(places: Places, query: Fingerprint, offsets: Doubles, rates: Doubles) -> Doubles:
    """The fractional window of the query at which each line puts each row, (C, A, R)."""
    moments = (places.times[:, None] - offsets[:, :, None]) / rates[:, :, None]  # s into the query
    position: Doubles = (moments - query.start) / query.hop
    return position


def _column(places: Places, position: Doubles) -> Ints:
    """The nearest window, or the last column if there is none: (C, A, R)."""
    count = places.similarity.shape[2] - 1
    window = np.rint(position)
    there = (window >= 0) & (window < count) & places.counted[:, None]
    return np.where(there, window, count).astype(np.int64)


def _cosines(places: Places, column: Ints) -> Floats:
    """Of each row with the window in its column, (C, A, R)."""
    count, rows, columns = places.similarity.shape
    begin = (np.arange(count * rows) * columns).reshape(count, 1, rows)
    cosines: Floats = places.similarity.take(begin + column)
    return cosines


def _mean(places: Places, column: Ints, cosines: NDArray[np.floating]) -> Doubles:
    weight = places.weight.take(column)
    total = (cosines * weight).sum(axis=-1, dtype=np.float64)
    counted = np.maximum(weight.sum(axis=-1, dtype=np.float64), TINY)
    # Stored vectors are quantised, so their cosines can slightly exceed 1.
    means: Doubles = np.minimum(total / counted, 1.0)
    return means
