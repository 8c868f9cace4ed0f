"""scan, listen and explain on the command line, with the shipped model and real files."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fingerprint.cli import main
from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.types import Floats

RATE = 8_000


@pytest.fixture(scope="module")
def folder(music_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of the music folder's six songs."""
    made = tmp_path_factory.mktemp("library") / "library"
    with Library.create_or_open(made, Fingerprinter.default("cpu")) as library:
        index_files(library, sorted(music_folder.iterdir()))
    return made


Broadcast = Callable[[float], Path]


@pytest.fixture(scope="module")
def broadcast_of(
    song: Callable[..., Floats],
    write_audio: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Broadcast:
    """Song 0, an unknown one, song 3, of so many seconds each."""

    def made(seconds: float) -> Path:
        whole = np.concatenate([song(seed, seconds, RATE) for seed in (0, 50, 3)])
        return write_audio(tmp_path_factory.mktemp("sound") / "a broadcast.flac", whole, RATE)

    return made


@pytest.fixture(scope="module")
def broadcast(broadcast_of: Broadcast) -> Path:
    return broadcast_of(20.0)


@pytest.fixture(scope="module")
def short_broadcast(broadcast_of: Broadcast) -> Path:
    return broadcast_of(9.0)


def run(folder: Path, *arguments: object, stdin: bytes | None = None) -> Result:
    environment = {"FINGERPRINT_LIBRARY": str(folder), "FINGERPRINT_MODEL": None}
    return CliRunner().invoke(main, [str(a) for a in arguments], input=stdin, env=environment)


def test_a_scan_as_json_lines(folder: Path, broadcast: Path) -> None:
    result = run(folder, "scan", "--json", broadcast)
    assert result.exit_code == 0, result.output
    spans = [json.loads(line) for line in result.stdout.splitlines()]
    assert [list(span) for span in spans] == [["recording", "start", "end", "match"]] * 3
    assert [span["match"] and Path(span["match"]["path"]).stem for span in spans] == [
        "song0", None, "song3",
    ]  # fmt: skip
    for span, start in zip(spans, (0, 20, 40), strict=True):
        assert span["start"] == pytest.approx(start, abs=1.5)
        assert span["end"] == pytest.approx(start + 20, abs=1.5)
    assert spans[2]["match"]["offset"] == pytest.approx(spans[2]["start"] - 40, abs=0.1)


def test_a_scan_as_a_tracklist(folder: Path, short_broadcast: Path) -> None:
    lines = run(folder, "scan", "--format", "tracklist", short_broadcast).stdout.splitlines()
    times, names = zip(*(line.split(" ", 1) for line in lines), strict=True)
    assert names == ("song0.wav", "ID", "song3.mp3")
    assert times[0] == "00:00"
    assert all(len(time) == 5 for time in times)


def test_a_scan_in_every_other_format(folder: Path, short_broadcast: Path) -> None:
    table = run(folder, "scan", short_broadcast).stdout.splitlines()
    assert len(table) == 5
    assert "(unknown)" in table[3]
    rows = list(
        csv.DictReader(run(folder, "scan", "--format", "csv", short_broadcast).stdout.splitlines())
    )
    assert [Path(row["path"]).stem for row in rows] == ["song0", "", "song3"]
    cue = run(folder, "scan", "--format", "cue", short_broadcast).stdout
    assert cue.startswith('FILE "a broadcast.flac" WAVE')
    assert cue.count("INDEX 01") == 3
    labels = run(folder, "scan", "--format", "audacity", short_broadcast).stdout.splitlines()
    assert [len(label.split("\t")) for label in labels] == [3, 3, 3]


def test_a_file_that_cannot_be_read_does_not_stop_a_scan(
    folder: Path, short_broadcast: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.flac").write_bytes(b"fLaC" + bytes(100))
    result = run(folder, "scan", tmp_path / "broken.flac", short_broadcast)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "broken.flac" in result.stderr
    assert "song3" in result.stdout


def test_scan_of_unknown_music_ends_with_status_1(
    folder: Path, song: Callable[..., Floats], write_audio: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_audio(tmp_path / "unknown.wav", song(78, 12.0, RATE), RATE)
    result = run(folder, "scan", path)
    assert result.exit_code == 1
    assert "(unknown)" in result.stdout


def test_labels_of_several_files_are_wrong_usage(folder: Path, broadcast: Path) -> None:
    result = run(folder, "scan", "--format", "audacity", broadcast, broadcast)
    assert result.exit_code == 2
    assert "one FILE at a time" in result.stderr


def pcm(samples: Floats) -> bytes:
    return (samples * 32_767).astype("<i2").tobytes()


def test_listen_answers_once_and_ends(folder: Path, song: Callable[..., Floats]) -> None:
    sound = pcm(song(4, 20.0, RATE)[5 * RATE :])
    result = run(folder, "listen", "-", "--rate", RATE, "--json", stdin=sound)
    assert result.exit_code == 0, result.output
    (event,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert list(event) == ["event", "time", "at", "match"]
    assert event["event"] == "heard"
    assert event["at"] <= 5
    assert Path(event["match"]["path"]).stem == "song4"
    assert event["match"]["offset"] == pytest.approx(5 + event["at"], abs=0.2)  # of that moment


def test_listen_gives_up_on_unknown_music(folder: Path, song: Callable[..., Floats]) -> None:
    sound = pcm(song(60, 8.0, RATE))
    result = run(folder, "listen", "-", "--rate", RATE, "--patience", 4, stdin=sound)
    assert result.exit_code == 1
    assert result.stdout == "nothing known in 4 s\n"


def test_stereo_pipe_at_44_khz_is_logged_while_it_plays(
    folder: Path, song: Callable[..., Floats], tmp_path: Path
) -> None:
    """A real process at the end of a real pipe."""
    pytest.importorskip("soxr")
    rate = 44_100
    both = np.concatenate([song(1, 20.0, rate), song(2, 20.0, rate)])
    stereo = np.stack([both, both], axis=1)
    log = tmp_path / "radio.jsonl"
    command = [
        sys.executable, "-m", "fingerprint", "listen", "-", "--rate", str(rate), "--channels", "2",
        "--continuous", "--log", str(log), "--library", str(folder),
    ]  # fmt: skip
    done = subprocess.run(command, input=pcm(stereo), capture_output=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in log.read_text().splitlines()]
    told = [(event["event"], Path(event["match"]["path"]).stem) for event in events]
    assert [name for kind, name in told if kind == "heard"] == ["song1", "song2"]
    assert [name for kind, name in told if kind == "played"] == ["song1", "song2"]
    assert done.stdout.decode().count("\n") == len(events)


def test_two_sources_are_wrong_usage(folder: Path) -> None:
    result = run(folder, "listen", "-", "--url", "http://localhost/x")
    assert result.exit_code == 2
    assert "one source" in result.stderr


def test_unreachable_url_is_a_one_line_error_with_status_2(folder: Path) -> None:
    pytest.importorskip("av")
    result = run(folder, "listen", "--url", "http://127.0.0.1:9/none.ogg")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "http://127.0.0.1:9/none.ogg" in result.stderr


def test_explain_writes_the_page_it_names(
    folder: Path, song: Callable[..., Floats], write_audio: Callable[..., Path], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    query = write_audio(tmp_path / "q.wav", song(5, 20.0, RATE)[4 * RATE : 9 * RATE], RATE)
    page = tmp_path / "why.html"
    result = run(folder, "explain", query, "--output", page)
    assert result.exit_code == 0, result.output
    assert "song5" in result.stdout
    assert "song5" in page.read_text()
    missing = run(folder, "explain", tmp_path / "none.wav")
    assert missing.exit_code == 1
    assert missing.stderr.count("\n") == 1


def test_control_characters_in_a_name_do_not_break_cue_or_csv(
    folder: Path, short_broadcast: Path, tmp_path: Path
) -> None:
    """A name that holds a quote, a tab and a line break stays on one line of each format."""
    strange = tmp_path / 'a "b"\tc\nd.flac'
    shutil.copy(short_broadcast, strange)
    cue = run(folder, "scan", "--format", "cue", strange).stdout.splitlines()
    assert cue[0].count('"') == 2
    rows = run(folder, "scan", "--format", "csv", strange).stdout.splitlines()
    assert len(rows) == 4


def test_a_microphone_that_is_not_there_is_one_line_and_status_2(folder: Path) -> None:
    result = run(folder, "listen", "--microphone", "no such device")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "cannot open the microphone" in result.stderr
