"""The wheel, away from the checkout: every command works, or says in one line what it needs.

FINGERPRINT_TEST_WHEEL=here pytest -m wheel     # beside this environment's packages, a minute
FINGERPRINT_TEST_WHEEL=empty pytest -m wheel    # in an empty environment, with what pip installs
"""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from corpus_packages import ROOMS

PROJECT = Path(__file__).parents[1]
HOW = os.environ.get("FINGERPRINT_TEST_WHEEL")
pytestmark = [
    pytest.mark.wheel,
    pytest.mark.skipif(HOW not in ("here", "empty"), reason="FINGERPRINT_TEST_WHEEL is not set"),
]
CONFIG = """
steps: 1
batch: 2
validate_every: 1
learning_rate_warm_up: 1
model: {embedder: {stem: 8, widths: [8, 16, 16]}}
"""
HELP = """
import click, fingerprint, json, sys
from click.testing import CliRunner
from fingerprint.cli import main as product
from fingerprint.lab.__main__ import main as lab
texts = {"": fingerprint.__file__}
for group in (product, lab):
    for name in group.list_commands(click.Context(group)):
        done = CliRunner().invoke(group, [name, "--help"])
        known = done.exit_code == 0 or "pip install" in done.output
        texts[name] = done.output if known else f"FAILED {done.output} {done.exception!r}"
print(json.dumps(texts))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """A Python with the wheel, and the environment variables that it needs."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(
        PROJECT / "fingerprint", source / "fingerprint", ignore=shutil.ignore_patterns("*.pyc")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", source, "-w", folder], check=True)
    (wheel,) = folder.glob("*.whl")
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {"FINGERPRINT_LIBRARY": str(folder / "library")}
    if HOW == "empty":
        venv.create(folder / "env", with_pip=True)
        python = str(folder / "env" / "bin" / "python")
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", f"{wheel}[train]"], check=True)
        return [python, "-P"], variables
    site = folder / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True)
    return [sys.executable, "-P"], variables | {"PYTHONPATH": str(site)}


@pytest.fixture
def run(installed: tuple[list[str], dict[str, str]], tmp_path: Path):  # type: ignore[no-untyped-def]
    python, variables = installed

    def call(*arguments: object, module: str = "fingerprint", status: int = 0) -> str:
        command = [*python, "-m", module, *map(str, arguments)]
        done = subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        if status:
            assert done.stderr.count("\n") == 1, done.stderr
            assert done.stderr.startswith("Error: ")
        return done.stdout + done.stderr

    return call


def test_every_command_has_help_that_names_no_file_that_the_wheel_lacks(
    installed: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    python, variables = installed
    done = subprocess.run(
        [*python, "-c", HELP],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    texts = json.loads(done.stdout)
    site = Path(texts.pop("")).parents[1]
    assert PROJECT not in (site, *site.parents)
    assert {"identify", "train", "snippet", "torture"} <= set(texts)
    for name, text in texts.items():
        assert not text.startswith("FAILED"), (name, text)
        if "--publish" not in text:  # which writes into a checkout
            assert not re.search(r"\b(docs|configs|scripts)/", text), (name, text)
        for path in re.findall(r"fingerprint/[\w/]+\.\w+", "".join(text.split())):
            assert (site / path).is_file(), (name, path)


def test_music_is_indexed_identified_and_scanned(run, music_folder: Path) -> None:
    assert "Indexed 6 tracks" in run("index", music_folder, "--jobs", "1")
    answer = json.loads(run("identify", "--json", music_folder / "song1.flac"))
    assert answer["matches"][0]["path"] == str(music_folder / "song1.flac")
    assert "song2" in run("scan", music_folder / "song2.ogg")


def test_a_model_is_trained_on_a_folder_of_music(run, music_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(CONFIG)
    (tmp_path / "rooms.yaml").write_text(
        ROOMS.replace("music: {}", "shortest_music: 5.0\nmusic: {}")
    )
    run(
        "corpus", "--music", music_folder, "--root", "mine", "--config", "rooms.yaml",
        module="fingerprint.lab",
    )  # fmt: skip
    out = run("train", "own.yaml", "--corpus", "mine", "--output", "run", "--device", "cpu")
    assert "Trained model: run/model.pt" in out
    assert "dim" in run("info", "model", "--model", "run/model.pt", "--json")
    out = run("evaluate", "--corpus", "mine", "--queries", "1", "--condition", "clean 2 s")
    assert "| clean 2 s | 1 | 100.0" in out


def test_missing_music_and_configuration_are_one_line_errors(run, tmp_path: Path) -> None:
    assert "--music" in run("train", status=1)
    assert "--music" in run("evaluate", status=1)
    assert "nowhere.yaml" in run("train", "nowhere.yaml", status=1)
