"""Playback rate and offset of a candidate, measured by pitch, which is more exact than by time.

A line through the windows of a query of five seconds determines the rate to some 2 %. But a change
of speed moves pitch and tempo alike, and the track's spectral peaks then coincide with the query's
at the exact speed only; if they fit at no speed, the embeddings still fit best when the change is
undone. A change of tempo alone is measured by the peaks along the line.

`speed` is the change of pitch and tempo that is undone, by resampling, before the query is
compared; `rate` is track time per query time, whatever the pitch.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import log2

import numpy as np

from fingerprint.recognition.alignment import weights_of
from fingerprint.recognition.copies import similar
from fingerprint.recognition.matcher import evidence_for, fit, vertex
from fingerprint.recognition.query import Query, at_speed
from fingerprint.recognition.verification import (
    StoredPeaks,
    Template,
    best_of,
    lines_of,
    refined,
)
from fingerprint.types import Candidate, Clip, Floats, Outline

LEAST_SHIFT = 0.75  # semitones from which a change of pitch may be a shift of pitch alone
LONGEST_PROBE = 10.0  # s of the query by which its speed is measured
STEP = 0.015  # relative step between speeds that are compared by embeddings
STEPS = 8  # at most, from the first guess to the best speed
PERFECT = 0.99  # score that a query played 1 % faster or slower never reaches
TUNE = 0.005  # relative step between speeds that are compared by peaks
TUNES = 8  # of these steps either way, around a speed that was undone
FAR_TUNES = 16  # around the track's own speed, since the embedder tolerates that much
TUNED_EVIDENCE = 20.0  # difference of squared peak scores needed for another speed
PLACE_EVIDENCE = 60.0  # the same for another passage of the track
LEAST_TUNED = 6.0  # score of the peaks from which they determine the speed
LEAST_FIT = 4.0  # spreads above the cohort from which the peaks determine offset and rate
CLEAR_FIT = 8.0  # spreads at which the peaks would fit less well at any other speed
SLACK = 0.1  # uncertainty of a rate measured by embeddings
FAR_REACH = 32  # frames (0.5 s) by which a line of the wrong rate may be off at its middle
REJECTED_LOSS = 0.1  # loss of score at a guessed speed from which the guess is rejected


def measured(query: Query, candidate: Candidate, *, of_part: bool = False) -> Candidate:
    """The candidate with its offset and rate measured as exactly as possible.

    `of_part`: the query is a part of the one that the candidate's score is of.

    The peaks determine both to a fraction of a frame. If they fit clearly at the track's own speed,
    that is the rate; otherwise speed and tempo are measured first, by the peaks if they fit at any
    speed, by the embeddings if not. An outline cannot be embedded at other speeds.
    """
    if candidate.fit.score >= LEAST_FIT:
        exact = _by_peaks(query, candidate)
        plain = exact.rate == candidate.rate == candidate.speed == 1
        if plain and candidate.fit.score >= CLEAR_FIT:
            return exact
    tuned = _at_its_pitch(query, candidate)
    if tuned is not None:
        return _by_peaks(query, tuned)
    without_sound = isinstance(query.clip, Outline)
    corrected = candidate if without_sound else at_its_speed(query, candidate, of_part=of_part)
    return corrected if candidate.fit.score < LEAST_FIT else _by_peaks(query, corrected)


def at_its_tempo(query: Query, candidate: Candidate) -> Candidate:
    """The candidate at the tempo at which its peaks fit best, whatever part of the query fits.

    The unchanged candidate if its peaks fit clearly at the track's own speed, at no tempo, or far
    better at another pitch.
    """
    plain = candidate.rate == 1 and candidate.fit.score >= CLEAR_FIT
    if candidate.speed != 1 or plain:
        return candidate
    template, reference = query.template(1.0), query.reference
    line, rates = lines_of([candidate], reference), query.config.far_rates
    offset, rate = refined(template, reference, line, rates, reach=FAR_REACH)
    if rate == 1:
        return candidate
    found = replace(candidate, offset=offset, rate=round(rate, 9))
    _, score = best_of(template, [found], reference)
    seconds = query.clip.duration
    _, tuned = in_tune(template, candidate, reference, 1.0, seconds, steps=FAR_TUNES)
    return candidate if tuned**2 - score**2 >= TUNED_EVIDENCE else found


def at_its_place(query: Query, candidate: Candidate, rows: Floats) -> Candidate:
    """The candidate at the passage of its track at which its peaks fit best.

    Music repeats its passages, but seldom note by note: by embeddings, a query resembles all of
    them, and may be found at any. The unchanged candidate unless the peaks fit another far better.
    `rows` are those of its track, (R, D).
    """
    reference, seconds = query.reference, query.clip.duration
    window = query.model.window
    others = similar(rows, candidate, hop=reference.hop, window=window, seconds=seconds)
    if not others:
        return candidate
    speed = query.near(candidate.speed)
    template = query.template(speed)
    _, here = best_of(template, [candidate], reference, speed)
    tried = [replace(candidate, offset=offset) for offset in others]
    best, there = best_of(template, tried, reference, speed)
    if there**2 - here**2 < PLACE_EVIDENCE:
        return candidate
    return _by_peaks(query, best)


def _at_its_pitch(query: Query, candidate: Candidate) -> Candidate | None:
    """The candidate at the speed at which its peaks fit best; None if they fit at none."""
    clip, reference, speed = query.clip, query.reference, query.near(candidate.speed)
    template = query.template(speed)
    _, plain = best_of(template, [candidate], reference, speed)
    steps = TUNES if candidate.speed != 1 else FAR_TUNES
    tuned, score = in_tune(template, candidate, reference, speed, clip.duration, steps=steps)
    if score < LEAST_TUNED:
        return None
    if score**2 - plain**2 < TUNED_EVIDENCE:
        return candidate
    speed = query.near(tuned.speed)
    template = query.template(speed)
    fine, _ = in_tune(template, tuned, reference, speed, clip.duration, step=TUNE / 10)
    return fine


def _by_peaks(query: Query, candidate: Candidate) -> Candidate:
    """The candidate at the offset and rate at which its peaks fit best."""
    speed = query.near(candidate.speed)
    rate, (low, high) = candidate.rate / speed, query.config.rates
    line = lines_of([candidate], query.reference, speed)
    every = (one * (candidate.speed / speed) for one in plain_rates(candidate.speed))
    plain = [one for one in every if abs(one - rate) <= SLACK]
    rates = min(low, rate - SLACK), max(high, rate + SLACK)
    offset, rate = refined(query.template(speed), query.reference, line, rates, plain)
    return replace(candidate, offset=offset, rate=round(rate * speed, 9))


def at_its_speed(query: Query, candidate: Candidate, *, of_part: bool = False) -> Candidate:
    """The candidate with rate and offset measured after undoing the query's change of pitch.

    The unchanged candidate if pitch has not changed.
    """
    clip, model, reference = query.clip, query.model, query.reference
    if candidate.speed == candidate.rate == 1 and candidate.score >= PERFECT:
        return candidate
    part = _central(clip)
    place = candidate.offset + candidate.rate * clip.duration / 2

    def score(speed: float) -> float:
        return _score(query, part, speed, place, candidate.track)

    measured = candidate.speed == candidate.rate == 1 and clip.duration <= LONGEST_PROBE
    known = {1.0: candidate.score} if measured and not of_part else {}
    guesses = dict.fromkeys((candidate.speed, candidate.rate))
    speed, scores = _peak(score, guesses, known, least=candidate.score - REJECTED_LOSS)
    rows = (part.duration - model.window) / reference.hop
    if candidate.speed == 1 and not evidence_for(max(scores.values()), scores[1.0], rows):
        return candidate
    undone = model.embed_query(at_speed(clip, 1 / speed))
    line = fit(
        undone,
        line_of(candidate, speed, model.window),
        reference,
        rates=query.config.rates,
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
    """The speed at the peak of the score near the best guess, and every score computed.

    The first guess if no guess reaches `least`. Scores in `known` are not computed again.
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


def _score(query: Query, part: Clip, speed: float, place: float, track: int) -> float:
    """Weighted mean cosine of the query, played at 1 / `speed`, with the track's rows under it.

    Windows are weighted by their clearness. The middle of `part` of the query is at `place` (s into
    the track). The part is cut so that its windows begin where the track's do; 0 if it is then too
    short.
    """
    model, library = query.model, query.reference
    slowed = at_speed(part, 1 / speed)
    begin = place - slowed.duration / 2  # s into the track
    number = int(np.ceil(begin / library.hop))  # the first whole row
    rest = slowed.samples[round((number * library.hop - begin) * slowed.sample_rate) :]
    if len(rest) < model.window * slowed.sample_rate:
        return 0.0
    step = round(library.hop / model.hop)
    rows = model.embed(Clip(rest, slowed.sample_rate))
    vectors, weights = rows.vectors[::step], weights_of(rows)[::step]
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
    """The candidate at the nearby speed at which its peaks fit best, and their score.

    Each speed is tried with an equal change of tempo, with the candidate's own rate and, if it may
    be a shift of pitch alone, with no change of tempo. The query's middle keeps its place.

    Args:
        template: of the query with `speed` undone.
        candidate: found at about that speed.
        reference: the tracks.
        speed: the speed undone in `template`.
        seconds: length of the unchanged query.
        step: relative step between speeds.
        steps: number of steps either way.
    """
    speeds = candidate.speed * (1 + step * np.arange(-steps, steps + 1))
    tried = [
        at_rate(replace(candidate, speed=one), rate, seconds)
        for one in speeds.tolist()
        for rate in {one, candidate.rate, *((1.0,) if is_shift(one) else ())}
    ]
    return best_of(template, tried, reference, speed)


def at_rate(candidate: Candidate, rate: float, seconds: float) -> Candidate:
    """The candidate at another rate, keeping the place of the middle of a query of `seconds`."""
    offset = candidate.offset + (candidate.rate - rate) * seconds / 2
    return replace(candidate, offset=offset, rate=rate)


def line_of(candidate: Candidate, speed: float, window: float) -> Candidate:
    """The matcher's line for a candidate, in a query that is played at 1 / `speed`.

    Windows match if their middles hold the same moment. At a rate other than 1 their beginnings
    differ: a query window of `window` seconds holds rate * window seconds of the track.
    """
    rate = candidate.rate / speed
    return replace(candidate, offset=candidate.offset + (rate - 1) * window / 2, rate=rate)


def candidate_of(line: Candidate, speed: float, window: float) -> Candidate:
    """The inverse of `line_of`: the candidate's offset is that of the query's start."""
    offset = line.offset - (line.rate - 1) * window / 2
    rate = round(line.rate * speed, 9)  # 1 stays exactly 1
    return replace(line, offset=offset, rate=rate, speed=speed)


def plain_rates(speed: float) -> list[float]:
    """The rates of a query played at 1 / `speed` if its speed, or its pitch alone, had changed.

    Shifts of pitch alone are by whole semitones; smaller ones are changes of speed.
    """
    return [1.0, 1 / speed] if is_shift(speed) else [1.0]


def is_shift(speed: float) -> bool:
    """Whether a change of pitch is large enough to be a shift of pitch alone."""
    return abs(12 * log2(speed)) >= LEAST_SHIFT
