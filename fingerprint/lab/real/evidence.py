"""Evidence from real recordings for the fit of the confidence, beside simulated queries."""

from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fingerprint.audio.decode import load_clip
from fingerprint.lab.benchmark.conditions import Condition
from fingerprint.lab.benchmark.queries import Truth
from fingerprint.lab.benchmark.run import OnProgress, Progress
from fingerprint.lab.calibration.cases import Case, Everywhere
from fingerprint.lab.calibration.fit import REAL, SOME, TIMES
from fingerprint.lab.calibration.gather import Passage, QueryCases
from fingerprint.lab.calibration.varied import Part
from fingerprint.lab.processes import each, saved
from fingerprint.lab.real.folder import Line, RealSet
from fingerprint.lab.real.measure import middle

if TYPE_CHECKING:
    from fingerprint.model.fingerprinter import Fingerprinter

LENGTHS = ("whole", "5", "3", "2")  # s


def gather_real(
    real: RealSet,
    model: "Fingerprinter",
    *,
    library: Path,
    seed: int = 1,
    jobs: int = 2,
    on_progress: OnProgress = lambda _: None,
) -> list[Case]:
    """The cases of every query of the role `tune`, at several lengths.

    Each is searched, as it is and with its song hidden, in the library, which must hold the set's
    tracks, and in a smaller or larger one. Queries of the role `report` are not used.
    """
    lines = list(enumerate(line for line in real.lines if line.role == "tune"))
    cases: list[Case] = []
    with saved(model) as weights:
        work = partial(_cases, real, library, weights, seed)
        with closing(each(work, lines, jobs)) as answers:
            for number, found in enumerate(answers, start=1):
                cases += found
                on_progress(Progress("real queries", number, len(lines)))
    return cases


@cache  # once a process, for all its queries
def _open(library: Path, weights: Path) -> Everywhere:
    from fingerprint.library.library import Library
    from fingerprint.model.fingerprinter import Fingerprinter

    model = Fingerprinter.load(weights, threads=1, warn=False)
    return Everywhere(Library.open(library, model), {})


def _cases(
    real: RealSet, library: Path, weights: Path, seed: int, numbered: tuple[int, Line]
) -> list[Case]:
    number, line = numbered
    everywhere = _open(library, weights)
    clip = load_clip(real.file(line.query), everywhere.model.sample_rate)
    song = real.of_song[line.song]
    own = frozenset(n for n, path in enumerate(everywhere.paths) if path in song)
    known = line.reference is not None
    passage = Passage(
        Condition(REAL, clip.duration),
        number,
        known=known,
        masked=known,
        some=SOME,
        times=TIMES,
        drawn=True,
    )
    rng = np.random.default_rng([seed, number])
    truth = Truth(real.file(line.reference) if line.reference else Path(), 0.0, 1.0)
    lengths = [one for one in LENGTHS if one == "whole" or float(one) <= clip.duration]
    return [
        case
        for length in lengths
        for case in QueryCases(
            everywhere,
            passage,
            Part(REAL, number, middle(clip, length)[0], truth),
            own,
            real.correct(line),
            rng,
        ).cases()
    ]
