"""Neighbours of the query's windows to ranked places in tracks. Pure NumPy.

Query time t plays track time `offset + rate * t`. Three steps, each dearer and for fewer places:
neighbours vote for (track, offset); the places with most votes are scored against every stored
vector under the query, at rate 1 and offsets nearby; the best of those are scored at other rates.

A library row is compared with the query window nearest to it in time. Query windows are denser
than library rows (`query.hop` divides `hop`), so that window is at most half a query hop away.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fingerprint.config import Range, SearchConfig
from fingerprint.types import Candidate, Fingerprint, Floats, Hits, Ints, Rows

Doubles = NDArray[np.float64]

PLACES = 3  # per track that are scored: a chorus comes back, but must not crowd others out
REFINED = 10  # places that are scored at other rates
RATE_GAIN = 0.01  # of the score, for which rate 1 is given up
TIE = 5  # decimals; scores that agree to so many are equal, and the earlier place wins


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A stretch of a track wide enough for every alignment that is tried around `guess`.

    `times` (R,) are those of the library's rows, whose grid runs on past the track's ends, and
    `similarity` (R, N + 1) their cosines with the query's windows: 0 past the ends of the track,
    and in the last column, which stands for "no window here". `heard` (N + 1,): not silent.
    """

    guess: Candidate
    times: Doubles  # s into the track
    similarity: Floats
    heard: NDArray[np.bool_]


def rank(
    query: Fingerprint,
    hits: Hits,
    rows: Rows,
    vectors: Callable[[Ints], Floats],
    *,
    hop: float,
    config: SearchConfig,
    top: int,
) -> list[Candidate]:
    """The at most `top` tracks that best explain the query, best first, each at its best place.

    Ties go to the lower track number and the earlier place.

    Args:
        query: (N, D) at a hop that divides `hop`. The time taken grows with the cube of N when
            rates are tried: cut queries of more than a minute.
        hits: neighbours of the query's rows among the library's, in any order.
        rows: which library rows are whose.
        vectors: row numbers (K,) to stored vectors (K, D), of any float type.
        hop: s between a track's rows; its row i is at i * hop.
        config: how many places and which rates to try.
        top: how many tracks to return.
    """
    guesses = _vote(query, hits, rows, hop=hop, most=config.candidates)
    if not guesses:
        return []
    reach = max(1 - config.rates[0], config.rates[1] - 1, 0.0)
    places = _places(guesses, query, rows, vectors, hop=hop, reach=reach)
    places.sort(key=lambda place: _order(place.guess))
    found = [place.guess for place in places]
    shifts, rates = _trials(query, hop, config.rates)
    found[:REFINED] = [_refine(place, query, shifts, rates) for place in places[:REFINED]]
    best: dict[int, Candidate] = {}
    for candidate in sorted(found, key=_order):
        best.setdefault(candidate.track, candidate)
    return list(best.values())[:top]


def _order(candidate: Candidate) -> tuple[float, int, float]:
    return -round(candidate.score, TIE), candidate.track, candidate.offset


def _vote(query: Fingerprint, hits: Hits, rows: Rows, *, hop: float, most: int) -> list[Candidate]:
    """The places that most neighbours agree on, most votes first; scores are left at 0.

    A hit says "the query starts here" with its squared cosine as weight. Votes are counted in bins
    of half a hop; a place is three bins wide, since a true offset spreads over a whole hop.
    """
    track = np.searchsorted(rows.starts, hits.row, side="right") - 1
    offset = (hits.row - rows.starts[track]) * hop - (query.start + hits.query * query.hop)
    weight = np.maximum(hits.similarity, 0).astype(np.float64) ** 2
    step = np.floor(offset / (hop / 2)).astype(np.int64)
    step -= step.min(initial=0)
    stride = step.max(initial=0) + 2  # An empty bin between tracks, so that none are joined.
    bins, which = np.unique(track * stride + step, return_inverse=True)  # (B,), (M,)
    left, here, right = _joined(bins, np.bincount(which, weight))
    middle = _joined(bins, np.bincount(which, weight * offset))[1] / np.maximum(here, 1e-9)
    peaks = np.flatnonzero((here > left) & (here >= right) & (here > 0))
    places: list[Candidate] = []
    used: dict[int, int] = {}
    for b in peaks[np.argsort(-here[peaks], kind="stable")]:
        number = int(bins[b] // stride)
        used[number] = used.get(number, 0) + 1
        if used[number] <= PLACES:
            places.append(Candidate(number, float(middle[b]), rate=1.0, score=0.0))
        if len(places) == most:
            break
    return places


def _joined(bins: Ints, sums: NDArray[Any]) -> Doubles:
    """Each of the bins with its two neighbours: (3, B) for the bin before, this one and the next.

    `bins` (B,) ascend and need not be consecutive; a bin that is not listed holds nothing.
    """
    near = bins + np.array([[-1], [1]])  # (2, B)
    at = np.minimum(np.searchsorted(bins, near), len(bins) - 1)
    there = bins[at] == near
    joined = sums + (sums[at] * there).sum(axis=0)
    before, after = joined[at] * there
    return np.stack([before, joined, after])


def _places(
    guesses: list[Candidate],
    query: Fingerprint,
    rows: Rows,
    vectors: Callable[[Ints], Floats],
    *,
    hop: float,
    reach: float,
) -> list[_Place]:
    """Compare the query with the library around each guess, and settle each guess's offset.

    The stretch holds every line through a point of the guessed alignment whose rate is within
    `reach` of 1, and a spare hop or two at both ends.
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
        _settle(_Place(guess, times, stored[row] @ windows, heard), query, hop)
        for guess, times, row in zip(
            guesses, position * hop, which.reshape(number.shape), strict=True
        )
    ]


def _settle(place: _Place, query: Fingerprint, hop: float) -> _Place:
    """Find the best offset within a hop of the guess, at rate 1.

    Only offsets that put a query window right on each library row are tried: a query hop apart,
    they make every comparison that there is. However short, the query covers a row in one of them.
    """
    near = round((place.guess.offset + query.start) / query.hop)
    reach = round(hop / query.hop)
    lags = np.arange(near - reach, near + reach + 1, dtype=np.float64)
    offsets: Doubles = lags * query.hop - query.start
    scores = _scores(place, query, offsets, np.ones(len(offsets)))
    best = int(np.argmax(np.round(scores, TIE)))
    shift = _vertex(scores[best - 1 : best + 2]) * query.hop
    guess = Candidate(place.guess.track, float(offsets[best] + shift), 1.0, float(scores[best]))
    return replace(place, guess=guess)


def _trials(query: Fingerprint, hop: float, rates: Range) -> tuple[Doubles, Doubles]:
    """Other rates to try and how far to shift the offset for each: (A,) and (A,).

    Neighbouring rates drift apart by a query hop over the query. An alignment at rate 1 can be
    right at any moment of a query of another rate: so each line goes through one of those moments,
    spaced so that the lines are a query hop apart. No trials where the query is so short that the
    slowest and the fastest rate part by less than two hops.
    """
    span = (len(query.vectors) - 1) * query.hop
    if span * (rates[1] - rates[0]) < 2 * hop:
        return np.empty(0), np.empty(0)
    step = query.hop / span
    tried = 1 + step * np.arange(np.ceil((rates[0] - 1) / step), (rates[1] - 1) / step + 1e-9)
    lines = np.ceil(np.abs(tried - 1) / step).astype(np.int64) + 1
    moments = [query.start + np.linspace(0, span, number) for number in lines]
    shifts = [(1 - rate) * moment for rate, moment in zip(tried, moments, strict=True)]
    return np.concatenate(shifts), np.repeat(tried, lines)


def _refine(place: _Place, query: Fingerprint, shifts: Doubles, rates: Doubles) -> Candidate:
    """The guess, or a better one at another rate."""
    if not len(rates):
        return place.guess
    offsets = place.guess.offset + shifts
    scores = _scores(place, query, offsets, rates)
    best = int(np.argmax(np.round(scores, TIE)))
    if scores[best] < place.guess.score + RATE_GAIN:
        return place.guess
    return _polish(place, query, float(offsets[best]), float(rates[best]))


def _polish(place: _Place, query: Fingerprint, offset: float, rate: float) -> Candidate:
    """Between the steps that were tried: first the rate, about the query's middle, then the offset.

    The score stays that of the best step.
    """
    span = (len(query.vectors) - 1) * query.hop
    middle = query.start + span / 2
    pivot = offset + rate * middle
    sides = np.array([-1.0, 0.0, 1.0])
    step = 2 * query.hop / span  # Of one step, rounding to whole windows leaves little to see.
    rates = rate + sides * step
    scores = _scores(place, query, pivot - rates * middle, rates)
    rate += _vertex(scores) * step
    offsets = pivot - rate * middle + sides * query.hop
    shift = _vertex(_scores(place, query, offsets, np.full(3, rate))) * query.hop
    return Candidate(place.guess.track, float(offsets[1] + shift), rate, float(scores[1]))


def _scores(place: _Place, query: Fingerprint, offsets: Doubles, rates: Doubles) -> Doubles:
    """Mean cosine under each alignment, (A,) offsets and rates, over the rows the query covers.

    A row past the track's ends counts as a cosine of 0, so that a query that overruns the track
    scores less; one where the query is silent does not count. 0 where the query covers no row.
    """
    count = len(query.vectors)
    moments = (place.times - offsets[:, None]) / rates[:, None]  # (A, R) s into the query
    windows = np.rint((moments - query.start) / query.hop)
    column = np.where((windows >= 0) & (windows < count), windows, count).astype(np.int64)
    cosines = place.similarity[np.arange(len(place.times)), column]
    counted = np.maximum(place.heard[column].sum(axis=1), 1)
    # Stored vectors are rounded, and then their cosines can be a little over 1.
    means: Doubles = np.minimum(cosines.sum(axis=1, dtype=np.float64) / counted, 1.0)
    return means


def _vertex(scores: Doubles) -> float:
    """Where between three equally spaced scores, the middle one largest, a parabola peaks: +-0.5.

    0 where there is no such peak.
    """
    if len(scores) < 3:
        return 0.0
    before, middle, after = scores.tolist()
    bend = before - 2 * middle + after
    return min(max((before - after) / (2 * bend), -0.5), 0.5) if bend < 0 else 0.0
