"""Queries in libraries of every size: the evidence on which the confidence is fitted and judged."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fingerprint.lab.calibration.large_libraries import Impostors
from fingerprint.lab.calibration.varied import Part
from fingerprint.recognition.confidence import LEAST_SPREAD
from fingerprint.recognition.recognise import SCORE_WEIGHT, Result, recognise
from fingerprint.recognition.reference import Reference
from fingerprint.types import Circumstances, Evidence, Level, PeakFit

if TYPE_CHECKING:
    from fingerprint.library.library import Library

CANDIDATES = 20  # of a query: enough impostors to estimate how all of them score


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
        own = self._package.get(path)
        if own is None:  # a sound of no track
            return frozenset()
        return frozenset(n for n, one in enumerate(self.paths) if self._package.get(one) == own)

    def ask(self, part: Part, reference: Reference) -> Result:
        """The product's answer, with enough candidates to estimate the scores of impostors."""
        return recognise(reference, part.clip, self.model, top=CANDIDATES)


def grown(evidence: Evidence, impostors: Impostors, times: float) -> Evidence:
    """The evidence for the best candidate in a library `times` times as large.

    `impostors` are the best two scores, and the best two fits of the peaks, of the tracks that are
    new in it. Where they are ahead together, the evidence is for them: as if one track had both.
    """
    given = replace(evidence.given, rows=round(evidence.given.rows * times))
    (score, next_score), (fit, next_fit) = impostors.scores, impostors.fits
    scale = given.level.spread + LEAST_SPREAD
    ahead = fit - evidence.fit.score + SCORE_WEIGHT * (score - evidence.score) / scale
    if ahead <= 0:
        return replace(
            evidence,
            given=given,
            margin=min(evidence.margin, evidence.score - score),
            fit_margin=min(evidence.fit_margin, evidence.fit.score - fit),
        )
    return Evidence(
        score,
        score - max(next_score, evidence.score),
        given,
        replace(evidence.fit, score=fit, sharpness=min(evidence.fit.sharpness, fit)),
        fit - max(next_fit, evidence.fit.score),
    )


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
        given, fit = evidence.pop("given"), PeakFit(**evidence.pop("fit"))
        given = Circumstances(**given | {"level": Level(**given["level"])})
        evidence = Evidence(**evidence, given=given, fit=fit)
    return Case(**record, evidence=evidence)
