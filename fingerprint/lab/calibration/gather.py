"""Cases by the thousand, on every core: for the fit of a confidence and for the proof of it."""

from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from fingerprint.lab.benchmark.conditions import Condition
from fingerprint.lab.benchmark.material import Material, Split
from fingerprint.lab.benchmark.run import OnProgress, Progress
from fingerprint.lab.calibration.cases import Case, Everywhere, Played, grown
from fingerprint.lab.calibration.large_libraries import best_strangers
from fingerprint.lab.calibration.varied import Part, parts
from fingerprint.lab.corpus import Corpus
from fingerprint.recognition.confidence import Evidence
from fingerprint.recognition.query import Heard, Question

if TYPE_CHECKING:
    from fingerprint.model.fingerprinter import Fingerprinter


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage of a condition, and of which libraries its parts are asked beside the whole.

    `masked`: also as if the recording's package were not in the library, as then it is unknown.
    `known`: whether the passage as it is counts as known. `some` are sizes of smaller libraries in
    tracks, `times` says how many times as large the simulated ones are; all of them are asked, or
    one drawn for every part if `drawn`.
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
    """Where passages are cut from and what they are asked of."""

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
    with TemporaryDirectory(prefix="fingerprint-") as shelf:
        weights = Path(shelf) / f"model{model.network.suffix}"
        model.save(weights)
        source = Source(corpus.root, split, seed, library, weights)
        with closing(_gathered(source, passages, jobs)) as found:
            for number, some in enumerate(found, start=1):
                cases += some
                on_progress(Progress("passages", number, len(passages)))
    return cases


def _gathered(
    source: Source, passages: Sequence[Passage], jobs: int
) -> Generator[list[Case], None, None]:
    if jobs == 1:
        yield from (cases_of(source, passage) for passage in passages)
        return
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        yield from pool.map(partial(cases_of, source), passages)
    finally:
        pool.shutdown(cancel_futures=True)


@cache  # once a process, for all its passages
def _open(source: Source) -> tuple[Material, Everywhere]:
    from fingerprint.library.library import Library
    from fingerprint.model.fingerprinter import Fingerprinter

    corpus = Corpus.open(source.corpus)
    model = Fingerprinter.load(source.weights, threads=1)
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
    return [case for part in made for case in _Asked(everywhere, passage, part, rng).cases()]


class _Asked:
    """One query, asked everywhere."""

    def __init__(
        self, everywhere: Everywhere, passage: Passage, part: Part, rng: np.random.Generator
    ) -> None:
        self._all, self._passage, self._part, self._rng = everywhere, passage, part, rng
        self._played: Played = everywhere.play(part)

    def cases(self) -> list[Case]:
        whole = len(self._all.paths)
        if not self._played:
            kinds = [self._passage.known, *([False] if self._passage.masked else [])]
            return [self._case(known, whole, None, right=False) for known in kinds]
        some, times = self._libraries()
        question, heard = self._all.ask_whole(self._part, self._played)
        cases = self._judged(question, heard, whole, (), times)
        for size in some:
            tracks = self._some_tracks(size)
            few, found = self._all.ask_some(self._part, self._played, tracks)
            cases += self._judged(few, found, len(tracks), tracks, ())
        return cases

    def _libraries(self) -> tuple[tuple[int, ...], tuple[float, ...]]:
        some, times = self._passage.some, self._passage.times
        if not self._passage.drawn:
            return some, times
        pick = int(self._rng.integers(len(some) + len(times)))
        return some[pick : pick + 1], times[pick - len(some) :][:1] if pick >= len(some) else ()

    def _some_tracks(self, size: int) -> list[int]:
        """Random tracks, and that of the query if it is known."""
        tracks = [int(i) for i in self._rng.permutation(len(self._all.paths))[:size]]
        if self._passage.known:
            own = self._all.paths.index(self._part.truth.path)
            tracks = [own, *(track for track in tracks if track != own)][:size]
        return tracks

    def _judged(
        self,
        question: Question,
        heard: list[Heard],
        tracks: int,
        numbers: Sequence[int],
        times: tuple[float, ...],
    ) -> list[Case]:
        """The cases of a library of so many tracks, `numbers` if it is some of the whole, and of
        libraries so many `times` as large.
        """
        truth = self._part.truth.path
        kinds: list[tuple[bool, list[Heard]]] = []
        if self._passage.known or not self._passage.masked:
            kinds.append((self._passage.known, heard))
        if self._passage.masked:
            kinds.append((False, self._all.others(heard, truth, numbers)))
        cases = []
        for known, left in kinds:
            best = self._all.best(question, self._played, left)
            if best is None:
                cases.append(self._case(known, tracks, None, right=False))
                continue
            right = known and self._all.path_of(best[0], numbers) == truth
            cases.append(self._case(known, tracks, best[1], right=right))
            scores = [
                one.candidate.score for one in left if self._all.path_of(one, numbers) != truth
            ]
            for factor in times:
                more = round(tracks * (factor - 1))
                evidence = grown(best[1], best_strangers(scores, tracks, more, self._rng), factor)
                still = right and evidence.score == best[1].score
                cases.append(self._case(known, round(tracks * factor), evidence, right=still))
        return cases

    def _case(self, known: bool, tracks: int, evidence: Evidence | None, *, right: bool) -> Case:
        part = self._part
        return Case(part.family, part.number, part.clip.duration, known, tracks, evidence, right)
