"""`fingerprint doctor` says what works and what fixes the rest."""

import json
import os
import shlex
import socket
import sqlite3
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result
from privileges import heeding_permissions

from fingerprint.cli import main
from fingerprint.cli.doctor import PORT


def run(library: Path | str, *options: str) -> Result:
    return CliRunner().invoke(main, ["doctor", "--library", str(library), *options])


def found(library: Path | str, *options: str) -> dict[str, dict[str, str]]:
    lines = run(library, "--json", *options).stdout.splitlines()
    return {one["what"]: one for one in map(json.loads, lines)}


def repaired(command: str) -> None:
    """Run a command that the doctor names."""
    words = shlex.split(command)
    assert words[0] == "fingerprint"
    assert CliRunner().invoke(main, words[1:]).exit_code == 0


@pytest.fixture
def library(music_folder: Path, tmp_path: Path) -> Path:
    song, folder = str(music_folder / "song0.wav"), tmp_path / "library"
    indexed = CliRunner().invoke(main, ["index", song, "--library", str(folder), "--jobs", "1"])
    assert indexed.exit_code == 0
    return folder


@pytest.mark.parametrize("empty", [True, False])
def test_missing_library_is_not_a_fault(tmp_path: Path, music_folder: Path, empty: bool) -> None:
    folder = tmp_path / "my library"
    if empty:
        folder.mkdir()
    assert run(folder).exit_code == 0
    about = found(folder)
    assert about["model"]["state"] == "ok"
    assert about["library"]["state"] == "missing"
    repaired(about["library"]["fix"].replace("FOLDER", str(music_folder / "song0.wav")))
    assert found(folder)["library"]["state"] == "ok"


def test_a_damaged_segment_is_repaired(library: Path) -> None:
    next((library / "segments").glob("*.npy")).write_bytes(b"no rows")
    assert run(library).exit_code == 1
    about = found(library)["library"]
    assert about["state"] == "broken"
    repaired(about["fix"])
    assert found(library)["library"]["state"] == "ok"


@pytest.mark.parametrize("fault", ["catalog", "model", "no library"])
def test_doctor_advises_a_new_library_where_verify_cannot_repair(library: Path, fault: str) -> None:
    catalog = library / "catalog.db"
    if fault == "model":
        with sqlite3.connect(catalog) as opened:
            opened.execute("UPDATE meta SET value = 'another' WHERE key = 'model'")
        opened.close()
    elif fault == "catalog":
        catalog.write_bytes(b"no catalog")
    else:
        catalog.unlink()
    about = found(library)["library"]
    assert about["state"] == "broken"
    assert about["fix"] == "fingerprint index --library ANOTHER FOLDER"


def test_missing_permissions_are_named_with_the_command_that_grants_them(library: Path) -> None:
    try:
        library.chmod(0o500)
        with heeding_permissions():
            about = found(library)["library"]
            assert (about["state"], "but not change" in about["says"]) == ("missing", True)
            inner = found(library / "new")["library"]
        library.chmod(0o300)
        with heeding_permissions():
            unreadable = found(library)["library"]
    finally:
        library.chmod(0o700)
    for one, folder in ((about, library), (inner, library / "new"), (unreadable, library)):
        assert f'chown -R "$(id -un)" {shlex.quote(str(folder))}' in one["fix"]
    assert (inner["state"], unreadable["state"]) == ("broken", "broken")


def test_unreachable_server_is_a_one_line_finding() -> None:
    about = found("http://127.0.0.1:1")["library"]
    assert about["state"] == "broken"
    assert about["fix"] == "on its machine: fingerprint doctor"
    assert about["mend"] == about["fix"]  # its name until the next version


def test_another_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    about = found(tmp_path / "none", "--model", str(tmp_path / "model.onnx"))["model"]
    assert about["state"] == "broken"
    assert "--model" in about["fix"]


def test_a_busy_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind(("127.0.0.1", PORT))
            holder.listen()
        except OSError:
            pytest.skip(f"another program has port {PORT}")
        assert found(tmp_path / "none")["port"]["fix"] == "fingerprint serve --port 0"


def test_decoders_that_are_not_installed_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    about = found(tmp_path / "none")["decoders"]
    assert (about["state"], about["fix"]) == ("missing", "pip install 'fingerprint[ffmpeg]'")


class PortAudioError(Exception):
    """As sounddevice raises it."""


@pytest.mark.parametrize("fault", ["not installed", "fails", "none"])
def test_microphones_that_are_missing_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    stand_in = ModuleType("sounddevice")

    def query_devices() -> list[dict[str, object]]:
        if fault == "fails":
            raise PortAudioError("no host API")
        return [{"name": "speaker", "max_input_channels": 0}]

    vars(stand_in).update(PortAudioError=PortAudioError, query_devices=query_devices)
    monkeypatch.setitem(sys.modules, "sounddevice", None if fault == "not installed" else stand_in)
    about = found(tmp_path / "none")["microphone"]
    assert about["state"] == "missing"
    assert ("fingerprint[microphone]" in about["fix"]) == (fault == "not installed")
    assert ("fingerprint serve" in about["fix"]) == (fault != "not installed")
    assert os.linesep not in about["says"]
