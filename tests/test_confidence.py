import doctest
import math

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.recognition import confidence
from fingerprint.recognition.confidence import (
    FEATURES,
    LEAST_SPREAD,
    MOST_FIT,
    MOST_FIT_MARGIN,
    RUNNER_UP,
    Calibration,
    evidence_of,
    features,
    probability,
    with_prior,
)
from fingerprint.types import Candidate, Circumstances, Evidence, Level, PeakFit

FEW = settings(deadline=None, derandomize=True, max_examples=50)
scores = st.floats(-1, 1)
margins = st.floats(-2, 2)
lengths = st.floats(0, 1e5)
sizes = st.integers(0, 10**9)
HERE = Circumstances(seconds=5.0, level=Level(0.05, 0.07), rows=250_000)  # 500 tracks


def given_(seconds: float = 5.0, rows: int = 250_000) -> Circumstances:
    return Circumstances(seconds, Level(0.05, 0.07), rows)


def candidates(*values: float) -> list[Candidate]:
    return [Candidate(i, offset=0.0, rate=1.0, score=value) for i, value in enumerate(values)]


def test_the_margin_is_to_the_best_of_the_others() -> None:
    found = evidence_of(candidates(0.9, 0.5, 0.4), HERE)
    assert [round(e.margin, 9) for e in found] == [0.4, -0.4, -0.5]
    assert [e.score for e in found] == [0.9, 0.5, 0.4]
    assert {e.given for e in found} == {HERE}


@FEW
@drawn(st.lists(scores, min_size=2, max_size=6))
def test_the_order_of_candidates_does_not_matter(values: list[float]) -> None:
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    straight = evidence_of(candidates(*values), HERE)
    shuffled = evidence_of([candidates(*values)[i] for i in order], HERE)
    assert [straight[i] for i in order] == shuffled


def test_two_equal_candidates_have_no_margin() -> None:
    assert [e.margin for e in evidence_of(candidates(0.7, 0.7), HERE)] == [0, 0]


def test_copies_of_a_recording_do_not_lower_each_other_s_confidence() -> None:
    copies = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=bool)
    found = evidence_of(candidates(0.9, 0.89, 0.4), HERE, copies)
    assert [round(e.margin, 9) for e in found] == [0.5, 0.49, -0.5]


def test_the_margin_of_a_lone_candidate_is_over_an_assumed_impostor() -> None:
    (alone,) = evidence_of(candidates(0.9), HERE)
    assert alone.margin == pytest.approx(0.9 - (0.05 + RUNNER_UP * 0.07))
    assert evidence_of([], HERE) == []


@FEW
@drawn(scores, margins, lengths, sizes, st.floats(0.01, 0.5))
def test_more_score_or_margin_is_never_less_sure(
    score: float, margin: float, seconds: float, rows: int, more: float
) -> None:
    calibration, here = Calibration(), given_(seconds, rows)
    before = probability(Evidence(score, margin, here), calibration)
    assert probability(Evidence(score + more, margin, here), calibration) >= before
    assert probability(Evidence(score, margin + more, here), calibration) >= before


@FEW
@drawn(scores, margins, lengths, sizes, st.floats(-1e4, 1e4))
def test_confidence_is_a_probability_for_any_evidence(
    score: float, margin: float, seconds: float, rows: int, intercept: float
) -> None:
    calibration = Calibration(intercept=intercept)
    evidence = Evidence(score, margin, given_(seconds, rows))
    assert 0 <= probability(evidence, calibration) <= 1


def test_the_defaults_separate_a_clear_match_from_an_impostor() -> None:
    calibration, fit = Calibration(), PeakFit(6.0, 4.0, 150, breadth=4.0)
    assert probability(Evidence(0.9, 0.5, HERE, fit), calibration) > 0.99
    assert probability(Evidence(0.45, 0.02, HERE, fit), calibration) < 0.1
    assert probability(Evidence(0.6, 0.05, HERE, fit), calibration) == pytest.approx(0.5, abs=0.15)


def test_a_score_is_worth_less_in_a_larger_library_and_above_a_higher_background() -> None:
    calibration = Calibration()
    here = probability(Evidence(0.6, 0.05, HERE), calibration)
    larger = Circumstances(5.0, HERE.level, 50_000_000)
    vaguer = Circumstances(5.0, Level(0.2, 0.1), HERE.rows)
    assert probability(Evidence(0.6, 0.0, larger), calibration) < here
    assert probability(Evidence(0.6, 0.05, vaguer), calibration) < here


def test_confidence_is_the_logistic_function_of_the_weighted_features() -> None:
    weights = tuple(np.linspace(-0.5, 0.7, FEATURES).tolist())
    calibration = Calibration(intercept=0.3, weights=weights)
    fit = PeakFit(MOST_FIT + 2, 4.0, 99, breadth=4.0)
    given = Circumstances(math.e, Level(0.2, 0.3), 1_000)
    evidence = Evidence(0.8, 0.1, given, fit, 3.0)
    size, margin = math.log(1_000), 0.1 / 0.32
    expected = [0.8, margin, 0.2, 0.3, 1.0, size]
    expected += [MOST_FIT, 3.0, 4.0, math.log(99), MOST_FIT * size, 3.0 * size, 4.0 * size]
    expected += [MOST_FIT**1.5, 3.0**1.5, margin**1.5]
    np.testing.assert_allclose(features(evidence), expected)
    logit = 0.3 + float(np.dot(weights, expected))
    assert probability(evidence, calibration) == pytest.approx(1 / (1 + math.exp(-logit)))


def test_peaks_count_only_where_the_embeddings_see_the_track_too() -> None:
    """Clicks fit the peaks of some track by their rhythm, and look like nothing to the network."""

    def fits(normal: float) -> list[float]:
        score = 0.05 + normal * (0.06 + LEAST_SPREAD)
        given = Circumstances(5.0, Level(0.05, 0.06), 300_000)
        found = features(Evidence(score, 0.1, given, PeakFit(14.0, 5.0, 90, breadth=4.0), 9.0))
        return [*found[6:8].tolist(), *found[10:12].tolist()]

    assert fits(-1.0) == fits(0.4) == [0.0, 0.0, 0.0, 0.0]
    assert fits(1.6)[:2] == fits(9.0)[:2] == [MOST_FIT, MOST_FIT_MARGIN]
    assert 0 < fits(1.0)[0] < MOST_FIT


def test_the_margin_counts_only_where_the_peaks_do_not_contradict_it() -> None:
    """A modem resembles one track with such a sound more than any other music."""

    def margin(fit: PeakFit, seconds: float = 5.0) -> float:
        given = Circumstances(seconds, Level(0.05, 0.06), 300_000)
        return float(features(Evidence(0.6, 0.4, given, fit, 0.0))[1])

    assert margin(PeakFit(-1.0, 1.0, 90)) == 0
    assert margin(PeakFit(5.0, 4.0, 90)) == pytest.approx(5.0)
    assert 0 < margin(PeakFit(1.5, 2.0, 90)) < 5
    assert margin(PeakFit(0.0, 1.0, 25), seconds=1.0) == pytest.approx(5.0)  # too short to tell
    assert margin(PeakFit(0.3, 1.0, 48), seconds=1.6) == pytest.approx(5.0)
    assert margin(PeakFit(0.3, 1.0, 60), seconds=2.0) == 0


@pytest.mark.parametrize("peaks", [0, 20])
def test_too_few_peaks_are_no_evidence_for_a_match(peaks: int) -> None:
    """Clicks resemble a silence with a click in it, and fit what few peaks that has."""
    given = Circumstances(2.0, Level(0.05, 0.06), 300_000)
    found = features(Evidence(0.6, 0.4, given, PeakFit(8.0, 3.0, peaks, breadth=4.0), 5.0))
    assert found[[1, 6, 7]].tolist() == [0.0, 0.0, 0.0]
    assert (
        found[9] == features(Evidence(0.6, 0.4, given, PeakFit(8.0, 3.0, 10, breadth=4.0), 5.0))[9]
    )


def test_there_is_a_weight_for_each_feature() -> None:
    nothing = Evidence(0.5, 0.1, Circumstances(0.0, Level(0.0, 0.0), 0))
    assert features(nothing).shape == (len(Calibration().weights),) == (FEATURES,)
    assert np.isfinite(features(nothing)).all()


def test_calibration_is_equal_after_a_round_trip_through_json() -> None:
    weights = tuple(np.linspace(-3, 1e-9, FEATURES).tolist())
    calibration = Calibration(intercept=-3.25, weights=weights, unknown=0.3)
    assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration


def test_a_calibration_on_other_features_is_replaced_by_the_defaults_with_a_warning() -> None:
    old = '{"intercept": -11.6, "weights": [11.6, 32.1, 0.5, 2.2]}'
    assert Calibration.model_validate_json(old) == Calibration(outdated=True)
    assert Calibration().outdated is False


@FEW
@drawn(st.floats(0.01, 0.99), st.floats(0.05, 0.95))
def test_a_confidence_follows_the_prior_and_comes_back(share: float, unknown: float) -> None:
    there = with_prior(share, Calibration(), unknown)
    back = with_prior(there, Calibration(unknown=unknown), Calibration().unknown)
    assert back == pytest.approx(share)
    assert (there > share) == (unknown < 0.5) or unknown == pytest.approx(0.5)


def test_the_examples_in_the_docstrings() -> None:
    assert doctest.testmod(confidence).failed == 0


def test_a_candidate_far_behind_another_is_never_sure() -> None:
    """With the shipped calibration: a power of a margin must not make a virtue of a deficit."""
    calibration = Fingerprinter.default("cpu").calibration
    given = Circumstances(5.0, Level(0.05, 0.06), 270_000)

    def sure(margin: float, fit: float, fit_margin: float) -> float:
        peaks = PeakFit(fit, fit / 2, 150, breadth=4.0)
        return probability(Evidence(0.3, margin, given, peaks, fit_margin), calibration)

    ahead = [sure(-0.6, 0.0, -40.0), sure(-0.1, 3.0, -5.0), sure(0.0, 3.0, 0.0)]
    assert ahead == sorted(ahead)
    assert max(ahead) < 0.1
    assert sure(0.1, 12.0, 9.0) > 0.98
