"""Recognition without the training stack: what it imports, and that the slim install does it."""

import json
import os
import subprocess
import sys
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fingerprint.errors import ModelError
from fingerprint.model.checkpoint import read_checkpoint
from fingerprint.model.fingerprinter import DEFAULT_WEIGHTS, Fingerprinter
from fingerprint.model.onnx_network import OnnxNetwork, digest_of
from fingerprint.model.torch_network import TorchNetwork
from fingerprint.types import Clip, Floats

PROJECT = Path(__file__).parents[1]
TRAINING_STACK = {"torch", "torchaudio", "librosa"}
WITHOUT = f"""
import sys
for name in {sorted(TRAINING_STACK | {"scipy", "sklearn", "onnx"})}:
    sys.modules[name] = None  # importing it fails
from fingerprint.cli import main
main()
"""


def names_in(lines: list[str]) -> set[str]:
    """Requirements without comments."""
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def run(command: list[str | Path], home: Path) -> str:
    environment = os.environ | {"FINGERPRINT_LIBRARY": str(home / "library")}
    done = subprocess.run(  # noqa: PLW1510, its output is judged
        command, capture_output=True, text=True, env=environment, cwd=home
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def names_the_song(python: list[str | Path], folder: Path, home: Path) -> None:
    song = folder / "song1.flac"
    report = run([*python, "index", folder, "--jobs", "1"], home)
    assert "Indexed 6 tracks" in report
    answer = json.loads(run([*python, "identify", "--json", song], home))
    assert [match["path"] for match in answer["matches"]] == [str(song)]


def test_indexing_and_identifying_import_nothing_of_the_training_stack(
    music_folder: Path, tmp_path: Path
) -> None:
    names_the_song([sys.executable, "-c", WITHOUT], music_folder, tmp_path)


@pytest.mark.slow
def test_the_slim_install_indexes_and_identifies(music_folder: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    run([*pip, "-r", PROJECT / "requirements-slim.txt"], tmp_path)
    run([*pip, "--no-deps", PROJECT], tmp_path)
    names_the_song([tmp_path / "env" / "bin" / "fingerprint"], music_folder, tmp_path)
    size = int(run(["du", "-sm", tmp_path / "env"], tmp_path).split()[0])
    assert size < 300


def test_the_slim_requirements_are_the_package_s_without_the_training_stack() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    slim = names_in((PROJECT / "requirements-slim.txt").read_text().splitlines())
    whole = set(project["dependencies"])
    assert slim < whole
    assert {name.split(">")[0] for name in whole - slim} == TRAINING_STACK


def test_shipped_checkpoint_and_onnx_export_are_the_same_model(song: Callable[..., Floats]) -> None:
    export = DEFAULT_WEIGHTS.with_suffix(".onnx")
    assert export.stat().st_size <= 10_000_000
    checkpoint = read_checkpoint(DEFAULT_WEIGHTS)
    twin = OnnxNetwork.load(export, threads=1)
    remedy = "run `fingerprint export --int8 fingerprint/model/weights/default.onnx`"
    assert twin.source == digest_of(DEFAULT_WEIGHTS), remedy
    assert twin.about.id == checkpoint.id
    assert twin.about.config == checkpoint.config
    assert twin.about.calibration == checkpoint.calibration
    on_torch = Fingerprinter(TorchNetwork(checkpoint, "cpu"))
    clip = Clip(song(3, 20.0), on_torch.sample_rate)
    mine, theirs = Fingerprinter(twin), on_torch
    for one, other in (
        (mine.embed(clip), theirs.embed(clip)),
        (mine.embed_query(clip), theirs.embed_query(clip)),
    ):
        assert np.sum(one.vectors * other.vectors, axis=1).min() > 0.99  # in eight bits


def test_on_a_cpu_the_onnx_export_is_loaded_only_if_it_was_made_from_the_checkpoint(
    tmp_path: Path,
) -> None:
    checkpoint, export = tmp_path / "m.pt", tmp_path / "m.onnx"
    checkpoint.write_bytes(DEFAULT_WEIGHTS.read_bytes())
    assert isinstance(Fingerprinter.load(checkpoint, "cpu").network, TorchNetwork)
    export.write_bytes(DEFAULT_WEIGHTS.with_suffix(".onnx").read_bytes())
    assert isinstance(Fingerprinter.load(checkpoint, "cpu").network, OnnxNetwork)
    TorchNetwork.create(read_checkpoint(checkpoint).config, seed=1).save(checkpoint)
    assert isinstance(Fingerprinter.load(checkpoint, "cpu").network, TorchNetwork)


def test_invalid_export_is_a_one_line_error(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(ModelError, match=r"cannot read the model .*m\.onnx: No such file"):
        Fingerprinter.load(path)
    path.write_bytes(DEFAULT_WEIGHTS.with_suffix(".onnx").read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"cannot use the model .*m\.onnx: it is damaged or not"):
        Fingerprinter.load(path)
