"""Queries asked of libraries of every size, and the evidence for what comes out: what a confidence
is fitted on and judged by.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fingerprint.audio.speed import at_speed
from fingerprint.config import SearchConfig
from fingerprint.evaluation.simulated import SomeTracks, mirror, principal_axes
from fingerprint.evaluation.varied import Part
from fingerprint.library.asking import (
    Heard,
    Question,
    best_of_each_track,
    candidates_at,
    circumstances,
    other_speeds,
    weighed,
)
from fingerprint.search.background import Level, sample
from fingerprint.search.confidence import Circumstances, Evidence, evidence_of
from fingerprint.search.content import nothing_in
from fingerprint.types import Fingerprint

if TYPE_CHECKING:
    from fingerprint.library.library import Library

CANDIDATES = 20  # of a query: enough to leave some when a package is taken out
# In a mirrored copy of the library only the best impostor counts, and in all copies together far
# more places are rescored than in a real library of their size.
IN_A_COPY = SearchConfig(looked_up=6, search_k=2_000, candidates=10, rates=(1.0, 1.0))
FROM_A_COPY = 3  # candidates

Played = Sequence[tuple[float, Fingerprint]]  # the query at 1 / speed, and the speed


@dataclass(frozen=True, slots=True)
class Case:
    """The best answer to one query in one library.

    `tracks` is the size of the library, mirrored copies included; `known`: the recording is in
    it. `evidence` is None
    where nothing was found or the query was refused, and then nothing is `right`.
    """

    family: str
    number: int
    seconds: float
    known: bool
    tracks: int
    evidence: Evidence | None
    right: bool


class Everywhere:
    """A library and the smaller and larger ones that are made of it."""

    def __init__(self, library: "Library", package: Mapping[Path, str]) -> None:
        self.library, self.model = library, library.model
        self.whole = library.snapshot()
        self.background = sample(self.whole.rows, self.whole.vectors)
        found = [library.catalog.track(int(owner)) for owner in self.whole.owners]
        self.paths = [track.path if track else Path() for track in found]
        self.package = package
        self.config = SearchConfig()
        self._axes = principal_axes(self.background)

    def play(self, part: Part) -> Played:
        """Fingerprints of the query at every speed; none if it is refused."""
        if nothing_in(part.clip) is not None:
            return []
        query = self.model.embed_query(part.clip)
        if not query.vectors.any():
            return []
        return [
            (1.0, query),
            *(
                (speed, self.model.embed(at_speed(part.clip, 1 / speed)))
                for speed in other_speeds(self.config)
            ),
        ]

    def ask_whole(self, part: Part, played: Played) -> tuple[Question, list[Heard]]:
        """Candidates in the library itself."""
        question = Question(part.clip, self.model, self.whole, self.background, self.config)
        return question, _heard(question, played, CANDIDATES)

    def ask_some(
        self, part: Part, played: Played, tracks: Sequence[int]
    ) -> tuple[Question, list[Heard]]:
        """Candidates in a library of some of the tracks, under their numbers in the whole."""
        some = SomeTracks.of(self.whole, tracks)
        background = sample(some.rows, some.vectors)
        question = Question(part.clip, self.model, some, background, self.config)
        return question, _heard(question, played, CANDIDATES)

    def ask_copies(self, part: Part, played: Played, copies: Sequence[int]) -> list[Heard]:
        """The best candidates in mirrored copies of the library; their tracks have numbers past
        those of the whole.
        """
        config = IN_A_COPY
        question = Question(part.clip, self.model, self.whole, self.background, config)
        found = []
        for copy in copies:
            turn = mirror(self._axes, copy)
            turned = [
                (speed, replace(query, vectors=query.vectors @ turn)) for speed, query in played
            ]
            for one in _heard(question, turned, FROM_A_COPY):
                number = one.candidate.track + (copy + 1) * len(self.paths)
                found.append(replace(one, candidate=replace(one.candidate, track=number)))
        return sorted(found, key=lambda one: -one.candidate.score)[:CANDIDATES]

    def others(self, heard: Iterable[Heard], path: Path, tracks: Sequence[int] = ()) -> list[Heard]:
        """Without those of the package of `path`; `tracks`: what a part's numbers stand for."""
        own = self.package[path]
        return [one for one in heard if self.package.get(self.path_of(one, tracks)) != own]

    def path_of(self, heard: Heard, tracks: Sequence[int] = ()) -> Path:
        """The file of a candidate; an empty path for one from a copy."""
        number = heard.candidate.track
        if tracks:
            number = tracks[number]
        return self.paths[number] if number < len(self.paths) else Path()

    def best(
        self, question: Question, played: Played, heard: list[Heard], grown: list[Heard]
    ) -> tuple[Heard, Evidence] | None:
        """The best candidate of a library and of copies of it, and the evidence for it."""
        if not heard and not grown:
            return None
        given = circumstances(question, played[0][1])
        copies = len({one.candidate.track // len(self.paths) for one in grown})
        given = replace(given, rows=given.rows * (1 + copies))
        answers = weighed(question, heard, given)
        if not grown:
            return answers[0].heard, answers[0].evidence
        every = sorted([*heard, *grown], key=lambda one: -one.candidate.score)
        if heard and every[0] is heard[0]:
            best = answers[0]
            rival = best.evidence.score - grown[0].candidate.score
            return best.heard, replace(best.evidence, margin=min(best.evidence.margin, rival))
        return every[0], evidence_of([one.candidate for one in every], given)[0]


def _heard(question: Question, played: Played, top: int) -> list[Heard]:
    heard = [one for speed, query in played for one in candidates_at(question, query, speed, top)]
    return best_of_each_track(heard)[:top]


def save(cases: Iterable[Case], path: Path) -> None:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(case)) + "\n" for case in cases)


def load(path: Path) -> list[Case]:
    """Read what `save` wrote."""
    return [_case(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _case(record: dict) -> Case:  # type: ignore[type-arg]
    evidence = record.pop("evidence")
    if evidence is not None:
        given = evidence.pop("given")
        given = Circumstances(**given | {"level": Level(**given["level"])})
        evidence = Evidence(**evidence, given=given)
    return Case(**record, evidence=evidence)
