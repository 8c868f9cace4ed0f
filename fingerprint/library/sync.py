"""Sync a library with folders, once or whenever they change."""

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from queue import Empty, Queue
from time import monotonic
from typing import Any, Self

from fingerprint.audio.files import Presence, display_name, presence, reason, walk
from fingerprint.errors import AudioError, LibraryError
from fingerprint.library.indexing import OnDuplicate, Progress, Report, has_left, index_files
from fingerprint.library.library import Library
from fingerprint.library.records import Listed
from fingerprint.library.writer import Changes, absolute

QUIET = 2.0  # s without a change before a sync starts: copying a file takes a while
LONGEST_UNREST = 60.0  # s after which a sync starts although changes continue
MOST_REMOVED = 0.5  # share of the folders' tracks that are removed without confirmation


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that was not found, whose track was kept because it may come back."""

    path: Path
    presence: Presence


@dataclass(frozen=True, slots=True)
class Synced:
    """What was indexed, the files whose tracks were removed, and those whose tracks were kept."""

    report: Report
    removed: list[Path]
    kept: list[Kept] = field(default_factory=list)


def sync(
    library: Library,
    folders: Sequence[Path],
    *,
    jobs: int = 0,
    on_duplicate: OnDuplicate = "add",
    on_progress: Callable[[Progress], None] = lambda _: None,
    sure: Callable[[int, int], bool] = lambda _removed, _of: False,
) -> Synced:
    """Add what is new in folders, update what has changed, remove what is gone.

    Tracks from outside the folders stay. Files that were moved keep their entries. A track is
    removed only if its file is proven to be gone: where a folder or drive cannot be read, a link
    leads nowhere, or a folder is empty as an unused mount point is, its tracks stay.

    Args:
        library: to change.
        folders: whose recordings the library will hold.
        jobs: as for `index_files`.
        on_duplicate: as for `index_files`.
        on_progress: as for `index_files`.
        sure: called with the number of tracks to remove, and of all tracks in the folders, if a
            folder is empty now or more than `MOST_REMOVED` would be removed; returns whether to
            remove them.

    Raises:
        AudioError: a folder is missing, or holds no audio and `sure` returns False; nothing is
            changed, because its drive may not be mounted.
        LibraryError: another process is writing, or the disk is full; what was committed stays.
    """
    before = _under(library.catalog.listed(), folders)
    known = {one.track.path for one in before} | set(_copies(library, folders))
    found = _Found(folders, known)
    for folder in found.without_audio:
        if not sure(len(_under(before, [folder])), len(before)):
            raise AudioError(
                f"there are no audio files in {display_name(folder)}: if that is so, "
                "`fingerprint remove` the folder, or sync it with --yes; nothing was changed"
            )
    _look_again_at_copies(library, before, found.files)
    report = index_files(
        library, sorted(found.files), jobs=jobs, on_duplicate=on_duplicate, on_progress=on_progress
    )
    # A file that was deleted since the folders were walked is gone; that is no failure.
    report.failed = [one for one in report.failed if presence(one[0]) is not Presence.GONE]
    report.failed += found.unreachable
    listed = _under(library.catalog.listed(), folders)
    states = {one: found.state(one.track.path) for one in listed}
    copies = {path: presence(path) for path in _copies(library, folders)}
    gone = [one for one in listed if states[one] is Presence.GONE]
    emptied = [one for one in listed if states[one] is Presence.EMPTIED]
    forgotten = {Presence.GONE}
    empty = len(emptied) + list(copies.values()).count(Presence.EMPTIED)
    if empty and sure(empty, len(before)):
        gone += emptied
        forgotten.add(Presence.EMPTIED)
    elif len(gone) > max(1, MOST_REMOVED * len(before)) and not sure(len(gone), len(before)):
        gone = []
    _forget(library, gone, [path for path, state in copies.items() if state in forgotten])
    # Copies of removed tracks are forgotten, and get tracks of their own.
    unknown = found.files - set(library.catalog.stamps()) - {path for path, _ in report.failed}
    if unknown:
        again = index_files(library, sorted(unknown), jobs=jobs, on_duplicate=on_duplicate)
        report = report.followed_by(again, removed={one.track.path for one in gone})
    kept = [one for one in listed if states[one] is not Presence.THERE and one not in gone]
    return Synced(
        report,
        [one.track.path for one in gone],
        [Kept(one.track.path, states[one]) for one in kept],
    )


class _Found:
    """The audio files in folders, by the paths that they have in the library, if any."""

    def __init__(self, folders: Sequence[Path], known: Collection[Path]) -> None:
        self.unreachable: list[tuple[Path, str]] = []
        self.without_audio: list[Path] = []
        names: dict[Path, Path] = {}  # by real paths
        for folder in folders:
            before = len(self.unreachable)
            recordings = list(walk([folder], self._unreachable_in(folder)))
            if not recordings and len(self.unreachable) == before:
                self.without_audio.append(folder)
            for path, real in recordings:
                names.setdefault(real, absolute(path))
        found = set(names.values())
        for path in sorted(set(known) - found):
            # A file whose name or suffix the walk does not find, or a second name of a file.
            if presence(path) is Presence.THERE:
                real = Path(os.path.realpath(path))
                if names.get(real) not in known:
                    names[real] = path
        self.files = set(names.values())

    def state(self, path: Path) -> Presence:
        """Whether a track's file exists; a file with two names counts once."""
        state = presence(path)
        return Presence.GONE if state is Presence.THERE and path not in self.files else state

    def _unreachable_in(self, folder: Path) -> Callable[[Path, OSError | ValueError], None]:
        def note(path: Path, error: OSError | ValueError) -> None:
            why = f"cannot read {display_name(path)}: {reason(error)}"
            if path == folder:
                raise AudioError(why) from error
            self.unreachable.append((path, why))

        return note


def _look_again_at_copies(
    library: Library, before: Iterable[Listed], files: Collection[Path]
) -> None:
    """If a track's file is gone or has changed, embed one of its copies in its place."""
    gone = {one.id for one in before if has_left(one)}
    copies = library.catalog.copies().items()
    _forget(library, (), [path for path, of in copies if of in gone and path in files])


def _forget(library: Library, tracks: Iterable[Listed], copies: Sequence[Path]) -> None:
    changes = Changes(removed=sorted(one.id for one in tracks), forgotten=copies)
    if changes.removed or changes.forgotten:
        with library.writing() as writer:
            writer.apply(changes)


def missing(listed: Iterable[Listed]) -> list[Listed]:
    """The tracks whose files are proven to be gone."""
    return [one for one in listed if presence(one.track.path) is Presence.GONE]


def _under(listed: Iterable[Listed], folders: Sequence[Path]) -> list[Listed]:
    return [one for one in listed if _lies_in(one.track.path, folders)]


def _copies(library: Library, folders: Sequence[Path]) -> list[Path]:
    return [path for path in library.catalog.copies() if _lies_in(path, folders)]


def _lies_in(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(absolute(folder)) for folder in folders)


class Watch:
    """Detects changes in folders while its context is open.

    Folders that are deleted and made again, or unmounted and mounted again, are watched again.
    Changes inside the folders `ignore`, such as the library's own, are ignored.
    """

    def __init__(self, folders: Sequence[Path], *, ignore: Sequence[Path] = ()) -> None:
        """Raises LibraryError if watchdog is not installed."""
        try:
            from watchdog.observers import Observer
        except ImportError as error:
            raise LibraryError(
                "watching folders needs watchdog: pip install 'fingerprint[watch]'"
            ) from error
        self._new_observer = Observer
        self._folders = [absolute(folder) for folder in folders]
        self._ignored = [absolute(folder) for folder in ignore]
        self._changes: Queue[None] = Queue()

    def __enter__(self) -> Self:
        self._watched = self._state()
        self._observer = self._start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop()

    def wait(self, at_most: float = inf) -> None:
        """Wait at most `at_most` s for a change, and then until there was none for `QUIET` s."""
        end = monotonic() + at_most
        while not self._changes_within(min(QUIET, max(0.0, end - monotonic()))):
            if monotonic() >= end:
                return
        patience = monotonic() + LONGEST_UNREST
        while self._changes_within(QUIET) and monotonic() < patience:
            pass

    def _changes_within(self, seconds: float) -> bool:
        try:
            self._changes.get(timeout=seconds)
            while not self._changes.empty():
                self._changes.get_nowait()
        except Empty:
            return self._follow()
        return True

    def _follow(self) -> bool:
        """Start to watch folders that are not watched yet; returns whether there were any."""
        state = self._state()
        if state == self._watched:
            return False
        self._stop()
        self._watched = state
        self._observer = self._start()
        return True

    def _state(self) -> tuple[object, ...]:
        """A value that changes if a folder is replaced, or (on Linux) a drive is mounted in one."""
        found: list[object] = []
        for folder in self._folders:
            try:
                status = folder.stat()
                found.append((status.st_dev, status.st_ino))
            except OSError:
                found.append(None)
        mounts = Path("/proc/self/mountinfo")
        names = [os.fsencode(folder).replace(b" ", b"\\040") + b"/" for folder in self._folders]
        lines = mounts.read_bytes().splitlines() if mounts.exists() else []
        found += [line for line in lines if any(name in line for name in names)]
        return tuple(found)

    def _start(self) -> Any:
        from watchdog.events import FileSystemEvent, FileSystemEventHandler

        changes, ignored = self._changes, self._ignored

        class Handler(FileSystemEventHandler):
            """Notes changes of files. Opening and reading them, as indexing does, is no change."""

            def on_any_event(self, event: FileSystemEvent) -> None:
                path = Path(os.fsdecode(event.src_path))
                if event.event_type not in ("opened", "closed_no_write") and not any(
                    path.is_relative_to(folder) for folder in ignored
                ):
                    changes.put(None)

        observer = self._new_observer()
        for folder in self._folders:
            if folder.is_dir():
                observer.schedule(Handler(), str(folder), recursive=True)
        observer.start()
        return observer

    def _stop(self) -> None:
        self._observer.stop()
        self._observer.join()


def watch(folders: Sequence[Path], act: Callable[[], None]) -> None:
    """Call `act` after every change in the folders, once `QUIET` s have passed without another.

    It returns only by an exception, such as a `KeyboardInterrupt`.

    Raises:
        LibraryError: watchdog is not installed.
    """
    with Watch(folders) as changes:
        while True:
            changes.wait()
            act()
