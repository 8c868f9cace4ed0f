"""Neighbours of the query's windows to ranked places in tracks. Pure NumPy.

Four steps, each dearer and for fewer places: neighbours vote for (track, offset); the places with
most votes are scored against every stored vector under the query, at rate 1 and offsets nearby;
the best of those are scored at other rates, coarsely; the best of each track is polished.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log

import numpy as np

from fingerprint.config import Range
from fingerprint.search.alignment import (
    Doubles,
    Place,
    coarse_scores,
    fine_scores,
    places_of,
    rows_covered,
)
from fingerprint.search.voting import vote
from fingerprint.types import Candidate, Fingerprint, Floats, Hits, Ints, Rows

REFINED = 10  # places that are scored at other rates
STEP = 0.5  # hops by which neighbouring lines that are tried part over the query
POLISHES = 3  # each around the last one's best, on a grid a third as wide
EVIDENCE = 0.5  # for another rate than a plain one: a logarithm of the likelihood ratio
GRID = 0.06  # residual that even a perfect query may have, as windows and rows lie on grids
TIE = 5  # decimals; scores that agree to so many are equal, and the earlier place wins


def rank(
    query: Fingerprint,
    hits: Hits,
    rows: Rows,
    vectors: Callable[[Ints], Floats],
    *,
    hop: float,
    rates: Range,
    most: int,
    top: int,
    plain: Sequence[float] = (1.0,),
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
        rates: playback speeds to try.
        most: places that are scored.
        top: how many tracks to return.
        plain: rates that are given, exactly, unless the query speaks against them.
    """
    guesses = vote(query, hits, rows, hop=hop, most=most)
    if not guesses:
        return []
    reach = max(1 - rates[0], rates[1] - 1, 0.0)
    places = [
        _settle(place, query, hop)
        for place in places_of(guesses, query, rows, vectors, hop=hop, reach=reach)
    ]
    places.sort(key=lambda place: _order(place.guess))
    shifts, tried = _trials(query, hop, rates)
    places[:REFINED] = [_tried(place, query, shifts, tried) for place in places[:REFINED]]
    best: dict[int, Place] = {}
    for place in sorted(places, key=lambda place: _order(place.guess)):
        best.setdefault(place.guess.track, place)
    found = list(best.values())[:top]
    if _tells_rates(query, hop, rates):
        fit = [rate for rate in plain if rates[0] <= rate <= rates[1]]
        return sorted(
            (_polished(place, query, rates, fit, STEP * hop) for place in found), key=_order
        )
    return [place.guess for place in found]


def fit(
    query: Fingerprint,
    line: Candidate,
    rows: Rows,
    vectors: Callable[[Ints], Floats],
    *,
    hop: float,
    rates: Range,
    plain: Sequence[float] = (1.0,),
) -> Candidate:
    """The best line near one that is known; the arguments are those of `rank`."""
    if not _tells_rates(query, hop, rates):
        return line
    reach = max(1 - rates[0], rates[1] - 1)
    (place,) = places_of([_turned(line, query, 1.0)], query, rows, vectors, hop=hop, reach=reach)
    return _polished(replace(place, guess=line), query, rates, plain, STEP * hop)


def _order(candidate: Candidate) -> tuple[float, int, float]:
    return -round(candidate.score, TIE), candidate.track, candidate.offset


def _settle(place: Place, query: Fingerprint, hop: float) -> Place:
    """Find the best offset within a hop of the guess, at rate 1.

    Only offsets that put a query window right on each library row are tried: a query hop apart,
    they make every comparison that there is. However short, the query covers a row in one of them.
    """
    near = round((place.guess.offset + query.start) / query.hop)
    reach = round(hop / query.hop)
    lags = np.arange(near - reach, near + reach + 1, dtype=np.float64)
    offsets: Doubles = lags * query.hop - query.start
    scores = coarse_scores(place, query, offsets, np.ones(len(offsets)))
    best = int(np.argmax(np.round(scores, TIE)))
    shift = vertex(scores[best - 1 : best + 2]) * query.hop
    guess = Candidate(place.guess.track, float(offsets[best] + shift), 1.0, float(scores[best]))
    return replace(place, guess=guess)


def _span(query: Fingerprint) -> float:
    """Seconds from the first window to the last."""
    return (len(query.vectors) - 1) * query.hop


def _tells_rates(query: Fingerprint, hop: float, rates: Range) -> bool:
    """Whether the slowest and the fastest rate part by two hops over the query."""
    return _span(query) * (rates[1] - rates[0]) >= 2 * hop


def _trials(query: Fingerprint, hop: float, rates: Range) -> tuple[Doubles, Doubles]:
    """Other rates to try and how far to shift the offset for each: (A,) and (A,).

    Neighbouring rates drift apart by `STEP` hops over the query. An alignment at rate 1 can
    be right at any moment of a query of another rate: so each line goes through one of those
    moments, spaced so that the lines are as far apart. No trials where rates cannot be told.
    """
    if not _tells_rates(query, hop, rates):
        return np.empty(0), np.empty(0)
    span = _span(query)
    step = STEP * hop / span
    tried = 1 + step * np.arange(np.ceil((rates[0] - 1) / step), (rates[1] - 1) / step + 1e-9)
    lines = np.ceil(np.abs(tried - 1) / step).astype(np.int64) + 1
    moments = [query.start + np.linspace(0, span, number) for number in lines]
    shifts = [(1 - rate) * moment for rate, moment in zip(tried, moments, strict=True)]
    return np.concatenate(shifts), np.repeat(tried, lines)


def _tried(place: Place, query: Fingerprint, shifts: Doubles, rates: Doubles) -> Place:
    """The place with its guess, or a better one at another rate."""
    if not len(rates):
        return place
    guess = place.guess
    scores = coarse_scores(place, query, guess.offset + shifts, rates)
    best = int(np.argmax(np.round(scores, TIE)))
    if scores[best] <= guess.score:
        return place
    offset = float(guess.offset + shifts[best])
    better = Candidate(guess.track, offset, float(rates[best]), float(scores[best]))
    return replace(place, guess=better)


def _polished(
    place: Place, query: Fingerprint, rates: Range, plain: Sequence[float], width: float
) -> Candidate:
    """The best line near the guess; at a plain rate unless the query speaks against all of them."""
    free = _climb(place, query, place.guess, rates, width)
    held = [
        _climb(place, query, _turned(place.guess, query, rate), (rate, rate), width)
        for rate in plain
    ]
    if not held:
        return free
    best = max(held, key=lambda line: line.score)
    count = rows_covered(place, query, free.offset, free.rate)
    return free if evidence_for(free.score, best.score, count) else best


def evidence_for(score: float, plain: float, rows: float) -> bool:
    """Whether a score is so much better than that of a plainer rate that it must be believed.

    As if each row's residual, 1 less its cosine, were the energy of independent Gaussian noise, the
    two are compared by the logarithm of their likelihood ratio.
    """
    return rows * log((1 - plain + GRID) / (1 - score + GRID)) > EVIDENCE


def _turned(line: Candidate, query: Fingerprint, rate: float) -> Candidate:
    """The line of another rate through the same point at the query's middle."""
    offset = line.offset + (line.rate - rate) * _middle(query)
    return replace(line, offset=offset, rate=rate)


def _middle(query: Fingerprint) -> float:
    """Moment (s) halfway between the first window and the last."""
    return query.start + _span(query) / 2


def _climb(
    place: Place, query: Fingerprint, line: Candidate, rates: Range, width: float
) -> Candidate:
    """The best line near this one, its rate within `rates`, on ever finer grids about the middle.

    A grid holds each rate at each place of the query's middle. The first reaches `width` (s) either
    way, at the middle and, relative to it, at the ends.
    """
    turn = 2 * width / _span(query) * np.linspace(-1, 1, 9)
    shift = width * np.linspace(-1, 1, 9)
    middle = _middle(query)
    for level in range(POLISHES):
        tried = np.unique(np.clip(line.rate + turn / 3**level, *rates))
        at_middle = line.offset + line.rate * middle + shift / 3**level
        offsets = (at_middle[:, None] - tried * middle).ravel()
        every = np.broadcast_to(tried, (len(shift), len(tried))).ravel()
        scores = fine_scores(place, query, offsets, every)
        best = int(np.argmax(np.round(scores, TIE)))
        line = Candidate(line.track, float(offsets[best]), float(every[best]), float(scores[best]))
    return line


def vertex(scores: Doubles) -> float:
    """Where between three equally spaced scores, the middle one largest, a parabola peaks: +-0.5.

    0 where there is no such peak.
    """
    if len(scores) < 3:
        return 0.0
    before, middle, after = scores.tolist()
    bend = before - 2 * middle + after
    return min(max((before - after) / (2 * bend), -0.5), 0.5) if bend < 0 else 0.0
