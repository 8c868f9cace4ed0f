"""How sure an answer is: evidence to a probability, by logistic regression. Pure NumPy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fingerprint.config import Record
from fingerprint.types import Candidate

FLOOR = 0.3  # what a stranger scores; stands in for the runner-up of a lone candidate
SHORTEST = 0.1  # s; keeps the logarithm finite


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for one candidate.

    `score` is its mean aligned cosine; `margin` that score less the best score of any track that is
    another recording; `seconds` the length of the query that is not silent.
    """

    score: float
    margin: float
    seconds: float


class Calibration(Record):
    """Logistic regression on `features`. The defaults are set by hand, until a model is fitted.

    They put even odds at score 0.6 and margin 0.05 for five seconds of sound.
    """

    intercept: float = -12.0
    weights: tuple[float, ...] = (12.0, 30.0, 0.8, 2.0)


def evidence_of(
    candidates: Sequence[Candidate], seconds: float, copies: NDArray[np.bool_] | None = None
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
    runner_up[~rival.any(axis=1)] = FLOOR
    return [
        Evidence(float(score), float(score - other), seconds)
        for score, other in zip(scores, runner_up, strict=True)
    ]


def features(evidence: Evidence) -> NDArray[np.float64]:
    """What the regression sees, (4,): score, margin, log length and score times log length.

    The best score among strangers is the largest of many means over the query's windows, so both
    its level and its spread shrink as the query grows: the score that convinces falls with the
    logarithm of the length (third feature), and a given excess over it weighs more (fourth).
    """
    length = math.log(max(evidence.seconds, SHORTEST))
    return np.array([evidence.score, evidence.margin, length, evidence.score * length])


def probability(evidence: Evidence, calibration: Calibration) -> float:
    """The chance, 0..1, that the candidate is the track that plays."""
    logit = calibration.intercept + float(features(evidence) @ np.array(calibration.weights))
    return 0.5 * (1 + math.tanh(logit / 2))  # The logistic function, without overflow.
