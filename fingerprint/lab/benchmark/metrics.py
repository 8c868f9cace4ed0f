"""Metrics of an evaluation: hit rates, Wilson intervals, reliability, ECE, thresholds. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, isnan, nan, sqrt

import numpy as np

from fingerprint.types import Floats

PLACE_TOLERANCE = 0.5  # s, between the offset given and the true one
RATE_TOLERANCE = 0.005  # share of the true playback rate
CALIBRATION_BINS = 15  # of equal width
SAME_SOUND = 0.95  # correlation of the waveforms from which two passages are the same sound
Z_95 = 1.959964  # standard normal quantile at 0.975


@dataclass(frozen=True, slots=True)
class Outcome:
    """A query, its answer, and whether the answer is right.

    `truth_path` is the track the query was cut from, in the library or not. Without an answer
    `path` is empty, `confidence` 0, and the numbers are NaN. `place_right` asks for the right
    track too: the right offset within `PLACE_TOLERANCE`, as the answer's own or among its repeats,
    or a repeat of the very same sound. `second` is the confidence of the other of two tracks that
    are mixed, if it comes second after the first.
    """

    condition: str
    number: int
    snr_db: float  # NaN without noise
    truth_path: str
    truth_offset: float  # s
    truth_rate: float
    path: str
    offset: float  # s
    rate: float
    confidence: float
    score: float
    right: bool
    place_right: bool
    seconds: float  # processing time of the identification
    second: float = nan  # confidence; NaN if there is one track alone


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `total`, with its 95 % Wilson interval; NaN for none of none."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        return self.hits / self.total if self.total else nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson (1927): where the true share lies, in 0..1 even at 0 or all hits."""
        if not self.total:
            return nan, nan
        n, p = self.total, self.hits / self.total
        centre = p + Z_95**2 / (2 * n)
        spread = Z_95 * sqrt(p * (1 - p) / n + Z_95**2 / (4 * n**2))
        scale = 1 + Z_95**2 / n
        return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one condition. For unknown tracks nothing is right; `accepted_wrong` counts.

    Offset errors are those of answers at the right place (repeats left out), rate errors those of
    right answers; NaN where there is none.
    """

    condition: str
    top1: Share
    place: Share
    accepted_right: Share
    accepted_wrong: Share  # on unknown tracks: the false accepts
    offset_error_median: float  # s
    offset_error_95: float  # s, 95th percentile
    rate_error_median: float  # share of the true rate
    rate: Share  # of the right answers: those whose rate is within `RATE_TOLERANCE`
    seconds_median: float  # processing time a query
    both: Share  # of two tracks that are mixed: both accepted


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of similar confidence: how sure they were, and how often they were right."""

    low: float
    high: float
    confidence: float  # mean; NaN if empty
    accuracy: Share


def summarise(condition: str, outcomes: Sequence[Outcome], min_confidence: float) -> Summary:
    """The figures of one condition's outcomes, accepting answers of at least `min_confidence`."""
    n = len(outcomes)
    accepted = [o for o in outcomes if o.path and o.confidence >= min_confidence]
    errors = [abs(o.offset - o.truth_offset) for o in outcomes if o.place_right]
    near = [error for error in errors if error <= PLACE_TOLERANCE]
    rate_errors = [abs(o.rate / o.truth_rate - 1) for o in outcomes if o.right]
    return Summary(
        condition=condition,
        top1=Share(sum(o.right for o in outcomes), n),
        place=Share(sum(o.place_right for o in outcomes), n),
        accepted_right=Share(sum(o.right for o in accepted), n),
        accepted_wrong=Share(sum(not o.right for o in accepted), n),
        offset_error_median=_quantile(near, 0.5),
        offset_error_95=_quantile(near, 0.95),
        rate_error_median=_quantile(rate_errors, 0.5),
        rate=Share(sum(error <= RATE_TOLERANCE for error in rate_errors), len(rate_errors)),
        seconds_median=_quantile([o.seconds for o in outcomes], 0.5),
        both=_both(outcomes, min_confidence),
    )


def _both(outcomes: Sequence[Outcome], min_confidence: float) -> Share:
    mixed = [o for o in outcomes if not isnan(o.second)]
    named = [o.right and min(o.confidence, o.second) >= min_confidence for o in mixed]
    return Share(sum(named), len(mixed))


def reliability(outcomes: Iterable[Outcome], bins: int = CALIBRATION_BINS) -> list[Bin]:
    """Answers in bins of equal width by confidence; a query without an answer is left out."""
    answers = [o for o in outcomes if o.path]
    slots: list[list[Outcome]] = [[] for _ in range(bins)]
    for outcome in answers:
        slots[min(int(outcome.confidence * bins), bins - 1)].append(outcome)
    return [
        Bin(
            low=i / bins,
            high=(i + 1) / bins,
            confidence=float(np.mean([o.confidence for o in slot])) if slot else nan,
            accuracy=Share(sum(o.right for o in slot), len(slot)),
        )
        for i, slot in enumerate(slots)
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """The ECE of answers in bins; NaN if there are none."""
    filled = [b for b in bins if b.accuracy.total]
    return ece([(b.confidence, b.accuracy.value, b.accuracy.total) for b in filled])


def ece(bins: Sequence[tuple[float, float, float]]) -> float:
    """Expected calibration error: mean distance of confidence from accuracy; NaN without bins.

    A bin is its mean confidence, its accuracy and its weight.
    """
    total = sum(weight for _, _, weight in bins)
    if not total:
        return nan
    return sum(abs(sure - accuracy) * weight for sure, accuracy, weight in bins) / total


def score_to_beat(unknown: Iterable[float], false_accepts: float) -> float:
    """The least score such that at most this share of the scores of unknown queries is above it.

    A query with this very score is refused, too. -inf if no query has to be refused.
    """
    ranked = sorted(unknown, reverse=True)
    allowed = int(false_accepts * len(ranked))
    return ranked[allowed] if allowed < len(ranked) else -inf


def threshold_at(unknown: Iterable[float], false_accepts: float) -> float:
    """The least confidence at which at most this share of unknown queries is accepted.

    It is just above the confidence to beat, because a query at the threshold is accepted; 0 if no
    query has to be refused.
    """
    return max(0.0, float(np.nextafter(score_to_beat(unknown, false_accepts), 2.0)))


def _quantile(values: Sequence[float], q: float) -> float:
    return float(np.quantile(values, q)) if values else nan


def same_sound(passage: Floats, around: Floats) -> bool:
    """Whether a passage (N,) occurs, sample for sample, in `around` (at least N,).

    The largest normalised cross-correlation over all shifts must reach `SAME_SOUND`: at most a
    tenth of the energy may differ. So the same loop played again counts, the same chords sung to
    other words do not. It compares waveforms, without any model.
    """
    n, total = len(passage), len(around)
    energy = float(np.sum(np.square(passage, dtype=np.float64)))
    if n > total or energy == 0:
        return False
    size = 1 << (total - 1).bit_length()
    spectrum = np.fft.rfft(around, size) * np.conj(np.fft.rfft(passage, size))
    products = np.fft.irfft(spectrum, size)[: total - n + 1]  # no shift wraps around
    running = np.concatenate([[0.0], np.cumsum(np.square(around, dtype=np.float64))])
    energies = running[n:] - running[: total - n + 1]
    audible = energies > 1e-6 * energy
    return bool(np.any(products[audible] >= SAME_SOUND * np.sqrt(energy * energies[audible])))


def near(offset: float, truth: float) -> bool:
    """Whether an offset is the true one, within the tolerance; both in s."""
    return abs(offset - truth) <= PLACE_TOLERANCE
