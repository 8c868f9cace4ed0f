"""Folders that are watched: nothing that happens to them, or to the library, is missed."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from library_world import Toy, names_in, write_song

from fingerprint.cli import sync as command
from fingerprint.errors import AudioError
from fingerprint.library.library import Library
from fingerprint.library.sync import Watch, sync

pytest.importorskip("watchdog")
LONG = 30.0  # s that something may take on a busy machine; what is waited for comes at once


class EndedError(Exception):
    """The watching is to end."""


class Watching:
    """`sync --watch` in a thread, and the runs that it has done."""

    def __init__(self, library: Path, folder: Path) -> None:
        self.runs = threading.Semaphore(0)
        self.errors: list[str] = []
        self._end = threading.Event()
        self._library, self._folder = library, folder
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        assert self.runs.acquire(timeout=LONG)

    def _work(self) -> None:
        with Library.create_or_open(self._library, Toy()) as library:

            def run() -> int:
                if self._end.is_set():
                    raise EndedError
                try:
                    sync(library, [self._folder])
                except Exception as error:
                    self.errors.append(str(error))
                    raise
                finally:
                    self.runs.release()
                return 0

            with Watch([self._folder], ignore=[self._library]) as changes:
                run()
                with pytest.raises(EndedError):
                    command._go_on(changes, run)

    def until(self, *names: str) -> None:
        """Wait until the library holds these files."""
        with Library.open(self._library, Toy()) as library:
            while sorted(names_in(library)) != sorted(names):
                assert self.runs.acquire(timeout=LONG), (names_in(library), self.errors)

    def end(self) -> None:
        self._end.set()
        self._folder.mkdir(exist_ok=True)
        write_song(self._folder / "end.wav", 99, 1.0)
        self._thread.join(LONG)
        assert not self._thread.is_alive()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("fingerprint.library.sync.QUIET", 0.2)
    monkeypatch.setattr(command, "FIRST_PAUSE", 0.2)
    monkeypatch.setattr(command, "LONGEST_PAUSE", 0.4)
    (tmp_path / "music").mkdir()
    write_song(tmp_path / "music" / "1.wav", 1, 2.0)
    return tmp_path


@pytest.fixture
def watching(place: Path) -> Iterator[Watching]:
    found = Watching(place / "music" / "library", place / "music")
    yield found
    found.end()


def test_folder_deleted_and_recreated_is_still_watched(watching: Watching, place: Path) -> None:
    """gorakhargosh/watchdog#419, #420 and #570: the process saw nothing any more, for ever."""
    library = shutil.move(place / "music" / "library", place / "kept")
    shutil.rmtree(place / "music")
    assert watching.runs.acquire(timeout=LONG)
    (place / "music").mkdir()
    shutil.move(library, place / "music" / "library")
    write_song(place / "music" / "2.wav", 2, 2.0)
    watching.until("2.wav")
    write_song(place / "music" / "3.wav", 3, 2.0)
    watching.until("2.wav", "3.wav")


def test_files_added_while_another_writer_holds_the_lock_are_indexed_later(
    watching: Watching, place: Path
) -> None:
    with Library.open(place / "music" / "library", Toy()) as other, other.writing():
        write_song(place / "music" / "2.wav", 2, 2.0)
        while not watching.errors:
            assert watching.runs.acquire(timeout=LONG)
    assert "is being written by another run" in watching.errors[0]
    watching.until("1.wav", "2.wav")


def test_writes_to_a_library_inside_the_watched_folder_trigger_no_run(
    watching: Watching, place: Path
) -> None:
    write_song(place / "music" / "2.wav", 2, 2.0)
    watching.until("1.wav", "2.wav")
    assert not watching.runs.acquire(timeout=1.0)


def test_a_wait_ends_after_its_time(place: Path) -> None:
    with Watch([place / "music"]) as changes:
        changes.wait(at_most=0.3)


def test_missing_folder_is_watched_until_it_is_created(place: Path) -> None:
    with Watch([place / "none"]) as changes:
        (place / "none").mkdir()
        changes.wait(at_most=LONG)
        with (
            Library.create_or_open(place / "library", Toy()) as library,
            pytest.raises(AudioError),
        ):
            sync(library, [place / "none"])
