"""How sure an answer is: evidence to a probability, by logistic regression. Pure NumPy."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fingerprint.config import Probability, Record
from fingerprint.types import Candidate, Circumstances, Evidence

STRANGER = 3.0  # spreads above the background: the runner-up of a lone candidate
SHORTEST = 0.1  # s; keeps the logarithm finite
LEAST_SPREAD = 0.02  # of a background; keeps a margin in spreads finite


class Calibration(Record):
    """Logistic regression on `features`, and the prior that it holds for.

    `unknown` is the share of queries whose recording is not in the library, as it was when the
    weights were fitted. Where it is another, a confidence can be corrected by `with_prior`.

    The default weights are those of no model in particular; they put even odds at a score of 0.6
    and a margin of 0.05 for five seconds of sound among 500 tracks, and leave the peaks out.
    `outdated`: the model was calibrated on other features, and the default weights stand in.
    """

    intercept: float = -5.5
    weights: tuple[float, ...] = (17.0, 2.4, -10.0, -40.0, 0.0, -0.22, *(10 * [0.0]))
    unknown: Probability = 0.5
    outdated: bool = Field(default=False, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _of_this_version(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "weights" not in values:
            return values
        weights = tuple(values["weights"])  # JSON has no tuples
        if len(weights) == FEATURES:
            return values | {"weights": weights}
        return {"outdated": True}


FEATURES = 16
MOST_FIT = 12.0  # spreads; a better fit of the peaks says no more
MOST_FIT_MARGIN = 8.0
HEARD = (0.5, 1.5)  # spreads of a score above its cohort between which peaks begin to count


def evidence_of(
    candidates: Sequence[Candidate],
    given: Circumstances,
    copies: NDArray[np.bool_] | None = None,
) -> list[Evidence]:
    """The evidence for each of the candidates for one query, in their order, best first or not.

    `copies` (k, k) says which of the first k are the same recording, as when an album and a
    compilation hold the same song: they do not speak against each other. Only those k are weighed,
    against all. None: all are weighed, and no two are the same.
    """
    count = len(candidates) if copies is None else len(copies)
    scores = np.array([candidate.score for candidate in candidates])
    fits = np.array([candidate.fit.score for candidate in candidates])
    rival = ~np.eye(count, len(scores), dtype=bool)
    if copies is not None:
        rival[:, :count] &= ~copies
    runner_up, fitting = (
        np.where(rival, values, -np.inf).max(axis=1, initial=-np.inf) for values in (scores, fits)
    )
    alone = ~rival.any(axis=1)
    runner_up[alone] = given.level.mean + STRANGER * given.level.spread
    fitting[alone] = STRANGER
    return [
        Evidence(one.score, float(one.score - other), given, one.fit, float(one.fit.score - second))
        for one, other, second in zip(candidates, runner_up, fitting, strict=False)
    ]


def features(evidence: Evidence) -> NDArray[np.float64]:
    """What the regression sees, (16,).

    Of the embeddings: the score; its margin in spreads of the cohort; mean and spread of the
    cohort. Then the logarithms of the query's length and of the library's size, since the best
    impostor, the largest of so many means over so many windows, falls with the one and grows with
    the other. Of the spectral peaks: how well they fit, by how much better than any other track's,
    both up to where more is no surer; how sharply; the logarithm of their number; and the first
    three times the logarithm of the size. Peaks count only as far as the embeddings see the track,
    `HEARD` spreads above the cohort: clicks and beeps fit the peaks of some track by their rhythm
    alone, and look like nothing to the network. Last, powers of the margins and of the fit: what is
    far above all impostors is surer than a line through what is near them would say.
    """
    given = evidence.given
    margin = evidence.margin / (given.level.spread + LEAST_SPREAD)
    size = math.log(max(given.rows, 1))
    normal = (evidence.score - given.level.mean) / (given.level.spread + LEAST_SPREAD)
    heard = min(max((normal - HEARD[0]) / (HEARD[1] - HEARD[0]), 0.0), 1.0)
    fit, sharpness = min(evidence.fit.score, heard * MOST_FIT), evidence.fit.sharpness
    fit_margin = min(evidence.fit_margin, heard * MOST_FIT_MARGIN)
    return np.array(
        [
            evidence.score,
            margin,
            given.level.mean,
            given.level.spread,
            math.log(max(given.seconds, SHORTEST)),
            size,
            fit,
            fit_margin,
            sharpness,
            math.log(evidence.fit.peaks + 1),
            fit * size,
            fit_margin * size,
            sharpness * size,
            max(fit, 0.0) ** 2,
            max(fit_margin, 0.0) ** 2,
            max(margin, 0.0) ** 1.5,
        ]
    )


def probability(evidence: Evidence, calibration: Calibration) -> float:
    """The chance, 0..1, that the candidate is the track that plays."""
    logit = calibration.intercept + float(features(evidence) @ np.array(calibration.weights))
    return 0.5 * (1 + math.tanh(logit / 2))  # The logistic function, without overflow.


def with_prior(confidence: float, calibration: Calibration, unknown: float) -> float:
    """A confidence for another share of unknown recordings than the calibration's, by Bayes' rule.

    >>> round(with_prior(0.9, Calibration(), 0.5), 3)
    0.9
    >>> round(with_prior(0.9, Calibration(), 0.9), 3)  # nine of ten queries are of unknown music
    0.5
    """
    here = confidence * (1 - unknown) / (1 - calibration.unknown)
    other = (1 - confidence) * unknown / calibration.unknown
    return here / (here + other) if here + other else confidence
