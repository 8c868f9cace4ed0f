"""The command line on real files: indexing, identifying, listing, and every bad input."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from fingerprint.cli import main
from fingerprint.config import ModelConfig
from fingerprint.library.store import FORMAT
from fingerprint.model.fingerprinter import DEFAULT_WEIGHTS, Fingerprinter

MATCH_KEYS = ["path", "title", "artist", "offset", "rate", "confidence", "score", "repeats"]
RATE = 22_050  # Hz


CARD = "# A test model\n\nThe weights that ship.\n"


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A checkpoint with its export, which the commands use on a CPU, and its card."""
    path = tmp_path_factory.mktemp("model") / "test.pt"
    for suffix in (".pt", ".onnx"):
        shutil.copy(DEFAULT_WEIGHTS.with_suffix(suffix), path.with_suffix(suffix))
    path.with_suffix(".md").write_text(CARD, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(model_file):
    """Run a command in this process with a model of one's own."""

    def invoke(*arguments: object, stdin: bytes | None = None):
        environment = {"FINGERPRINT_MODEL": str(model_file), "FINGERPRINT_LIBRARY": None}
        return CliRunner().invoke(main, [*map(str, arguments)], input=stdin, env=environment)

    return invoke


@pytest.fixture(scope="module")
def library(run, music_folder, tmp_path_factory):
    """A library of the music folder. Read only."""
    folder = tmp_path_factory.mktemp("made") / "library"
    result = run("index", music_folder, "--library", folder, "--jobs", 1)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def snippet(song, write_audio, tmp_path_factory):
    """Five seconds of song 1, from second 8 on, with a little noise."""
    samples = song(1, 20, RATE)[8 * RATE : 13 * RATE]
    noise = np.random.default_rng(0).normal(0, 0.001, len(samples))
    path = tmp_path_factory.mktemp("query") / "snippet.wav"
    return write_audio(path, (samples + noise).astype(np.float32), RATE)


def answers(result) -> list[dict]:
    return [json.loads(line, parse_constant=pytest.fail) for line in result.stdout.splitlines()]


def one_line_of(text: str) -> str:
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text.strip()


def test_index_prints_a_summary_and_a_rerun_skips_everything(run, music_folder, tmp_path):
    first = run("index", music_folder, "--library", tmp_path / "new", "--jobs", 1)
    assert first.exit_code == 0
    assert first.stdout.startswith("Indexed 6 tracks (2.0 min of audio in ")
    assert first.stdout.endswith(f"0 unchanged, 0 failed. Library: {tmp_path / 'new'}\n")
    assert first.stderr == ""
    second = run("index", music_folder, "--library", tmp_path / "new", "--jobs", 1)
    assert second.exit_code == 0
    assert second.stdout.startswith("Indexed 0 tracks, 6 unchanged, 0 failed.")


def test_a_json_answer_has_the_documented_keys_and_types(run, library, snippet):
    result = run("identify", snippet, "--library", library, "--json", "--min-confidence", 0)
    assert result.exit_code == 0
    (answer,) = answers(result)
    assert list(answer) == ["query", "status", "seconds", "matches", "warnings", "error"]
    assert answer["query"] == str(snippet)
    assert answer["status"] == "match"
    assert 0 < answer["seconds"] < 30
    assert answer["error"] is None
    for match in answer["matches"]:
        assert list(match) == MATCH_KEYS
        assert all(isinstance(match[key], str) for key in MATCH_KEYS[:3])
        assert all(isinstance(match[key], float) for key in MATCH_KEYS[3:-1])
        assert isinstance(match["repeats"], list)
        assert 0 <= match["confidence"] <= 1


def test_the_right_track_and_place_come_first(run, library, snippet, music_folder):
    result = run("identify", snippet, "--library", library, "--json", "--min-confidence", 0)
    best = answers(result)[0]["matches"][0]
    assert best["path"] == str(music_folder / "song1.flac")
    assert best["offset"] == pytest.approx(8, abs=0.15)
    assert best["rate"] == pytest.approx(1, abs=0.01)


def test_a_checkpoint_without_an_export_gives_the_same_answers(run, library, snippet, tmp_path):
    bare = shutil.copy(DEFAULT_WEIGHTS, tmp_path / "bare.pt")
    first, second = (
        answers(run("identify", snippet, "--library", library, "--json", *model))[0]["matches"][0]
        for model in ([], ["--model", bare])
    )
    assert first["path"] == second["path"]
    assert first["offset"] == pytest.approx(second["offset"], abs=0.02)


def test_the_table_shows_place_track_and_confidence(run, library, snippet):
    result = run("identify", snippet, "--library", library, "--min-confidence", 0)
    name, head, best, *_ = result.stdout.splitlines()
    assert name == str(snippet)
    assert head.split() == ["confidence", "offset", "track"]
    confidence, sign, offset, track = best.split()
    assert 0 <= float(confidence) <= 99.9
    assert sign == "%"
    assert offset.startswith(("0:08.", "0:07.9"))
    assert track.endswith("song1.flac")


@pytest.mark.parametrize("cut", [3, 5, 6.5])
def test_two_tracks_one_after_the_other_are_both_named(
    run, library, song, write_audio, music_folder, tmp_path, cut
):
    """Two songs in ten seconds: the second one was missing, or at a rate of 0.86."""
    pieces = [
        song(1, 20, RATE)[: round((8 + cut) * RATE)][8 * RATE :],
        song(3, 20, RATE)[3 * RATE : round((13 - cut) * RATE)],
    ]
    query = write_audio(tmp_path / "two.wav", np.concatenate(pieces), RATE)
    (answer,) = answers(run("identify", query, "--library", library, "--json"))
    found = {Path(one["path"]).stem: one for one in answer["matches"]}
    assert set(found) == {"song1", "song3"}
    for stem, offset, part in (("song1", 8, [0, cut]), ("song3", 3 - cut, [cut, 10])):
        assert found[stem]["offset"] == pytest.approx(offset, abs=0.3)
        assert found[stem]["rate"] == pytest.approx(1, abs=0.02)
        assert found[stem]["part"] == pytest.approx(part, abs=1)
    text = run("identify", query, "--library", library).stdout
    assert "plays in" in text
    assert text.endswith("  2 tracks play in it, one after the other\n")


def test_two_mixed_tracks_are_both_named_and_reported_as_mixed(
    run, library, song, write_audio, tmp_path
):
    mixed = song(1, 20, RATE)[8 * RATE : 18 * RATE] + song(3, 20, RATE)[3 * RATE : 13 * RATE]
    query = write_audio(tmp_path / "two.wav", mixed / 2, RATE)
    text = run("identify", query, "--library", library).stdout
    assert "song1" in text
    assert "song3" in text
    assert text.endswith("  2 tracks play in it, at the same time\n")


def test_music_next_to_unknown_music_is_reported_as_a_part(
    run, library, song, write_audio, tmp_path
):
    pieces = [song(1, 20, RATE)[8 * RATE : 13 * RATE], song(77, 5, RATE)]
    query = write_audio(tmp_path / "two.wav", np.concatenate(pieces), RATE)
    text = run("identify", query, "--library", library).stdout
    assert "song1" in text
    assert text.endswith("  the rest of it is not recognised\n")


@pytest.mark.parametrize("noise", [0, 0.05])
def test_a_query_of_one_track_reports_no_parts(run, library, song, write_audio, tmp_path, noise):
    samples = song(1, 20, RATE)[8 * RATE : 18 * RATE].copy()
    samples[8 * RATE :] *= np.linspace(1, 0, 2 * RATE)  # it fades out
    samples += np.random.default_rng(0).normal(0, noise, len(samples))
    query = write_audio(tmp_path / "one.wav", samples.astype(np.float32), RATE)
    result = run("identify", query, "--library", library)
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 3
    assert "plays in" not in result.stdout


def test_top_limits_the_matches(run, library, snippet):
    for top in (1, 3):
        result = run(
            "identify", snippet, "--library", library, "--json", "--min-confidence", 0, "--top", top
        )
        assert len(answers(result)[0]["matches"]) == top


def test_candidates_below_the_minimum_confidence_are_not_matches(run, library, snippet):
    result = run("identify", snippet, "--library", library, "--min-confidence", 1)
    assert result.exit_code == 1
    assert "not in the library (best candidate: " in result.stdout
    (answer,) = answers(
        run("identify", snippet, "--library", library, "--min-confidence", 1, "--json")
    )
    assert (answer["status"], answer["matches"], answer["error"]) == ("no-match", [], None)


def test_standard_input_is_a_query(run, library, snippet):
    result = run(
        "identify", "-", "--library", library, "--json", "--min-confidence", 0,
        stdin=snippet.read_bytes(),
    )  # fmt: skip
    (answer,) = answers(result)
    assert answer["query"] == "-"
    assert answer["matches"][0]["path"].endswith("song1.flac")


def test_other_queries_are_answered_although_one_fails(run, library, snippet, tmp_path):
    missing = tmp_path / "missing.wav"
    arguments = ("identify", snippet, missing, snippet, "--library", library, "--min-confidence", 0)
    result = run(*arguments)
    assert result.exit_code == 2
    assert one_line_of(result.stderr).startswith("Error: ")
    assert result.stdout.splitlines().count(str(snippet)) == 2
    found = answers(run(*arguments, "--json"))
    assert [answer["status"] for answer in found] == ["match", "error", "match"]
    assert found[1]["matches"] == []
    assert "missing.wav" in found[1]["error"]


def damage(kind: str, folder: Path, good: Path, tone: np.ndarray) -> Path:
    """Make a file that is wrong in one way."""
    path = folder / f"{kind}.wav"
    made = {
        "zero-length": np.zeros(0),
        "silent": np.zeros(3 * RATE),
        "one-sample": tone[:1],
        "not-a-number": np.where(np.arange(len(tone)) % 5, tone, np.nan),
        "infinite": np.where(np.arange(len(tone)) % 5, tone, np.inf),
        "quiet-as-silence": 1e-7 * tone,
    }
    if kind in made:
        soundfile.write(path, made[kind], RATE, subtype="FLOAT")
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        data = {
            "empty": b"",
            "text": b"not audio at all\n" * 100,
            "header-only": good.read_bytes()[:30],
            "noise": np.random.default_rng(0).bytes(20_000),
        }
        path.write_bytes(data[kind])
    return path


UNUSABLE = ["missing", "empty", "header-only", "text", "noise", "zero-length", "silent"]
UNUSABLE += ["quiet-as-silence", "not-a-number", "infinite"]


@pytest.mark.parametrize("kind", [*UNUSABLE, "folder"])
def test_an_unusable_query_is_one_line_that_names_it(kind, run, library, snippet, song, tmp_path):
    path = damage(kind, tmp_path, snippet, song(1, 3, RATE))
    result = run("identify", path, "--library", library)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert path.name in one_line_of(result.stderr)
    (answer,) = answers(run("identify", path, "--library", library, "--json"))
    assert answer["status"] == "error"
    assert path.name in answer["error"]


def test_a_single_sample_is_no_match_or_an_error_but_never_a_crash(run, library, song, tmp_path):
    path = damage("one-sample", tmp_path, tmp_path, song(1, 3, RATE))
    result = run("identify", path, "--library", library)
    assert result.exit_code in {1, 2}
    assert isinstance(result.exception, SystemExit)


def test_eight_channels_192_khz_and_a_cut_off_file_are_identified(
    run, library, song, write_audio, snippet, tmp_path
):
    part = song(1, 20, RATE)[8 * RATE : 13 * RATE]
    eight = write_audio(tmp_path / "eight.wav", np.stack([part] * 8, axis=1), RATE)
    fine = song(1, 20, 192_000)[8 * 192_000 : 13 * 192_000]
    fine = write_audio(tmp_path / "fine.wav", fine, 192_000)
    truncated = tmp_path / "truncated.wav"
    truncated.write_bytes(snippet.read_bytes()[: snippet.stat().st_size * 2 // 3])
    result = run(
        "identify", eight, fine, truncated, "--library", library, "--json", "--min-confidence", 0
    )
    assert result.exit_code == 0
    for answer in answers(result):
        assert answer["matches"][0]["path"].endswith("song1.flac")
        assert answer["matches"][0]["offset"] == pytest.approx(8, abs=0.15)


def test_index_reports_every_bad_file_with_its_reason_and_keeps_the_rest(
    run, song, snippet, tmp_path
):
    tone = song(1, 3, RATE)
    bad = [damage(kind, tmp_path, snippet, tone) for kind in [*UNUSABLE, "one-sample"]]
    result = run("index", snippet, *bad, "--library", tmp_path / "library", "--jobs", 1)
    assert result.exit_code == 1
    assert result.stdout.startswith("Indexed 1 track (")
    assert f"{len(bad)} failed" in result.stdout
    lines = result.stderr.splitlines()
    assert len(lines) == len(bad)
    assert all(line.startswith("failed: cannot ") for line in lines)
    for path in bad:
        assert sum(path.name in line for line in lines) == 1
    listed = run("list", "--library", tmp_path / "library", "--json")
    assert [track["path"] for track in answers(listed)] == [str(snippet)]


def test_a_folder_without_audio_is_an_error(run, tmp_path):
    (tmp_path / "notes.txt").write_text("la la la")
    result = run("index", tmp_path, "--library", tmp_path / "library")
    assert result.exit_code == 1
    assert str(tmp_path) in one_line_of(result.stderr)
    assert not (tmp_path / "library").exists()


@pytest.mark.parametrize("from_stdin", [True, False])
def test_files_are_read_from_a_list(from_stdin, run, music_folder, tmp_path):
    lines = f"{music_folder / 'song0.wav'}\r\n\n{music_folder / 'song1.flac'}\n{tmp_path / 'none'}"
    (tmp_path / "list.txt").write_text(lines)
    source = "-" if from_stdin else tmp_path / "list.txt"
    result = run(
        "index", "--files-from", source, "--library", tmp_path / "library", "--jobs", 1,
        stdin=lines.encode(),
    )  # fmt: skip
    assert result.exit_code == 1
    assert result.stdout.startswith("Indexed 2 tracks")
    assert "none" in one_line_of(result.stderr)


def test_impossible_names_are_one_line_each_and_other_files_are_processed(
    run, library, snippet, tmp_path
):
    long = tmp_path / ("x" * 300)
    result = run("identify", long, snippet, "--library", library, "--min-confidence", 0)
    assert result.exit_code == 2
    assert "File name too long" in one_line_of(result.stderr)
    assert str(snippet) in result.stdout
    listed = f"{long}\nnu\0ll.wav\n{snippet}\n".encode()
    result = run(
        "index", "--files-from", "-", "--library", tmp_path / "library", "--jobs", 1, stdin=listed
    )
    assert result.exit_code == 1
    assert result.stdout.startswith("Indexed 1 track ")
    assert len(result.stderr.splitlines()) == 2
    assert "\0" not in result.stderr


def test_a_missing_list_is_one_line(run, tmp_path):
    result = run("index", "--files-from", tmp_path / "none.txt", "--library", tmp_path / "library")
    assert result.exit_code == 1
    assert "none.txt" in one_line_of(result.stderr)


WEIRD = [
    b"new\nline.wav",
    b"esc\x1b[31mred.wav",
    b"bytes\xff\xfe.wav",
    "夜 🎵.wav".encode(),
    b"-x.wav",
]


def test_unusual_names_are_indexed_found_and_shown_on_one_printable_line(
    run, song, write_audio, tmp_path
):
    music, folder = tmp_path / "music", tmp_path / "library"
    music.mkdir()
    for seed, name in enumerate(WEIRD):
        plain = write_audio(tmp_path / "plain.wav", song(seed, 4), 8_000)
        plain.rename(music / os.fsdecode(name))
    indexed = run("index", music, "--library", folder, "--jobs", 1)
    assert indexed.exit_code == 0, indexed.output
    queries = [music / os.fsdecode(name) for name in WEIRD]
    table = run("identify", *queries, "--library", folder, "--min-confidence", 0, "--top", 1)
    assert table.exit_code == 0, table.output
    lists = run("list", "--library", folder)
    assert len(lists.stdout.splitlines()) == len(WEIRD)
    for text in (table.stdout, lists.stdout):
        assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in text.replace("\n", ""))
    shown = run(
        "identify", *queries, "--library", folder, "--min-confidence", 0, "--json", "--top", 1
    )
    found = answers(shown)
    assert [answer["matches"][0]["path"] for answer in found] == [a["query"] for a in found]
    assert found[0]["query"].endswith("new\nline.wav")
    gone = run("identify", tmp_path / os.fsdecode(b"gone\x1b[2J\xff\n.wav"), "--library", folder)
    assert one_line_of(gone.stderr).isprintable()


def test_control_codes_in_tags_do_not_reach_the_terminal(run, song, tmp_path):
    path = tmp_path / "tagged.flac"
    with soundfile.SoundFile(path, "w", 8_000, 1) as file:
        file.title, file.artist = "Evil\x1b[2J Song", "Some\x07body"
        file.write(song(0, 4))
    assert run("index", path, "--library", tmp_path / "library", "--jobs", 1).exit_code == 0
    result = run("identify", path, "--library", tmp_path / "library", "--min-confidence", 0)
    assert result.stdout.replace("\n", "").isprintable()
    assert "Song" in result.stdout
    assert "Some" in result.stdout


def test_list_and_info_need_no_model(library, music_folder):
    nothing = {"FINGERPRINT_MODEL": "/none.pt", "FINGERPRINT_LIBRARY": str(library)}
    listed = CliRunner().invoke(main, ["list", "--json"], env=nothing)
    tracks = answers(listed)
    assert [Path(track["path"]) for track in tracks] == sorted(music_folder.iterdir())
    assert all(track["duration"] == pytest.approx(20, abs=0.2) for track in tracks)
    table = CliRunner().invoke(main, ["list"], env=nothing).stdout.splitlines()
    assert len(table) == 6
    assert table[0].split()[:2] == ["1", "0:20.0"]
    info = CliRunner().invoke(main, ["info"], env=nothing)
    assert info.exit_code == 0
    assert "tracks    6\n" in info.stdout


def test_info_describes_library_and_model(run, library, model_file, tmp_path):
    model = Fingerprinter.load(model_file, "cpu")
    (of_library,) = answers(run("info", "--json", "--library", library))
    assert of_library["tracks"] == 6
    assert of_library["hours"] == pytest.approx(6 * 20 / 3600, abs=0.001)
    assert of_library["model_id"] == model.id
    assert of_library["format"] == FORMAT
    assert of_library["bytes"] > 10_000
    (of_model,) = answers(run("info", "model", "--json"))
    assert of_model["model_id"] == model.id
    assert of_model["sample_rate"] == model.sample_rate
    bare = Path(shutil.copy(model_file, tmp_path / "bare.pt"))  # an export has a card of its own
    shutil.copy(model_file.with_suffix(".md"), bare.with_suffix(".md"))
    card = run("info", "model", "--model", bare).stdout
    assert model.id in card
    assert card.endswith(CARD)


def test_a_library_of_another_model_is_refused(run, library, snippet, tmp_path):
    other = tmp_path / "other.pt"
    Fingerprinter.create(ModelConfig(), seed=1).save(other)
    for arguments in (("identify", snippet), ("index", snippet)):
        before = sorted((p, p.stat().st_mtime_ns) for p in library.rglob("*"))
        result = run(*arguments, "--library", library, "--model", other)
        assert result.exit_code == (2 if arguments[0] == "identify" else 1)
        assert "model" in one_line_of(result.stderr)
        assert sorted((p, p.stat().st_mtime_ns) for p in library.rglob("*")) == before


@pytest.mark.parametrize("content", [None, b"", b"junk" * 100])
def test_a_missing_or_damaged_model_is_one_line(content, run, library, snippet, tmp_path):
    model = tmp_path / "broken.pt"
    if content is not None:
        model.write_bytes(content)
    for arguments in (("identify", snippet), ("index", snippet), ("info", "model")):
        result = run(*arguments, "--library", library, "--model", model)
        assert result.exit_code == (2 if arguments[0] == "identify" else 1)
        assert "broken.pt" in one_line_of(result.stderr)


def test_a_library_of_another_format_is_refused(run, library, snippet, tmp_path):
    folder = shutil.copytree(library, tmp_path / "library")
    with sqlite3.connect(folder / "catalog.db") as catalog:
        catalog.execute("UPDATE meta SET value = 99 WHERE key = 'format'")
    catalog.close()
    for arguments in (("identify", snippet), ("index", snippet), ("list",), ("info",)):
        result = run(*arguments, "--library", folder)
        assert result.exit_code == (2 if arguments[0] == "identify" else 1)
        assert "format 99" in one_line_of(result.stderr)


@pytest.mark.parametrize("damaged", ["catalog.db", "segments/*.ann", "segments/*.npy"])
def test_a_damaged_library_is_one_line(damaged, run, library, snippet, tmp_path):
    folder = shutil.copytree(library, tmp_path / "library")
    (victim,) = folder.glob(damaged)
    victim.write_bytes(victim.read_bytes()[:1000])
    result = run("identify", snippet, "--library", folder)
    assert result.exit_code == 2
    assert str(folder) in one_line_of(result.stderr)


def test_an_empty_library_is_not_searched(run, snippet, tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    run("index", tmp_path / "text.wav", "--library", tmp_path / "library", "--jobs", 1)
    result = run("identify", snippet, "--library", tmp_path / "library")
    assert result.exit_code == 2
    assert "is empty" in one_line_of(result.stderr)


def test_cuda_on_a_machine_without_it_is_one_line(run, library, snippet):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    result = run("identify", snippet, "--library", library, "--device", "cuda")
    assert result.exit_code == 2
    assert "--device cpu" in one_line_of(result.stderr)


def test_the_program_answers_under_an_ascii_encoding(library, model_file, snippet):
    """A whole process: status, streams and encoding as a shell sees them."""
    environment = {
        **os.environ,
        "FINGERPRINT_LIBRARY": str(library),
        "FINGERPRINT_MODEL": str(model_file),
        "PYTHONIOENCODING": "ascii",
    }
    done = subprocess.run(
        [sys.executable, "-m", "fingerprint", "identify", str(snippet), "nö.wav", "--json"],
        capture_output=True, check=False, env=environment,
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.decode("utf-8").splitlines()]
    assert done.returncode == 2
    assert [answer["query"] for answer in found] == [str(snippet), "nö.wav"]
    assert done.stderr == b""


def test_closed_output_pipe_ends_the_program_without_an_error(library):
    """As `fingerprint list | head -1` does: nobody reads the other end of the pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "fingerprint", "list", "--library", str(library)],
        stdout=writer, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_terminal_sees_progress_and_a_pipe_does_not(library, music_folder, model_file, tmp_path):
    pty = pytest.importorskip("pty")  # POSIX only
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fingerprint", "index", str(music_folder), "--jobs", "1",
         "--library", str(tmp_path / "library"), "--model", str(model_file)],
        stdout=subprocess.PIPE, stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # at the end, Linux says; it is read at once, for it holds 4 kB only
        while chunk := os.read(screen, 100_000):
            shown += chunk
    shown = shown.decode()
    os.close(screen)
    printed, _ = process.communicate()
    assert process.returncode == 0
    assert "6/6 tracks  2.0 min of audio" in shown
    assert "x real time" in shown
    assert printed.startswith(b"Indexed 6 tracks")
    assert printed.count(b"\n") == 1
