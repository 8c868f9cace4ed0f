"""How fast is the query played, and from where? Told by its pitch, far more sharply than by time.

A line through the few windows of a query of five seconds is good for some 2 % of rate. But where a
change of speed has moved pitch and tempo alike, the track's spectral peaks meet the query's at the
very speed alone; and where they fit nowhere, the embeddings still fit best when both are undone. A
change of tempo alone is told by the peaks along the line, as far as the query is long.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import log2

import numpy as np
import soxr

from fingerprint.recognition.alignment import weights_of
from fingerprint.recognition.matcher import evidence_for, fit, refit, vertex
from fingerprint.recognition.query import Query
from fingerprint.recognition.verification import (
    StoredPeaks,
    Template,
    best_of,
    lines_of,
    refined,
    template_of,
)
from fingerprint.types import Candidate, Clip, Outline

LEAST_SHIFT = 0.75  # semitones that can be a shift of pitch alone
LONGEST_PROBE = 10.0  # s of the query by which its speed is measured
STEP = 0.015  # share of the speed between two that are compared
STEPS = 8  # at most from the first guess to the best speed
PERFECT = 0.99  # score; what is played 1 % faster or slower never scores as much
TUNE = 0.005  # share of the speed between two that are compared by peaks
TUNES = 8  # of them either way, about a speed that was undone
FAR_TUNES = 16  # about the track's own speed, as the embedder bears so much
TUNED_EVIDENCE = 20.0  # for another speed: of the squares of two scores of the peaks
LEAST_TUNED = 6.0  # score of the peaks, from which they tell speed
LEAST_FIT = 4.0  # spreads above the cohort, from which peaks tell offset and rate
CLEAR_FIT = 8.0  # from which they would not fit as well at another speed
SLACK = 0.1  # of a rate that the embeddings tell
HOPELESS = 0.1  # of the score; where playing at the guessed speed costs more, speed is not it


def at_speed(clip: Clip, rate: float) -> Clip:
    """The clip played `rate` times as fast, as a tape is: tempo and pitch change together."""
    if rate == 1:
        return clip
    if isinstance(clip, Outline):
        return clip.at_speed(1 / rate)
    samples = soxr.resample(clip.samples, rate, 1.0, quality="HQ")
    return Clip(samples, clip.sample_rate)


def measured(asked: Query, candidate: Candidate) -> Candidate:
    """The candidate with its offset and rate as exactly as they can be told.

    The peaks tell both to a fraction of a frame. Where they clearly see the query play at the
    track's own speed, that is the rate; else speed and tempo are measured first: by the peaks if
    they fit somewhere, by the embeddings if not. Of an outline only the speed that it came at is
    at hand.
    """
    if isinstance(asked.clip, Outline):
        here = candidate.speed == 1 and candidate.fit.score >= LEAST_FIT
        return _by_peaks(asked, candidate) if here else candidate
    if candidate.fit.score >= LEAST_FIT:
        exact = _by_peaks(asked, candidate)
        plain = exact.rate == candidate.rate == candidate.speed == 1
        if plain and candidate.fit.score >= CLEAR_FIT:
            return exact
    candidate = _at_its_tempo(asked, candidate)
    tuned = _at_its_pitch(asked, candidate)
    if tuned is not None:
        return _by_peaks(asked, tuned)
    corrected = at_its_speed(asked, candidate)
    return corrected if candidate.fit.score < LEAST_FIT else _by_peaks(asked, corrected)


def _at_its_tempo(asked: Query, candidate: Candidate) -> Candidate:
    """The candidate at a tempo further off than was tried, if its embeddings speak for that."""
    config, window = asked.config, asked.model.window
    if candidate.speed != 1 or not config.rates[0] <= candidate.rate <= config.rates[1]:
        return candidate
    line = line_of(candidate, 1.0, window)
    far = refit(asked.rows, line, asked.reference, rates=config.far_rates)
    rows = (asked.clip.duration - window) / asked.reference.hop
    better = evidence_for(far.score, candidate.score, rows)
    return candidate_of(far, 1.0, window) if better else candidate


def _at_its_pitch(asked: Query, candidate: Candidate) -> Candidate | None:
    """The candidate at the speed at which its peaks fit best; None if they fit at none."""
    clip, reference, speed = asked.clip, asked.reference, candidate.speed
    template = template_of(at_speed(clip, 1 / speed))
    _, plain = best_of(template, [candidate], reference, speed)
    steps = TUNES if speed != 1 else FAR_TUNES
    tuned, score = in_tune(template, candidate, reference, speed, clip.duration, steps=steps)
    if score < LEAST_TUNED:
        return None
    if score**2 - plain**2 < TUNED_EVIDENCE:
        return candidate
    template = template_of(at_speed(clip, 1 / tuned.speed))
    fine, _ = in_tune(template, tuned, reference, tuned.speed, clip.duration, step=TUNE / 10)
    return fine


def _by_peaks(asked: Query, candidate: Candidate) -> Candidate:
    """The candidate where its peaks fit best along the query."""
    rate, (low, high) = candidate.rate / candidate.speed, asked.config.rates
    line = lines_of([candidate], asked.reference, candidate.speed)
    template = template_of(at_speed(asked.clip, 1 / candidate.speed))
    plain = [one for one in plain_rates(candidate.speed) if abs(one - rate) <= SLACK]
    rates = min(low, rate - SLACK), max(high, rate + SLACK)
    offset, rate = refined(template, asked.reference, line, rates, plain)
    return replace(candidate, offset=offset, rate=round(rate * candidate.speed, 9))


def at_its_speed(asked: Query, candidate: Candidate) -> Candidate:
    """The candidate with the rate and offset that come out when the query's pitch is undone.

    The candidate as it is, if pitch has not changed.
    """
    clip, model, reference = asked.clip, asked.model, asked.reference
    if candidate.speed == candidate.rate == 1 and candidate.score >= PERFECT:
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


def in_tune(
    template: Template,
    candidate: Candidate,
    reference: StoredPeaks,
    speed: float,
    seconds: float,
    *,
    step: float = TUNE,
    steps: int = TUNES,
) -> tuple[Candidate, float]:
    """The candidate at the speed near its own at which its peaks fit best, and how they do.

    A change of speed comes with the same change of tempo; with none, if pitch alone was shifted; or
    with the candidate's own. The query's middle stays where it is.

    Args:
        template: of the query with `speed` undone.
        candidate: found at about that speed.
        reference: where its track is.
        speed: see `template`.
        seconds: length of the query as it is.
        step: share of the speed between two that are tried.
        steps: tried, either way.
    """
    speeds = candidate.speed * (1 + step * np.arange(-steps, steps + 1))
    tried = [
        at_rate(replace(candidate, speed=one), rate, seconds)
        for one in speeds.tolist()
        for rate in {one, candidate.rate, *((1.0,) if is_shift(one) else ())}
    ]
    return best_of(template, tried, reference, speed)


def at_rate(candidate: Candidate, rate: float, seconds: float) -> Candidate:
    """The candidate at another rate, with the middle of a query of so many seconds in its place."""
    offset = candidate.offset + (candidate.rate - rate) * seconds / 2
    return replace(candidate, offset=offset, rate=rate)


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
    return [1.0, 1 / speed] if is_shift(speed) else [1.0]


def is_shift(speed: float) -> bool:
    """Whether that much can be a shift of pitch alone."""
    return abs(12 * log2(speed)) >= LEAST_SHIFT
