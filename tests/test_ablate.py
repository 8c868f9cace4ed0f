"""The table of experiments, from runs as `fingerprint train` leaves them."""

import json
from pathlib import Path

import pytest

from fingerprint.lab.commands import ablate


def leave_run(output: Path, name: str, step: int, hit_rate: float | None) -> None:
    line = {"step": step, "steps": 200} | ({"validation": hit_rate} if hit_rate else {})
    (output / name).mkdir()
    (output / name / "metrics.jsonl").write_text(json.dumps(line) + "\n")


def test_the_table_has_mean_spread_and_difference_of_finished_runs(tmp_path: Path) -> None:
    leave_run(tmp_path, "base-0", 200, 0.5)
    leave_run(tmp_path, "base-1", 200, 0.6)
    leave_run(tmp_path, "dim-64-0", 200, 0.45)
    leave_run(tmp_path, "dim-64-1", 120, None)  # was stopped
    rows = [ablate.row_of(name, tmp_path) for name in ("base", "dim-64")]
    lines = ablate.markdown(rows).splitlines()
    assert lines[2] == "| base | a small network, a short run | 55.0 | 7.1 |  | 2 |"
    assert lines[3] == "| dim-64 | 64 dimensions (base: 128). | 45.0 |  | -10.0 | 1 |"
    assert ablate.finished(tmp_path, "base", 1)
    assert not ablate.finished(tmp_path, "dim-64", 1)
    ablate.plot(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1_000


def test_experiments_with_a_common_name_prefix_are_kept_apart(tmp_path: Path) -> None:
    leave_run(tmp_path, "windows-1-0", 200, 0.3)
    leave_run(tmp_path, "windows-1-extra-0", 200, 0.9)
    assert ablate.row_of("windows-1", tmp_path).hit_rates == (0.3,)


def test_experiments_are_selected_by_name_prefix_and_the_base_comes_first() -> None:
    assert ablate.experiments(())[0] == "base"
    chosen = ablate.experiments(["mining"])
    assert chosen[0] == "base"
    assert len(chosen) > 3
    assert all(name.startswith("mining") for name in chosen[1:])


@pytest.mark.parametrize("name", ablate.experiments(()))
def test_every_experiment_has_a_comment_and_extends_the_base(name: str) -> None:
    lines = (ablate.FOLDER / f"{name}.yaml").read_text().splitlines()
    assert lines[0].startswith("# ")
    assert name == "base" or "base: base.yaml" in lines
