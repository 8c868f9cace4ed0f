"""A query to candidates: heard as it is and, if that leaves doubt, at other speeds too.

The embedder bears a change of tempo and hardly one of pitch, and a shift of pitch is a change of
speed and then one of tempo. So a doubtful query is played back at a few speeds: at one of them the
pitch is about right, and the matcher finds the tempo that is left.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import log2
from typing import Protocol

import numpy as np

from fingerprint.audio.speed import at_speed
from fingerprint.config import SearchConfig
from fingerprint.library.snapshot import Snapshot
from fingerprint.search.confidence import Calibration, Evidence, evidence_of, probability
from fingerprint.search.copies import same_recordings
from fingerprint.search.matcher import rank
from fingerprint.types import Candidate, Clip, Fingerprint, Floats

LEAST_SHIFT = 0.75  # semitones that can be a shift of pitch alone
LONGEST_QUERY = 30.0  # s; of a longer recording the middle is enough


class Listener(Protocol):
    """What asking needs of a model."""

    @property
    def sample_rate(self) -> int: ...
    @property
    def hop(self) -> float: ...
    @property
    def window(self) -> float: ...
    @property
    def calibration(self) -> Calibration: ...
    def embed(self, clip: Clip, /) -> Fingerprint: ...
    def embed_query(self, clip: Clip, /) -> Fingerprint: ...


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Which of the library's tracks, as they are now, is the clip from?"""

    clip: Clip
    model: Listener
    library: Snapshot
    config: SearchConfig


@dataclass(frozen=True, slots=True)
class Heard:
    """A candidate in the query's own time, found when the query was played at 1 / `speed`."""

    candidate: Candidate
    speed: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A track that may be the one, and what speaks for it."""

    heard: Heard
    evidence: Evidence


def shortened(clip: Clip) -> tuple[Clip, float]:
    """The middle of a long clip, and the second at which it begins."""
    excess = clip.duration - LONGEST_QUERY
    if excess <= 0:
        return clip, 0.0
    first = round(excess / 2 * clip.sample_rate)
    last = first + round(LONGEST_QUERY * clip.sample_rate)
    return Clip(clip.samples[first:last], clip.sample_rate), first / clip.sample_rate


def ask(question: Question, *, top: int, thorough: bool) -> list[Answer]:
    """The at most `top` likeliest tracks, best first; none for silence.

    The query is heard at other speeds if the first answer is not sure, and if `thorough`.
    """
    clip, model = question.clip, question.model
    query = model.embed_query(clip)
    audible = query.vectors.any(axis=1)
    if not audible.any():
        return []
    seconds = float(np.mean(audible)) * clip.duration
    heard = _candidates(question, query, 1.0, top)
    answers = _weighed(question, heard, seconds)
    if not thorough and answers and _confidence(answers[0], model) >= question.config.sure:
        return answers
    for speed in (2 ** (semitones / 12) for semitones in question.config.semitones):
        # A row a hop is enough to be recognised by; the place can be measured later.
        heard += _candidates(question, model.embed(at_speed(clip, 1 / speed)), speed, top)
    return _weighed(question, _best_of_each_track(heard)[:top], seconds)


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
    return replace(line, offset=offset, rate=round(line.rate * speed, 9))  # 1 stays exactly 1


def plain_rates(speed: float) -> list[float]:
    """What is left in a query at 1 / `speed` if speed has changed by just that, or pitch alone.

    Who shifts pitch alone does it by whole semitones; less is a matter of speed.
    """
    alone = abs(12 * log2(speed)) >= LEAST_SHIFT
    return [1.0, 1 / speed] if alone else [1.0]


def _confidence(answer: Answer, model: Listener) -> float:
    return probability(answer.evidence, model.calibration)


def _candidates(question: Question, query: Fingerprint, speed: float, top: int) -> list[Heard]:
    """Candidates for a query that is played at 1 / `speed`, best first."""
    model, library, config = question.model, question.library, question.config
    looked_up = _every(query.vectors, -(-len(query.vectors) // config.looked_up))
    lines = rank(
        query,
        library.search(looked_up, neighbours=config.neighbours, search_k=config.search_k),
        library.rows,
        library.vectors,
        hop=library.hop,
        config=config,
        top=top,
        plain=plain_rates(speed),
    )
    handicap = 0.0 if speed == 1 else config.handicap
    return [
        Heard(candidate_of(replace(line, score=line.score - handicap), speed, model.window), speed)
        for line in lines
    ]


def _every(vectors: Floats, step: int) -> Floats:
    """Every `step`th of the vectors (N, D), and zeros, which are not looked up, for the others.

    Neighbouring query windows look alike and find the same rows.
    """
    chosen = np.zeros_like(vectors)
    chosen[::step] = vectors[::step]
    return chosen


def _best_of_each_track(heard: Iterable[Heard]) -> list[Heard]:
    best: dict[int, Heard] = {}
    for one in sorted(heard, key=lambda one: -one.candidate.score):
        best.setdefault(one.candidate.track, one)
    return list(best.values())


def _weighed(question: Question, heard: list[Heard], seconds: float) -> list[Answer]:
    candidates = [one.candidate for one in heard]
    model, library = question.model, question.library
    copies = same_recordings(
        candidates,
        library.rows,
        library.vectors,
        hop=library.hop,
        seconds=max(0.0, question.clip.duration - model.window),
    )
    evidence = evidence_of(candidates, seconds, copies)
    return [Answer(one, weight) for one, weight in zip(heard, evidence, strict=True)]
