"""Queries asked of libraries of every size, and the evidence for what comes out: what a confidence
is fitted on and judged by.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fingerprint.lab.calibration.varied import Part
from fingerprint.recognition.query import Reference
from fingerprint.recognition.recognise import Result, recognise
from fingerprint.types import Circumstances, Evidence, Level

if TYPE_CHECKING:
    from fingerprint.library.library import Library

CANDIDATES = 20  # of a query: enough strangers to tell how all of them score


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
    """A library, and the smaller ones and the ones without some tracks that are made of it."""

    def __init__(self, library: "Library", package: Mapping[Path, str]) -> None:
        self.model = library.model
        self.whole = library.snapshot()
        found = [self.whole.track(number) for number in range(len(self.whole.rows))]
        self.paths = [track.path if track else Path() for track in found]
        self._package = package

    def of_package(self, path: Path) -> frozenset[int]:
        """The numbers of the tracks of the package that the recording `path` is from."""
        own = self._package[path]
        return frozenset(n for n, one in enumerate(self.paths) if self._package.get(one) == own)

    def ask(self, part: Part, reference: Reference) -> Result:
        """What the product would answer, with enough candidates to tell strangers' scores."""
        return recognise(reference, part.clip, self.model, top=CANDIDATES)


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
