"""How fast is the query played? Told by its pitch, which is far sharper than its time.

A line through the few windows of a query of five seconds is good for some 2 % of rate. But where a
change of speed has moved pitch and tempo alike, the embeddings fit best when both are undone, and
that best speed is sharp.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from fingerprint.audio.speed import at_speed
from fingerprint.recognition.alignment import weights_of
from fingerprint.recognition.matcher import evidence_for, fit, vertex
from fingerprint.recognition.query import Heard, Question, candidate_of, line_of, plain_rates
from fingerprint.types import Candidate, Clip

LONGEST_PROBE = 10.0  # s of the query by which its speed is measured
STEP = 0.015  # share of the speed between two that are compared
STEPS = 8  # at most from the first guess to the best speed
PERFECT = 0.99  # score; what is played 1 % faster or slower never scores as much
HOPELESS = 0.1  # of the score; where playing at the guessed speed costs more, speed is not it


def at_its_speed(question: Question, heard: Heard) -> Candidate:
    """The candidate with the rate and offset that come out when the query's pitch is undone.

    The candidate as it is, if pitch has not changed.
    """
    clip, model, candidate = question.clip, question.model, heard.candidate
    if heard.speed == candidate.rate == 1 and candidate.score >= PERFECT:
        return candidate
    part = _central(clip)
    place = candidate.offset + candidate.rate * clip.duration / 2

    def score(speed: float) -> float:
        return _score(question, part, speed, place, candidate.track)

    measured = heard.speed == candidate.rate == 1 and clip.duration <= LONGEST_PROBE
    known = {1.0: candidate.score} if measured else {}
    guesses = dict.fromkeys((heard.speed, candidate.rate))
    speed, scores = _peak(score, guesses, known, least=candidate.score - HOPELESS)
    rows = (part.duration - model.window) / question.library.hop
    if heard.speed == 1 and not evidence_for(max(scores.values()), scores[1.0], rows):
        return candidate
    query = model.embed_query(at_speed(clip, 1 / speed))
    line = fit(
        query,
        line_of(candidate, speed, model.window),
        question.library.rows,
        question.library.vectors,
        hop=question.library.hop,
        rates=question.config.rates,
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


def _score(question: Question, part: Clip, speed: float, place: float, track: int) -> float:
    """Mean cosine of the query at 1 / `speed` with the track's rows under it.

    Windows weigh by how clear they are. The middle of the query's `part` lies on `place` (s into
    the track). It is cut so that its windows begin where the track's do. 0 where nothing is left.
    """
    model, library = question.model, question.library
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
