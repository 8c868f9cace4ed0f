"""How sure an answer is: evidence to a probability, by logistic regression. Pure NumPy."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

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
    and a margin of 0.05 for five seconds of sound among 500 tracks.
    """

    intercept: float = -5.5
    weights: tuple[float, ...] = (17.0, 2.4, -10.0, -40.0, 0.0, -0.22, 0.0, 0.0)
    unknown: Probability = 0.5

    @model_validator(mode="before")
    @classmethod
    def _of_this_version(cls, values: Any) -> Any:
        """A model that was calibrated on other features is judged by the defaults."""
        if not isinstance(values, dict) or "weights" not in values:
            return values
        weights = tuple(values["weights"])  # JSON has no tuples
        return values | {"weights": weights} if len(weights) == FEATURES else {}


FEATURES = 8


def evidence_of(
    candidates: Sequence[Candidate],
    given: Circumstances,
    copies: NDArray[np.bool_] | None = None,
) -> list[Evidence]:
    """The evidence for each of the candidates for one query, in their order, best first or not.

    `copies` (n, n) says which candidates are the same recording, as when an album and a compilation
    hold the same song: they do not speak against each other. None: no two are.
    """
    scores = np.array([candidate.score for candidate in candidates])
    rival = ~np.eye(len(scores), dtype=bool)
    if copies is not None:
        rival &= ~copies
    runner_up = np.where(rival, scores, -np.inf).max(axis=1, initial=-np.inf)
    runner_up[~rival.any(axis=1)] = given.level.mean + STRANGER * given.level.spread
    return [
        Evidence(float(score), float(score - other), given)
        for score, other in zip(scores, runner_up, strict=True)
    ]


def features(evidence: Evidence) -> NDArray[np.float64]:
    """What the regression sees, (8,).

    The score; the margin in spreads of the background; mean and spread of the background; the
    logarithms of the query's length and of the library's size, since the best impostor, the
    largest of so many means over so many windows, falls with the one and grows with the other;
    and score and margin times the logarithm of the size: the best of few strangers lie far apart
    and say little, the best of many lie close.
    """
    given = evidence.given
    margin = evidence.margin / (given.level.spread + LEAST_SPREAD)
    size = math.log(max(given.rows, 1))
    return np.array(
        [
            evidence.score,
            margin,
            given.level.mean,
            given.level.spread,
            math.log(max(given.seconds, SHORTEST)),
            size,
            evidence.score * size,
            margin * size,
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
