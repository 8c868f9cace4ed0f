import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fingerprint.search.confidence import (
    FLOOR,
    Calibration,
    Evidence,
    evidence_of,
    features,
    probability,
)
from fingerprint.types import Candidate

FEW = settings(deadline=None, derandomize=True, max_examples=50)
scores = st.floats(-1, 1)
margins = st.floats(-2, 2)
lengths = st.floats(0, 1e5)


def candidates(*values: float) -> list[Candidate]:
    return [Candidate(i, offset=0.0, rate=1.0, score=value) for i, value in enumerate(values)]


def test_the_margin_is_to_the_best_of_the_others() -> None:
    found = evidence_of(candidates(0.9, 0.5, 0.4), 3.0)
    assert [round(e.margin, 9) for e in found] == [0.4, -0.4, -0.5]
    assert [e.score for e in found] == [0.9, 0.5, 0.4]
    assert {e.seconds for e in found} == {3.0}


@FEW
@given(st.lists(scores, min_size=2, max_size=6))
def test_the_order_of_candidates_does_not_matter(values: list[float]) -> None:
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    straight = evidence_of(candidates(*values), 1.0)
    shuffled = evidence_of([candidates(*values)[i] for i in order], 1.0)
    assert [straight[i] for i in order] == shuffled


def test_two_equal_candidates_have_no_margin() -> None:
    assert [e.margin for e in evidence_of(candidates(0.7, 0.7), 1.0)] == [0, 0]


def test_a_lone_candidate_is_held_against_a_strangers_score() -> None:
    assert evidence_of(candidates(0.9), 5.0) == [Evidence(0.9, 0.9 - FLOOR, 5.0)]
    assert evidence_of([], 5.0) == []


@FEW
@given(scores, margins, lengths, st.floats(0.01, 0.5))
def test_more_score_or_margin_is_never_less_sure(
    score: float, margin: float, seconds: float, more: float
) -> None:
    calibration = Calibration()
    before = probability(Evidence(score, margin, seconds), calibration)
    assert probability(Evidence(score + more, margin, seconds), calibration) >= before
    assert probability(Evidence(score, margin + more, seconds), calibration) >= before


@FEW
@given(scores, margins, lengths, st.floats(-1e4, 1e4))
def test_it_is_a_probability_whatever_comes(
    score: float, margin: float, seconds: float, intercept: float
) -> None:
    calibration = Calibration(intercept=intercept)
    assert 0 <= probability(Evidence(score, margin, seconds), calibration) <= 1


def test_the_defaults_tell_a_plain_match_from_a_stranger() -> None:
    calibration = Calibration()
    assert probability(Evidence(0.9, 0.5, 5.0), calibration) > 0.99
    assert probability(Evidence(0.45, 0.02, 5.0), calibration) < 0.1
    assert probability(Evidence(0.6, 0.05, 5.0), calibration) == pytest.approx(0.5, abs=0.05)


def test_it_is_the_logistic_function_of_the_weighted_features() -> None:
    calibration = Calibration(intercept=0.3, weights=(1.0, -2.0, 0.5, 0.25))
    evidence = Evidence(0.8, 0.1, math.e)
    logit = 0.3 + 0.8 - 0.2 + 0.5 + 0.25 * 0.8
    assert probability(evidence, calibration) == pytest.approx(1 / (1 + math.exp(-logit)))
    np.testing.assert_allclose(features(evidence), [0.8, 0.1, 1.0, 0.8])


def test_there_is_a_weight_for_each_feature() -> None:
    assert features(Evidence(0.5, 0.1, 0.0)).shape == (len(Calibration().weights),)
    assert np.isfinite(features(Evidence(0.5, 0.1, 0.0))).all()


def test_a_calibration_survives_json() -> None:
    calibration = Calibration(intercept=-3.25, weights=(1.0, 2.0, 0.1, -0.7))
    assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration
