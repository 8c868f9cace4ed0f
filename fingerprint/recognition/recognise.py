"""A clip and a reference in, ranked matches with their confidence out: the whole of recognition.

    signal check -> embed -> look up -> align -> evidence against a cohort -> confidence

`recognise` is the one way in: for a library, the scanner, the listener, an explanation and the fit
of the confidence. Effort follows doubt: a first look searches little of the index, and only where
it is not sure, more is searched and the clip is also tried at other playback speeds. The embedder
bears a change of tempo and hardly one of pitch, and a shift of pitch is a change of speed followed
by one of tempo: at one of the speeds the pitch is about right, and the matcher finds the tempo that
is left.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fingerprint.audio.speed import at_speed
from fingerprint.config import Effort, SearchConfig
from fingerprint.recognition.cohort import level
from fingerprint.recognition.confidence import evidence_of, probability
from fingerprint.recognition.copies import same_recordings
from fingerprint.recognition.matcher import rank
from fingerprint.recognition.query import Model, Query, Reference
from fingerprint.recognition.repeats import repeats
from fingerprint.recognition.signal_check import Nothing, nothing_in
from fingerprint.recognition.speed import at_its_speed, candidate_of, plain_rates
from fingerprint.types import (
    Candidate,
    Circumstances,
    Clip,
    Evidence,
    Fingerprint,
    Floats,
    Match,
    Track,
)

DEFAULTS = SearchConfig()
COMPARED = 5  # candidates, at least: the evidence for one is how far it is ahead of the others
LONGEST_QUERY = 30.0  # s; of a longer clip, a part of this length is enough
MOVE = 1.0  # s between the parts of a long clip among which the query is chosen
AUDIBLE_RMS = 10 ** (-60 / 20)  # of full scale, of a second that has sound

NoMatch = Nothing | Literal["too short", "nothing near enough"]  # why there is no candidate
SPOKEN: dict[NoMatch | None, str] = {
    "silence": "it is silence",
    "too short": "it is too short, or silent",
    "a steady tone": "it is a steady tone",
    "steady noise": "it is steady noise",
    "nothing near enough": "nothing in the library is near it",
}
Speeds = Literal["as it is", "in doubt"]  # when a query is tried at other speeds too


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What a clip may be, the likeliest first, whatever the confidence; or why there is nothing.

    `nothing` is None unless `matches` is empty. `query` are the rows of the part that was looked
    up; None where the signal check refused it.
    """

    matches: tuple[Match, ...] = ()
    nothing: NoMatch | None = None
    query: Fingerprint | None = None

    def at_least(self, confidence: float) -> list[Match]:
        """The matches that are that sure, the likeliest first."""
        return [match for match in self.matches if match.confidence >= confidence]


def recognise(
    reference: Reference,
    clip: Clip,
    model: Model,
    *,
    top: int = COMPARED,
    config: SearchConfig = DEFAULTS,
    speeds: Speeds = "in doubt",
) -> Result:
    """The at most `top` likeliest tracks of the reference for a clip.

    Args:
        reference: where to look.
        clip: at the model's sample rate; of a long one the part with the most sound is taken.
        model: that the reference was made with.
        top: how many tracks at most.
        config: how hard to look.
        speeds: when the clip is tried at other speeds, too.
    """
    part, begin = query_part(clip)
    if (nothing := nothing_in(part)) is not None:
        return Result(nothing=nothing)
    rows = model.embed_query(part)
    if not rows.vectors.any():
        return Result(nothing="too short")
    asked = Query(part, rows, model, reference, config)
    given = circumstances(asked)
    most = max(top, COMPARED)
    found = candidates_at(asked, rows, 1.0, most, config.at_first)
    evidence = _evidence(asked, found, given)
    if not _is_sure(evidence, asked):
        played = [(1.0, rows), *(at_other_speeds(asked) if speeds == "in doubt" else ())]
        found = _in_doubt(asked, played, most)
        evidence = _evidence(asked, found, given)
    if not found:
        return Result(nothing="nothing near enough", query=rows)
    found[0], later = _at_its_earliest(asked, at_its_speed(asked, found[0]))
    matches = [
        _match(track, candidate, weight, later if number == 0 else (), model, begin)
        for number, (candidate, weight) in enumerate(zip(found, evidence, strict=True))
        if (track := reference.track(candidate.track)) is not None
    ]
    return Result(tuple(matches[:top]), query=rows)


def query_part(clip: Clip) -> tuple[Clip, float]:
    """The part of a clip that is looked up, at most `LONGEST_QUERY`, and the s at which it begins.

    The one with the most sound; of several, the one nearest to the middle.
    """
    excess = clip.duration - LONGEST_QUERY
    if excess <= 0:
        return clip, 0.0
    rate = clip.sample_rate
    seconds = clip.samples[: len(clip.samples) // rate * rate].reshape(-1, rate)
    audible = np.sqrt(np.mean(np.square(seconds, dtype=np.float64), axis=1)) >= AUDIBLE_RMS
    heard = np.concatenate([[0], np.cumsum(audible)])
    begins = np.append(np.arange(0, excess, MOVE), excess / 2)
    first = np.floor(begins).astype(np.int64)
    last = np.minimum(first + round(LONGEST_QUERY), len(audible))
    sound = heard[last] - heard[first]
    best = np.lexsort((np.abs(begins - excess / 2), -sound))[0]
    begin = round(float(begins[best]) * rate)
    part = clip.samples[begin : begin + round(LONGEST_QUERY * rate)]
    return Clip(part, rate), begin / rate


def circumstances(asked: Query) -> Circumstances:
    """What the evidence for any candidate has to be seen against."""
    reference = asked.reference
    return Circumstances(
        seconds=float(np.mean(asked.rows.vectors.any(axis=1))) * asked.clip.duration,
        level=level(reference.cohort, asked.rows, hop=reference.hop),
        rows=int(reference.rows.starts[-1]),
    )


def at_other_speeds(asked: Query) -> Iterator[tuple[float, Fingerprint]]:
    """Changes of speed that are undone when in doubt, and the clip's rows with each undone."""
    for semitones in asked.config.semitones:
        speed = 2 ** (semitones / 12)
        # A row a hop is enough to be recognised by; the place can be measured later.
        yield speed, asked.model.embed(at_speed(asked.clip, 1 / speed))


def candidates_at(
    asked: Query, rows: Fingerprint, speed: float, top: int, effort: Effort
) -> list[Candidate]:
    """Candidates for a query that is played at 1 / `speed` and then has these rows, best first."""
    reference, config = asked.reference, asked.config
    looked_up = _every(rows.vectors, -(-len(rows.vectors) // effort.windows))
    search_k = -(-effort.nodes // max(1, int(looked_up.any(axis=1).sum())))
    lines = rank(
        rows,
        reference.search(looked_up, neighbours=config.neighbours, search_k=search_k),
        reference,
        rates=config.rates,
        most=effort.candidates,
        top=top,
        plain=plain_rates(speed),
    )
    handicap = 0.0 if speed == 1 else config.handicap
    return [
        candidate_of(replace(line, score=line.score - handicap), speed, asked.model.window)
        for line in lines
    ]


def _in_doubt(
    asked: Query, played: Iterable[tuple[float, Fingerprint]], top: int
) -> list[Candidate]:
    """The `top` best candidates at any of the speeds, with a thorough search at the query's own."""
    config = asked.config
    found: list[Candidate] = []
    for speed, rows in played:
        effort = config.in_doubt if speed == 1 else config.at_other_speeds
        found += candidates_at(asked, rows, speed, top, effort)
    best: dict[int, Candidate] = {}
    for one in sorted(found, key=lambda one: -one.score):
        best.setdefault(one.track, one)
    return list(best.values())[:top]


def _every(vectors: Floats, step: int) -> Floats:
    """Every `step`th of the vectors (N, D), and zeros, which are not looked up, for the others.

    Neighbouring query windows look alike and find the same rows.
    """
    chosen = np.zeros_like(vectors)
    chosen[::step] = vectors[::step]
    return chosen


def _evidence(asked: Query, found: list[Candidate], given: Circumstances) -> list[Evidence]:
    """The evidence for each of the candidates against the others."""
    seconds = max(0.0, asked.clip.duration - asked.model.window)
    return evidence_of(found, given, same_recordings(found, asked.reference, seconds=seconds))


def _is_sure(evidence: list[Evidence], asked: Query) -> bool:
    """Whether the best candidate would be answered by default."""
    least, calibration = asked.config.min_confidence, asked.model.calibration
    return bool(evidence) and probability(evidence[0], calibration) >= least


def _at_its_earliest(asked: Query, candidate: Candidate) -> tuple[Candidate, tuple[float, ...]]:
    """The first place at which the track plays what was heard, and the offsets (s) of the others.

    The candidate as it is, and nothing, where the track does not repeat itself.
    """
    reference = asked.reference
    rows = np.arange(*reference.rows.starts[candidate.track : candidate.track + 2])
    others = repeats(
        reference.vectors(rows),
        candidate,
        hop=reference.hop,
        window=asked.model.window,
        seconds=asked.clip.duration,
    )
    first, *later = sorted([candidate.offset, *others])
    return replace(candidate, offset=first), tuple(later)


def _match(
    track: Track,
    candidate: Candidate,
    evidence: Evidence,
    later: tuple[float, ...],
    model: Model,
    begin: float,
) -> Match:
    """The candidate as users see it, for a clip that began `begin` s before its query."""
    before = candidate.rate * begin
    return Match(
        track=track,
        offset=candidate.offset - before,
        rate=candidate.rate,
        confidence=probability(evidence, model.calibration),
        score=candidate.score,
        evidence=evidence,
        repeats=tuple(offset - before for offset in later),
    )
