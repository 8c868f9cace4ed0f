"""The command line without a model: help, start-up, errors, and what may reach a terminal."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fingerprint.answers import json_line
from fingerprint.cli import main
from fingerprint.cli.text import clock, counted, one_line, percent, printable
from fingerprint.errors import FingerprintError
from fingerprint.search import SearchConfig

HEAVY = {
    "annoy", "av", "librosa", "numpy", "platformdirs", "pydantic", "rich", "scipy", "soundfile",
    "torch", "torchaudio", "yaml",
}  # fmt: skip

CONTEXT = click.Context(main)
ALL = main.list_commands(CONTEXT)


def run(*arguments: str, **options: object):
    return CliRunner().invoke(main, list(arguments), **options)


def python(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fingerprint", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.fixture
def failing(monkeypatch):
    """Let `fingerprint list` end in an error of one's choice."""

    def install(error: BaseException, name: str = "list") -> None:
        def fail(**_options: object) -> None:
            raise error

        monkeypatch.setattr(main.get_command(CONTEXT, name), "callback", fail)

    return install


@pytest.mark.parametrize("name", ALL)
def test_every_command_and_every_option_has_help(name):
    command = main.get_command(CONTEXT, name)
    assert command is not None
    assert command.help
    context = click.Context(command, info_name=name)
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.name}"
    for flag in ("-h", "--help"):
        assert run(name, flag).output.startswith(f"Usage: main {name}")
    assert "..." not in command.get_short_help_str(limit=60)
    assert command.get_help(context)


@pytest.mark.parametrize("name", ALL)
def test_the_list_of_commands_shows_each_command_s_own_help(name):
    command = main.get_command(CONTEXT, name)
    assert main.lazy[name][1] == command.get_short_help_str(100)


def test_help_lists_every_command_of_the_contract():
    assert set(ALL) == {
        "doctor",
        "serve",
        "add",
        "index",
        "identify",
        "list",
        "info",
        "train",
        "calibrate",
        "evaluate",
        "export",
        "sync",
        "scan",
        "listen",
        "explain",
        "remove",
        "merge",
        "publish",
        "duplicates",
        "compact",
        "verify",
        "import",
        "stats",
    }
    for flag in ("-h", "--help"):
        result = run(flag)
        assert result.exit_code == 0
        assert all(name in result.stdout for name in ALL)


def test_identify_help_states_the_default_confidence_of_the_configuration():
    text = " ".join(run("identify", "--help").output.split())
    assert f"default: {SearchConfig().min_confidence};" in text


def test_a_renamed_flag_works_under_its_former_name_with_a_warning(monkeypatch):
    exported = []
    monkeypatch.setattr(
        "fingerprint.cli.export._export_model", lambda *_files, int8: exported.append(int8)
    )
    for flags, int8 in ([], False), (["--int8"], True), (["--eight-bit"], True):
        result = run("export", "model.onnx", *flags)
        assert result.exit_code == 0
        assert exported.pop() == int8
        assert ("--eight-bit is now --int8" in result.stderr) == ("--eight-bit" in flags)
    assert "--eight-bit" not in run("export", "--help").output


def test_importing_the_command_line_imports_nothing_heavy():
    code = "import sys, fingerprint.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_help_imports_nothing_heavy():
    command = [sys.executable, "-X", "importtime", "-m", "fingerprint", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "fingerprint.cli" in imported
    assert not HEAVY & imported


def test_the_version_is_printed():
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("fingerprint 0")


@pytest.mark.parametrize("arguments", [["identify"], ["index"], ["list", "--top", "1"], ["play"]])
def test_wrong_usage_is_exit_status_two(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr
    assert result.stdout == ""


def test_our_own_error_is_one_line_and_status_one(failing):
    failing(FingerprintError("cannot read\nthe thing \x1b[31m\udcff"))
    result = run("list")
    assert result.exit_code == 1
    assert (
        result.stderr
        == "Error: cannot read the thing \N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}\n"
    )
    assert result.stdout == ""


def test_an_error_of_identify_is_status_two(failing):
    failing(FingerprintError("no"), "identify")
    assert run("identify", "x").exit_code == 2


def test_a_full_disk_is_one_line_that_names_the_file(failing):
    failing(OSError(28, "No space left on device", "/music/library"))
    result = run("list")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: /music/library: No space left on device\n",
    )


def test_a_bug_keeps_its_traceback(failing):
    failing(ZeroDivisionError("a bug"))
    result = run("list")
    assert isinstance(result.exception, ZeroDivisionError)


def test_an_interrupt_is_status_130_without_a_traceback(failing):
    failing(KeyboardInterrupt())
    result = run("list")
    assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")


def test_closed_output_pipe_is_not_an_error(failing):
    failing(BrokenPipeError(32, "Broken pipe"))
    result = run("list")
    assert result.stderr == ""
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("arguments", [["list"], ["info"], ["identify", "x.wav"]])
def test_without_a_library_one_line_says_how_to_make_one(arguments, tmp_path):
    result = run(*arguments, "--library", str(tmp_path / "none"))
    assert result.exit_code == (2 if arguments[0] == "identify" else 1)
    assert result.stderr.count("\n") == 1
    assert "none" in result.stderr
    assert "fingerprint index FOLDER" in result.stderr


def test_the_library_is_named_by_option_before_environment_before_user_folder(tmp_path):
    where = {"XDG_DATA_HOME": str(tmp_path / "user"), "FINGERPRINT_LIBRARY": None}
    assert str(tmp_path / "user/fingerprint/library") in run("list", env=where).stderr
    where["FINGERPRINT_LIBRARY"] = str(tmp_path / "set")
    assert str(tmp_path / "set") in run("list", env=where).stderr
    assert "option" in run("list", "--library", str(tmp_path / "option"), env=where).stderr


def test_without_a_library_json_still_gives_an_object_for_every_query(tmp_path):
    result = run("identify", "a.wav", "b.wav", "--json", "--library", str(tmp_path / "none"))
    assert result.exit_code == 2
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["query"] for answer in answers] == ["a.wav", "b.wav"]
    assert {answer["status"] for answer in answers} == {"error"}
    assert "fingerprint index FOLDER" in answers[0]["error"]


def test_something_that_is_not_a_library_is_refused_in_one_line(tmp_path):
    result = run("info", "--library", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert result.stderr.strip().count(str(tmp_path)) == 1


@pytest.mark.parametrize("text", ["model: [", "steps: many", "stepz: 3", "steps: -1", "\x00"])
def test_a_wrong_training_configuration_is_one_line_that_names_the_file(text, tmp_path):
    config = tmp_path / "wrong.yaml"
    config.write_text(text)
    result = run("train", str(config))
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "wrong.yaml" in result.stderr


def test_a_missing_training_configuration_is_one_line():
    result = run("train", "nowhere.yaml")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "nowhere.yaml" in result.stderr


def test_evaluating_without_a_corpus_is_one_line(tmp_path):
    result = run("evaluate", "--corpus", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


@pytest.fixture
def _heeding_interrupts():
    """Where tests run in the background their processes ignore interrupts, by `nohup` hang-ups."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    hung_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before)
    signal.signal(signal.SIGHUP, hung_up)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("_heeding_interrupts")
def test_a_signal_ends_a_real_process(tmp_path, number):
    """It waits for its list of files. SIGTERM and SIGHUP killed it: what was done was lost."""
    command = [sys.executable, "-m", "fingerprint", "index", "--files-from", "-"]
    environment = {**os.environ, "FINGERPRINT_LIBRARY": str(tmp_path / "library")}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        _until_it_reads(process)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert stderr == b"Interrupted.\n"
    assert not (tmp_path / "library").exists()


def _until_it_reads(process: subprocess.Popen[bytes]) -> None:
    """Wait until a process waits for its standard input, as Linux tells; elsewhere for a second."""
    waits_in = Path(f"/proc/{process.pid}/wchan")
    if not waits_in.exists():
        sleep(1.0)
        return
    deadline = monotonic() + 20
    while "pipe_read" not in waits_in.read_text():
        assert process.poll() is None
        assert monotonic() < deadline
        sleep(0.02)


def test_interrupt_before_the_command_starts_ends_with_status_130(monkeypatch):
    def interrupted(*_arguments, **_extra):
        raise KeyboardInterrupt

    monkeypatch.setattr(click.Group, "make_context", interrupted)
    result = CliRunner().invoke(main, ["info"])
    assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")


@given(st.text())
def test_printable_text_has_no_control_codes_and_can_be_encoded(text):
    shown = printable(text)
    assert len(shown) == len(text)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in shown)
    shown.encode("utf-8")
    assert "\n" not in one_line(text)


def test_printable_text_keeps_what_people_write():
    for title in ("Für Elise", "夜に駆ける\u3000", "क्\u200dष", "🎵 a\u00a0b"):
        assert printable(title) == title


@given(st.dictionaries(st.text(), st.text() | st.floats(allow_nan=False, allow_infinity=False)))
def test_a_json_line_is_one_line_and_gives_back_what_went_in(record):
    line = json_line(record)
    line.encode("utf-8")
    assert line.isprintable() or not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in line)
    assert len(line.splitlines()) == 1
    assert json.loads(line) == record


def test_a_json_line_replaces_undecodable_bytes_and_refuses_nan():
    assert (
        json.loads(json_line({"path": os.fsdecode(b"a\xff")}))["path"]
        == "a\N{REPLACEMENT CHARACTER}"
    )
    with pytest.raises(ValueError, match="JSON"):
        json_line({"score": float("nan")})


@given(st.floats(-1e6, 1e6))
def test_formatted_times_parse_back_to_a_tenth_of_a_second(seconds):
    minutes, rest = clock(seconds).lstrip("-").split(":")
    assert int(minutes) * 60 + float(rest) == pytest.approx(abs(seconds), abs=0.0501)
    assert len(rest) == 4
    assert float(rest) < 60


def test_times_percentages_and_counts_are_formatted():
    assert [clock(s) for s in (0, 59.96, 83.44, 3600, -0.26, -0.01)] == [
        "0:00.0", "1:00.0", "1:23.4", "60:00.0", "-0:00.3", "0:00.0",
    ]  # fmt: skip
    assert [percent(p) for p in (0, 0.5, 0.9987, 0.99999, 1)] == [
        "0.0 %", "50.0 %", "99.9 %", "99.9 %", "99.9 %",
    ]  # fmt: skip
    assert [counted(n, "track") for n in (0, 1, 2, 1234)] == [
        "0 tracks", "1 track", "2 tracks", "1,234 tracks",
    ]  # fmt: skip


def test_the_module_runs_as_the_program_does():
    assert python("--help").stdout.startswith("Usage: fingerprint ")


def test_nothing_outside_the_command_line_prints_or_exits():
    package = Path(main.callback.__code__.co_filename).parents[1]
    for source in package.rglob("*.py"):
        if source.parent.name != "cli" and "lab" not in source.parts:
            text = source.read_text(encoding="utf-8")
            assert "sys.exit" not in text, source
            assert "\nimport click" not in text, source
