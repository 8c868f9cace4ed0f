"""A clip and a reference in, ranked matches with their confidence out: the whole of recognition.

    signal check -> embed -> look up -> align -> verify by peaks -> evidence -> confidence

`recognise` is the one way in: for a library, the scanner, the listener, an explanation and the fit
of the confidence. Effort follows doubt: a first look searches little of the index; where that is
not sure, more is searched, by landmarks too; and where that is not sure either, the clip is tried
at other playback speeds, near ones first. The embedder bears a change of tempo and hardly one of
pitch, and a shift of pitch is a change of speed followed by one of tempo: at one of the speeds the
pitch is about right, and the matcher finds the tempo that is left.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fingerprint.config import Effort, Range, SearchConfig
from fingerprint.index.landmarks import query_landmarks
from fingerprint.recognition.background import backed, without_copies
from fingerprint.recognition.cohort import level
from fingerprint.recognition.confidence import LEAST_SPREAD, evidence_of, probability
from fingerprint.recognition.copies import SAME, likeness
from fingerprint.recognition.matcher import TIE, rank, settle
from fingerprint.recognition.overlap import part_in_track
from fingerprint.recognition.query import Model, Query, Reference
from fingerprint.recognition.repeats import repeats
from fingerprint.recognition.signal_check import Nothing, nothing_in
from fingerprint.recognition.speed import (
    at_speed,
    candidate_of,
    in_tune,
    measured,
    plain_rates,
)
from fingerprint.recognition.verification import template_of, verify
from fingerprint.types import (
    Candidate,
    Circumstances,
    Clip,
    Evidence,
    Fingerprint,
    Floats,
    Match,
    Outline,
    Track,
)

DEFAULTS = SearchConfig()
TUNED = 3  # best candidates of a speed, that are verified at the very best pitch and tempo nearby
TUNED_GAIN = 1.6  # spreads by which they then fit better if they are wrong, as measured
UNLIKE = 0.4  # mean cosine of two passages, below which neither is taken for the other
COMPARED = 5  # candidates, at least: the evidence for one is how far it is ahead of the others
SCORE_WEIGHT = 0.8  # of the embeddings' score in spreads of its cohort, beside that of the peaks
LONGEST_QUERY = 30.0  # s; of a longer clip, a part of this length is enough
MOVE = 1.0  # s between the parts of a long clip among which the query is chosen
AUDIBLE_RMS = 10 ** (-60 / 20)  # of full scale, of a second that has sound

NoMatch = Nothing | Literal["too short", "nothing near enough"]  # why there is no candidate
SPOKEN: dict[NoMatch | None, str] = {
    "silence": "it is silence",
    "too short": "it is too short, or silent",
    "hardly any sound": "it has hardly any sound",
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
    asked = Query(part, rows, model, backed(reference, model.background), config)
    given = circumstances(asked)
    most = max(top, COMPARED)
    verified: list[Candidate] = []
    for more in _looks(asked, speeds):
        verified += _verified(asked, more)
        ranked = _ranked(verified, given)
        found = [one for one in ranked if one.track < len(reference.rows)]
        rivals = [one for one in ranked if one.track >= len(reference.rows)]
        evidence = _evidence(asked, found, rivals, given, most)
        if _is_sure(evidence, asked):
            break
    if not found:
        return Result(nothing="nothing near enough", query=rows)
    found[0], later = _at_its_earliest(asked, _measured(asked, found[0]))
    matches = [
        _match(track, candidate, weight, later if number == 0 else (), model, begin)
        for number, (candidate, weight) in enumerate(zip(found, evidence, strict=False))
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


def at_other_speeds(asked: Query, every: Sequence[float]) -> Iterator[tuple[float, Fingerprint]]:
    """Changes of speed (semitones) that are undone when in doubt, and the rows with each undone."""
    for semitones in every:
        speed = 2 ** (semitones / 12)
        # A row a hop is enough to be recognised by; the place can be measured later.
        yield speed, asked.model.embed(at_speed(asked.clip, 1 / speed))


def candidates_at(
    asked: Query, rows: Fingerprint, speed: float, effort: Effort, rates: Range | None = None
) -> list[Candidate]:
    """Candidates for a query that is played at 1 / `speed` and then has these rows, best first.

    Tried are `rates`, by default those of the configuration.
    """
    reference, config = asked.reference, asked.config
    looked_up = _every(rows.vectors, -(-len(rows.vectors) // effort.windows))
    search_k = -(-effort.nodes // max(1, int(looked_up.any(axis=1).sum())))
    lines = rank(
        rows,
        reference.search(looked_up, neighbours=config.neighbours, search_k=search_k),
        reference,
        rates=rates or config.rates,
        most=effort.candidates,
        plain=plain_rates(speed),
    )
    handicap = 0.0 if speed == 1 else config.handicap
    return [
        candidate_of(replace(line, score=line.score - handicap), speed, asked.model.window)
        for line in lines
    ]


def _looks(asked: Query, speeds: Speeds) -> Iterator[list[Candidate]]:
    """Candidates of ever more work: a first look, a thorough search, landmarks, other speeds."""
    config = asked.config
    yield candidates_at(asked, asked.rows, 1.0, config.at_first)
    pairs = asked.reference.vote(query_landmarks(asked.clip), config.landmarks)
    yield [
        *candidates_at(asked, asked.rows, 1.0, config.in_doubt),
        *settle(asked.rows, pairs, asked.reference),
    ]
    if speeds == "in doubt":
        yield [
            candidate
            for speed, rows in at_other_speeds(asked, config.semitones)
            for candidate in candidates_at(asked, rows, speed, config.at_other_speeds)
        ]
        yield [*_at_far_tempos(asked), *_at_far_speeds(asked)]


def _at_far_tempos(asked: Query) -> list[Candidate]:
    """Candidates whose tempo alone has changed, by more than is looked for at first."""
    config = asked.config
    found = candidates_at(asked, asked.rows, 1.0, config.at_far_speeds, config.far_rates)
    return [
        replace(one, score=one.score - config.handicap)
        for one in found
        if not config.rates[0] <= one.rate <= config.rates[1]
    ]


def _at_far_speeds(asked: Query) -> list[Candidate]:
    """Candidates at speeds, and so at pitches, further off than those that are tried at first."""
    config = asked.config
    found = []
    for speed, rows in at_other_speeds(asked, config.far_semitones):
        low, high = config.rates
        rates = min(low, 1 / speed), max(high, 1 / speed)  # at 1 / speed pitch alone has changed
        found += candidates_at(asked, rows, speed, config.at_far_speeds, rates)
    return found


def _verified(asked: Query, found: list[Candidate]) -> list[Candidate]:
    """The candidates with the fit of their spectral peaks.

    The best few at another speed are put in tune first: peaks meet only at the very pitch. By
    chance alone the best of so many pitches and tempos fits better, so that much is taken off.
    """
    reference, seconds = asked.reference, asked.clip.duration
    checked: list[Candidate] = []
    for speed in dict.fromkeys(one.speed for one in found):
        here = [one for one in found if one.speed == speed]
        few = TUNED if speed != 1 else 0
        template = template_of(at_speed(asked.clip, 1 / speed))
        tuned = [in_tune(template, one, reference, speed, seconds)[0] for one in here[:few]]
        here = [*tuned, *here[few:]]
        for number, fit in enumerate(verify(template, here, reference, speed)):
            less = TUNED_GAIN if number < few else 0.0
            checked.append(replace(here[number], fit=replace(fit, score=fit.score - less)))
    return checked


def _ranked(verified: list[Candidate], given: Circumstances) -> list[Candidate]:
    """Each track at its best place by embeddings and spectral peaks together, best first."""

    def order(one: Candidate) -> tuple[float, int, float]:
        normal = (one.score - given.level.mean) / (given.level.spread + LEAST_SPREAD)
        return -round(one.fit.score + SCORE_WEIGHT * normal, TIE), one.track, one.offset

    best: dict[int, Candidate] = {}
    for one in sorted(verified, key=order):
        best.setdefault(one.track, one)
    return list(best.values())


def _every(vectors: Floats, step: int) -> Floats:
    """Every `step`th of the vectors (N, D), and zeros, which are not looked up, for the others.

    Neighbouring query windows look alike and find the same rows.
    """
    chosen = np.zeros_like(vectors)
    chosen[::step] = vectors[::step]
    return chosen


def _evidence(
    asked: Query,
    found: list[Candidate],
    rivals: list[Candidate],
    given: Circumstances,
    most: int,
) -> list[Evidence]:
    """The evidence for the `most` best candidates against all others, and the background's.

    Two tracks may play at once: then each speaks against the other. So where the best one and the
    next that is nothing like it would both be sure without the other, they are both answered.
    """
    if not found:
        return []
    seconds = max(0.0, asked.clip.duration - asked.model.window)
    alike = likeness(found[:most], asked.reference, seconds=seconds)
    copies = alike >= SAME
    everyone = [*found, *without_copies(rivals, found[:most], asked.reference, seconds=seconds)]
    evidence = evidence_of(everyone, given, copies)
    second = next((number for number, one in enumerate(alike[0]) if one < UNLIKE), 0)
    if not second:
        return evidence
    alone = [
        _without(everyone, given, copies, one, other) for one, other in ((0, second), (second, 0))
    ]
    if all(_is_sure([one], asked) for one in alone):
        evidence[0], evidence[second] = alone
    return evidence


def _without(
    found: list[Candidate], given: Circumstances, copies: NDArray[np.bool_], one: int, other: int
) -> Evidence:
    """The evidence for one candidate as if another one had not been found."""
    left = [number for number in range(len(copies)) if number != other]
    others = [*(found[number] for number in left), *found[len(copies) :]]
    return evidence_of(others, given, copies[np.ix_(left, left)])[left.index(one)]


def _is_sure(evidence: list[Evidence], asked: Query) -> bool:
    """Whether the best candidate would be answered by default."""
    least, calibration = asked.config.min_confidence, asked.model.calibration
    return bool(evidence) and probability(evidence[0], calibration) >= least


def _measured(asked: Query, candidate: Candidate) -> Candidate:
    """The candidate with its offset and rate as exactly as the part in its track can tell them."""
    part, begin, candidate = _in_its_track(asked, candidate)
    found = measured(part, candidate)
    return replace(found, offset=found.offset - found.rate * begin)


def _in_its_track(asked: Query, candidate: Candidate) -> tuple[Query, float, Candidate]:
    """The part of the query that is of the track, where it begins (s), and the candidate in it."""
    slowest, fastest = asked.config.rates
    elsewhere = isinstance(asked.clip, Outline)  # and so is the sound, of which a part is wanted
    if elsewhere or candidate.speed != 1 or not slowest <= candidate.rate <= fastest:
        return asked, 0.0, candidate
    clip, rows = asked.clip, asked.rows
    found = part_in_track(
        rows,
        candidate,
        asked.reference,
        stranger=level(asked.reference.cohort, rows, hop=asked.reference.hop).mean,
        window=asked.model.window,
        seconds=clip.duration,
    )
    if found is None:
        return asked, 0.0, candidate
    first, last = round(found.begin * clip.sample_rate), round(found.end * clip.sample_rate)
    part = Clip(clip.samples[first:last], clip.sample_rate)
    line = replace(found.line, offset=found.line.offset + found.line.rate * found.begin)
    return replace(asked, clip=part, rows=asked.model.embed_query(part)), found.begin, line


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
