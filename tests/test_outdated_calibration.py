"""A model that was calibrated on other features is used, with one warning."""

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import fingerprint as fp
from fingerprint.cli import main
from fingerprint.config import EmbedderConfig, ModelConfig
from fingerprint.lab.__main__ import main as lab
from fingerprint.lab.commands import profiles
from fingerprint.model.checkpoint import write_checkpoint
from fingerprint.model.torch_network import TorchNetwork
from fingerprint.recognition.confidence import Calibration

SMALL = ModelConfig(embedder=EmbedderConfig(stem=8, widths=(8, 16, 16), depth=1, dim=32))
OLD = '{"intercept": -11.6, "weights": [11.6, 32.1, 0.5, 2.2]}'  # of four features
WORDS = (
    "was calibrated by another version, and its confidences are rough until it is calibrated "
    "again: fingerprint calibrate"
)


@pytest.fixture
def outdated(tmp_path: Path) -> Path:
    """A checkpoint with a calibration of other features."""
    path = tmp_path / "old.pt"
    made = TorchNetwork.create(SMALL).checkpoint
    write_checkpoint(replace(made, calibration=Calibration.model_validate_json(OLD)), path)
    return path


def test_loading_warns_with_the_file_and_the_remedy(outdated: Path) -> None:
    with pytest.warns(fp.CalibrationWarning) as seen:
        model = fp.Fingerprinter.load(outdated, "cpu")
    assert [str(one.message) for one in seen] == [f"{outdated} {WORDS}"]
    assert seen[0].filename == __file__  # the place that loads
    assert model.calibration == Calibration(outdated=True)


def test_a_copy_of_an_outdated_model_is_outdated_too(outdated: Path, tmp_path: Path) -> None:
    fp.Fingerprinter.load(outdated, "cpu", warn=False).save(tmp_path / "copy.pt")
    with pytest.warns(fp.CalibrationWarning, match=r"copy\.pt was calibrated by another version"):
        fp.Fingerprinter.load(tmp_path / "copy.pt", "cpu")


def test_a_model_calibrated_anew_is_loaded_without_a_warning(tmp_path: Path) -> None:
    made = TorchNetwork.create(SMALL).checkpoint
    write_checkpoint(replace(made, calibration=Calibration(intercept=-3.0)), tmp_path / "new.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fp.Fingerprinter.load(tmp_path / "new.pt", "cpu")
        fp.Fingerprinter.default("cpu")


def test_commands_show_it_once_as_a_line(outdated: Path, music_folder: Path) -> None:
    library = str(outdated.parent / "library")
    given = ["--library", library, "--model", str(outdated)]
    song = str(music_folder / "song0.wav")
    for arguments in (["index", song, "--jobs", "1"], ["identify", song], ["doctor"]):
        done = CliRunner().invoke(main, [*arguments, *given])  # `doctor` loads the model twice
        lines = [line for line in done.stderr.splitlines() if "calibrated" in line]
        assert lines == [f"Warning: {outdated} {WORDS}"], done.output


@pytest.mark.parametrize("option", [["-W", "error"], ["-W", "ignore"], []])
def test_a_command_shows_nothing_else_whatever_python_does_with_warnings(
    outdated: Path, option: list[str]
) -> None:
    command = [sys.executable, *option, "-m", "fingerprint", "info", "model", "--model", outdated]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, f"Warning: {outdated} {WORDS}\n")


def test_commands_of_the_lab_show_it_too(outdated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        fp.Fingerprinter.load(outdated, "cpu")

    monkeypatch.setattr(profiles.main, "callback", lambda **_options: load())
    done = CliRunner().invoke(lab, ["profiles", "--corpus", str(outdated.parent)])
    assert (done.exit_code, done.stderr) == (0, f"Warning: {outdated} {WORDS}\n")


def test_other_warnings_of_a_command_are_left_to_python(monkeypatch: pytest.MonkeyPatch) -> None:
    context = main.make_context("fingerprint", ["list"])
    command = main.get_command(context, "list")
    assert command is not None
    monkeypatch.setattr(command, "callback", lambda **_options: warnings.warn("odd", stacklevel=1))
    with pytest.warns(UserWarning, match="odd"):
        done = CliRunner().invoke(main, ["list"])
    assert "Warning:" not in done.stderr
