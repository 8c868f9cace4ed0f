"""Neighbours of the query's windows to ranked places in tracks. Pure NumPy.

Four steps, each dearer and for fewer places: neighbours vote for (track, offset); the places with
most votes are scored against every stored vector under the query, at rate 1 and offsets nearby;
the best of those are scored at other rates, coarsely; the best of each track is polished.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import log

import numpy as np

from fingerprint.config import Range
from fingerprint.recognition.alignment import (
    Doubles,
    Places,
    StoredTracks,
    coarse_scores,
    fine_scores,
    places_of,
    rows_covered,
)
from fingerprint.recognition.voting import vote
from fingerprint.types import Candidate, Fingerprint, Hits

REFINED = 10  # places that are scored at other rates
STEP = 0.5  # hops by which neighbouring lines that are tried part over the query
POLISHES = 3  # each around the last one's best, on a grid a third as wide
EVIDENCE = 0.5  # for another rate than a plain one: a logarithm of the likelihood ratio
GRID = 0.06  # residual that even a perfect query may have, as windows and rows lie on grids
TIE = 5  # decimals; scores that agree to so many are equal, and the earlier place wins


def rank(
    query: Fingerprint,
    hits: Hits,
    stored: StoredTracks,
    *,
    rates: Range,
    most: int,
    polished: int = REFINED,
    plain: Sequence[float] = (1.0,),
) -> list[Candidate]:
    """The places that best explain the query, best first, several of a track among them.

    Ties go to the lower track number and the earlier place.

    Args:
        query: (N, D) at a hop that divides that of the tracks. The time taken grows with the cube
            of N when rates are tried: cut queries of more than a minute.
        hits: neighbours of the query's rows among those of the tracks, in any order.
        stored: the tracks; row i of one is at i * hop.
        rates: playback speeds to try.
        most: places that are scored.
        polished: of how many the rate and the offset are measured finely.
        plain: rates that are given, exactly, unless the query speaks against them.
    """
    hop = stored.hop
    guesses = vote(query, hits, stored.rows, hop=hop, most=most)
    if not guesses:
        return []
    reach = max(1 - rates[0], rates[1] - 1, 0.0)
    places = places_of(guesses, query, stored, reach=reach)
    places = _best_first(_settled(places, query, hop))
    best = _tried(places.some(range(min(REFINED, len(guesses)))), query, hop, rates)
    lines = (*best.guesses, *places.guesses[REFINED:])
    places = _best_first(replace(places, guesses=lines))
    if not _tells_rates(query, hop, rates):
        return list(places.guesses)
    fit = [rate for rate in plain if rates[0] <= rate <= rates[1]]
    few = places.some(range(min(polished, len(guesses))))
    lines = (*_polished(few, query, rates, fit, STEP * hop), *places.guesses[polished:])
    return sorted(lines, key=_order)


def settle(
    query: Fingerprint, guesses: Sequence[Candidate], stored: StoredTracks
) -> list[Candidate]:
    """Guesses that are right to about a hop, at the best offset nearby, at rate 1, with a score."""
    if not guesses:
        return []
    places = places_of(guesses, query, stored, reach=0.0)
    return list(_settled(places, query, stored.hop).guesses)


def fit(
    query: Fingerprint,
    line: Candidate,
    stored: StoredTracks,
    *,
    rates: Range,
    plain: Sequence[float] = (1.0,),
) -> Candidate:
    """The best line near one that is known; the arguments are those of `rank`."""
    if not _tells_rates(query, stored.hop, rates):
        return line
    reach = max(1 - rates[0], rates[1] - 1)
    place = places_of([_turned(line, query, 1.0)], query, stored, reach=reach)
    return _polished(replace(place, guesses=(line,)), query, rates, plain, STEP * stored.hop)[0]


def refit(query: Fingerprint, line: Candidate, stored: StoredTracks, *, rates: Range) -> Candidate:
    """The best line, at any of the rates, through a point of one that is known."""
    if not _tells_rates(query, stored.hop, rates):
        return line
    reach = max(1 - rates[0], rates[1] - 1)
    places = places_of([line], query, stored, reach=reach)
    tried = _tried(places, query, stored.hop, rates, line.rate)
    return _polished(tried, query, rates, (), STEP * stored.hop)[0]


def _order(candidate: Candidate) -> tuple[float, int, float]:
    return -round(candidate.score, TIE), candidate.track, candidate.offset


def _best_first(places: Places) -> Places:
    order = sorted(range(len(places.guesses)), key=lambda i: _order(places.guesses[i]))
    return places.some(order)


def _settled(places: Places, query: Fingerprint, hop: float) -> Places:
    """Find the best offset within a hop of each guess, at rate 1.

    Only offsets that put a query window right on each library row are tried: a query hop apart,
    they make every comparison that there is. However short, the query covers a row in one of them.
    """
    near = np.rint((_offsets(places) + query.start) / query.hop)
    reach = round(hop / query.hop)
    lags = near[:, None] + np.arange(-reach, reach + 1)
    offsets = (lags * query.hop - query.start).astype(np.float64)  # (C, A)
    scores = coarse_scores(places, query, offsets, np.ones(offsets.shape))
    lines = []
    for guess, tried, score in zip(places.guesses, offsets, scores, strict=True):
        best = int(np.argmax(np.round(score, TIE)))
        shift = vertex(score[best - 1 : best + 2]) * query.hop
        lines.append(Candidate(guess.track, float(tried[best] + shift), 1.0, float(score[best])))
    return replace(places, guesses=tuple(lines))


def _offsets(places: Places) -> Doubles:
    return np.array([guess.offset for guess in places.guesses])


def _span(query: Fingerprint) -> float:
    """Seconds from the first window to the last."""
    return (len(query.vectors) - 1) * query.hop


def _tells_rates(query: Fingerprint, hop: float, rates: Range) -> bool:
    """Whether the slowest and the fastest rate part by two hops over the query."""
    return _span(query) * (rates[1] - rates[0]) >= 2 * hop


def _trials(
    query: Fingerprint, hop: float, rates: Range, base: float = 1.0
) -> tuple[Doubles, Doubles]:
    """Other rates to try and how far to shift the offset for each: (A,) and (A,).

    Neighbouring rates drift apart by `STEP` hops over the query. An alignment at rate `base` can
    be right at any moment of a query of another rate: so each line goes through one of those
    moments, spaced so that the lines are as far apart. No trials where rates cannot be told.
    """
    if not _tells_rates(query, hop, rates):
        return np.empty(0), np.empty(0)
    span = _span(query)
    step = STEP * hop / span
    tried = 1 + step * np.arange(np.ceil((rates[0] - 1) / step), (rates[1] - 1) / step + 1e-9)
    lines = np.ceil(np.abs(tried - base) / step).astype(np.int64) + 1
    moments = [query.start + np.linspace(0, span, number) for number in lines]
    shifts = [(base - rate) * moment for rate, moment in zip(tried, moments, strict=True)]
    return np.concatenate(shifts), np.repeat(tried, lines)


def _tried(
    places: Places, query: Fingerprint, hop: float, rates: Range, base: float = 1.0
) -> Places:
    """The places with their guesses, at rate `base`, or better ones at other rates."""
    shifts, tried = _trials(query, hop, rates, base)
    if not len(tried):
        return places
    offsets = _offsets(places)[:, None] + shifts
    scores = coarse_scores(places, query, offsets, np.broadcast_to(tried, offsets.shape))
    lines = []
    for guess, offset, score in zip(places.guesses, offsets, scores, strict=True):
        best = int(np.argmax(np.round(score, TIE)))
        there = Candidate(guess.track, float(offset[best]), float(tried[best]), float(score[best]))
        lines.append(there if there.score > guess.score else guess)
    return replace(places, guesses=tuple(lines))


def _polished(
    places: Places, query: Fingerprint, rates: Range, plain: Sequence[float], width: float
) -> list[Candidate]:
    """The best line near each guess; at a plain rate unless the query speaks against all."""
    lines = _climb(places, query, rates, width)
    if not plain:
        return lines
    held = [
        _climb(
            replace(places, guesses=tuple(_turned(line, query, rate) for line in places.guesses)),
            query,
            (rate, rate),
            width,
        )
        for rate in plain
    ]
    offsets, speeds = np.array([(line.offset, line.rate) for line in lines]).T
    counts = rows_covered(places, query, offsets, speeds)
    best = [max(some, key=lambda line: line.score) for some in zip(*held, strict=True)]
    return [
        free if evidence_for(free.score, even.score, count) else even
        for free, even, count in zip(lines, best, counts.tolist(), strict=True)
    ]


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


def _climb(places: Places, query: Fingerprint, rates: Range, width: float) -> list[Candidate]:
    """The best line near each guess, its rate within `rates`, on ever finer grids about the middle.

    A grid holds each rate at each place of the query's middle. The first reaches `width` (s) either
    way, at the middle and, relative to it, at the ends.
    """
    grid = np.linspace(-1, 1, 9) * width
    turn = 2 / _span(query) * grid if rates[0] < rates[1] else np.zeros(1)
    middle, lines = _middle(query), places.guesses
    for level in range(POLISHES):
        offset, rate = np.array([(line.offset, line.rate) for line in lines]).T[:, :, None]
        tried = np.clip(rate + turn / 3**level, *rates)  # (C, T)
        at_middle = offset + rate * middle + grid / 3**level  # (C, S)
        offsets = at_middle[:, :, None] - tried[:, None] * middle  # (C, S, T)
        every = np.broadcast_to(tried[:, None], offsets.shape).reshape(len(lines), -1)
        offsets = offsets.reshape(len(lines), -1)
        scores = fine_scores(places, query, offsets, every)
        best = np.argmax(np.round(scores, TIE), axis=1)
        lines = tuple(
            Candidate(line.track, float(o[b]), float(r[b]), float(s[b]))
            for line, o, r, s, b in zip(lines, offsets, every, scores, best, strict=True)
        )
    return list(lines)


def vertex(scores: Doubles) -> float:
    """Where between three equally spaced scores, the middle one largest, a parabola peaks: +-0.5.

    0 where there is no such peak.
    """
    if len(scores) < 3:
        return 0.0
    before, middle, after = scores.tolist()
    bend = before - 2 * middle + after
    return min(max((before - after) / (2 * bend), -0.5), 0.5) if bend < 0 else 0.0
