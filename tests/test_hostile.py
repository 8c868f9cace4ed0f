"""Every command in every hostile place: it works, or says why not in a line; nothing is harmed.

Commands run in a process of their own, whose standard streams, limits and rights are as hostile as
the table says. A small embedder stands in the model's place.
"""

import gc
import os
import resource
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from library_world import Toy, write_song
from privileges import heeding_permissions

from fingerprint.cli import main
from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library
from fingerprint.library.store import Catalog
from fingerprint.library.verify import check

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="it forks, and uses /dev/full"),
    pytest.mark.usefixtures("small_model"),
]

STATUSES = {0, 1, 2, 130, 141}  # those that are documented
Prepare = Callable[["World"], object]


@dataclass(frozen=True)
class World:
    """A folder with a library of three songs, their music, a query and a place to write to."""

    place: Path

    @property
    def library(self) -> Path:
        return self.place / "library"

    @property
    def music(self) -> Path:
        return self.place / "music"

    @property
    def query(self) -> Path:
        return self.music / "1.wav"

    @property
    def names(self) -> Path:
        return self.place / "names.txt"

    def files(self) -> list[Path]:
        return [self.library, *sorted(self.library.rglob("*"))]


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str


COMMANDS = {
    "list": "list --library {library}",
    "list json": "list --json --library {library}",
    "info": "info --json --library {library}",
    "stats": "stats --library {library}",
    "identify": "identify --library {library} {query} {query}",
    "identify json": "identify --json --library {library} {query} {query}",
    "identify -": "identify --library {library} -",
    "scan": "scan --library {library} {query} {query}",
    "scan json": "scan --json --library {library} {query} {query}",
    "scan -": "scan --format csv --library {library} -",
    "listen -": "listen --rate 8000 --library {library} -",
    "duplicates": "duplicates --library {library}",
    "duplicates html": "duplicates --html {place}/page.html --library {library}",
    "verify": "verify --library {library}",
    "repair": "verify --repair --library {library}",
    "compact": "compact --library {library}",
    "remove": "remove {query} --library {library}",
    "remove missing": "remove --missing --library {library}",
    "merge": "merge {library} --library {place}/merged",
    "export": "export {place}/one.fplib --library {library}",
    "export npz": "export {place}/one.npz --library {library}",
    "import": "import {place}/kept.fplib --library {place}/imported",
    "help": "--help",
    "usage": "identify --nonsense",
}
SLOW = {  # they start decoding processes
    "index": "index --jobs 1 --library {library} {music} {place}/more",
    "index new": "index --jobs 1 --library {place}/new {music}",
    "index list": "index --jobs 1 --library {library} --files-from -",
    "sync": "sync --jobs 1 --yes --library {library} {place}/more",
}
CHANGING = {"index list", "remove", "compact", "index", "sync", "repair", "remove missing"}


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every world begins as."""
    place = tmp_path_factory.mktemp("stock")
    (place / "music").mkdir()
    (place / "more").mkdir()
    for seed in (1, 2, 3):
        write_song(place / "music" / f"{seed}.wav", seed, 6.0)
    write_song(place / "more" / "4.wav", 4, 6.0)
    (place / "names.txt").write_text("more/4.wav\nnone.wav\n")
    with Library.create_or_open(place / "library", Toy()) as library:
        index_files(library, sorted((place / "music").iterdir()))
    from fingerprint.library.exchange import export_library

    export_library(place / "library", place / "kept.fplib")
    return place


@pytest.fixture
def world(stock: Path, tmp_path: Path) -> Callable[[], World]:
    """A new one for each command."""
    count = iter(range(1_000))

    def make() -> World:
        place = tmp_path / f"{next(count)}"
        shutil.copytree(stock, place)
        return World(place)

    return make


def run(command: str, world: World, hostile: Prepare = lambda _world: None) -> Outcome:
    """Run a command in a process of its own that has first been made hostile."""
    places = {name: str(getattr(world, name)) for name in ("place", "library", "music", "query")}
    words = [word.format(**places) for word in command.split()]
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    gc.freeze()  # or the child's collector would copy the memory of all tests that ran before
    child = os.fork()
    if not child:
        os._exit(_child(words, world, hostile, out_end, err_end))
    gc.unfreeze()
    os.close(out_end)
    os.close(err_end)
    with os.fdopen(out, encoding="utf-8", errors="replace") as said:
        printed = said.read()
    with os.fdopen(err, encoding="utf-8", errors="replace") as told:
        complained = told.read()
    _, status = os.waitpid(child, 0)
    return Outcome(os.waitstatus_to_exitcode(status), printed, complained)


def _child(  # noqa: C901 - it plays the part of Python's start and end
    words: list[str], world: World, hostile: Prepare, out: int, err: int
) -> int:
    kept = os.dup(err)  # for the traceback of a bug, whatever becomes of standard error
    os.set_inheritable(kept, False)  # noqa: FBT003
    status = 70
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(120)  # a command that hangs dies
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(world.place)
        given = os.open(world.names if "--files-from" in words else world.query, os.O_RDONLY)
        for number, end in enumerate((given, out, err)):
            os.dup2(end, number)
        for number in range(3):
            _reopen(number)
        with ExitStack() as stack:
            made = hostile(world)
            if hasattr(made, "__enter__"):
                stack.enter_context(made)
            main(words, prog_name="fingerprint")
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
        for stream in (sys.stdout, sys.stderr):
            try:  # as Python does when it ends
                if stream is not None:
                    stream.flush()
            except OSError:
                status = 120
    except BaseException:
        os.write(kept, traceback.format_exc().encode())
    return status


def _reopen(number: int, encoding: str = "utf-8") -> None:
    name = ("stdin", "stdout", "stderr")[number]
    mode = "rb" if number == 0 else "wb"
    stream = TextIOWrapper(os.fdopen(number, mode, closefd=False), encoding=encoding)
    setattr(sys, name, stream)


def closed(*numbers: int) -> Prepare:
    """As a supervisor starts it, or a shell with `<&-`."""

    def close(_world: World) -> None:
        for number in numbers:
            os.close(number)
            setattr(sys, ("stdin", "stdout", "stderr")[number], None)

    return close


def full(number: int) -> Prepare:
    def fill(_world: World) -> None:
        os.dup2(os.open("/dev/full", os.O_WRONLY), number)

    return fill


def reader_left(number: int) -> Prepare:
    def leave(_world: World) -> None:
        ours, theirs = os.pipe()
        os.close(ours)
        os.dup2(theirs, number)
        os.close(theirs)

    return leave


def modes(files: Callable[[World], list[Path]], mask: int) -> Prepare:
    """Take rights away, and heed them."""

    def take(world: World) -> object:
        for path in reversed(files(world)):
            path.chmod(path.stat().st_mode & mask)
        return heeding_permissions()

    return take


def limit(what: int, value: int) -> Prepare:
    def set_limit(_world: World) -> None:
        resource.setrlimit(what, (value, resource.getrlimit(what)[1]))

    return set_limit


def no_folder(world: World) -> None:
    """The current folder is deleted."""
    (world.place / "gone").mkdir()
    os.chdir(world.place / "gone")
    (world.place / "gone").rmdir()


def no_home(_world: World) -> None:
    for name in ("HOME", "XDG_DATA_HOME", "FINGERPRINT_LIBRARY", "TMPDIR"):
        os.environ.pop(name, None)


def old_terminal(_world: World) -> None:
    for number in (1, 2):
        _reopen(number, "ascii")


def half_written(world: World) -> None:
    """A writer was killed in the middle of a change, on a disk that is read-only now."""
    import sqlite3

    db = sqlite3.connect(world.library / "catalog.db", isolation_level=None)
    db.execute("PRAGMA cache_size = 1")
    db.execute("BEGIN IMMEDIATE")
    db.execute("CREATE TABLE large (x)")
    db.executemany("INSERT INTO large VALUES (?)", [("x" * 500,)] * 500)
    db.execute("UPDATE tracks SET duration = duration + 1")
    shutil.copytree(world.library, world.place / "hot")
    db.close()
    shutil.rmtree(world.library)
    (world.place / "hot").rename(world.library)


def in_use(world: World) -> object:
    """Another process is writing."""
    return Library.open(world.library, Toy()).writing()


def segments(world: World) -> list[Path]:
    return sorted((world.library / "segments").iterdir())


HOSTILE: dict[str, Prepare] = {
    "nothing": lambda _world: None,
    "closed stdin": closed(0),
    "closed stdout": closed(1),
    "closed stderr": closed(2),
    "all closed": closed(0, 1, 2),
    "full stdout": full(1),
    "full stderr": full(2),
    "nobody reads stdout": reader_left(1),
    "nobody reads stderr": reader_left(2),
    "an old terminal": old_terminal,
    "no current folder": no_folder,
    "no home": no_home,
    "a full disk": limit(resource.RLIMIT_FSIZE, 0),
    "a nearly full disk": limit(resource.RLIMIT_FSIZE, 20_000),
    "a read-only library": modes(World.files, 0o555),
    "a read-only place": modes(lambda world: [world.place, *world.files()], 0o555),
    "a catalog that may not be read": modes(lambda world: [world.library / "catalog.db"], 0o000),
    "segments that may not be read": modes(segments, 0o000),
    "a library that may not be entered": modes(lambda world: [world.library], 0o600),
    "music that may not be read": modes(lambda world: [world.music], 0o000),
    "a change cut off": half_written,
    "another writer": in_use,
}
WITH_SLOW = {"all closed", "closed stderr", "full stdout", "a full disk", "a nearly full disk",
             "a read-only place", "segments that may not be read", "another writer",
             "nobody reads stderr", "no current folder"}  # fmt: skip
SPEECHLESS = {
    "nobody reads stdout",
    "closed stderr",
    "all closed",
    "full stderr",
    "nobody reads stderr",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_commands_work_or_fail_in_one_line_in_hostile_environments(
    name: str, world: Callable[[], World]
) -> None:
    """hindsight#4580, dvc#10041, click#625, click#712, b2#1071, and their relatives."""
    for title, command in {**COMMANDS, **(SLOW if name in WITH_SLOW else {})}.items():
        here = world()
        outcome = run(command, here, HOSTILE[name])
        what = f"{title} with {name}: {outcome}"
        assert outcome.status in STATUSES, what
        assert "Traceback" not in outcome.err, what
        assert "Warning" not in outcome.err, what
        assert "Exception ignored" not in outcome.err, what
        if outcome.status and name not in SPEECHLESS:
            assert outcome.err or outcome.out, what  # no silent nothing
            assert outcome.err.count("Error: ") <= 2, what  # one line a query
        _is_whole(here, changing=title in CHANGING, what=what)


def _is_whole(world: World, *, changing: bool, what: str) -> None:
    for path in [world.place, *world.files(), world.music]:
        with suppress(FileNotFoundError):
            path.chmod(0o700)
    with suppress(FileNotFoundError):
        for path in world.files():
            path.chmod(0o700)
    catalog = Catalog(world.library)
    try:
        assert check(catalog) == [], what
        names = {track.path.name for track in catalog.tracks()}
    finally:
        catalog.close()
    assert changing or names == {"1.wav", "2.wav", "3.wav"}, what
    assert names >= {"2.wav", "3.wav"}, what


@pytest.mark.parametrize("title", ["list", "identify -", "scan", "export", "import", "compact",
                                   "remove", "merge", "duplicates"])  # fmt: skip
def test_an_interrupt_at_any_stage_ends_a_command(title: str, world: Callable[[], World]) -> None:
    """Ctrl-C after so many function calls: one word, the documented status, a whole library."""
    calls = int(run(COMMANDS[title], world(), _count_calls).err.rsplit("calls: ", 1)[1])
    for number in range(1, 9):
        here = world()
        outcome = run(COMMANDS[title], here, _interrupt_after(calls * number // 9))
        what = f"{title} after {calls * number // 9} of {calls} calls: {outcome}"
        assert outcome.status in (0, 130), what
        assert outcome.err.strip() in ("", "Interrupted."), what
        _is_whole(here, changing=title in CHANGING, what=what)


class _count_calls:  # noqa: N801 - it is a function where it is used
    """Says in the end how many functions were called."""

    def __init__(self, _world: World) -> None:
        self.calls = 0

    def __enter__(self) -> None:
        sys.setprofile(self._note)

    def __exit__(self, *_exception: object) -> None:
        sys.setprofile(None)
        os.write(2, f"calls: {self.calls}".encode())

    def _note(self, _frame: Any, event: str, _argument: Any) -> None:
        self.calls += event == "call"


def _interrupt_after(calls: int) -> Prepare:
    def start(_world: World) -> None:
        left = [calls]

        def note(_frame: Any, event: str, _argument: Any) -> None:
            left[0] -= event == "call"
            if left[0] < 0:
                sys.setprofile(None)
                os.kill(os.getpid(), signal.SIGINT)

        sys.setprofile(note)

    return start


def test_without_a_home_a_library_must_be_named(world: Callable[[], World]) -> None:
    """rustdesk/rustdesk-server#612, dalibo/pandocker#140: a user without home and name."""

    def nobody(_world: World) -> None:
        no_home(_world)
        os.setuid(54_321)

    if os.geteuid() != 0:
        pytest.skip("only root can become nobody")
    for command in ("list", "info", "identify x.wav", "sync x", "compact", "verify"):
        outcome = run(command, world(), nobody)
        assert outcome.status in (1, 2)
        assert outcome.err == (
            "Error: there is no home folder for a library: name one with --library DIR\n"
        )


ODD_NAME = os.fsdecode(b"b\xe9d \n\x1b[31m \xff")


@pytest.mark.parametrize("title", [*COMMANDS, "index"])
def test_commands_with_names_of_any_bytes(title: str, stock: Path, tmp_path: Path) -> None:
    """beetbox/beets#569 and #200: folders of any name, the library's own too, in every format."""
    here = World(tmp_path / ODD_NAME)
    shutil.copytree(stock, here.place)
    with Library.open(here.library, Toy()) as library:
        index_files(library, sorted(here.music.iterdir()))
    outcome = run({**COMMANDS, **SLOW}[title], here)
    assert outcome.status == (2 if title == "usage" else 0), outcome
    assert "\x1b" not in outcome.out + outcome.err
    assert "Traceback" not in outcome.err


def test_a_read_only_disk_is_one_line_that_names_the_file(world: Callable[[], World]) -> None:
    """Deleting the draft, which there was none of, failed too and hid what was to be said."""
    here = world()
    script = 'mount -t tmpfs -o ro none "$0/more" && exec "$@"'
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, here.place]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("may not mount")
    command = [sys.executable, "-m", "fingerprint", "export", "--library", here.library]
    done = subprocess.run(
        [*alone, *command, here.place / "more" / "x.fplib"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == f"Error: cannot write {here.place}/more/x.fplib: Read-only file system\n"
