"""Merge the tracks of other libraries into one, without their music."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fingerprint.errors import LibraryError
from fingerprint.library.library import Library
from fingerprint.library.records import REMOVED, Meta
from fingerprint.library.snapshot import Snapshot, take_snapshot
from fingerprint.library.store import Catalog
from fingerprint.library.writer import Changes, Copy, Entry, Writer

BATCH_ROWS = 200_000  # embeddings of a commit: 100 MB of memory


@dataclass(frozen=True, slots=True)
class Merged:
    """The number of tracks added, and of tracks that the library had already."""

    added: int
    known: int


def merge_library(
    library: Library, source: Path, on_progress: Callable[[int, int], None] = lambda _d, _a: None
) -> Merged:
    """Add the tracks of another library, except those whose path or content this one has.

    Raises:
        LibraryError: the other library is missing, damaged, of another model, or the same library;
            or another process is writing to this one.
    """
    if source.resolve() == library.folder.resolve():
        raise LibraryError(f"{source} is the library that others are to be merged into")
    catalog = Catalog(source)
    try:
        ours, theirs = library.meta, catalog.meta
        if _made_for(ours) != _made_for(theirs):
            raise LibraryError(
                f"{source} was made with model {theirs.model_id[:12]}, {library.folder} with "
                f"{ours.model_id[:12]}: index its music into this library instead"
            )
        if ours.profile.step % theirs.profile.step:
            raise LibraryError(
                f"{source} has the profile {theirs.profile.name} and keeps less than "
                f"{library.folder}: index its music into this library instead"
            )
        with library.writing() as writer:
            return _merged(writer, catalog, take_snapshot(catalog), on_progress)
    finally:
        catalog.close()


def _made_for(meta: Meta) -> tuple[object, ...]:
    """What follows from a library's model."""
    return meta.model_id, meta.dim, meta.hop, meta.indexed_dims


def _merged(
    writer: Writer, source: Catalog, now: Snapshot, on_progress: Callable[[int, int], None]
) -> Merged:
    known = writer.stamps_of(source.stamps())
    total, added = len(now.owners), 0
    batch: list[Entry] = []
    copies: list[Copy] = []
    noted = source.copies_by_track()
    seen = 0
    for number, (owner, entry) in enumerate(_entries(source, now)):
        on_progress(number, total)
        seen += 1
        if entry.track.path in known or (
            entry.content and writer.catalog.by_content(entry.content)
        ):
            continue
        batch.append(entry)
        others = [one for one in noted.get(owner, ()) if one[0] not in known]
        copies += [Copy(path, stamp, entry.track.path) for path, stamp in others]
        added += 1
        if sum(len(one.vectors) for one in batch) >= BATCH_ROWS:
            writer.apply(Changes(entries=batch, copies=copies))
            batch, copies = [], []
    writer.apply(Changes(entries=batch, copies=copies))
    writer.merge()
    return Merged(added, seen - added)


def _entries(source: Catalog, now: Snapshot) -> Iterator[tuple[int, Entry]]:
    damage = source.damage()
    for span, owner in enumerate(now.owners.tolist()):
        listed = source.by_id(owner) if owner != REMOVED else None
        if listed is not None:
            rows = np.arange(*now.rows.starts[span : span + 2], dtype=np.int64)
            vectors = now.vectors(rows)
            entry = Entry(
                listed.track,
                listed.stamp,
                vectors,
                listed.content,
                source.meta.profile.step,
                now.peaks(rows),
                damage.get(listed.id, ()),
            )
            yield owner, entry
