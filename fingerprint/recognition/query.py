"""A query to candidates: heard as it is and, if that leaves doubt, at other speeds too.

The embedder bears a change of tempo and hardly one of pitch, and a shift of pitch is a change of
speed and then one of tempo. So a doubtful query is played back at a few speeds: at one of them the
pitch is about right, and the matcher finds the tempo that is left.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import log2
from typing import Literal, Protocol

import numpy as np

from fingerprint.audio.speed import at_speed
from fingerprint.config import Effort, SearchConfig
from fingerprint.recognition.cohort import level
from fingerprint.recognition.confidence import (
    Calibration,
    Circumstances,
    Evidence,
    evidence_of,
    probability,
)
from fingerprint.recognition.copies import same_recordings
from fingerprint.recognition.matcher import rank
from fingerprint.recognition.repeats import repeats
from fingerprint.recognition.signal_check import nothing_in
from fingerprint.types import Candidate, Clip, Fingerprint, Floats, Hits, Ints, Rows

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


class Searchable(Protocol):
    """What asking needs of a library at one moment; see `Snapshot`."""

    @property
    def rows(self) -> Rows: ...
    @property
    def hop(self) -> float: ...
    def search(self, vectors: Floats, *, neighbours: int, search_k: int) -> Hits: ...
    def vectors(self, rows: Ints, /) -> Floats: ...


Speeds = Literal["as it is", "in doubt"]  # when a query is heard at other speeds too


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Which of the library's tracks, as they are now, is the clip from?

    `background` holds random passages of the library, (R, D); `query` the clip's dense rows,
    None: they are made when they are needed.
    """

    clip: Clip
    model: Listener
    library: Searchable
    background: Floats
    config: SearchConfig
    query: Fingerprint | None = None


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


def ask(question: Question, *, top: int, speeds: Speeds = "in doubt") -> list[Answer]:
    """The at most `top` likeliest tracks, best first; none where there is nothing to recognise.

    Where the first look finds nothing that would be answered by default, more of the index is
    inspected, and the query is heard at other speeds too, if `speeds` says so.
    """
    clip, model, config = question.clip, question.model, question.config
    if nothing_in(clip) is not None:
        return []
    query = question.query or model.embed_query(clip)
    if not query.vectors.any():
        return []
    given = circumstances(question, query)
    answers = weighed(question, candidates_at(question, query, 1.0, top, config.at_first), given)
    if answers and _confidence(answers[0], model) >= config.min_confidence:
        return answers
    played = [(1.0, query)]
    if speeds == "in doubt":
        played += at_other_speeds(clip, model, config)
    return weighed(question, heard_at(question, played, top), given)


def at_other_speeds(
    clip: Clip, model: Listener, config: SearchConfig
) -> Iterator[tuple[float, Fingerprint]]:
    """Changes of speed that are undone when in doubt, and the clip's rows with each undone."""
    for semitones in config.semitones:
        speed = 2 ** (semitones / 12)
        # A row a hop is enough to be recognised by; the place can be measured later.
        yield speed, model.embed(at_speed(clip, 1 / speed))


def heard_at(
    question: Question, played: Iterable[tuple[float, Fingerprint]], top: int
) -> list[Heard]:
    """The `top` best candidates at any of the speeds, with a thorough search at the query's own."""
    config = question.config
    heard: list[Heard] = []
    for speed, query in played:
        effort = config.in_doubt if speed == 1 else config.at_other_speeds
        heard += candidates_at(question, query, speed, top, effort)
    return best_of_each_track(heard)[:top]


def circumstances(question: Question, query: Fingerprint) -> Circumstances:
    """What the evidence for any candidate has to be seen against."""
    return Circumstances(
        seconds=float(np.mean(query.vectors.any(axis=1))) * question.clip.duration,
        level=level(question.background, query, hop=question.library.hop),
        rows=int(question.library.rows.starts[-1]),
    )


def at_its_earliest(
    question: Question, candidate: Candidate
) -> tuple[Candidate, tuple[float, ...]]:
    """The first place at which the track plays what was heard, and the offsets (s) of the others.

    The candidate as it is, and nothing, where the track does not repeat itself.
    """
    library, model = question.library, question.model
    rows = np.arange(*library.rows.starts[candidate.track : candidate.track + 2])
    others = repeats(
        library.vectors(rows),
        candidate,
        hop=library.hop,
        window=model.window,
        seconds=question.clip.duration,
    )
    first, *later = sorted([candidate.offset, *others])
    return replace(candidate, offset=first), tuple(later)


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


def candidates_at(
    question: Question, query: Fingerprint, speed: float, top: int, effort: Effort
) -> list[Heard]:
    """Candidates for a query that is played at 1 / `speed`, best first."""
    model, library, config = question.model, question.library, question.config
    looked_up = _every(query.vectors, -(-len(query.vectors) // effort.windows))
    search_k = -(-effort.nodes // max(1, int(looked_up.any(axis=1).sum())))
    lines = rank(
        query,
        library.search(looked_up, neighbours=config.neighbours, search_k=search_k),
        library.rows,
        library.vectors,
        hop=library.hop,
        rates=config.rates,
        most=effort.candidates,
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


def best_of_each_track(heard: Iterable[Heard]) -> list[Heard]:
    """Each track as it is heard best, best first."""
    best: dict[int, Heard] = {}
    for one in sorted(heard, key=lambda one: -one.candidate.score):
        best.setdefault(one.candidate.track, one)
    return list(best.values())


def weighed(question: Question, heard: list[Heard], given: Circumstances) -> list[Answer]:
    """The evidence for each of the candidates against the others."""
    candidates = [one.candidate for one in heard]
    model, library = question.model, question.library
    copies = same_recordings(
        candidates,
        library.rows,
        library.vectors,
        hop=library.hop,
        seconds=max(0.0, question.clip.duration - model.window),
    )
    evidence = evidence_of(candidates, given, copies)
    return [Answer(one, weight) for one, weight in zip(heard, evidence, strict=True)]
