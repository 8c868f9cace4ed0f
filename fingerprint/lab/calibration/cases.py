"""Queries asked of libraries of every size, and the evidence for what comes out: what a confidence
is fitted on and judged by.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fingerprint.config import SearchConfig
from fingerprint.lab.calibration.large_libraries import SomeTracks
from fingerprint.lab.calibration.varied import Part
from fingerprint.recognition.cohort import Level, sample
from fingerprint.recognition.confidence import Circumstances, Evidence
from fingerprint.recognition.query import (
    Heard,
    Question,
    at_other_speeds,
    circumstances,
    heard_at,
    weighed,
)
from fingerprint.recognition.signal_check import nothing_in
from fingerprint.types import Fingerprint

if TYPE_CHECKING:
    from fingerprint.library.library import Library

CANDIDATES = 20  # of a query: enough to leave some when a package is taken out

Played = Sequence[tuple[float, Fingerprint]]  # the query at 1 / speed, and the speed


@dataclass(frozen=True, slots=True)
class Case:
    """The best answer to one query in one library.

    `tracks` is the size of the library, simulated ones included; `known`: the recording is in it.
    `evidence` is None where nothing was found or the query was refused; then nothing is `right`.
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

    def play(self, part: Part) -> Played:
        """Fingerprints of the query at every speed; none if it is refused."""
        if nothing_in(part.clip) is not None:
            return []
        query = self.model.embed_query(part.clip)
        if not query.vectors.any():
            return []
        return [(1.0, query), *at_other_speeds(part.clip, self.model, self.config)]

    def ask_whole(self, part: Part, played: Played) -> tuple[Question, list[Heard]]:
        """Candidates in the library itself."""
        question = Question(part.clip, self.model, self.whole, self.background, self.config)
        return question, heard_at(question, played, CANDIDATES)

    def ask_some(
        self, part: Part, played: Played, tracks: Sequence[int]
    ) -> tuple[Question, list[Heard]]:
        """Candidates in a library of some of the tracks, under their numbers in the whole."""
        some = SomeTracks.of(self.whole, tracks)
        background = sample(some.rows, some.vectors)
        question = Question(part.clip, self.model, some, background, self.config)
        return question, heard_at(question, played, CANDIDATES)

    def others(self, heard: Iterable[Heard], path: Path, tracks: Sequence[int] = ()) -> list[Heard]:
        """Without those of the package of `path`; `tracks`: what the numbers of some stand for."""
        own = self.package[path]
        return [one for one in heard if self.package.get(self.path_of(one, tracks)) != own]

    def path_of(self, heard: Heard, tracks: Sequence[int] = ()) -> Path:
        """The file of a candidate."""
        number = heard.candidate.track
        return self.paths[tracks[number] if tracks else number]

    def best(
        self, question: Question, played: Played, heard: list[Heard]
    ) -> tuple[Heard, Evidence] | None:
        """The best candidate and the evidence for it."""
        if not heard:
            return None
        answer = weighed(question, heard, circumstances(question, played[0][1]))[0]
        return answer.heard, answer.evidence


def grown(evidence: Evidence, strangers: tuple[float, float], times: float) -> Evidence:
    """The evidence for the best candidate in a library so many times as large.

    `strangers` are the scores of the best two of the tracks that are new in it. Where one of them
    is ahead, the evidence is for that.
    """
    given = replace(evidence.given, rows=round(evidence.given.rows * times))
    first, second = strangers
    if evidence.score >= first:
        return Evidence(evidence.score, min(evidence.margin, evidence.score - first), given)
    return Evidence(first, first - max(second, evidence.score), given)


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
