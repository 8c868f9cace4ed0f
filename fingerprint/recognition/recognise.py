"""Recognition: a clip and a reference in, ranked matches with their confidence out.

    signal check -> embed -> search -> align -> verify by peaks -> evidence -> confidence

`recognise` is the only entry point: for libraries, the scanner, the listener, explanations and the
fit of the confidence. Effort grows with doubt: the first search inspects little of the index; if
its answer is not sure, a second one inspects more and adds landmarks; if that is not sure either,
the clip is tried at other playback speeds, the nearest first. The embedder tolerates a change of
tempo but hardly any change of pitch, and a shift of pitch is a change of speed followed by a change
of tempo: at one of the speeds the pitch is about right, and the matcher finds the remaining tempo.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fingerprint.index.landmarks import query_landmarks
from fingerprint.recognition.cohort import with_background, without_copies
from fingerprint.recognition.confidence import LEAST_SPREAD, evidence_of, probability
from fingerprint.recognition.copies import SAME, likeness, repeats
from fingerprint.recognition.matcher import REFINED, TIE, rank, settle
from fingerprint.recognition.overlap import part_in_track
from fingerprint.recognition.query import Query, at_speed
from fingerprint.recognition.reference import Model, Reference
from fingerprint.recognition.signal_check import Nothing, nothing_in
from fingerprint.recognition.speed import (
    at_its_place,
    at_its_tempo,
    candidate_of,
    in_tune,
    measured,
    plain_rates,
)
from fingerprint.recognition.verification import verify
from fingerprint.search import Effort, SearchConfig
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
BEST = 8  # candidates at other speeds, of all the speeds of a search together, that are verified
POLISHED = 3  # candidates at each other speed whose rate and offset are refined
TUNED_GAIN = 1.6  # spreads by which wrong candidates at another speed fit better when tuned
LEAST_MEASURED = 0.02  # confidence below which the place of a match is not measured exactly
UNLIKE = 0.4  # mean cosine of two passages, below which they cannot be copies
COMPARED = 5  # candidates, at least: evidence is a margin over the other candidates
SCORE_WEIGHT = 0.8  # of the embeddings' score, in spreads of its cohort; the peaks' has weight 1
LEAST_INSIDE = 0.4  # share of a query in its track from which the rest does not lower its rank
LONGEST_QUERY = 30.0  # s; of a longer clip only a part is used as the query
LEAST_REST = 2.0  # s beside the best track's part of a query, in which another one is looked for
PLAYS_ON = 0.5  # confidence from which the best track is taken to play in the rest as well
MOVE = 1.0  # s between the parts of a long clip from which the query is chosen
AUDIBLE_RMS = 10 ** (-60 / 20)  # of full scale; a second below it counts as silent

NoMatch = Nothing | Literal["too short", "nothing near enough"]  # why there is no candidate
SPOKEN: dict[NoMatch | None, str] = {
    "silence": "it is silence",
    "too short": "it is too short, or silent",
    "hardly any sound": "it has hardly any sound",
    "a steady tone": "it is a steady tone",
    "steady noise": "it is steady noise",
    "nothing near enough": "nothing in the library is near it",
}
Speeds = Literal["as it is", "in doubt"]  # whether a doubtful query is tried at other speeds


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """The matches of a clip at any confidence, the likeliest first; or why there is none.

    `nothing` is None unless `matches` is empty. `query` holds the embeddings of the part that was
    searched for; None if the signal check rejected it. `searches` is the number of searches until
    one was sure: 1, the first, to 4, at all other speeds; 0 if there was none.
    """

    matches: tuple[Match, ...] = ()
    nothing: NoMatch | None = None
    query: Fingerprint | None = None
    searches: int = 0

    def at_least(self, confidence: float) -> list[Match]:
        """The matches of at least this confidence, the likeliest first."""
        return [match for match in self.matches if match.confidence >= confidence]


def recognise(
    reference: Reference,
    clip: Clip,
    model: Model,
    *,
    top: int = COMPARED,
    config: SearchConfig = DEFAULTS,
    speeds: Speeds = "in doubt",
    parts: bool = False,
) -> Result:
    """The at most `top` likeliest tracks of a reference for a clip.

    Args:
        reference: the tracks to search.
        clip: at the model's sample rate; of a long one, the part with the most sound is the query.
        model: the model that made the reference's embeddings.
        top: maximum number of matches.
        config: search effort and thresholds.
        speeds: whether a doubtful query is tried at other speeds.
        parts: whether a second track is looked for before and behind the part of the query in
            which the best one plays, and matches say which part they play in.
    """
    part, begin = query_part(clip)
    if (nothing := nothing_in(part)) is not None:
        return Result(nothing=nothing)
    rows = model.embed_query(part)
    if not rows.vectors.any():
        return Result(nothing="too short")
    query = Query(part, rows, model, with_background(reference, model.background), config)
    given = circumstances(query)
    most = max(top, COMPARED)
    verified: list[Candidate] = []
    searches = 0
    for more in _searches(query, speeds):
        searches += 1
        verified += _verified(query, more)
        ranked = _ranked(verified, given, query)
        found = [one for one in ranked if one.track < len(reference.rows)]
        rivals = [one for one in ranked if one.track >= len(reference.rows)]
        evidence, second = _evidence(query, found, rivals, given, most)
        if _is_sure(evidence, query):
            break
    if not found:
        return Result(nothing="nothing near enough", query=rows, searches=searches)
    matches = _matches(query, found, evidence, second)
    if not parts or not _is_sure(evidence, query):
        matches = [replace(one, part=None) for one in matches]
    elif not second:
        matches = _with_others(matches, query, reference)
    return Result(tuple(_later(one, begin) for one in matches[:top]), None, rows, searches)


def _matches(
    query: Query, found: list[Candidate], evidence: list[Evidence], second: int
) -> list[Match]:
    """The candidates that there is evidence for, those that are answered measured exactly."""
    everything = 0.0, query.clip.duration
    matches = []
    for number, weight in enumerate(evidence[: len(found)]):
        candidate, part, later = found[number], None, tuple[float, ...]()
        answered = number in (0, second)
        if answered and probability(weight, query.model.calibration) >= LEAST_MEASURED:
            rows = query.reference.vectors(
                np.arange(*query.reference.rows.starts[candidate.track : candidate.track + 2])
            )
            candidate, part = _measured(query, candidate, rows)
            part = part or (everything if second else None)
            if number == 0:
                candidate, later = _at_its_earliest(query, candidate, rows)
        if (track := query.reference.track(candidate.track)) is not None:
            matches.append(_match(track, candidate, weight, later, query.model, part))
    return matches


def _with_others(matches: list[Match], query: Query, reference: Reference) -> list[Match]:
    """With what is sure to play before and behind the part in which the first one does.

    Where the rest is too short, silent, or of the same track, no match gets a part.
    """
    if not matches or matches[0].part is None:
        return matches
    clip, (first, last), others, differs = query.clip, matches[0].part, list[Match](), False
    for begin, end in ((0.0, first), (last, clip.duration)):
        if end - begin < LEAST_REST:
            continue
        rate = clip.sample_rate
        rest = Clip(clip.samples[round(begin * rate) : round(end * rate)], rate)
        found = recognise(reference, rest, query.model, config=query.config, speeds="as it is")
        best = found.matches[0] if found.matches else None
        if best is None:
            differs |= found.nothing == "nothing near enough"  # and not silence
        elif best.track != matches[0].track or best.confidence < PLAYS_ON:
            differs = True
            if best.confidence >= query.config.min_confidence:
                others.append(_later(replace(best, part=(0.0, rest.duration)), begin))
    if not differs:
        return [replace(matches[0], part=None), *matches[1:]]
    named = {one.track for one in others}
    return [matches[0], *others, *(one for one in matches[1:] if one.track not in named)]


def query_part(clip: Clip) -> tuple[Clip, float]:
    """The part of a clip, at most `LONGEST_QUERY` long, that is the query, and where it begins (s).

    The part with the most sound; of several, the one nearest to the middle.
    """
    excess = clip.duration - LONGEST_QUERY
    if excess <= 0:
        return clip, 0.0
    rate = clip.sample_rate
    seconds = clip.samples[: len(clip.samples) // rate * rate].reshape(-1, rate)
    audible = np.sqrt(np.mean(np.square(seconds, dtype=np.float64), axis=1)) >= AUDIBLE_RMS
    seconds_of_sound = np.concatenate([[0], np.cumsum(audible)])
    begins = np.append(np.arange(0, excess, MOVE), excess / 2)
    first = np.floor(begins).astype(np.int64)
    last = np.minimum(first + round(LONGEST_QUERY), len(audible))
    sound = seconds_of_sound[last] - seconds_of_sound[first]
    best = np.lexsort((np.abs(begins - excess / 2), -sound))[0]
    begin = round(float(begins[best]) * rate)
    part = clip.samples[begin : begin + round(LONGEST_QUERY * rate)]
    return Clip(part, rate), begin / rate


def circumstances(query: Query) -> Circumstances:
    """The query's length, its level in the cohort, and the library's size."""
    reference = query.reference
    return Circumstances(
        seconds=float(np.mean(query.rows.vectors.any(axis=1))) * query.clip.duration,
        level=query.level,
        rows=int(reference.rows.starts[-1]),
    )


def candidates_at(
    query: Query,
    rows: Fingerprint,
    speed: float,
    effort: Effort,
    rates: tuple[float, float],
    polished: int = REFINED,
) -> list[Candidate]:
    """Candidates for a query whose change of speed is undone, best first.

    `rows` are its embeddings when played at 1 / `speed`; `rates` are the rates tried, and
    `polished` candidates are refined.
    """
    reference, config = query.reference, query.config
    looked_up = _every(rows.vectors, -(-len(rows.vectors) // effort.windows))
    search_k = -(-effort.nodes // max(1, int(looked_up.any(axis=1).sum())))
    lines = rank(
        rows,
        reference.search(looked_up, neighbours=config.neighbours, search_k=search_k),
        reference,
        rates=rates,
        most=effort.candidates,
        polished=polished,
        plain=plain_rates(speed),
    )
    handicap = 0.0 if speed == 1 else config.handicap
    return [
        candidate_of(replace(line, score=line.score - handicap), speed, query.model.window)
        for line in lines
    ]


def _searches(query: Query, speeds: Speeds) -> Iterator[list[Candidate]]:
    """Candidates of searches of growing effort: first, thorough with landmarks, other speeds.

    At the right speed the right track leads the candidates of all speeds by far, so little of the
    index is inspected at each, and only the best of all speeds go on.
    """
    config = query.config
    yield candidates_at(query, query.rows, 1.0, config.at_first, config.rates)
    pairs = query.reference.vote(query_landmarks(query.clip), config.landmarks)
    yield [
        *candidates_at(query, query.rows, 1.0, config.in_doubt, config.rates),
        *settle(query.rows, pairs, query.reference),
    ]
    if speeds == "in doubt":
        yield _best(_at_speeds(query, config.semitones))
        yield [*_best(_at_far_tempos(query)), *_best(_at_speeds(query, config.far_semitones))]


def _best(found: Iterable[Candidate]) -> list[Candidate]:
    return sorted(found, key=lambda one: -one.score)[:BEST]


def _at_speeds(query: Query, every: Sequence[float]) -> Iterator[Candidate]:
    """Candidates with each change of speed, given in semitones, undone."""
    low, high = query.config.rates
    for semitones in every:
        speed = 2 ** (semitones / 12)
        # Rows a hop apart are enough to find candidates; the offset is measured later.
        rows = query.model.embed(at_speed(query.clip, 1 / speed))
        rates = min(low, 1 / speed), max(high, 1 / speed)  # 1 / speed: pitch alone has changed
        yield from candidates_at(
            query, rows, speed, query.config.at_other_speeds, rates, polished=POLISHED
        )


def _at_far_tempos(query: Query) -> list[Candidate]:
    """Candidates whose tempo alone has changed, by more than earlier searches allow."""
    config = query.config
    found = candidates_at(query, query.rows, 1.0, config.at_other_speeds, config.far_rates)
    return [
        replace(one, score=one.score - config.handicap)
        for one in found
        if not config.rates[0] <= one.rate <= config.rates[1]
    ]


def _verified(query: Query, found: list[Candidate]) -> list[Candidate]:
    """The candidates with the fit of their spectral peaks.

    Those at another speed are tuned first, because peaks only coincide at the exact pitch. The best
    of many pitches and tempos fits better by chance alone: `TUNED_GAIN` corrects for that.
    """
    reference, seconds = query.reference, query.clip.duration
    checked: list[Candidate] = []
    for speed in dict.fromkeys(one.speed for one in found):
        here, less = [one for one in found if one.speed == speed], 0.0
        template = query.template(speed)
        if speed != 1:
            here = [in_tune(template, one, reference, speed, seconds)[0] for one in here]
            less = TUNED_GAIN
        fits = verify(template, query.null, here, reference, speed)
        checked += [
            replace(one, fit=replace(fit, score=fit.score - less))
            for one, fit in zip(here, fits, strict=True)
        ]
    return checked


def _ranked(verified: list[Candidate], given: Circumstances, query: Query) -> list[Candidate]:
    """The best candidate of each track, by embeddings and spectral peaks together, best first.

    The part of a query that is past the track's edge lowers the score. Among the places in one
    track it does not count, so that the edge is not second to a repeat of the same passage within.
    """

    def order(one: Candidate, share: float = 1.0) -> tuple[float, int, float]:
        normal = (one.score / share - given.level.mean) / (given.level.spread + LEAST_SPREAD)
        return -round(one.fit.score + SCORE_WEIGHT * normal, TIE), one.track, one.offset

    def order_in_track(one: Candidate) -> tuple[float, int, float]:
        return order(one, max(query.share_inside(one), LEAST_INSIDE))

    best: dict[int, Candidate] = {}
    for one in sorted(verified, key=order_in_track):
        best.setdefault(one.track, one)
    return sorted(best.values(), key=order)


def _every(vectors: Floats, step: int) -> Floats:
    """The vectors (N, D) with all but every `step`th set to zero, so that they are not searched.

    Neighbouring query windows are similar and find the same rows.
    """
    chosen = np.zeros_like(vectors)
    chosen[::step] = vectors[::step]
    return chosen


def _evidence(
    query: Query,
    found: list[Candidate],
    rivals: list[Candidate],
    given: Circumstances,
    most: int,
) -> tuple[list[Evidence], int]:
    """The evidence for the `most` best candidates against all others and the background's.

    Two tracks may play in one query, and each would lower the other's confidence. So if the best
    candidate and the next that is unlike it would both be sure without the other, both are matches,
    and the number of the second is returned as well; else 0.
    """
    if not found:
        return [], 0
    seconds = max(0.0, query.clip.duration - query.model.window)
    alike = likeness(found[:most], query.reference, seconds=seconds)
    copies = alike >= SAME
    everyone = [*found, *without_copies(rivals, found[:most], query.reference, seconds=seconds)]
    evidence = evidence_of(everyone, given, copies)
    second = next((number for number, one in enumerate(alike[0]) if one < UNLIKE), 0)
    if not second:
        return evidence, 0
    alone = [
        _without(everyone, given, copies, one, other) for one, other in ((0, second), (second, 0))
    ]
    if not all(_is_sure([one], query) for one in alone):
        return evidence, 0
    evidence[0], evidence[second] = alone
    return evidence, second


def _without(
    found: list[Candidate], given: Circumstances, copies: NDArray[np.bool_], one: int, other: int
) -> Evidence:
    """The evidence for candidate `one` if candidate `other` had not been found."""
    left = [number for number in range(len(copies)) if number != other]
    others = [*(found[number] for number in left), *found[len(copies) :]]
    return evidence_of(others, given, copies[np.ix_(left, left)])[left.index(one)]


def _is_sure(evidence: list[Evidence], query: Query) -> bool:
    """Whether the best candidate reaches the default confidence."""
    least, calibration = query.config.min_confidence, query.model.calibration
    return bool(evidence) and probability(evidence[0], calibration) >= least


def _measured(
    query: Query, candidate: Candidate, rows: Floats
) -> tuple[Candidate, tuple[float, float] | None]:
    """The candidate with its offset and rate measured on the part of the query in its track.

    And where in the query (s) that part is; None if it is all of it. `rows` are those of the track.
    """
    line = at_its_tempo(query, candidate)
    part, begin, candidate = _in_its_track(query, line, rate_known=line is not candidate)
    found = at_its_place(part, measured(part, candidate, of_part=part is not query), rows)
    within = None if part is query else (begin, begin + part.clip.duration)
    return replace(found, offset=found.offset - found.rate * begin), within


def _in_its_track(
    query: Query, candidate: Candidate, *, rate_known: bool
) -> tuple[Query, float, Candidate]:
    """The part of the query in which the track plays, where it begins (s), and its candidate."""
    slowest, fastest = query.config.rates
    without_sound = isinstance(query.clip, Outline)  # no part of it can be embedded
    if without_sound or candidate.speed != 1 or not slowest <= candidate.rate <= fastest:
        return query, 0.0, candidate
    clip, rows = query.clip, query.rows
    found = part_in_track(
        rows,
        candidate,
        query.reference,
        impostor=query.level.mean,
        window=query.model.window,
        seconds=clip.duration,
        rate_known=rate_known,
    )
    if found is None:
        return query, 0.0, candidate
    first, last = round(found.begin * clip.sample_rate), round(found.end * clip.sample_rate)
    part = Clip(clip.samples[first:last], clip.sample_rate)
    line = replace(found.line, offset=found.line.offset + found.line.rate * found.begin)
    return replace(query, clip=part, rows=query.model.embed_query(part)), found.begin, line


def _at_its_earliest(
    query: Query, candidate: Candidate, rows: Floats
) -> tuple[Candidate, tuple[float, ...]]:
    """The candidate at the first of its repeats in the track, and the offsets (s) of the others.

    The unchanged candidate and an empty tuple if the track does not repeat the passage.
    """
    others = repeats(
        rows,
        candidate,
        hop=query.reference.hop,
        window=query.model.window,
        seconds=query.clip.duration,
    )
    first, *later = sorted([candidate.offset, *others])
    return replace(candidate, offset=first), tuple(later)


def _match(
    track: Track,
    candidate: Candidate,
    evidence: Evidence,
    later: tuple[float, ...],
    model: Model,
    part: tuple[float, float] | None,
) -> Match:
    """The candidate as users see it."""
    return Match(
        track=track,
        offset=candidate.offset,
        rate=candidate.rate,
        confidence=probability(evidence, model.calibration),
        score=candidate.score,
        evidence=evidence,
        repeats=later,
        part=part,
    )


def _later(match: Match, begin: float) -> Match:
    """The match of a query for one that began `begin` s before it."""
    before = match.rate * begin
    part = match.part and (match.part[0] + begin, match.part[1] + begin)
    offsets = tuple(offset - before for offset in match.repeats)
    return replace(match, offset=match.offset - before, repeats=offsets, part=part)
