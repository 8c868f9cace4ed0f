"""Fit the confidence: evidence of right and of wrong answers to a probability.

Every query is cut from a validation track and searched in libraries from one track to a million.
Half of the smallest libraries hold tracks that are cut to a few seconds; large ones are simulated
(`large_libraries`). Each search is made twice. First as it is: the best match is right or wrong.
Then without the query's track and its whole package, because the tracks of a game share themes and
loops: the query is unknown, and any match is wrong. Further unknown queries are passages that pitch
shifts have made new recordings of, and sounds by formula that are not music.

Known and unknown queries have the same total weight in the fit: that is the prior that the
confidence assumes, and it is stored with the weights. Without a penalty, logistic regression is
certain of everything that fits somewhat better than any impostor in these cases. And without
constraints, more of a score, a fit or a margin makes some answers less sure: in the regression,
they stand for one another.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fingerprint.audio.decode import load_clip
from fingerprint.audio.peaks import peaks_of
from fingerprint.lab.benchmark.conditions import Condition
from fingerprint.lab.benchmark.made_up import KINDS
from fingerprint.lab.benchmark.run import Progress, index_exactly
from fingerprint.lab.calibration.cases import Case
from fingerprint.lab.calibration.gather import Passage, gather
from fingerprint.lab.calibration.varied import KNOWN, UNKNOWN
from fingerprint.lab.corpus import Corpus
from fingerprint.library.records import hop_block
from fingerprint.recognition.confidence import Calibration, features
from fingerprint.types import Background, Clip, Doubles

if TYPE_CHECKING:
    from fingerprint.model.fingerprinter import Fingerprinter

BACKGROUND_PASSAGES = 32  # at most
BACKGROUND_ROWS = 64  # of such a passage, about 16 s
BACKGROUND_SPARE = 2.0  # s around such a passage, so that its rows have surroundings
SMALL = (1, 2, 3)  # tracks of the smallest libraries
SOME = (10, 30, 100)  # tracks of the smaller ones
TIMES = (5.0, 30.0, 200.0, 2_000.0)  # as large as the corpus the simulated ones are
MADE_UP = 3  # sounds that are no music of each kind, to a passage of every family
REAL = "real"  # family of the queries that were recorded
UNKNOWN_SHARE = 0.5  # of queries; the prior
PENALTY = 15.0  # inverse strength, on standardised features
# Features of which more never makes an answer less sure, with those that are them times the size.
RISING = ((0, None), (1, None), (6, 10), (7, 11), (8, 12))
SIZES = (math.log(100), math.log(4e7))  # of libraries, in rows, between which that holds


def gather_for_fit(
    corpus: Corpus,
    model: "Fingerprinter",
    *,
    library: Path,
    more: Sequence[Path] = (),
    passages: int = 12,
    seed: int = 1,
    jobs: int = 2,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> list[Case]:
    """The cases of `passages` of every family, cut from validation tracks, of five queries each.

    The library, made in the folder `library`, holds the training and validation tracks and `more`:
    the test split has no part in this.

    Raises:
        CorpusError: the corpus is incomplete.
        LibraryError: the folder holds a library of another model, or of other tracks.
    """
    music = [file.path for role in ("train", "validation") for file in corpus.music(role)]
    index_exactly([*music, *more], model, library, jobs, on_progress)
    settings = {"masked": True, "some": (*SMALL, *SOME), "times": TIMES, "drawn": True}
    new = [condition for condition in UNKNOWN if condition.warp is not None]
    # Families repeat in `KNOWN` to weigh more; their passages have numbers of their own.
    plan = [
        Passage(condition, number * len(KNOWN) + place, known=True, **settings)  # type: ignore[arg-type]
        for number, (place, condition) in product(range(passages), enumerate(KNOWN))
    ]
    plan += [
        Passage(condition, number, known=False, **settings)  # type: ignore[arg-type]
        for number, condition in product(range(passages), new)
    ]
    plan += [
        Passage(Condition(kind, 0.0), number, known=False, **settings)  # type: ignore[arg-type]
        for number, kind in product(range(MADE_UP * passages), KINDS)
    ]
    return gather(
        corpus,
        model,
        plan,
        split="validation",
        seed=seed,
        library=library,
        jobs=jobs,
        on_progress=on_progress,
    )


def background_of(corpus: Corpus, model: "Fingerprinter") -> Background:
    """The passages of music that small libraries are searched together with.

    They are from the middle of training tracks, one a package, because packages share themes. The
    queries that the confidence is fitted and measured on are cut from tracks of other splits, so
    the background is as unlike them as it is unlike a user's queries.

    Raises:
        AudioError: a track is gone or damaged since the corpus was assembled.
    """
    seconds = BACKGROUND_ROWS * model.hop + model.window + 2 * BACKGROUND_SPARE
    packages = {file.package: file.path for file in corpus.music("train") if file.seconds > seconds}
    chosen = np.unique(np.linspace(0, len(packages) - 1, BACKGROUND_PASSAGES).round().astype(int))
    paths = [packages[sorted(packages)[number]] for number in chosen]
    before = round(BACKGROUND_SPARE / model.hop)
    kept = slice(before, before + BACKGROUND_ROWS)
    vectors, peaks = [], []
    for path in paths:
        whole = load_clip(path, model.sample_rate)
        first = round((whole.duration - seconds) / 2 * whole.sample_rate)
        samples = whole.samples[first : first + round(seconds * whole.sample_rate)]
        clip = Clip(samples, whole.sample_rate)
        vectors.append(model.embed(clip).vectors[kept])
        peaks.append(peaks_of(clip, block=hop_block(model.hop))[kept])
    return Background(np.stack(vectors), np.stack(peaks), model.hop)


def fit(cases: Sequence[Case]) -> Calibration:
    """Weighted logistic regression of `right` on the features of the evidence, constrained."""
    used = [case for case in cases if case.evidence is not None]
    seen = np.stack([features(case.evidence) for case in used if case.evidence is not None])
    right = np.array([case.right for case in used])
    known = np.array([case.known for case in used])
    real = np.array([case.family == REAL for case in used])
    weight = np.zeros(len(used))
    for recorded in set(real.tolist()):  # simulated and real recordings weigh the same
        for share, kind in ((1 - UNKNOWN_SHARE, known), (UNKNOWN_SHARE, ~known)):
            these = kind & (real == recorded)
            weight[these] = share / max(these.sum(), 1)
    weight *= len(used) / weight.sum()
    middle, scale = seen.mean(axis=0), np.maximum(seen.std(axis=0), 1e-9)
    *slopes, level = _regression((seen - middle) / scale, right, weight, _rising(scale))
    weights = np.array(slopes) / scale
    return Calibration(
        intercept=float(level - weights @ middle),
        weights=tuple(float(value) for value in weights),
        unknown=UNKNOWN_SHARE,
    )


def _rising(scale: Doubles) -> Doubles:
    """Rows r such that `r @ slopes >= 0` keeps `RISING`, for features divided by `scale`."""
    rows = []
    for (feature, by_size), size in product(RISING, SIZES):
        row = np.zeros(len(scale) + 1)
        row[feature] = 1 / scale[feature]
        if by_size is not None:
            row[by_size] = size / scale[by_size]
        rows.append(row / np.abs(row).max())
    return np.array(rows)


def _regression(x: Doubles, right: NDArray[np.bool_], weight: Doubles, rising: Doubles) -> Doubles:
    """Slopes and intercept of a penalised logistic regression with `rising @ result >= 0`."""
    from scipy.optimize import minimize
    from scipy.special import expit

    x = np.column_stack([x, np.ones(len(x))])
    sign = np.where(right, 1.0, -1.0)
    penalty = np.append(np.full(x.shape[1] - 1, 1 / PENALTY), 0.0)

    def loss(result: Doubles) -> tuple[float, Doubles]:
        sure = sign * (x @ result)
        value = float(weight @ np.logaddexp(0, -sure) + penalty @ np.square(result) / 2)
        return value, penalty * result - x.T @ (weight * sign * expit(-sure))

    found = minimize(
        loss,
        np.zeros(x.shape[1]),
        jac=True,
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda w: rising @ w, "jac": lambda _: rising},
        options={"maxiter": 1_000, "ftol": 1e-9},
    )
    result: Doubles = found.x
    return result
