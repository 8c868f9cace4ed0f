"""Figures, right places and reports: pure functions over outcomes."""

import json
from math import isnan, nan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fingerprint.errors import ConfigError
from fingerprint.lab.benchmark import report
from fingerprint.lab.benchmark.conditions import CONDITIONS, select
from fingerprint.lab.benchmark.metrics import (
    Outcome,
    Share,
    calibration_error,
    near,
    reliability,
    same_sound,
    summarise,
    threshold_at,
)
from fingerprint.lab.benchmark.results import Results


def outcome(
    confidence: float = 0.95,
    *,
    right: bool = True,
    place_right: bool | None = None,
    condition: str = "clean 5 s",
    error: float = 0.0,
    rate: float = 1.0,
    path: str = "a.ogg",
    snr_db: float = nan,
) -> Outcome:
    return Outcome(
        condition=condition,
        number=0,
        snr_db=snr_db,
        truth_path="a.ogg",
        truth_offset=10.0,
        truth_rate=1.0,
        path=path,
        offset=10.0 + error,
        rate=rate,
        confidence=confidence,
        score=confidence,
        right=right,
        place_right=right if place_right is None else place_right,
        seconds=0.1,
    )


def test_every_condition_of_the_table_is_there_once() -> None:
    names = [condition.name for condition in CONDITIONS]
    assert len(names) == len(set(names)) == 52
    assert {"noise 1 s", "phone 10 s", "phone at -10 dB 10 s", "unknown phone 5 s"} <= set(names)


def test_conditions_are_selected_by_name_and_by_family() -> None:
    assert [c.seconds for c in select(["noise"])] == [1, 2, 3, 5, 10]
    assert [c.name for c in select(["tempo 5 s", "clean 2 s"])] == ["clean 2 s", "tempo 5 s"]
    with pytest.raises(ConfigError, match="no condition is called 'nois'"):
        select(["nois"])


def test_wilson_interval_agrees_with_published_values() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    for hits, total, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ):
        assert Share(hits, total).interval == pytest.approx((low, high), abs=6e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_interval_solves_its_defining_equation(total: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, total))
    share = Share(hits, total)
    for end in share.interval:
        # The ends are where the observed share lies 1.96 standard errors from the assumed one.
        distance = (share.value - end) ** 2
        assert distance == pytest.approx(1.959964**2 * end * (1 - end) / total, abs=1e-9)


def test_a_share_of_nothing_is_not_a_number() -> None:
    assert isnan(Share(0, 0).value)
    assert all(isnan(end) for end in Share(0, 0).interval)


def test_figures_of_a_condition_count_what_they_say() -> None:
    outcomes = [
        outcome(0.99, error=0.02),
        outcome(0.95, error=-0.04, rate=1.01),
        outcome(0.5, error=0.06),  # right but not sure
        outcome(0.95, error=40.0, place_right=True),  # a repeat of the same sound
        outcome(0.95, error=7.0, place_right=False),
        outcome(0.95, right=False),  # sure and wrong
        outcome(0.2, right=False),
        outcome(0.0, right=False, path=""),  # no answer
    ]
    summary = summarise("clean 5 s", outcomes, min_confidence=0.9)
    assert summary.top1 == Share(5, 8)
    assert summary.place == Share(4, 8)
    assert summary.accepted_right == Share(4, 8)
    assert summary.accepted_wrong == Share(1, 8)
    assert summary.offset_error_median == pytest.approx(0.04)  # of 0.02, 0.04 and 0.06
    assert summary.rate_error_median == 0.0
    assert summary.rate == Share(4, 5)


def test_no_answer_is_not_accepted_even_at_confidence_zero() -> None:
    summary = summarise("x", [outcome(0.0, right=False, path="")], min_confidence=0.0)
    assert summary.accepted_wrong == Share(0, 1)


def test_calibration_error_is_the_mean_gap_between_confidence_and_accuracy() -> None:
    sure = [outcome(0.95, right=i < 8) for i in range(10)]  # 0.95 sure, 0.8 right
    unsure = [outcome(0.25, right=i < 10) for i in range(30)]  # 0.25 sure, 1/3 right
    silent = [outcome(0.0, right=False, path="")] * 100
    error = calibration_error(reliability([*sure, *unsure, *silent]))
    assert error == pytest.approx((10 * 0.15 + 30 * (1 / 3 - 0.25)) / 40)


def test_calibrated_answers_have_a_small_calibration_error() -> None:
    rng = np.random.default_rng(0)
    confidences = rng.uniform(size=20_000)
    outcomes = [outcome(float(c), right=bool(rng.random() < c)) for c in confidences]
    bins = reliability(outcomes)
    assert calibration_error(bins) < 0.015
    assert sum(b.accuracy.total for b in bins) == len(outcomes)


def test_full_confidence_falls_into_the_last_bin() -> None:
    assert reliability([outcome(1.0)])[-1].accuracy == Share(1, 1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0, 1))
def test_threshold_keeps_false_accepts_at_the_wanted_share(
    confidences: list[float], false_accepts: float
) -> None:
    threshold = threshold_at(confidences, false_accepts)
    accepted = sum(c >= threshold for c in confidences)
    assert accepted <= false_accepts * len(confidences)


def test_threshold_is_no_higher_than_needed() -> None:
    assert 0.3 < threshold_at([0.1, 0.2, 0.3, 0.9], 0.25) < 0.30001


def test_offsets_are_near_within_half_a_second() -> None:
    assert near(10.5, 10.0)
    assert near(9.5, 10.0)
    assert not near(10.51, 10.0)


def noise(length: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(length).astype(np.float32)


def test_a_repeat_is_the_same_sound_wherever_it_falls_and_however_loud() -> None:
    loop = noise(4_000, 1)
    for place in (0, 137, 800):
        around = np.zeros(4_800, np.float32)
        around[place : place + 4_000] = 0.3 * loop
        assert same_sound(loop, around)


def test_a_repeat_with_a_tenth_of_its_energy_changed_is_the_limit() -> None:
    loop, voice = noise(20_000, 1), noise(20_000, 2)
    assert same_sound(loop, loop + 0.25 * voice)
    assert not same_sound(loop, loop + 0.5 * voice)


def test_other_sound_and_silence_are_not_the_same() -> None:
    silence = np.zeros(4_800, np.float32)
    assert not same_sound(noise(4_000, 1), noise(4_800, 2))
    assert not same_sound(noise(4_000, 1), silence)
    assert not same_sound(silence[:4_000], silence)


def test_only_a_part_of_the_passage_is_not_the_same() -> None:
    loop = noise(4_000, 1)
    around = np.concatenate([loop[:2_000], noise(2_800, 3)])
    assert not same_sound(loop, around)


@pytest.fixture
def results() -> Results:
    rng = np.random.default_rng(0)
    outcomes = [
        outcome(
            float(rng.beta(8, 1) if right else rng.beta(1, 8)),
            right=right,
            condition=c.name,
            error=float(rng.normal(0, 0.05)),
            snr_db=float(rng.uniform(*c.snr_db)) if c.snr_db else nan,
        )
        for c in CONDITIONS
        for right in (not c.unknown and bool(rng.random() < 0.9) for _ in range(20))
    ]
    return Results(CONDITIONS, outcomes, "test", 0, 20, 0.9, "0123456789abcdef", 7, 0.5, 12.0)


def test_false_accepts_are_those_of_unknown_tracks_alone(results: Results) -> None:
    unknown = [o for o in results.outcomes if o.condition.startswith("unknown")]
    assert results.false_accepts.total == len(unknown) == 10 * 20
    assert results.false_accepts.hits == sum(o.confidence >= 0.9 for o in unknown)
    assert len(results.known) + len(unknown) == len(results.outcomes)


def test_the_table_has_a_row_a_condition_and_no_recognition_of_unknowns(results: Results) -> None:
    head, rule, *rows = report.table(results).splitlines()
    assert [row.split("|")[1].strip() for row in rows] == [c.name for c in CONDITIONS]
    assert {line.count("|") for line in (head, rule, *rows)} == {10}
    assert all(row.split("|")[3].strip() == "-" for row in rows if "unknown" in row)


def test_the_report_on_disk_says_what_the_results_say(results: Results, tmp_path: Path) -> None:
    page = report.save(results, tmp_path / "new" / "folder")
    folder = page.parent
    figures = json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)
    noisy = next(row for row in figures["conditions"] if row["condition"] == "noise 5 s")
    expected = results.summaries[[c.name for c in CONDITIONS].index("noise 5 s")]
    assert noisy["top1"]["share"] == expected.top1.value
    assert noisy["top1"]["low"] == expected.top1.interval[0]
    lines = (folder / "outcomes.jsonl").read_text().splitlines()
    assert len(lines) == len(results.outcomes)
    assert json.loads(lines[0])["snr_db"] is None
    assert report.table(results) in (folder / "table.md").read_text()
    assert {p.name for p in folder.glob("*.png")} == {
        "conditions.png",
        "curves.png",
        "confidence.png",
    }
    html = page.read_text()
    assert html.count("data:image/png;base64,") == 3
    assert "phone at -10 dB 10 s" in html


def test_a_report_of_a_single_condition_can_be_drawn(results: Results, tmp_path: Path) -> None:
    for name in ("clean 2 s", "unknown clean 5 s"):
        few = [o for o in results.outcomes if o.condition == name]
        single = Results(select([name]), few, "test", 0, 20, 0.9, "0", 7, 0.5, 1.0)
        assert report.save(single, tmp_path / name).exists()
        assert "nan" not in report.headline(single)
