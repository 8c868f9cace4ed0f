"""Verification: whether a candidate's spectral peaks occur in the query. Pure NumPy.

The network proposes candidates; the peaks decide which of them is right. The library stores the
strongest peaks of each track (`audio.peaks`); for a query, we keep its whole whitened spectrogram.
Each peak of the track is looked up in that spectrogram where it should be, whatever else noise has
added. The sum is a score, normalised by a cohort: the scores of the same query at random places of
the library. So a tonal or looping query, which fits everything a little, gains nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Protocol

import numpy as np
import soxr
from numpy.typing import NDArray

from fingerprint.audio.peaks import (
    BINS,
    EMPTY,
    FRAME_RATE,
    HOP,
    MEAN_FRAMES,
    RATE,
    SIZE,
    log_power,
    whitened,
)
from fingerprint.types import Candidate, Clip, Floats, Ints, Outline, PeakCodes, PeakFit, Rows

SECONDS = HOP / RATE  # s from one frame to the next
HIGHEST = 6.0  # nepers above the local mean at which values saturate
AROUND = 30  # bins on either side (470 Hz) whose mean is subtracted
LEAST_VARIANCE = 0.05  # added to the variance of the values at a frequency
LEAST_SUM = 2.0  # minimum sum of variances, so that a score of hardly any peaks stays low
REACH = 8  # frames by which a line is shifted to find its best score
GAP = 4  # frames beyond those that are not used for the sharpness
FAR = 40  # frames up to which scores are used for the sharpness
LEAST_SPREAD = 0.3  # added to the spread of those scores
COHORT = 400  # random places of the reference
MOST_OF_SHARP = 3.0  # maximum fit, in spreads, per unit of sharpness
COHORT_SPREAD = 0.05  # added to the spread of the cohort's scores; keeps a score in spreads finite
NEIGHBOURS = (4, 5, 6, 7)  # frames away: the nearest frames whose windows hold other sound
SHARPNESS = 0.55  # share of the mean over those frames that is subtracted
LINES = 16  # scored at a time: their values fit a processor's cache
EVIDENCE = 25.0  # difference of squared scores needed for a rate other than a plain one
SMEAR = 2  # frames on either side over which a template is smeared, to find other rates
COARSE = 2.0  # frames between lines of the first grid in a smeared template
FINE = 1 / 16  # frames between lines of the last grid, at most
PROBED = 625  # frames (10 s) of a query that are used on the first grid


class StoredPeaks(Protocol):
    """Peaks of tracks: rows of `block` frames each; `rows` says which belong to which track."""

    @property
    def rows(self) -> Rows: ...
    @property
    def block(self) -> int: ...
    def peaks(self, rows: Ints, /) -> PeakCodes:
        """The peaks (K, kept) of rows (K,)."""
        ...


@dataclass(frozen=True, eq=False)  # no slots: `exact` is a cached property
class Template:
    """The spectrogram of a query in which peaks are looked up.

    `heights` (F, bins) is the query's rise above its local mean. `values` (F, bins) is the same,
    centred over time at each frequency, and at each time over the frequencies around it. So steady
    tones, beats, clicks and bursts of noise, which fit many tracks, count for nothing; what counts
    is which frequencies sound when. `variance` (bins,) of the values over time.
    """

    heights: Floats
    values: Floats
    variance: Floats

    @cached_property
    def exact(self) -> Floats:
        """A frame's rise above slightly earlier and later frames, beats included, (F, bins).

        They determine the offset to a fraction of a frame, for which sustained notes are useless.
        """
        return _above_neighbours(_centred(self.heights, self.heights.mean(axis=1, keepdims=True)))


def template_of(clip: Clip) -> Template:
    """The template of a query; one shorter than a window is padded."""
    heights = heights_of(clip)
    higher = heights.copy()
    higher[:-1] = np.maximum(heights[:-1], heights[1:])  # frames of track and query lie apart
    values = _centred(higher, _around(higher))
    return Template(heights, values, _variance(values))


def heights_of(clip: Clip) -> Floats:
    """The rise of a query's spectrogram above its local mean, 0 to `HIGHEST`, (F, bins)."""
    if isinstance(clip, Outline):
        return clip.heights.copy()
    samples = clip.samples
    if clip.sample_rate != RATE:
        samples = soxr.resample(samples, clip.sample_rate, RATE, quality="HQ")
    samples = np.pad(samples, (0, max(0, SIZE - len(samples)))).astype(np.float32, copy=False)
    levels = np.pad(log_power(samples), ((MEAN_FRAMES, MEAN_FRAMES), (0, 0)), mode="edge")
    heights: Floats = np.clip(whitened(levels), 0, HIGHEST)
    return heights


def _variance(values: Floats) -> Floats:
    variance: Floats = values.var(axis=0) + np.float32(LEAST_VARIANCE)
    return variance


def _above_neighbours(values: Floats) -> Floats:
    """Values less a share of the mean of the frames `NEIGHBOURS` before and after, (F, bins)."""
    reach = NEIGHBOURS[-1]
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    total = np.zeros_like(values)
    for apart in (*NEIGHBOURS, *(-one for one in NEIGHBOURS)):
        total += padded[reach + apart : reach + apart + len(values)]
    above: Floats = values - total * np.float32(SHARPNESS / (2 * len(NEIGHBOURS)))
    return above


def _around(height: Floats) -> Floats:
    """The mean over `AROUND` bins on either side at the same time, (F, bins)."""
    padded = np.pad(height, ((0, 0), (AROUND + 1, AROUND)), mode="edge")
    total, width = padded.cumsum(axis=1), 2 * AROUND + 1
    mean: Floats = (total[:, width:] - total[:, :-width]) / np.float32(width)
    return mean


def _centred(height: Floats, at_each_time: Floats) -> Floats:
    values: Floats = height - at_each_time
    values -= values.mean(axis=0)
    return values


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """C alignments of a query with tracks: query time t (s) plays track time `offset + rate * t`.

    A track is `count` rows of the reference, from row `first` on. The query's frequencies are
    `pitch` times the track's. All (C,).
    """

    first: Ints
    count: Ints
    offset: NDArray[np.float64]
    rate: NDArray[np.float64]
    pitch: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Fits:
    """How well the peaks under C lines fit a template.

    `score` (C,): the sum of the values at the peaks, divided by its standard deviation for peaks at
    random times; the best within `REACH` frames of the line. `shift` (C,): s of track time to add
    to the offset to get there. `sharpness` (C,): standard deviations by which the score exceeds
    those at larger shifts. `peaks` (C,): number of peaks under the query. `breadth` (C,): the sum
    of the values over the root of the sum of squares of each frequency's sum, as if frequencies
    were the independent samples (cluster-robust: Liang and Zeger, 1986). A pattern that few
    frequencies repeat, as a synthesiser's bass does, fits other tracks of the same tempo by chance;
    its breadth is small.
    """

    score: Floats
    shift: NDArray[np.float64]
    sharpness: Floats
    peaks: Ints
    breadth: Floats


def lines_of(candidates: Sequence[Candidate], stored: StoredPeaks, speed: float = 1.0) -> Lines:
    """The lines of candidates in a query in which `speed`, a speed near theirs, is undone."""
    tracks = np.array([one.track for one in candidates], dtype=np.int64)
    first = stored.rows.starts[tracks]
    return Lines(
        first,
        stored.rows.starts[tracks + 1] - first,
        np.array([one.offset for one in candidates], dtype=np.float64),
        np.array([one.rate / speed for one in candidates], dtype=np.float64),
        np.array([one.speed / speed for one in candidates], dtype=np.float64),
    )


@dataclass(frozen=True, slots=True)
class Null:
    """What a template's score at random places of the reference is: its median and spread."""

    median: float
    spread: float


LEAST_NULL = Null(0.9, 0.5)  # of music, about; that of a query of clicks in silence is far narrower
RICH = 0.15  # least `richness` of the template of music


def null_of(template: Template, stored: StoredPeaks) -> Null:
    """The scores of a template at `COHORT` random places of the reference.

    Median and spread are at least those of `LEAST_NULL`. If the query is less rich than music, the
    spread is larger: a siren, a burst or a dialling tone has few values, and these fit some track
    by chance far more often than `COHORT` places show.
    """
    scores = best_scores(template, stored, cohort_of(stored))
    low, middle, high = (float(score) for score in np.percentile(scores, (16, 50, 84)))
    spread = max((high - low) / 2, LEAST_NULL.spread)
    return Null(max(middle, LEAST_NULL.median), spread * max(1.0, RICH / richness(template)) ** 2)


def richness(template: Template) -> float:
    """The share of a template's values that its energy is spread over, above 0 and at most 1.

    An effective number of values (Kish, Survey Sampling, 1965), the square of a sum over the sum of
    squares, as a share of all.
    """
    energy = np.square(template.values)
    total, squares = float(energy.sum()), float(np.square(energy).sum())
    return max(total**2, LEAST_SUM) / max(squares, LEAST_SUM) / energy.size


def verify(
    template: Template,
    null: Null,
    candidates: Sequence[Candidate],
    stored: StoredPeaks,
    speed: float = 1.0,
) -> list[PeakFit]:
    """How well the peaks of each candidate fit, in spreads above the median at random places.

    The template is of the query with `speed` undone, a speed near those of the candidates. If only
    the beat is the same, the fit is as good one beat away, and so its sharpness is low: a fit is
    limited to `MOST_OF_SHARP` times its sharpness.
    """
    if not candidates:
        return []
    fits = fit(template, stored, lines_of(candidates, stored, speed))
    normal = (fits.score - null.median) / (null.spread + COHORT_SPREAD)
    normal = np.minimum(normal, MOST_OF_SHARP * np.maximum(fits.sharpness, 0))
    return [
        PeakFit(float(score), float(sharp), int(count), float(shift), float(breadth))
        for score, sharp, count, shift, breadth in zip(
            normal, fits.sharpness, fits.peaks, fits.shift, fits.breadth, strict=True
        )
    ]


def best_of(
    template: Template, candidates: Sequence[Candidate], stored: StoredPeaks, speed: float = 1.0
) -> tuple[Candidate, float]:
    """The candidate whose peaks fit best, and its score; see `verify`."""
    scores = best_scores(template, stored, lines_of(candidates, stored, speed))
    best = int(np.argmax(scores))
    return candidates[best], float(scores[best])


def cohort_of(stored: StoredPeaks) -> Lines:
    """Lines at random places of the reference; the same reference gives the same ones."""
    starts = stored.rows.starts
    place = np.random.default_rng(0).random(COHORT) * starts[-1]
    track = np.searchsorted(starts, place, side="right") - 1
    first = starts[track]
    offset = (place - first) * (stored.block / FRAME_RATE)
    return Lines(first, starts[track + 1] - first, offset, np.ones(COHORT), np.ones(COHORT))


def fit(template: Template, stored: StoredPeaks, lines: Lines) -> Fits:
    """Score the lines."""
    shifts = np.arange(-FAR, FAR + 1)
    found = _looked_up(template, stored, lines, FAR)
    scores: Floats = found.totals() / found.spread[:, None]
    near = np.abs(shifts) <= REACH
    far = np.abs(shifts) > REACH + GAP
    best = scores[:, near].argmax(axis=1)
    score: Floats = np.take_along_axis(scores[:, near], best[:, None], axis=1)[:, 0]
    apart: Floats = scores[:, far]
    sharpness = (score - apart.mean(axis=1)) / (apart.std(axis=1) + np.float32(LEAST_SPREAD))
    # If the peaks fit later frames of the query, the query's start is earlier in the track.
    shift = -(best - REACH) * lines.rate * SECONDS
    breadth = found.breadth(best + FAR - REACH)
    return Fits(score, shift, sharpness, found.peaks, breadth)


def best_scores(template: Template, stored: StoredPeaks, lines: Lines) -> Floats:
    """The scores of `fit` alone, (C,)."""
    found = _looked_up(template, stored, lines, REACH)
    best: Floats = (found.totals() / found.spread[:, None]).max(axis=1)
    return best


def refined(
    template: Template,
    stored: StoredPeaks,
    line: Lines,
    rates: tuple[float, float],
    plain: Sequence[float] = (1.0,),
    reach: int = REACH,
) -> tuple[float, float]:
    """The offset (s) and the rate of the best line near a given one, to a fraction of a frame.

    At the query's middle it is within `reach` frames of the given line. It may have any of the
    rates, but has a plain one, if there are any, unless the peaks contradict all of those. A
    program that changes the tempo smears sounds over time, so other rates are found in a template
    that is smeared as well; the sharp one must agree.
    """
    middle = (len(template.exact) - 1) / 2  # frame of the query
    begin, rate = float(line.offset[0]), float(line.rate[0])
    at_middle = float(origin(line)[0]) + rate * middle  # frame of the track
    widest = max(rates[1], rate)
    start = begin + (rate - widest) * middle * SECONDS - reach * SECONDS
    around = Lines(line.first, line.count, np.array([start]), np.array([widest]), line.pitch)
    length = len(template.exact) + ceil(2 * reach / widest)
    frame, bin_, there = peaks_under(stored, around, length)
    bin_, there = _at_pitch(bin_, there, around)
    apart, bin_ = (frame[there] - at_middle).astype(np.float64), bin_[there]
    smeared = _Under(_smeared(template.exact), apart, bin_, coarse=COARSE)
    free = smeared.best(rate, rates, reach)
    if plain:
        sharp = _Under(template.exact, apart, bin_, coarse=1.0)
        even, other = sharp.best_of(plain, reach), sharp.best_of(free[2:], reach)
        gain = free[0] ** 2 - smeared.best_of(plain, reach)[0] ** 2
        free = free if gain >= EVIDENCE and other[0] > even[0] else even
    _, moved, rate = free
    first = at_middle + moved - rate * middle  # frame of the track, under the query's first
    return (first - (rate - 1) * SIZE / 2 / HOP) * SECONDS, rate


def _smeared(values: Floats) -> Floats:
    """The mean of each frame of `values` (F, bins) and the `SMEAR` frames before and after it."""
    padded = np.pad(values, ((SMEAR, SMEAR), (0, 0)), mode="edge")
    total = np.zeros_like(values)
    for part in range(2 * SMEAR + 1):
        total += padded[part : part + len(values)]
    return total / np.float32(2 * SMEAR + 1)


class _Under:
    """The peaks around one line, and the scores of lines near it.

    Args:
        values: of the query, (F, bins).
        apart: frames (P,) of the track's peaks relative to that under the query's middle.
        bin_: of the peaks, (P,).
        coarse: frames between neighbouring lines of the first grid, at the middle and at the ends.
    """

    def __init__(
        self, values: Floats, apart: NDArray[np.float64], bin_: Ints, *, coarse: float
    ) -> None:
        self._values, self._variance = values, _variance(values)
        self._apart, self._bin, self._coarse = apart, bin_, coarse
        self._middle = (len(values) - 1) / 2  # frame of the query

    def best_of(self, rates: Sequence[float], reach: int) -> tuple[float, float, float]:
        """The best of lines of some rates; see `best`."""
        return max(self.best(one, (one, one), reach) for one in rates)

    def best(
        self, rate: float, rates: tuple[float, float], reach: int
    ) -> tuple[float, float, float]:
        """The best score, its shift (frames) and its rate, on successively finer grids.

        The first grid is of at most `PROBED` frames of the query.
        """
        low, high = rates
        span, step = min(self._middle, PROBED / 2), self._coarse
        rate = min(max(rate, low), high)
        found = self._on_grid(0.0, rate, reach, max(high - rate, rate - low), span, step, rates)
        while span < self._middle:
            turn, span = 2 * step / span, min(2 * span, self._middle)
            found = self._on_grid(found[1], found[2], 2 * step, turn, span, step, rates)
        while step > FINE:
            step /= 4
            turn = 4 * step / max(span, 1)
            found = self._on_grid(found[1], found[2], 4 * step, turn, span, step, rates)
        return found

    def _on_grid(
        self,
        moved: float,
        rate: float,
        reach: float,
        turn: float,
        span: float,
        step: float,
        rates: tuple[float, float],
    ) -> tuple[float, float, float]:
        moves = moved + np.linspace(-reach, reach, 2 * ceil(reach / step) + 1)
        count = ceil(turn * span / step)
        tried = np.unique(np.clip(rate + np.linspace(-turn, turn, 2 * count + 1), *rates))
        near = np.abs(self._apart) <= span * tried[-1] + reach + abs(moved)
        apart, bin_ = self._apart[near], self._bin[near]
        scores = np.stack([self._scores((apart - moves[:, None]) / one, bin_) for one in tried])
        row, column = np.unravel_index(np.argmax(scores), scores.shape)
        return float(scores[row, column]), float(moves[column]), float(tried[row])

    def _scores(self, apart: NDArray[np.float64], bin_: Ints) -> Floats:
        """Scores (L,) of peaks at frames (L, P) from the query's middle, interpolated in time."""
        values, position = self._values, apart + self._middle
        length, bins = values.shape
        under = (position >= 0) & (position < length - 1)
        below = np.where(under, position, 0).astype(np.int64)
        part = (position - below).astype(np.float32)
        index = below * bins + bin_
        here, after = values.take(index), values.take(np.minimum(index + bins, values.size - 1))
        total = np.where(under, here + part * (after - here), 0).sum(axis=1)
        variance = np.where(under, self._variance[bin_], 0).sum(axis=1)
        scores: Floats = total / np.sqrt(np.maximum(variance, LEAST_SUM))
        return scores


@dataclass(frozen=True, slots=True, eq=False)
class _LookedUp:
    """The values of a template at the peaks (C, P) under C lines, at S shifts.

    Those of peak i are `runs[index[i]]`, (S,). `spread` (C,) is the standard deviation of their sum
    for peaks at random times, `peaks` (C,) the number of peaks under the unshifted query, `bin_`
    (C, P) their frequencies.
    """

    runs: Floats  # (N, S), a view
    index: Ints
    bin_: Ints
    spread: Floats
    peaks: Ints

    def totals(self) -> Floats:
        """The sums of the values at each shift, (C, S)."""
        totals = np.empty((len(self.index), self.runs.shape[1]), np.float32)
        for some in range(0, len(self.index), LINES):
            totals[some : some + LINES] = self.runs[self.index[some : some + LINES]].sum(axis=1)
        return totals

    def breadth(self, shift: Ints) -> Floats:
        """The breadth of each line at one of its shifts (C,), see `Fits`."""
        lines, bins = len(self.index), BINS[1] - BINS[0]
        values = self.runs[self.index, shift[:, None]]
        place = np.arange(lines)[:, None] * bins + self.bin_
        sums = np.bincount(place.ravel(), values.ravel(), lines * bins).reshape(lines, bins)
        squares = np.square(sums).sum(axis=1)
        breadth: Floats = np.maximum(sums.sum(axis=1), 0) / np.sqrt(np.maximum(squares, LEAST_SUM))
        return breadth


def _looked_up(template: Template, stored: StoredPeaks, lines: Lines, reach: int) -> _LookedUp:
    """The values at the peaks, shifted by -reach..reach frames."""
    length, bins = template.values.shape
    frame, bin_, there = peaks_under(stored, lines, length)
    bin_, there = _at_pitch(bin_, there, lines)
    position = np.rint((frame - origin(lines)[:, None]) / lines.rate[:, None]).astype(np.int64)
    under = there & (position >= 0) & (position < length)
    variance: Floats = np.where(under, template.variance[bin_], np.float32(0)).sum(axis=1)
    # Each frequency's values over time, between zeros: a peak's values at all shifts are one run.
    shifts = 2 * reach + 1
    values = np.zeros((bins, length + 2 * shifts), np.float32)
    values[:, shifts : shifts + length] = template.values.T
    runs = np.lib.stride_tricks.sliding_window_view(values.ravel(), shifts)
    first = np.clip(position, -reach - 1, length + reach) + shifts - reach
    index = np.where(there, bin_ * values.shape[1] + first, 0)
    spread = np.sqrt(np.maximum(variance, LEAST_SUM))
    return _LookedUp(runs, index, bin_, spread, under.sum(axis=1))


def _at_pitch(bin_: Ints, there: NDArray[np.bool_], lines: Lines) -> tuple[Ints, NDArray[np.bool_]]:
    """The bins of peaks (C, P) in the query, and which of the peaks are there."""
    if (lines.pitch == 1).all():
        return bin_, there
    bin_ = np.rint((bin_ + BINS[0]) * lines.pitch[:, None]).astype(np.int64) - BINS[0]
    there = there & (bin_ >= 0) & (bin_ < BINS[1] - BINS[0])
    return np.where(there, bin_, 0), there


def origin(lines: Lines) -> NDArray[np.float64]:
    """The track's fractional frame whose middle is that of the query's first frame, (C,)."""
    return lines.offset * FRAME_RATE + (lines.rate - 1) * (SIZE / 2 / HOP)


def peaks_under(
    stored: StoredPeaks, lines: Lines, length: int
) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Frames and bins (C, P) of the peaks under a query of `length` frames, and a bit around it.

    The third array is False where there is no peak.
    """
    slack, frames = FAR + 1, stored.block
    start = origin(lines) - slack * lines.rate
    rows = int(np.ceil((length + 2 * slack) * float(lines.rate.max(initial=1)) / frames)) + 1
    row = np.floor(start / frames).astype(np.int64)[:, None] + np.arange(rows)  # (C, R)
    inside = (row >= 0) & (row < lines.count[:, None])
    number = np.where(inside, lines.first[:, None] + row, lines.first[:, None])
    needed, which = np.unique(number, return_inverse=True)
    found = stored.peaks(needed)[which.reshape(row.shape)]  # (C, R, kept)
    there = inside[:, :, None] & (found != EMPTY)
    frame = row[:, :, None] * frames + (found >> 8)
    flat = len(row), -1
    bin_ = np.where(there, found & 255, 0).astype(np.int64)
    return frame.reshape(flat), bin_.reshape(flat), there.reshape(flat)
