"""Changing a library: one writer at a time, each change a single transaction."""

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fingerprint.errors import LibraryError
from fingerprint.library.segments import delete_files, open_segment, strays, write_segment
from fingerprint.library.store import Catalog, Extent, SegmentInfo, Stamp, advice
from fingerprint.types import Floats, Track

LOCK = "writer.lock"
MOST_SMALL = 8  # segments; every one costs each query a search of its index
FULL_ROWS = 500_000  # rows a merge makes at most, about 36 h; 256 MB of memory at 128 numbers each


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A track on its way into a library, with its embeddings (rows, dim) and its file's stamp."""

    track: Track
    stamp: Stamp
    vectors: Floats


class Writer:
    """The one writer of a library; made by `writing`."""

    def __init__(self, catalog: Catalog, *, trees: int) -> None:
        self._catalog = catalog
        self._trees = trees

    def stamps(self) -> dict[Path, Stamp]:
        """Every track's file as it was when it was indexed."""
        return self._catalog.stamps()

    def add(self, entries: Sequence[Entry]) -> None:
        """Add tracks as one new segment; a track of a path that is there already replaces it.

        Raises:
            LibraryError: the disk is full or fails; the library is as it was.
            ValueError: an entry has no rows, or rows of another size than the library's.
        """
        if not entries:
            return
        for entry in entries:
            if not len(entry.vectors) or entry.vectors.shape[1:] != (self._catalog.meta.dim,):
                raise ValueError(f"{entry.track.path}: embeddings of shape {entry.vectors.shape}")
        vectors = np.concatenate([entry.vectors for entry in entries])
        segment = self._write(vectors)
        first, now = 0, time.time()
        with self._committed():
            self._catalog.insert_segment(segment)
            for entry in entries:
                place = (segment.id, first, len(entry.vectors))
                self._catalog.insert_track(entry.track, entry.stamp, place, added=now)
                first += len(entry.vectors)

    def remove(self, paths: Iterable[Path]) -> int:
        """Remove the tracks of these files; returns how many there were."""
        with self._committed():
            return sum(self._catalog.delete_track(absolute(path)) for path in paths)

    def merge(self) -> None:
        """Make one segment of many small ones and drop removed rows, as `choose_merge` says."""
        while True:
            segments, extents = self._catalog.layout()
            chosen = choose_merge(segments, extents)
            if not chosen:
                return
            self._merge(chosen, [e for e in extents if e.segment in {s.id for s in chosen}])

    def sweep(self) -> None:
        """Delete the files of segments that the catalog does not have."""
        segments, _ = self._catalog.layout()
        delete_files(strays(self._catalog.folder, (segment.id for segment in segments)))

    def _merge(self, chosen: Sequence[SegmentInfo], extents: Sequence[Extent]) -> None:
        opened = {
            info.id: open_segment(self._catalog.folder, info, self._catalog.meta.dim).vectors
            for info in chosen
        }
        vectors = np.empty((sum(e.rows for e in extents), self._catalog.meta.dim), np.float32)
        firsts = []
        first = 0
        for extent in extents:
            old = slice(extent.first_row, extent.first_row + extent.rows)
            vectors[first : first + extent.rows] = opened[extent.segment][old]
            firsts.append(first)
            first += extent.rows
        segment = self._write(vectors)
        with self._committed():
            self._catalog.insert_segment(segment)
            for extent, first in zip(extents, firsts, strict=True):
                self._catalog.move_track(extent.track_id, segment=segment.id, first_row=first)

    def _write(self, vectors: Floats) -> SegmentInfo:
        number = self._catalog.next_segment()
        return write_segment(self._catalog.folder, number, vectors, trees=self._trees)

    @contextmanager
    def _committed(self) -> Iterator[None]:
        """A transaction; segments that no track is left in go with it, and their files after it."""
        try:
            with self._catalog.transaction():
                yield
                self._catalog.delete_empty_segments()
        finally:
            self.sweep()


@contextmanager
def writing(folder: Path, *, trees: int) -> Iterator[Writer]:
    """Be the library's one writer for a while; readers go on undisturbed.

    What a killed run left half-written is deleted first.

    Raises:
        LibraryError: another process writes to it, or it cannot be written.
    """
    with locked(folder):
        catalog = Catalog(folder)
        try:
            writer = Writer(catalog, trees=trees)
            writer.sweep()
            yield writer
        finally:
            catalog.close()


def absolute(path: Path) -> Path:
    """The path under which a file is known: from the root, links kept as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def choose_merge(segments: Sequence[SegmentInfo], extents: Sequence[Extent]) -> list[SegmentInfo]:
    """Which segments to make one of; none if the library is fine as it is.

    A segment with more dead rows than living ones is always rewritten. Of segments under half of
    `FULL_ROWS`, at most `MOST_SMALL` are left: the smallest are merged, and with them each next
    one that is no larger than all of those together. So a row is rewritten only when its segment
    about doubles: a number of times that grows with the logarithm of the library.
    """
    living = dict.fromkeys((segment.id for segment in segments), 0)
    for extent in extents:
        living[extent.segment] += extent.rows
    dead = [s for s in segments if living[s.id] < s.rows / 2]
    small = [s for s in segments if s not in dead and living[s.id] < FULL_ROWS / 2]
    small.sort(key=lambda s: (living[s.id], s.id))
    surplus = max(0, len(small) - MOST_SMALL)
    chosen: list[SegmentInfo] = []
    rows = 0
    for segment in dead + (small if surplus else []):
        needed = len(chosen) <= len(dead) + surplus or living[segment.id] <= rows
        if not needed or (chosen and rows + living[segment.id] > FULL_ROWS):
            break
        chosen.append(segment)
        rows += living[segment.id]
    return chosen


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the library's lock: SQLite's own, which every system has and a killed process drops."""
    try:
        lock = sqlite3.connect(
            folder / LOCK, timeout=0, isolation_level=None, check_same_thread=False
        )
    except sqlite3.DatabaseError as error:
        raise LibraryError(_lock_error(folder, error)) from error
    try:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.DatabaseError as error:
            raise LibraryError(_lock_error(folder, error)) from error
        yield
    finally:
        lock.close()


def _lock_error(folder: Path, error: sqlite3.DatabaseError) -> str:
    if "locked" in str(error):
        return f"the library {folder} is being written by another run: try again when it is done"
    return f"cannot write to the library {folder}: {error}; {advice(error)}"
