"""The comparison with other recognisers: its figures, its table and its curves."""

import json
from dataclasses import replace
from math import inf, isnan, nan
from pathlib import Path

import pytest

from fingerprint.errors import ConfigError
from fingerprint.lab.benchmark.conditions import select
from fingerprint.lab.benchmark.metrics import score_to_beat
from fingerprint.lab.peers.answers import (
    Answer,
    Standing,
    check_same_queries,
    read,
    read_evaluation,
    write,
)
from fingerprint.lab.peers.curves import over_length, over_snr
from fingerprint.lab.peers.report import Comparison, markdown, save

CONDITIONS = select(["clean 5 s", "unknown clean"])


def answer(condition: str = "clean 5 s", number: int = 0, **values: object) -> Answer:
    known = {
        "snr_db": nan,
        "truth": "a.ogg",
        "track": "a.ogg",
        "score": 1.0,
        "sure": True,
        "seconds": 0.1,
    }
    return Answer(condition, number, **known | values)  # type: ignore[arg-type]


def rows(title: str, *answers: Answer) -> Standing:
    return Standing(title, "1.0", "", answers)


def test_an_unknown_track_is_never_right_even_when_it_is_named() -> None:
    assert answer().right
    assert not answer("unknown clean 5 s").right
    assert not answer(track="").right


def test_at_most_the_share_that_is_allowed_lies_above_the_score_to_beat() -> None:
    scores = [float(score) for score in range(300)]
    assert sum(s > score_to_beat(scores, 0.01) for s in scores) == 3
    assert sum(s > score_to_beat([1.0] * 300, 0.01) for s in [1.0] * 300) == 0  # ties: none
    assert score_to_beat([5.0], 1.0) == -inf


def test_at_one_percent_false_accepts_only_scores_above_the_unknown_ones_count() -> None:
    unknown = [answer("unknown clean 5 s", i, score=10.0 + i, sure=i > 97) for i in range(100)]
    known = [
        answer(score=200.0),
        answer(score=108.5),  # above all but the one unknown that may pass
        answer(score=108.0),
        answer(score=300.0, track="b.ogg"),
    ]
    measured = rows("peer", *unknown, *known)
    assert (measured.right_at_1_percent.hits, measured.right_at_1_percent.total) == (2, 4)
    assert (measured.unknown_answered.hits, measured.unknown_answered.total) == (2, 100)
    assert measured.top1(CONDITIONS[0]).hits == 3


def test_without_unknown_queries_nothing_is_said_of_false_accepts() -> None:
    measured = rows("peer", answer())
    assert measured.right_at_1_percent.total == measured.unknown_answered.total == 0


def test_answers_are_read_back_except_for_a_truncated_line(tmp_path: Path) -> None:
    full, empty = answer(snr_db=3.5), answer(number=1, track="", score=-inf, sure=False)
    path = tmp_path / "answers.jsonl"
    path.write_text(write(full) + write(empty) + write(full)[:40])
    first, second = read(path)
    assert first == full
    assert isnan(second.snr_db)
    assert replace(second, snr_db=0.0) == replace(empty, snr_db=0.0)


def test_the_row_of_fingerprint_is_read_from_an_evaluation(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    figures = {
        "split": "test",
        "seed": 0,
        "min_confidence": 0.9,
        "model_id": "0123456789abcdef",
        "library": {"hours": 2.0},
    }
    (tmp_path / "results.json").write_text(json.dumps(figures))
    outcome = {
        "condition": "clean 5 s",
        "number": 0,
        "snr_db": None,
        "truth_path": f"{root}/a.ogg",
        "path": f"{root}/a.ogg",
        "confidence": 0.8,
        "seconds": 0.1,
    }
    silent = outcome | {"number": 1, "path": "", "confidence": 0.0}
    lines = "".join(json.dumps(o) + "\n" for o in (outcome, silent))
    (tmp_path / "outcomes.jsonl").write_text(lines)
    own = read_evaluation(tmp_path, root, split="test", seed=0)
    assert [(a.right, a.sure, a.score) for a in own.answers] == [
        (True, False, 0.8),
        (False, False, -inf),
    ]
    with pytest.raises(ConfigError, match="fingerprint evaluate --split validation"):
        read_evaluation(tmp_path, root, split="validation", seed=0)
    with pytest.raises(ConfigError, match="no evaluation in"):
        read_evaluation(tmp_path / "elsewhere", root, split="test", seed=0)


def test_systems_with_different_queries_are_not_compared() -> None:
    ours = rows("fingerprint", answer(), answer(number=1))
    check_same_queries([ours, rows("peer", *ours.answers)])
    with pytest.raises(ConfigError, match="query 2 of clean 5 s"):
        check_same_queries([ours, rows("peer", *ours.answers, answer(number=2))])
    with pytest.raises(ConfigError, match="different queries"):
        check_same_queries([ours, rows("peer", answer(truth="b.ogg"), answer(number=1))])


# The table and the curves


def comparison() -> Comparison:
    noisy = [answer("noise 5 s", i, snr_db=float(i), sure=i > 2) for i in range(4)]
    unknown = answer("unknown noise 5 s", track="b.ogg", score=0.5)
    ours = rows("fingerprint", *noisy, unknown)
    wrong = [replace(a, track="b.ogg") for a in noisy[:3]]
    peer = replace(rows("peer", *wrong, noisy[3], unknown), speed=123.4, megabytes=1.5)
    conditions = select(["noise 5 s", "unknown noise 5 s"])
    return Comparison([ours, peer], conditions, "test", 0, 4, tracks=2, hours=0.5)


def test_the_table_has_a_row_a_system_and_a_row_a_condition() -> None:
    lines = markdown(comparison()).splitlines()
    assert "| system | noise 5 s | right at 1 % false accepts | unknown answered |" in lines
    assert "| fingerprint | 100 | 100 | 100 |" in lines
    assert "| peer | 25 | 25 | 100 |" in lines
    assert "| noise 5 s | 100.0 (51.0-100.0) | 25.0 (4.6-69.9) |" in lines
    assert "| peer | 1.0 | its own | 123 | 1.50 | 100 |" in lines


def test_the_figures_are_saved_as_a_table_a_picture_and_numbers(tmp_path: Path) -> None:
    assert save(comparison(), tmp_path).read_text() == markdown(comparison())
    assert (tmp_path / "peers.png").read_bytes()[:4] == b"\x89PNG"
    figures = json.loads((tmp_path / "peers.json").read_text())
    assert figures["systems"][1]["top1"]["noise 5 s"]["hits"] == 1


def test_curves_take_a_point_a_length_and_a_point_a_ratio() -> None:
    conditions = select(["phone", "phone at -5 dB", "phone at -10 dB"])
    lengths = over_length([c for c in conditions if c.family == "phone"])
    assert [x for x, _ in lengths] == [2, 3, 5, 10]
    ratios = over_snr(conditions)
    assert [x for x, _ in ratios] == [-10, -5, 1, 3, 5, 7, 9]
    counts = dict(ratios)
    assert counts[3](answer("phone 5 s", snr_db=3.9))
    assert not counts[3](answer("phone 5 s", snr_db=4.1))
    assert not counts[3](answer("phone 2 s", snr_db=3.0))  # too short to be taken together
    assert counts[-5](answer("phone at -5 dB 10 s", snr_db=-5.0))
