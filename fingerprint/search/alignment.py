"""The query laid along a stretch of a track, and how well each way of laying it fits. Pure NumPy.

Query time t plays track time `offset + rate * t`: a line. A line's score is the mean cosine of the
library rows under the query with the query there. Query windows are denser than library rows
(`query.hop` divides `hop`), so some window is at most half a query hop away from each row's place.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fingerprint.types import Candidate, Fingerprint, Floats, Ints, Rows

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A stretch of a track wide enough for every line that is tried around `guess`.

    `times` (R,) are those of the library's rows, whose grid runs on past the track's ends, and
    `similarity` (R, N + 1) their cosines with the query's windows: 0 past the ends of the track,
    and in the last column, which stands for "no window here". `heard` (N + 1,): not silent.
    """

    guess: Candidate
    times: Doubles  # s into the track
    similarity: Floats
    heard: NDArray[np.bool_]


def places_of(
    guesses: list[Candidate],
    query: Fingerprint,
    rows: Rows,
    vectors: Callable[[Ints], Floats],
    *,
    hop: float,
    reach: float,
) -> list[Place]:
    """Compare the query with the library around each guess.

    The stretch holds every line through a point of the guessed one whose rate is within `reach`
    of 1, and a spare hop or two at both ends.
    """
    count = len(query.vectors)
    span = (count - 1) * query.hop
    first = np.array([guess.offset for guess in guesses]) + query.start - reach * span - 2 * hop
    width = int(np.ceil((span * (1 + 2 * reach)) / hop)) + 5
    position = np.floor(first / hop).astype(np.int64)[:, None] + np.arange(width)  # (C, R)
    start, end = (rows.starts[[guess.track + i for guess in guesses], None] for i in (0, 1))
    number = np.where((position >= 0) & (start + position < end), start + position, -1)
    needed, which = np.unique(number, return_inverse=True)
    missing = int(needed[0] < 0)
    stored = np.zeros((len(needed), query.vectors.shape[1]), np.float32)
    stored[missing:] = vectors(needed[missing:])  # One read for all places.
    windows = np.zeros((stored.shape[1], count + 1), np.float32)
    windows[:, :count] = query.vectors.T
    heard = (windows != 0).any(axis=0, keepdims=True)[0]
    return [
        Place(guess, times, stored[row] @ windows, heard)
        for guess, times, row in zip(
            guesses, position * hop, which.reshape(number.shape), strict=True
        )
    ]


def coarse_scores(place: Place, query: Fingerprint, offsets: Doubles, rates: Doubles) -> Doubles:
    """Mean cosine along each line, (A,) offsets and rates, with the windows nearest to it.

    A row past the track's ends counts as a cosine of 0, so that a query that overruns the track
    scores less; one where the query is silent does not count. 0 where the query covers no row.
    """
    column = _column(place, _position(place, query, offsets, rates))
    return _mean(place, column, place.similarity[np.arange(len(place.times)), column])


def fine_scores(place: Place, query: Fingerprint, offsets: Doubles, rates: Doubles) -> Doubles:
    """The same between the windows: a parabola through the three cosines next to the line."""
    position = _position(place, query, offsets, rates)  # (A, R)
    column = _column(place, position)
    last = place.similarity.shape[1] - 2
    inner = (column > 0) & (column < last)
    part = np.where(inner, position - column, 0.0)  # -0.5..0.5
    row = np.arange(len(place.times))
    here = place.similarity[row, column]
    before = place.similarity[row, np.maximum(column - 1, 0)]
    after = place.similarity[row, np.minimum(column + 1, last)]
    cosines = here + part * ((after - before) + part * (before - 2 * here + after)) / 2
    return _mean(place, column, cosines)


def rows_covered(place: Place, query: Fingerprint, offset: float, rate: float) -> int:
    """How many rows the score of this line is a mean of."""
    column = _column(place, _position(place, query, np.array([offset]), np.array([rate])))
    return int(place.heard[column].sum())


def _position(place: Place, query: Fingerprint, offsets: Doubles, rates: Doubles) -> Doubles:
    """Where on the query's grid of windows each line puts each row, (A, R)."""
    moments = (place.times - offsets[:, None]) / rates[:, None]  # (A, R) s into the query
    position: Doubles = (moments - query.start) / query.hop
    return position


def _column(place: Place, position: Doubles) -> Ints:
    """The nearest window, or the column that stands for none: (A, R)."""
    count = place.similarity.shape[1] - 1
    window = np.rint(position)
    return np.where((window >= 0) & (window < count), window, count).astype(np.int64)


def _mean(place: Place, column: Ints, cosines: NDArray[np.floating]) -> Doubles:
    counted = np.maximum(place.heard[column].sum(axis=1), 1)
    # Stored vectors are rounded, and then their cosines can be a little over 1.
    means: Doubles = np.minimum(cosines.sum(axis=1, dtype=np.float64) / counted, 1.0)
    return means
