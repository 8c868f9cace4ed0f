"""`fingerprint train` and `fingerprint evaluate` on a corpus small enough to run in seconds."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from corpus_packages import ROOMS
from corpus_world import make_corpus, one_room

from fingerprint.cli import main
from fingerprint.lab.__main__ import main as lab
from fingerprint.lab.benchmark.conditions import CONDITIONS
from fingerprint.lab.calibration import cases
from fingerprint.lab.calibration.cases import Case
from fingerprint.lab.corpus.manifest import Corpus
from fingerprint.lab.training import validation
from fingerprint.model.checkpoint import read_checkpoint, write_checkpoint
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.recognition.confidence import Calibration
from fingerprint.types import Circumstances, Evidence, Level

MUSIC = ["train"] * 4 + ["validation"] * 5 + ["test", "test", "test-unknown"]
SOUNDS = [("sounds-train", "speech"), ("sounds-train", "effect")]
SOUNDS += [("sounds-test", "speech"), ("sounds-test", "effect")]
RESPONSES = [(f"responses-{s}", k) for s in ("train", "test") for k in ("room", "device")]
RATE = 8_000  # Hz
CONFIG = """
steps: 2
batch: 4
validate_every: 1
learning_rate_warm_up: 1
model: {embedder: {stem: 8, widths: [8, 16, 16]}}
"""


@pytest.fixture(scope="module", autouse=True)
def _few_validation_queries():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "ROUNDS", 2)
        yield


@pytest.fixture(scope="module")
def corpus(song, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("corpus")
    impulse = np.zeros(800, np.float32)
    impulse[5] = 0.9
    sounds = [(role, "music", song(seed, 15, RATE)) for seed, role in enumerate(MUSIC)]
    sounds += [(r, k, song(100 + seed, 4, RATE)) for seed, (r, k) in enumerate(SOUNDS)]
    sounds += [(role, kind, impulse) for role, kind in RESPONSES]
    room = one_room(seed=0, reverberation=(0.3, 0.31))
    named = {str(number): sound for number, sound in enumerate(sounds)}
    return make_corpus(root, named, RATE, train=room, test=room).root


@pytest.fixture(scope="module")
def run_folder(corpus, tmp_path_factory) -> Path:
    """A training run of two steps, made by the command."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "tiny.yaml").write_text(CONFIG)
    result = run(train_arguments(folder, corpus))
    assert result.exit_code == 0, result.output
    assert result.stdout == f"Trained model: {folder / 'run' / 'model.pt'}\n"
    shown = result.stderr.splitlines()
    assert [line.split("  ")[0] for line in shown] == ["step 1/2", "step 2/2"]
    assert all("loss" in line and "validation" in line for line in shown)
    return folder


def run(arguments: list[str]):
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def train_arguments(folder: Path, corpus: Path) -> list[str]:
    return [
        "train", str(folder / "tiny.yaml"), "--corpus", str(corpus),
        "--output", str(folder / "run"), "--device", "cpu",
    ]  # fmt: skip


def test_train_leaves_a_model_that_loads(run_folder):
    assert Fingerprinter.load(run_folder / "run" / "model.pt", "cpu").dim == 128


def test_a_finished_run_is_not_trained_again(run_folder, corpus):
    before = (run_folder / "run" / "model.pt").read_bytes()
    result = run(train_arguments(run_folder, corpus))
    assert result.exit_code == 0
    assert result.stderr == ""
    assert (run_folder / "run" / "model.pt").read_bytes() == before


def test_a_new_calibration_replaces_an_outdated_one_without_a_warning(run_folder, corpus, tmp_path):
    trained, model = read_checkpoint(run_folder / "run" / "model.pt"), tmp_path / "model.pt"
    write_checkpoint(
        replace(trained, calibration=Calibration(outdated=True), background=b"made"), model
    )
    here = Circumstances(5.0, Level(0.05, 0.07), 250_000)
    scores = np.random.default_rng(0).normal(0.5, 0.1, 200)
    found = [
        Case("noise", n, 5.0, known=bool(n % 2), tracks=5, evidence=Evidence(score, 0.1, here),
             right=bool(n % 2))
        for n, score in enumerate(scores + 0.2 * (np.arange(200) % 2))
    ]  # fmt: skip
    cases.save(found, tmp_path / "runs" / f"cases-{trained.id[:12]}.jsonl")
    done = run([
        "calibrate", str(model), "--refit", "--corpus", str(corpus), "--output",
        str(tmp_path / "runs"), "--device", "cpu",
    ])  # fmt: skip
    assert (done.exit_code, done.stderr) == (0, "")
    assert Fingerprinter.load(model, "cpu").calibration.outdated is False


RECIPE = """
stages:
  one: {stage}
  two: {start: one/model.pt, seed: 1}
"""


def test_the_stages_of_a_recipe_are_trained_in_one_folder(corpus, tmp_path):
    stage = yaml.safe_load(CONFIG)
    text = RECIPE.replace("{stage}", json.dumps(stage | {"steps": 1}))
    (tmp_path / "recipe.yaml").write_text(text)
    output = tmp_path / "run"
    arguments = [
        "train", str(tmp_path / "recipe.yaml"), "--corpus", str(corpus),
        "--output", str(output), "--device", "cpu",
    ]  # fmt: skip
    only = run([*arguments, "--stage", "one"])
    assert only.stdout == f"Trained model: {output / 'one' / 'model.pt'}\n"
    assert not (output / "two").exists()
    rest = run(arguments)
    assert rest.stdout == f"Trained model: {output / 'two' / 'model.pt'}\n"
    assert [line.split("  ")[0] for line in rest.stderr.splitlines()] == ["step 1/1"]
    one, two = (read_checkpoint(output / name / "model.pt").weights for name in ("one", "two"))
    name = next(name for name in two if name.endswith("weight"))
    assert torch.allclose(one[name].float(), two[name].float(), atol=0.1)  # two starts from one
    assert not torch.equal(one[name], two[name])
    before = (output / "two" / "model.pt").read_bytes()
    assert run(arguments).stderr == ""
    assert (output / "two" / "model.pt").read_bytes() == before


def test_missing_music_of_a_later_stage_is_reported_before_the_first_stage_is_trained(
    corpus, tmp_path
):
    stages = yaml.safe_load(RECIPE.replace("{stage}", json.dumps(yaml.safe_load(CONFIG))))
    stages["stages"]["two"]["music"] = ["train", "rendered"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(stages, sort_keys=False))
    output = tmp_path / "run"
    result = run(
        ["train", str(tmp_path / "recipe.yaml"), "--corpus", str(corpus), "--output", str(output)]
    )
    assert result.exit_code == 1
    assert "has no files for rendered; run: " in result.stderr
    assert not output.exists()


def test_a_folder_of_music_is_a_corpus_to_train_and_evaluate_on(song, write_audio, tmp_path):
    pytest.importorskip("pyroomacoustics")
    music, corpus = tmp_path / "music", tmp_path / "corpus"
    (music / "album").mkdir(parents=True)
    for seed in range(4):
        write_audio(music / "album" / f"song{seed}.wav", song(seed, 21, RATE), RATE)
    write_audio(music / "again.wav", song(1, 21, RATE), RATE)
    write_audio(music / "short.wav", song(9, 3, RATE), RATE)
    (music / "broken.wav").write_bytes(b"no audio")
    (tmp_path / "rooms.yaml").write_text(ROOMS)
    arguments = ["--root", str(corpus), "--config", str(tmp_path / "rooms.yaml"), "--jobs", "1"]
    made = CliRunner().invoke(lab, ["corpus", "--music", str(music), *arguments])
    assert made.exit_code == 0, made.output
    files = Corpus.open(corpus).files
    assert sorted(file.role for file in files) == ["test", "train", "train", "validation"]
    assert all(file.path.is_file() and file.path.is_relative_to(music) for file in files)
    (tmp_path / "own.yaml").write_text(CONFIG.replace("steps: 2\nbatch: 4", "steps: 1\nbatch: 2"))
    trained = run(
        ["train", str(tmp_path / "own.yaml"), "--corpus", str(corpus),
         "--output", str(tmp_path / "run"), "--device", "cpu"]
    )  # fmt: skip
    assert trained.exit_code == 0, trained.output
    assert (tmp_path / "run" / "model.pt").is_file()
    evaluated = run(
        ["evaluate", "--corpus", str(corpus), "--output", str(tmp_path / "evaluation"),
         "--queries", "1", "--jobs", "1", "--condition", "clean 5 s",
         "--condition", "unknown clean"]
    )  # fmt: skip
    assert evaluated.exit_code == 0, evaluated.output
    assert "| clean 5 s | 1 | 100.0" in evaluated.stdout
    assert "does not suffice for: unknown clean 5 s, unknown clean 10 s." in evaluated.stdout


def test_too_little_own_music_is_a_one_line_error(song, write_audio, tmp_path):
    (tmp_path / "music").mkdir()
    write_audio(tmp_path / "music" / "song.wav", song(0, 21, RATE), RATE)
    made = CliRunner().invoke(
        lab, ["corpus", "--music", str(tmp_path / "music"), "--root", str(tmp_path / "corpus")]
    )
    assert made.exit_code == 1
    assert "1 of 1 recordings can be used" in made.stderr


def test_unknown_stage_is_a_one_line_error(run_folder, corpus):
    result = run([*train_arguments(run_folder, corpus), "--stage", "eighth"])
    assert result.exit_code == 1
    assert "eighth" in result.stderr
    assert result.stderr.count("\n") == 1


def test_training_without_a_corpus_is_one_line_and_makes_no_run(run_folder, tmp_path):
    result = run(
        ["train", str(run_folder / "tiny.yaml"), "--corpus", str(tmp_path / "none"),
         "--output", str(tmp_path / "run")],
    )  # fmt: skip
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_evaluate_prints_and_saves_a_table_of_every_condition(corpus, tmp_path):
    arguments = [  # with the shipped model, which is sure of most answers, and so is quick
        "evaluate", "--corpus", str(corpus), "--output", str(tmp_path / "out"),
        "--queries", "1", "--jobs", "1", "--seed", "3",
    ]  # fmt: skip
    result = run(arguments)
    assert result.exit_code == 0, result.output
    for condition in CONDITIONS:
        assert f"| {condition.name} |" in result.stdout
    assert result.stdout.endswith(f"Report: {tmp_path / 'out' / 'report.html'}\n")
    assert (tmp_path / "out" / "report.html").exists()
    saved = json.loads((tmp_path / "out" / "results.json").read_text())
    named = ("clean 5 s", "noise 10 s", "phone 5 s", "unknown phone 10 s")
    again = run([*arguments, "--json", *(f"--condition={name}" for name in named)])
    printed = json.loads(again.stdout)
    assert printed["seed"] == 3
    first = {c["condition"]: c["top1"] for c in saved["conditions"]}
    assert {c["condition"]: c["top1"] for c in printed["conditions"]} == {
        name: first[name] for name in named
    }


def test_evaluate_measures_the_conditions_that_are_named(run_folder, corpus, tmp_path):
    arguments = [
        "evaluate", "--corpus", str(corpus), "--model", str(run_folder / "run" / "model.pt"),
        "--output", str(tmp_path / "out"), "--queries", "1", "--jobs", "1", "--json",
    ]  # fmt: skip
    result = run([*arguments, "--condition", "clean", "--condition", "noise 2 s"])
    names = [c["condition"] for c in json.loads(result.stdout)["conditions"]]
    assert names == ["clean 2 s", "clean 5 s", "noise 2 s"]
    strange = run([*arguments, "--condition", "nois"])
    assert strange.exit_code == 1
    assert strange.stderr.startswith("Error: no condition is called 'nois'")


def test_other_processes_of_torchrun_print_nothing(run_folder, corpus):
    done = subprocess.run(
        [sys.executable, "-m", "fingerprint", *train_arguments(run_folder, corpus)],
        env={**os.environ, "RANK": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("", "")
