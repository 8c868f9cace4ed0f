"""Hits to ranked candidates: a track, an offset and a playback rate each. Pure NumPy.

Four steps, each more expensive and for fewer candidates: hits vote for (track, offset); the
candidates with most votes are scored against every stored row under the query, at rate 1 and nearby
offsets; the best of those are scored at other rates, on a coarse grid; and the best of those are
refined on finer grids.

A candidate is a line: query time t plays track time `offset + rate * t`.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fingerprint.config import Range
from fingerprint.recognition.alignment import (
    Places,
    StoredTracks,
    coarse_scores,
    fine_scores,
    places_of,
    rows_covered,
)
from fingerprint.types import Candidate, Doubles, Fingerprint, Hits, Ints, Rows

PLACES = 3  # candidates per track at most, so that a chorus does not crowd out other tracks
REFINED = 10  # candidates that are scored at other rates
STEP = 0.5  # hops by which neighbouring rates of the coarse grid drift apart over the query
POLISHES = 3  # refinements, each around the previous best, on a grid a third as wide
EVIDENCE = 0.5  # log likelihood ratio needed for a rate other than a plain one
GRID = 0.06  # residual of a perfect query, because windows and rows lie on different grids
TIE = 5  # decimals to which scores are compared; of equal ones the earlier place wins


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
    """The candidates that best explain the query, best first; a track may have several.

    Rows past a track's ends lower a score, and a line of another rate may avoid some of them. So a
    line past an end is also returned at rate 1, and the spectral peaks decide.

    Ties go to the lower track number and the earlier offset.

    Args:
        query: (N, D) at a hop that divides the tracks'. With several rates, time grows with the
            cube of N: cut queries of more than a minute.
        hits: nearest neighbours of the query's rows, in any order.
        stored: the tracks; row i of a track is at i * hop.
        rates: slowest and fastest playback rate to try.
        most: number of candidates scored.
        polished: number of candidates whose rate and offset are refined.
        plain: rates that are kept exactly, unless the query contradicts them.
    """
    hop = stored.hop
    guesses = vote(query, hits, stored.rows, hop=hop, most=most)
    if not guesses:
        return []
    reach = max(1 - rates[0], rates[1] - 1, 0.0)
    places = places_of(guesses, query, stored, reach=reach)
    places = _best_first(_settled(places, query, hop))
    first = places.some(range(min(REFINED, len(guesses))))
    best = _tried(first, query, hop, rates)
    plainly = [
        line
        for line, other in zip(first.guesses, best.guesses, strict=True)
        if line != other and _overruns(line, query, stored)
    ]
    lines = (*best.guesses, *places.guesses[REFINED:])
    places = _best_first(replace(places, guesses=lines))
    if not _tells_rates(query, hop, rates):
        return list(places.guesses)
    fit = [rate for rate in plain if rates[0] <= rate <= rates[1]]
    few = places.some(range(min(polished, len(guesses))))
    lines = (*_polished(few, query, rates, fit, STEP * hop), *places.guesses[polished:])
    return sorted([*lines, *plainly], key=_order)


def _overruns(line: Candidate, query: Fingerprint, stored: StoredTracks) -> bool:
    """Whether the query begins before the track or ends after it, by more than a hop."""
    first, last = stored.rows.starts[line.track : line.track + 2]
    begin = line.offset + line.rate * query.start
    end = begin + line.rate * _span(query)
    return bool(begin < -stored.hop or end > (last - first) * stored.hop)


def vote(query: Fingerprint, hits: Hits, rows: Rows, *, hop: float, most: int) -> list[Candidate]:
    """The offsets that most hits agree on, most votes first; scores are 0.

    A hit votes for the offset at which the query then starts, with its squared cosine as weight.
    Votes are counted in bins of half a hop; three neighbouring bins are added up, because a true
    offset spreads over a whole hop.
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
    """Sums over each bin and its two neighbours: (3, B) for the bin before, this one and the next.

    `bins` (B,) ascend and need not be consecutive; bins that are not listed are empty.
    """
    near = bins + np.array([[-1], [1]])  # (2, B)
    at = np.minimum(np.searchsorted(bins, near), len(bins) - 1)
    there = bins[at] == near
    joined = sums + (sums[at] * there).sum(axis=0)
    before, after = joined[at] * there
    return np.stack([before, joined, after])


def settle(
    query: Fingerprint, guesses: Sequence[Candidate], stored: StoredTracks
) -> list[Candidate]:
    """Score guesses that are exact to about a hop, each at its best offset nearby, at rate 1."""
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
    """The best line near a known one; the arguments are those of `rank`."""
    if not _tells_rates(query, stored.hop, rates):
        return line
    reach = max(1 - rates[0], rates[1] - 1)
    place = places_of([_turned(line, query, 1.0)], query, stored, reach=reach)
    return _polished(replace(place, guesses=(line,)), query, rates, plain, STEP * stored.hop)[0]


def _order(candidate: Candidate) -> tuple[float, int, float]:
    return -round(candidate.score, TIE), candidate.track, candidate.offset


def _best_first(places: Places) -> Places:
    order = sorted(range(len(places.guesses)), key=lambda i: _order(places.guesses[i]))
    return places.some(order)


def _settled(places: Places, query: Fingerprint, hop: float) -> Places:
    """Find the best offset within a hop of each guess, at rate 1.

    Only offsets that put a query window exactly on each library row are tried, one query hop apart:
    they cover every pair of a window and a row. In one of them even a short query covers a row.
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
    """Whether the slowest and the fastest rate drift two hops apart over the query."""
    return _span(query) * (rates[1] - rates[0]) >= 2 * hop


def _trials(
    query: Fingerprint, hop: float, rates: Range, base: float = 1.0
) -> tuple[Doubles, Doubles]:
    """Rates to try, and the change of the offset for each: offsets (A,), rates (A,).

    Neighbouring rates drift apart by `STEP` hops over the query. An alignment at rate `base` of a
    query at another rate is right at one moment only, which is not known: so for each rate, lines
    through several moments are tried, as far apart as the rates. Empty if the query is too short to
    tell rates apart.
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
    """The places with their guesses at rate `base` replaced by better ones at other rates."""
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
    """The best line near each guess, at a plain rate unless the query contradicts all of them."""
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
    """Whether a score is better than that at a plain rate by more than chance.

    The residual of a row, 1 - cosine, is taken for the energy of independent Gaussian noise, and
    the log likelihood ratio of the two scores over `rows` rows is compared with `EVIDENCE`.
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
    """The best line near each guess, its rate within `rates`, on successively finer grids.

    A grid combines each rate with each track time of the query's middle. The first reaches `width`
    (s) either way, at the middle and, relative to it, at the ends.
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
    """Vertex, -0.5 to 0.5, of the parabola through three equally spaced scores, middle one largest.

    0 if there is no such peak.
    """
    if len(scores) < 3:
        return 0.0
    before, middle, after = scores.tolist()
    bend = before - 2 * middle + after
    return min(max((before - after) / (2 * bend), -0.5), 0.5) if bend < 0 else 0.0
