"""The fitted confidence: constructed truth recovered, and impostors told from right answers."""

from pathlib import Path

import numpy as np

from fingerprint.lab.calibration import cases
from fingerprint.lab.calibration.cases import Case
from fingerprint.lab.calibration.fit import fit
from fingerprint.recognition.confidence import Calibration, probability
from fingerprint.types import Circumstances, Evidence, Level, PeakFit


def draw(rng: np.random.Generator, score: float, margin: float) -> Evidence:
    """Evidence of the embeddings; the peaks say the same of all."""
    here = Circumstances(
        rng.uniform(1, 10), Level(rng.normal(0.05, 0.02), rng.uniform(0.05, 0.12)),
        int(10 ** rng.uniform(3.5, 7)),
    )  # fmt: skip
    return Evidence(score, margin, here, PeakFit(4.0, 3.0, 150, breadth=4.0))


def case(evidence: Evidence | None, *, known: bool, right: bool) -> Case:
    return Case("noise", 0, 5.0, known, 500, evidence, right)


def test_the_fit_recovers_the_probabilities_that_the_answers_were_drawn_with() -> None:
    truth = Calibration(intercept=-6.0, weights=(10.0, 1.2, -5.0, -10.0, 0.5, -0.2, 0.0, 0.0))
    rng = np.random.default_rng(0)
    seen = [draw(rng, rng.uniform(0.2, 1), rng.uniform(-0.1, 0.5)) for _ in range(8_000)]
    # As many known as unknown queries, so that nothing is weighted.
    made = [
        case(e, known=bool(i % 2), right=bool(rng.random() < probability(e, truth)))
        for i, e in enumerate(seen)
    ]
    fitted = fit(made)
    fresh = [draw(rng, rng.uniform(0.2, 1), rng.uniform(-0.1, 0.5)) for _ in range(500)]
    error = [probability(e, fitted) - probability(e, truth) for e in fresh]
    assert np.max(np.abs(error)) < 0.15
    assert abs(np.mean(error)) < 0.02
    assert fitted.unknown == 0.5


def test_a_fitted_confidence_ranks_right_answers_above_impostors() -> None:
    rng = np.random.default_rng(3)
    right = [draw(rng, rng.normal(0.75, 0.1), rng.normal(0.3, 0.1)) for _ in range(300)]
    wrong = [draw(rng, rng.normal(0.45, 0.05), rng.normal(0.03, 0.03)) for _ in range(900)]
    fitted = fit(
        [case(e, known=True, right=True) for e in right]
        + [case(e, known=False, right=False) for e in wrong]
        + [case(None, known=False, right=False)]  # refused, and so no evidence
    )
    assert np.mean([probability(e, fitted) > 0.9 for e in right]) > 0.95
    assert np.mean([probability(e, fitted) > 0.9 for e in wrong]) < 0.01


def test_the_numbers_of_known_and_unknown_queries_do_not_move_the_prior() -> None:
    """The same evidence for right and wrong answers: what is left is the prior, one half."""
    rng = np.random.default_rng(4)
    seen = [draw(rng, rng.normal(0.6, 0.1), rng.normal(0.1, 0.1)) for _ in range(2_000)]
    few = [case(e, known=True, right=True) for e in seen[:400]]
    many = [case(e, known=False, right=False) for e in seen[400:]]
    fitted = fit(few + many)
    assert abs(np.mean([probability(e, fitted) for e in seen]) - 0.5) < 0.05


def test_cases_are_equal_after_a_round_trip_through_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    made = [
        case(draw(rng, 0.5, 0.1), known=True, right=True),
        case(None, known=False, right=False),
    ]
    cases.save(made, tmp_path / "made" / "cases.jsonl")
    assert cases.load(tmp_path / "made" / "cases.jsonl") == made
