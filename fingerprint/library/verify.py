"""Verify every byte of a library against its checksums, and repair what is damaged."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fingerprint.audio.files import Presence, display_name, presence, reason
from fingerprint.audio.source import open_recording
from fingerprint.errors import LibraryError
from fingerprint.library.embedding import Failure, embed_files
from fingerprint.library.library import Embedder
from fingerprint.library.records import REMOVED, Listed, SegmentInfo, Stamp
from fingerprint.library.segments import CODES, PEAKS, damaged_files
from fingerprint.library.snapshot import place_rows
from fingerprint.library.store import CATALOG, Catalog
from fingerprint.library.writer import Changes, Copy, Entry, Writer, writing
from fingerprint.types import Track


@dataclass(frozen=True, slots=True)
class Fault:
    """A damaged file and the tracks whose embeddings are lost with it."""

    path: Path
    reason: str
    segment: SegmentInfo | None = None  # None: the damaged file is the catalog
    tracks: tuple[Listed, ...] = ()


@dataclass(frozen=True, slots=True)
class Repairs:
    """The result of a repair: what was done about the tracks of damaged segments."""

    rebuilt: int  # tracks that only needed a new index
    embedded: list[Path]  # embedded again from their files
    lost: list[tuple[Path, str]]  # removed, since their files are gone or unreadable; with reasons
    waiting: list[tuple[Path, str]]  # left damaged, since their files are out of reach; reasons


def check(
    catalog: Catalog, on_progress: Callable[[int, int], None] = lambda _done, _all: None
) -> list[Fault]:
    """All faults of a library; every byte is read.

    `on_progress(done, total)` gets the number of segments that have been read, and of all.

    Raises:
        LibraryError: a file cannot be read, so nothing is known about its content.
    """
    where = catalog.folder / CATALOG
    if faults := catalog.faults():
        return [Fault(where, text) for text in faults]
    infos, spans, listed = catalog.contents()
    try:
        _, owners = place_rows(infos, spans)
    except LibraryError as error:
        return [Fault(where, str(error))]
    if astray := set(owners.tolist()) - {REMOVED} ^ set(listed):
        return [Fault(where, f"the catalog is damaged: track {min(astray)} lies in no segment")]
    found = []
    for number, (info, held) in enumerate(zip(infos, spans, strict=True)):
        on_progress(number, len(infos))
        for path in damaged_files(catalog.folder, info, catalog.meta):
            lost = path.suffix[1:] in (CODES, PEAKS)
            living = held.owners[held.alive].tolist() if lost else ()
            tracks = tuple(listed[number] for number in living)
            reason = "is not what was written" if path.exists() else "is missing"
            found.append(Fault(path, reason, info, tracks))
    on_progress(len(infos), len(infos))
    return found


def repair(folder: Path, model: Embedder, *, jobs: int = 0) -> Repairs:
    """Rebuild damaged segments: an index from its embeddings, embeddings from the music.

    Tracks whose embeddings are damaged and whose files are gone, or no recordings any more, are
    removed. If files may only be out of reach, as on a drive that is not mounted, their segment is
    left as it is.

    Raises:
        LibraryError: the catalog itself is damaged, something cannot be read, the library is of
            another model, or another process is writing.
    """
    done = Repairs(0, [], [], [])
    with writing(folder) as writer:
        if writer.catalog.meta.model_id != model.id:
            raise LibraryError(f"the library {folder} was made with another model")
        faults = check(writer.catalog)
        for fault in faults:
            if fault.segment is None:
                raise LibraryError(
                    f"{fault.path}: {fault.reason}; a damaged catalog cannot be repaired: restore "
                    "it from a copy, or index the music again into a new folder"
                )
        beyond = {fault.segment.id for fault in faults if fault.segment and fault.tracks}
        for fault in faults:
            if fault.tracks:
                done = _embedded(writer, fault.tracks, model, jobs, done)
        damaged = {fault.segment.id for fault in faults if fault.segment} - beyond
        for info, held in zip(*writer.catalog.layout(), strict=True):
            if info.id in damaged:
                writer.rewrite([info])
                done = replace(done, rebuilt=done.rebuilt + len(held.alive))
    return done


def _embedded(
    writer: Writer, tracks: Sequence[Listed], model: Embedder, jobs: int, done: Repairs
) -> Repairs:
    """Embed the files of these tracks again and replace the tracks, in one transaction.

    A copy of a track takes the place of a file that is gone.
    """
    copies = writer.catalog.copies_by_track()
    chosen, lost, waiting = _chosen(tracks, copies)
    if waiting:
        return replace(done, waiting=done.waiting + waiting)
    entries: list[Entry] = []
    noted: list[Copy] = []
    files = {path: Stamp.of(path) for path in chosen}
    for result in embed_files(files, model, jobs=jobs):
        if isinstance(result, Failure):
            lost.append((result.path, result.reason))
        elif result.vectors is not None:
            track = Track(result.path, result.duration, result.tags)
            old = chosen[result.path]
            if result.path != old.track.path or result.content == old.content:
                others = [(old.track.path, old.stamp), *copies.get(old.id, ())]
                noted += [Copy(path, stamp, result.path) for path, stamp in others]
            entries.append(
                Entry(
                    track,
                    result.stamp,
                    result.vectors,
                    result.content,
                    peaks=result.peaks,
                    damage=result.damage,
                )
            )
    # Entries replace tracks of the same path; the others are removed.
    kept = {entry.track.path for entry in entries}
    removed = [one.id for one in tracks if one.track.path not in kept]
    noted = [
        one for one in noted if one.path not in kept and presence(one.path) is not Presence.GONE
    ]
    writer.apply(Changes(removed=removed, entries=entries, copies=noted))
    paths = [entry.track.path for entry in entries]
    return replace(done, embedded=done.embedded + paths, lost=done.lost + lost)


def _chosen(
    tracks: Iterable[Listed], copies: Mapping[int, Sequence[tuple[Path, Stamp]]]
) -> tuple[dict[Path, Listed], list[tuple[Path, str]], list[tuple[Path, str]]]:
    """The file to embed for each track; files that are lost; files out of reach, with reasons."""
    chosen: dict[Path, Listed] = {}
    lost: list[tuple[Path, str]] = []
    waiting: list[tuple[Path, str]] = []
    for one in tracks:
        candidates = [one.track.path, *(copy for copy, _ in copies.get(one.id, ()))]
        whys = {path: _why_not(path) for path in candidates}
        if readable := [path for path, why in whys.items() if why is None]:
            chosen[readable[0]] = one
            continue
        is_gone = all(presence(path) is Presence.GONE for path in candidates)
        (lost if is_gone else waiting).append((one.track.path, whys[one.track.path] or ""))
    return chosen, lost, waiting


def _why_not(path: Path) -> str | None:
    """Why a file cannot be read; None if it can."""
    try:
        open_recording(path).close()
    except OSError as error:
        return f"cannot read {display_name(path)}: {reason(error)}"
    return None
