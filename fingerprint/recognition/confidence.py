"""Confidence: evidence for a candidate to a probability, by logistic regression. Pure NumPy."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from fingerprint.config import Probability, Record
from fingerprint.types import Candidate, Circumstances, Evidence

RUNNER_UP = 3.0  # spreads above the cohort at which a lone candidate's runner-up is assumed
SHORTEST = 0.1  # s; keeps the logarithm finite
LEAST_SPREAD = 0.02  # added to a cohort's spread; keeps a margin in spreads finite


class Calibration(Record):
    """Logistic regression on `features`, and the prior that it was fitted for.

    `unknown` is the share of queries, in the fit, whose recording is not in the library. For
    another share, `with_prior` corrects a confidence.

    The default weights are not fitted to a model: they give even odds at a score of 0.6 and a
    margin of 0.05 for five seconds of sound among 500 tracks; the peaks only say whether the margin
    counts. `outdated`: the model was calibrated on other features, so the default weights are used.
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

    @model_serializer(mode="wrap")
    def _still_outdated(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A copy of an outdated calibration is outdated, too."""
        return {"weights": []} if self.outdated else handler(self)


FEATURES = 16
MOST_FIT = 12.0  # spreads at which the fit of the peaks saturates
MOST_FIT_MARGIN = 8.0
MOST_MARGIN = 8.0
SCORE_RAMP = (0.5, 1.5)  # spreads of a score above its cohort between which peaks begin to count
FIT_RAMP = (1.0, 3.0)  # spreads of the fit of the peaks between which the margin begins to count
FEWEST = 20  # peaks; a track with fewer under the query is not surer for that
BREADTH_RAMP = (1.5, 3.0)  # breadths of the fit between which it begins to count
FEW_PEAKS = 50  # peaks, of 1.7 s; fewer neither confirm nor contradict the score by themselves
DENSITY_RAMP = (12.0, 20.0)  # peaks a second between which fewer than `FEW_PEAKS` begin to count
SUREST = 20.0  # log odds of an answer, at most


def evidence_of(
    candidates: Sequence[Candidate],
    given: Circumstances,
    copies: NDArray[np.bool_] | None = None,
) -> list[Evidence]:
    """The evidence for each candidate of a query, in the given order.

    `copies` (k, k) says which of the first k candidates are the same recording, as of a song on an
    album and on a compilation: they are not each other's rivals. Evidence is returned for those k,
    with all candidates as rivals. None: evidence is returned for all, and no two are copies.
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
    runner_up[alone] = given.level.mean + RUNNER_UP * given.level.spread
    fitting[alone] = RUNNER_UP
    return [
        Evidence(one.score, float(one.score - other), given, one.fit, float(one.fit.score - second))
        for one, other, second in zip(candidates, runner_up, fitting, strict=False)
    ]


def features(evidence: Evidence) -> NDArray[np.float64]:
    """The features of the regression, (16,).

    Of the embeddings: the score; its margin in spreads of the cohort; mean and spread of the
    cohort. Then the logarithms of the query's length and of the library's size: the best impostor's
    score falls with the length, a mean over more windows, and grows with the size, a maximum over
    more places. Of the spectral peaks: their fit, its margin over any other track's (both
    saturate), its sharpness, the logarithm of their number, and the first three times the logarithm
    of the size. Peaks count only where the score is clearly above its cohort (`SCORE_RAMP`), and
    the score's margin only where the peaks fit (`FIT_RAMP`): sounds that are no music may fit the
    peaks of some track by chance, or resemble but one track, but hardly both. Of a short query
    there are too few peaks for that; then both count only if the track has as many peaks a second
    as music has (`DENSITY_RAMP`). A fit and its margin count less if few frequencies make them up
    (`BREADTH_RAMP`): a riff that others share. Last, powers of the margins and of the fit: far
    above all impostors, confidence rises faster than linearly.
    """
    given = evidence.given
    size = math.log(max(given.rows, 1))
    normal = (evidence.score - given.level.mean) / (given.level.spread + LEAST_SPREAD)
    by_score = _share(normal, SCORE_RAMP)
    by_fit = _share(evidence.fit.score, FIT_RAMP)
    if evidence.fit.peaks < FEW_PEAKS:
        by_fit = _share(evidence.fit.peaks / max(given.seconds, SHORTEST), DENSITY_RAMP)
        by_score = min(by_score, by_fit)
    margin = min(evidence.margin / (given.level.spread + LEAST_SPREAD), by_fit * MOST_MARGIN)
    broad, sharpness = _share(evidence.fit.breadth, BREADTH_RAMP), evidence.fit.sharpness
    fit = min(_reduced(evidence.fit.score, broad), by_score * MOST_FIT)
    fit_margin = min(_reduced(evidence.fit_margin, broad), by_score * MOST_FIT_MARGIN)
    fit_margin = max(fit_margin, -MOST_FIT_MARGIN)
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
            math.log(max(evidence.fit.peaks, FEWEST)),
            fit * size,
            fit_margin * size,
            sharpness * size,
            max(fit, 0.0) ** 1.5,
            max(fit_margin, 0.0) ** 1.5,
            max(margin, 0.0) ** 1.5,
        ]
    )


def _reduced(value: float, share: float) -> float:
    """A share of a value above 0; the value itself below."""
    return share * value if value > 0 else value


def _share(value: float, span: tuple[float, float]) -> float:
    """How far a value has come from the first of two to the second, 0 to 1."""
    return min(max((value - span[0]) / (span[1] - span[0]), 0.0), 1.0)


def probability(evidence: Evidence, calibration: Calibration) -> float:
    """The probability that the candidate is the track that plays: between 0 and 1, never either."""
    logit = calibration.intercept + float(features(evidence) @ np.array(calibration.weights))
    logit = min(max(logit, -SUREST), SUREST)
    return 0.5 * (1 + math.tanh(logit / 2))  # The logistic function, without overflow.


def with_prior(confidence: float, calibration: Calibration, unknown: float) -> float:
    """A confidence corrected for another share of unknown recordings, by Bayes' rule.

    >>> round(with_prior(0.9, Calibration(), 0.5), 3)
    0.9
    >>> round(with_prior(0.9, Calibration(), 0.9), 3)  # nine of ten queries are of unknown music
    0.5
    """
    here = confidence * (1 - unknown) / (1 - calibration.unknown)
    other = (1 - confidence) * unknown / calibration.unknown
    return here / (here + other) if here + other else confidence
