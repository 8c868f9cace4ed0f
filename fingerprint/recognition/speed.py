"""How fast is the query played? Told by its pitch, which is far sharper than its time.

A line through the few windows of a query of five seconds is good for some 2 % of rate. But where a
change of speed has moved pitch and tempo alike, the embeddings fit best when both are undone, and
that best speed is sharp.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import log2

import numpy as np
import soxr

from fingerprint.recognition.alignment import weights_of
from fingerprint.recognition.matcher import evidence_for, fit, vertex
from fingerprint.recognition.query import Query
from fingerprint.types import Candidate, Clip, Outline

LEAST_SHIFT = 0.75  # semitones that can be a shift of pitch alone
LONGEST_PROBE = 10.0  # s of the query by which its speed is measured
STEP = 0.015  # share of the speed between two that are compared
STEPS = 8  # at most from the first guess to the best speed
PERFECT = 0.99  # score; what is played 1 % faster or slower never scores as much
HOPELESS = 0.1  # of the score; where playing at the guessed speed costs more, speed is not it


def at_speed(clip: Clip, rate: float) -> Clip:
    """The clip played `rate` times as fast, as a tape is: tempo and pitch change together."""
    if rate == 1:
        return clip
    if isinstance(clip, Outline):
        return clip.at_speed(1 / rate)
    samples = soxr.resample(clip.samples, rate, 1.0, quality="HQ")
    return Clip(samples, clip.sample_rate)


def at_its_speed(asked: Query, candidate: Candidate) -> Candidate:
    """The candidate with the rate and offset that come out when the query's pitch is undone.

    The candidate as it is, if pitch has not changed, or the sound is not here to be played.
    """
    clip, model, reference = asked.clip, asked.model, asked.reference
    if isinstance(clip, Outline) or (
        candidate.speed == candidate.rate == 1 and candidate.score >= PERFECT
    ):
        return candidate
    part = _central(clip)
    place = candidate.offset + candidate.rate * clip.duration / 2

    def score(speed: float) -> float:
        return _score(asked, part, speed, place, candidate.track)

    measured = candidate.speed == candidate.rate == 1 and clip.duration <= LONGEST_PROBE
    known = {1.0: candidate.score} if measured else {}
    guesses = dict.fromkeys((candidate.speed, candidate.rate))
    speed, scores = _peak(score, guesses, known, least=candidate.score - HOPELESS)
    rows = (part.duration - model.window) / reference.hop
    if candidate.speed == 1 and not evidence_for(max(scores.values()), scores[1.0], rows):
        return candidate
    query = model.embed_query(at_speed(clip, 1 / speed))
    line = fit(
        query,
        line_of(candidate, speed, model.window),
        reference,
        rates=asked.config.rates,
        plain=plain_rates(speed),
    )
    return replace(candidate_of(line, speed, model.window), score=candidate.score)


def _central(clip: Clip) -> Clip:
    excess = max(0.0, clip.duration - LONGEST_PROBE)
    first = round(excess / 2 * clip.sample_rate)
    return Clip(clip.samples[first : len(clip.samples) - first], clip.sample_rate)


def _peak(
    score: Callable[[float], float],
    guesses: Iterable[float],
    known: dict[float, float],
    *,
    least: float,
) -> tuple[float, dict[float, float]]:
    """The speed near the best of the guesses where the score peaks, and every score on the way.

    The first guess if no guess scores `least`. Scores that are `known` are not asked for.
    """
    scores = dict(known)

    def at(speed: float) -> float:
        if speed not in scores:
            scores[speed] = score(speed)
        return scores[speed]

    first, *others = guesses
    speed = max([first, *others], key=at)
    if at(speed) < least:
        return first, scores
    for _ in range(STEPS):
        near = [speed - STEP, speed, speed + STEP]
        values = np.array([at(one) for one in near])
        best = int(np.argmax(values))
        if best == 1:
            return speed + vertex(values) * STEP, scores
        speed = near[best]
    return speed, scores


def _score(asked: Query, part: Clip, speed: float, place: float, track: int) -> float:
    """Mean cosine of the query at 1 / `speed` with the track's rows under it.

    Windows weigh by how clear they are. The middle of the query's `part` lies on `place` (s into
    the track). It is cut so that its windows begin where the track's do. 0 where nothing is left.
    """
    model, library = asked.model, asked.reference
    slowed = at_speed(part, 1 / speed)
    begin = place - slowed.duration / 2  # s into the track
    number = int(np.ceil(begin / library.hop))  # the first whole row
    rest = slowed.samples[round((number * library.hop - begin) * slowed.sample_rate) :]
    if len(rest) < model.window * slowed.sample_rate:
        return 0.0
    step = round(library.hop / model.hop)
    heard = model.embed(Clip(rest, slowed.sample_rate))
    vectors, weights = heard.vectors[::step], weights_of(heard)[::step]
    start, end = library.rows.starts[track : track + 2]
    wanted = start + number + np.arange(len(vectors))
    inside = (wanted >= start) & (wanted < end)
    stored = np.zeros_like(vectors)
    stored[inside] = library.vectors(wanted[inside])
    cosines = np.sum(vectors * stored, axis=1)
    return float(cosines @ weights / weights.sum()) if weights.any() else 0.0


def line_of(candidate: Candidate, speed: float, window: float) -> Candidate:
    """A candidate as the matcher sees it in a query that is played at 1 / `speed`.

    Windows match where their middles play the same. At a rate other than 1 their beginnings do
    not: a query window of `window` seconds holds rate * window seconds of the track.
    """
    rate = candidate.rate / speed
    return replace(candidate, offset=candidate.offset + (rate - 1) * window / 2, rate=rate)


def candidate_of(line: Candidate, speed: float, window: float) -> Candidate:
    """The inverse of `line_of`: rate and offset are those of the query's own start."""
    offset = line.offset - (line.rate - 1) * window / 2
    rate = round(line.rate * speed, 9)  # 1 stays exactly 1
    return replace(line, offset=offset, rate=rate, speed=speed)


def plain_rates(speed: float) -> list[float]:
    """What is left in a query at 1 / `speed` if speed has changed by just that, or pitch alone.

    Who shifts pitch alone does it by whole semitones; less is a matter of speed.
    """
    alone = abs(12 * log2(speed)) >= LEAST_SHIFT
    return [1.0, 1 / speed] if alone else [1.0]
