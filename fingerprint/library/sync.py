"""Making a library equal to folders, once or for as long as they change."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue

from fingerprint.audio.files import display_name, find_audio
from fingerprint.errors import AudioError, LibraryError
from fingerprint.library.indexing import OnDuplicate, Progress, Report, index_files
from fingerprint.library.library import Library
from fingerprint.library.records import Listed
from fingerprint.library.writer import Changes, absolute

QUIET = 2.0  # s without a change before changes are acted on: files take a while to copy


@dataclass(frozen=True, slots=True)
class Synced:
    """What was indexed, and the files whose tracks were removed."""

    report: Report
    removed: list[Path]


def sync(
    library: Library,
    folders: Sequence[Path],
    *,
    jobs: int = 0,
    on_duplicate: OnDuplicate = "add",
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Synced:
    """Add what is new in folders, update what has changed, remove what is gone.

    Tracks from outside the folders stay. Files that were moved keep their entries.

    Raises:
        AudioError: a folder is missing or holds no audio: as if it were on a drive that is not
            there, nothing is removed.
        LibraryError: another process is writing, or the disk is full; what was committed stays.
    """
    files: dict[Path, None] = {}
    for folder in folders:
        found = list(map(absolute, find_audio([folder])))
        if not found:
            raise AudioError(
                f"there are no audio files in {display_name(folder)}: if that is so, "
                "`fingerprint remove` the folder; nothing was changed"
            )
        files.update(dict.fromkeys(found))
    report = index_files(
        library, list(files), jobs=jobs, on_duplicate=on_duplicate, on_progress=on_progress
    )
    gone = [one for one in _under(library.catalog.listed(), folders) if one.track.path not in files]
    if gone:
        ids = {one.id for one in gone}
        orphans = [path for path, of in library.catalog.copies().items() if of in ids]
        with library.writing() as writer:
            writer.apply(Changes(removed=sorted(ids)))
        present = [path for path in orphans if path in files]
        if present:  # they have no track that stands for them any more
            again = index_files(library, present, jobs=jobs, on_duplicate=on_duplicate)
            report.added += again.added
    return Synced(report, [one.track.path for one in gone])


def missing(listed: Iterable[Listed]) -> list[Listed]:
    """The tracks whose files are gone."""
    return [one for one in listed if not one.track.path.exists()]


def _under(listed: Iterable[Listed], folders: Sequence[Path]) -> list[Listed]:
    roots = [absolute(folder) for folder in folders]
    return [one for one in listed if any(one.track.path.is_relative_to(root) for root in roots)]


def watch(folders: Sequence[Path], act: Callable[[], None]) -> None:
    """Call `act` whenever something in the folders has changed and it has been quiet since.

    It returns only by an exception, such as a `KeyboardInterrupt`.

    Raises:
        LibraryError: watchdog is not installed.
    """
    try:
        from watchdog.events import FileSystemEvent, FileSystemEventHandler
        from watchdog.observers import Observer
    except ImportError as error:
        raise LibraryError(
            "watching folders needs watchdog: pip install 'fingerprint[watch]'"
        ) from error
    changes: Queue[None] = Queue()

    class Handler(FileSystemEventHandler):
        """Notes that something changed; reading files, as indexing does, is no change."""

        def on_any_event(self, event: FileSystemEvent) -> None:
            if event.event_type not in ("opened", "closed_no_write"):
                changes.put(None)

    observer = Observer()
    for folder in folders:
        observer.schedule(Handler(), str(folder), recursive=True)
    observer.start()
    try:
        while True:
            changes.get()
            _settle(changes)
            act()
    finally:
        observer.stop()
        observer.join()


def _settle(changes: "Queue[None]") -> None:
    """Wait until nothing has changed for a while."""
    while True:
        try:
            changes.get(timeout=QUIET)
        except Empty:
            return
