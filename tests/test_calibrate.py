"""The fitted confidence: constructed truth recovered, and impostors told from right answers."""

import numpy as np

from fingerprint.evaluation.calibrate import fit
from fingerprint.search.confidence import Calibration, Evidence, probability


def draw(count: int, seed: int) -> list[Evidence]:
    rng = np.random.default_rng(seed)
    return [
        Evidence(rng.uniform(0.2, 1), rng.uniform(-0.1, 0.5), rng.uniform(1, 10))
        for _ in range(count)
    ]


def test_the_fit_recovers_the_probabilities_that_the_answers_were_drawn_with() -> None:
    truth = Calibration(intercept=-6.0, weights=(8.0, 12.0, 0.5, 1.0))
    rng = np.random.default_rng(0)
    seen = draw(6_000, 1)
    right = [bool(rng.random() < probability(evidence, truth)) for evidence in seen]
    fitted = fit(seen, right)
    fresh = draw(500, 2)
    error = [probability(e, fitted) - probability(e, truth) for e in fresh]
    assert np.max(np.abs(error)) < 0.12
    assert abs(np.mean(error)) < 0.02


def test_a_fitted_confidence_ranks_right_answers_above_impostors() -> None:
    rng = np.random.default_rng(3)
    right = [Evidence(rng.normal(0.75, 0.1), rng.normal(0.3, 0.1), 5.0) for _ in range(300)]
    wrong = [Evidence(rng.normal(0.45, 0.05), rng.normal(0.03, 0.03), 5.0) for _ in range(300)]
    fitted = fit(right + wrong, [True] * 300 + [False] * 300)
    assert np.mean([probability(e, fitted) > 0.9 for e in right]) > 0.95
    assert np.mean([probability(e, fitted) > 0.9 for e in wrong]) < 0.01
