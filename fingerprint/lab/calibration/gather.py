"""Gather cases in parallel, for the fit of the confidence and for measuring its calibration."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fingerprint.lab.benchmark.conditions import Condition
from fingerprint.lab.benchmark.material import Material, Split
from fingerprint.lab.benchmark.metrics import near
from fingerprint.lab.benchmark.run import OnProgress, Progress
from fingerprint.lab.calibration.cases import Case, Everywhere, grown
from fingerprint.lab.calibration.large_libraries import (
    Impostors,
    SomeTracks,
    Stretch,
    Without,
    best_two,
)
from fingerprint.lab.calibration.varied import Part, parts
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.processes import each, saved
from fingerprint.recognition.reference import Reference
from fingerprint.types import Evidence

if TYPE_CHECKING:
    from fingerprint.model.fingerprinter import Fingerprinter

FEW = 9  # tracks: libraries of which any may come first by chance
SHORT = (2.0, 12.0)  # s that they are cut to


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage of a condition, and the libraries in which its parts are searched.

    `masked`: also as if the recording's package were not in the library, as then it is unknown.
    `known`: whether the passage as it is counts as known. `some` are sizes of smaller libraries in
    tracks, `times` says how many times as large the simulated ones are; every part is searched in
    all of them or, if `drawn`, in one of them.
    """

    condition: Condition
    number: int
    known: bool
    masked: bool = False
    some: tuple[int, ...] = ()
    times: tuple[float, ...] = ()
    drawn: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """The material of the passages, and the library in which they are searched."""

    corpus: Path
    split: Split
    seed: int
    library: Path
    weights: Path


def gather(
    corpus: Corpus,
    model: "Fingerprinter",
    passages: Sequence[Passage],
    *,
    split: Split,
    seed: int,
    library: Path,
    jobs: int,
    on_progress: OnProgress,
) -> list[Case]:
    """The cases of all passages, in their order."""
    cases: list[Case] = []
    with saved(model) as weights:
        work = partial(cases_of, Source(corpus.root, split, seed, library, weights))
        with closing(each(work, passages, jobs)) as found:
            for number, some in enumerate(found, start=1):
                cases += some
                on_progress(Progress("passages", number, len(passages)))
    return cases


@cache  # once a process, for all its passages
def _open(source: Source) -> tuple[Material, Everywhere]:
    from fingerprint.library.library import Library
    from fingerprint.model.fingerprinter import Fingerprinter

    corpus = Corpus.open(source.corpus)
    model = Fingerprinter.load(source.weights, threads=1, warn=False)
    package = {file.path: file.package for file in corpus.files}
    library = Library.open(source.library, model)
    return Material.load(corpus, source.split), Everywhere(library, package)


def cases_of(source: Source, passage: Passage) -> list[Case]:
    """Every case of one passage."""
    material, everywhere = _open(source)
    rate = everywhere.model.sample_rate
    made = parts(
        material, passage.condition, seed=source.seed, number=passage.number, sample_rate=rate
    )
    rng = np.random.default_rng([source.seed, passage.number, len(passage.condition.family)])
    return [
        case
        for part in made
        for case in QueryCases(
            everywhere,
            passage,
            part,
            everywhere.of_package(part.truth.path),
            frozenset([part.truth.path]),
            rng,
        ).cases()
    ]


class QueryCases:
    """The cases of one query, in all libraries.

    Args:
        everywhere: the library and what is made of it.
        passage: which libraries.
        part: the query.
        own: numbers of the tracks that are hidden where the query counts as unknown.
        correct: the tracks that are right.
        rng: draws the smaller libraries, and the impostors of the larger ones.
    """

    def __init__(
        self,
        everywhere: Everywhere,
        passage: Passage,
        part: Part,
        own: frozenset[int],
        correct: frozenset[Path],
        rng: np.random.Generator,
    ) -> None:
        self._all, self._passage, self._part, self._rng = everywhere, passage, part, rng
        self._own, self._correct = own, correct

    def cases(self) -> list[Case]:
        """Those of the library itself, then those of the smaller and larger ones."""
        some, times = self._libraries()
        whole, own = self._all.whole, self._own
        cases: list[Case] = []
        for known in self._kinds():
            masked = self._passage.masked and not known
            here = Without(whole, own) if masked else whole
            cases += self._judged(here, len(self._all.paths), times, known=known)
        for size in some:
            for known in self._kinds():
                reference, begin = self._smaller(size, known=known)
                cases += self._judged(reference, len(reference.rows), (), known=known, begin=begin)
        return cases

    def _kinds(self) -> list[bool]:
        """Whether the query counts as known: as it is, and as if it were unknown if masked."""
        known, masked = self._passage.known, self._passage.masked
        return [*([known] if known or not masked else []), *([False] if masked else [])]

    def _libraries(self) -> tuple[tuple[int, ...], tuple[float, ...]]:
        some, times = self._passage.some, self._passage.times
        if not self._passage.drawn:
            return some, times
        pick = int(self._rng.integers(len(some) + len(times)))
        return some[pick : pick + 1], times[pick - len(some) :][:1] if pick >= len(some) else ()

    def _smaller(self, size: int, *, known: bool) -> tuple[Reference, float]:
        """Random tracks, that of the query first if it is known, and the second it begins at.

        In half of the cases, the tracks of a library of few are cut to a few seconds.
        """
        hidden = self._own if self._passage.masked and not known else frozenset()
        order = self._rng.permutation(len(self._all.paths)).tolist()
        tracks = [number for number in order if number not in hidden]
        if known:
            own = self._all.paths.index(self._part.truth.path)
            tracks = [own, *(number for number in tracks if number != own)]
        whole, tracks = self._all.whole, tracks[:size]
        if size > FEW or self._rng.random() < 1 / 2:
            return SomeTracks.of(whole, tracks), 0.0
        truth, hop = self._part.truth, whole.hop
        middle = round((truth.offset + truth.rate * self._part.clip.duration / 2) / hop)
        stretches = {
            number: self._stretch(number, middle if known and number == tracks[0] else None)
            for number in tracks
        }
        tail = ceil(self._all.model.window / hop) - 1
        return SomeTracks.cut(whole, stretches, tail), stretches[tracks[0]].first * hop

    def _stretch(self, track: int, around: int | None) -> Stretch:
        """A few seconds of a track, around a row of it or anywhere."""
        whole = self._all.whole
        total = int(np.diff(whole.rows.starts)[track])
        low, high = np.log(SHORT)
        length = min(total, round(float(np.exp(self._rng.uniform(low, high))) / whole.hop))
        first = int(self._rng.integers(total - length + 1))
        if around is not None:
            first = min(max(around - int(self._rng.integers(length)), 0), total - length)
        return Stretch(first, first + length)

    def _judged(
        self,
        reference: Reference,
        tracks: int,
        times: tuple[float, ...],
        *,
        known: bool,
        begin: float = 0.0,
    ) -> list[Case]:
        """The case of a library of `tracks` tracks, and those of libraries `times` times as large.

        `begin` (s): where the query's own track begins if it is cut. Of a few tracks, the right one
        comes first by chance; without the right place that says nothing, and gives no case.
        """
        matches = self._all.ask(self._part, reference).matches
        if not matches or (best := matches[0].evidence) is None:
            return [self._case(tracks, None, known=known, right=False)]
        right = known and matches[0].track.path in self._correct
        if right and tracks <= FEW:
            truth = self._part.truth.offset - begin
            if not any(near(one, truth) for one in (matches[0].offset, *matches[0].repeats)):
                return []
        cases = [self._case(tracks, best, known=known, right=right)]
        # Tracks of the same package share themes with the query; new tracks would not.
        related = {self._all.paths[number] for number in self._own} | self._correct
        others = [match for match in matches if match.track.path not in related]
        scores = [match.score for match in others]
        fits = [match.evidence.fit.score for match in others if match.evidence is not None]
        for factor in times:
            more = round(tracks * (factor - 1))
            impostors = Impostors(
                best_two(scores, tracks, more, self._rng, largest=1.0),
                best_two(fits, tracks, more, self._rng),
            )
            evidence = grown(best, impostors, factor)
            still = right and evidence.score == best.score
            cases.append(self._case(round(tracks * factor), evidence, known=known, right=still))
        return cases

    def _case(self, tracks: int, evidence: Evidence | None, *, known: bool, right: bool) -> Case:
        part = self._part
        return Case(part.family, part.number, part.clip.duration, known, tracks, evidence, right)
