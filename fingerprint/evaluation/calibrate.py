"""Fit the confidence: evidence of right and of wrong answers to a probability.

Every query of the validation split is asked twice of one library. Once as it is: its best match is
right or wrong. Once with its own track taken out of the candidates, and all of its package with it
(the tracks of a game share themes and loops, and a stranger's do not), as if they were not in the
library: its best match is wrong. So half of what the regression sees are unknown recordings; that
is the prior that the confidence assumes. Logistic regression without a penalty gives probabilities
that are right on average over what it was fitted on.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fingerprint.corpus import Corpus
from fingerprint.evaluation.conditions import CONDITIONS
from fingerprint.evaluation.material import Material
from fingerprint.evaluation.queries import Query, make_query
from fingerprint.evaluation.run import Progress, index_corpus
from fingerprint.search.confidence import Calibration, Evidence, evidence_of, features

if TYPE_CHECKING:
    from fingerprint.library.library import Finding, Library
    from fingerprint.model.fingerprinter import Fingerprinter

CANDIDATES = 20  # looked at for each query: enough to leave some when a package is taken out


def calibrate(
    corpus: Corpus,
    model: "Fingerprinter",
    *,
    library: Path,
    queries: int = 100,
    seed: int = 1,
    jobs: int = 2,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Calibration:
    """Fit on `queries` of every known condition, cut from validation tracks.

    The library, made in the folder `library`, holds the training and validation tracks: the test
    split has no part in this.

    Raises:
        CorpusError: the corpus is incomplete.
        LibraryError: the folder holds a library of another model, or of other tracks.
    """
    from fingerprint.library.library import Library

    material = Material.load(corpus, "validation")
    package = {file.path: file.package for file in corpus.files}
    index_corpus(corpus, ("train", "validation"), model, library, jobs, on_progress)
    conditions = [condition for condition in CONDITIONS if not condition.unknown]
    evidence: list[Evidence] = []
    right: list[bool] = []
    with Library.open(library, model) as opened:
        for i, condition in enumerate(conditions):
            on_progress(Progress("calibrate", i * queries, queries * len(conditions)))
            for number in range(queries):
                query = make_query(
                    material, condition, seed=seed, number=number, sample_rate=model.sample_rate
                )
                for weight, truth in _ask(opened, query, package):
                    evidence.append(weight)
                    right.append(truth)
    return fit(evidence, right)


def _ask(
    library: "Library", query: Query, package: Mapping[Path, str]
) -> list[tuple[Evidence, bool]]:
    """The best match with the track's package in the library, and without it."""
    found = library.search(query.clip, top=CANDIDATES, thorough=True)
    if not found:
        return []
    cases = [(found[0].evidence, found[0].track.path == query.truth.path)]
    own = package[query.truth.path]
    others = [finding for finding in found if package[finding.track.path] != own]
    return [*cases, *((weight, False) for weight in _best(others))]


def _best(found: "Sequence[Finding]") -> list[Evidence]:
    """The evidence for the first of these, as if they were all that was found."""
    if len(found) < 2:
        return []
    seconds = found[0].evidence.seconds
    return evidence_of([finding.candidate for finding in found], seconds)[:1]


def fit(evidence: Sequence[Evidence], right: Sequence[bool]) -> Calibration:
    """Logistic regression of `right` (n,) on the features of `evidence` (n,)."""
    from sklearn.linear_model import LogisticRegression

    seen = np.stack([features(weight) for weight in evidence])
    regression = LogisticRegression(C=np.inf, max_iter=10_000, tol=1e-6)
    regression.fit(seen, np.asarray(right))
    return Calibration(
        intercept=float(regression.intercept_[0]),
        weights=tuple(float(weight) for weight in regression.coef_[0]),
    )
