"""Changing a library: one writer at a time, each change a single transaction."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fingerprint.audio.peaks import EMPTY, are_sound, joined
from fingerprint.audio.report import Damage
from fingerprint.errors import LibraryError
from fingerprint.index.quantisation import encode
from fingerprint.library.records import REMOVED, Meta, SegmentInfo, Spans, Stamp, hop_block
from fingerprint.library.segments import Stored, delete_files, open_rows, strays, write_segment
from fingerprint.library.store import Catalog, advice
from fingerprint.types import Floats, Ints, PeakCodes, Tags, Track

LOCK = "writer.lock"
MOST_SMALL = 8  # segments; every one costs each query a search of its index


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A track on its way into a library, with its embeddings (rows, dim) and its file's stamp.

    `content` is the digest of the decoded audio, empty where it is not known. The rows are `step`
    hops of the model apart, which divides the step of the library's profile. `peaks` (rows, kept)
    are those of as many blocks of frames; None where they are not known, as of tracks that are made
    up: such tracks are found and not verified.
    """

    track: Track
    stamp: Stamp
    vectors: Floats
    content: bytes = b""
    step: int = 1
    peaks: PeakCodes | None = None
    damage: tuple[Damage, ...] = ()


@dataclass(frozen=True, slots=True)
class Relabel:
    """A track whose recording is now in another file, or has other tags."""

    track_id: int
    path: Path
    stamp: Stamp
    tags: Tags


@dataclass(frozen=True, slots=True)
class Copy:
    """A file that holds the recording of the track at the path `of`."""

    path: Path
    stamp: Stamp
    of: Path


@dataclass(frozen=True, slots=True)
class Changes:
    """What is done in one transaction, in this order: relabel, remove, add, note copies, forget."""

    relabels: Sequence[Relabel] = ()
    removed: Sequence[int] = ()  # track ids
    entries: Sequence[Entry] = ()
    copies: Sequence[Copy] = ()
    forgotten: Sequence[Path] = ()  # copies


class Writer:
    """The one writer of a library; made by `writing`."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._meta = catalog.meta

    def stamps_of(self, paths: Iterable[Path]) -> dict[Path, Stamp]:
        """The tracks and copies among these files, as they were when they were indexed."""
        return self.catalog.stamps_of(paths)

    def add(self, entries: Sequence[Entry]) -> None:
        """Add tracks as one new segment; a track of a path that is there already replaces it.

        Raises:
            LibraryError: the disk is full or fails; the library is as it was.
            ValueError: an entry has no rows, or rows of another size than the library's.
        """
        self.apply(Changes(entries=entries))

    def remove(self, paths: Iterable[Path]) -> int:
        """Remove the tracks of these files; returns how many there were."""
        with self._committed():
            return sum(self.catalog.delete_path(absolute(path)) for path in paths)

    def apply(self, changes: Changes) -> int:
        """Do all of it or, if it fails, nothing; returns how many tracks were removed by number.

        Raises:
            LibraryError, ValueError: as `add`.
        """
        if changes == Changes():
            return 0
        self._check(changes.entries)
        tracks = [stored_of(entry, self._meta) for entry in changes.entries]
        rows = list(map(len, tracks))
        segment = self._write(tracks, rows) if tracks else None
        with self._committed():
            self.catalog.relabel_tracks(
                (one.track_id, one.path, one.stamp, one.tags) for one in changes.relabels
            )
            removed = self.catalog.delete_tracks(changes.removed)
            if segment is not None:
                self._insert(segment, changes.entries, rows)
            for copy in changes.copies:
                if (original := self.catalog.by_path(copy.of)) is not None:
                    self.catalog.insert_copy(copy.path, copy.stamp, original.id)
            self.catalog.forget_copies(changes.forgotten)
        return removed

    def _check(self, entries: Iterable[Entry]) -> None:
        """Raises ValueError for one that the library cannot hold."""
        for entry in entries:
            if not len(entry.vectors) or entry.vectors.shape[1:] != (self._meta.dim,):
                raise ValueError(f"{entry.track.path}: embeddings of shape {entry.vectors.shape}")
            kept = self._meta.peaks_kept // self._meta.profile.step * entry.step
            if entry.peaks is not None and entry.peaks.shape[1:] != (kept,):
                raise ValueError(f"{entry.track.path}: peaks of shape {entry.peaks.shape}")
            block = hop_block(self._meta.hop) * entry.step
            if entry.peaks is not None and not are_sound(entry.peaks, block):
                raise ValueError(f"{entry.track.path}: peaks where there can be none")

    def merge(self) -> None:
        """Make one segment of many small ones and drop removed rows, as `choose_merge` says."""
        while True:
            segments, spans = self.catalog.layout()
            chosen = choose_merge(segments, spans, self._meta.full_rows)
            if not chosen:
                return
            held = {segment.id: one for segment, one in zip(segments, spans, strict=True)}
            self.rewrite(chosen, [held[segment.id] for segment in chosen])

    def compact(self, on_progress: Callable[[int, int], None] = lambda _done, _all: None) -> None:
        """Drop every removed row and make as few segments as their greatest size allows.

        `on_progress` is told how many rows are rewritten, and how many are to be.
        """
        segments, spans = self.catalog.layout()
        held = {segment.id: one for segment, one in zip(segments, spans, strict=True)}
        groups = choose_compaction(segments, spans, self._meta.full_rows)
        done, total = 0, sum(segment.rows for group in groups for segment in group)
        for group in groups:
            on_progress(done, total)
            self.rewrite(group, [held[segment.id] for segment in group])
            done += sum(segment.rows for segment in group)
        on_progress(done, total)

    def rewrite(self, chosen: Sequence[SegmentInfo], spans: Sequence[Spans]) -> None:
        """Make one new segment of the living rows of some, with a new index.

        Codes are copied, so nothing is lost however often; the old indices are not looked at.
        """
        pieces: list[Stored] = []
        for info, held in zip(chosen, spans, strict=True):
            rows = open_rows(self.catalog.folder, info, self._meta)
            pieces += [rows.part(first, count) for first, count in living_runs(held)]
        moved = Spans(
            np.concatenate([held.owners[held.alive] for held in spans]),
            np.concatenate([held.rows[held.alive] for held in spans]),
        )
        segment = self._write(pieces, moved.rows) if pieces else None
        with self._committed():
            if segment is not None:
                self.catalog.insert_segment(segment, moved)
            self.catalog.delete_segments(info.id for info in chosen)

    def sweep(self) -> None:
        """Delete the files of segments that the catalog does not have."""
        segments, _ = self.catalog.layout()
        delete_files(strays(self.catalog.folder, (segment.id for segment in segments)))

    def _insert(self, segment: SegmentInfo, entries: Sequence[Entry], rows: Sequence[int]) -> None:
        now = time.time()
        owners = [
            self.catalog.insert_track(
                entry.track, entry.stamp, entry.content, added=now, damage=entry.damage
            )
            for entry in entries
        ]
        self.catalog.insert_segment(segment, Spans.of(owners, rows))

    def _write(self, pieces: Sequence[Stored], rows: Ints | Sequence[int]) -> SegmentInfo:
        """A segment of tracks of so many rows each, cut into pieces anyhow."""
        number = self.catalog.next_segment()
        return write_segment(self.catalog.folder, number, pieces, self._meta, rows)

    @contextmanager
    def _committed(self) -> Iterator[None]:
        """A transaction; segments that no track is left in go with it, and their files after it."""
        try:
            with self.catalog.transaction():
                yield
                self.catalog.delete_empty_segments()
        finally:
            self.sweep()


def stored_of(entry: Entry, meta: Meta) -> Stored:
    """The rows of a track as a library keeps them, silent where it has no more of one kind."""
    step = meta.profile.step // entry.step
    codes = encode(entry.vectors[::step], meta.profile.bits)
    peaks = np.empty((0, meta.peaks_kept), np.uint16)
    if entry.peaks is not None:
        peaks = joined(entry.peaks, step, hop_block(meta.hop) * entry.step)
    rows = max(len(codes), len(peaks))
    return Stored(
        np.concatenate([codes, np.zeros((rows - len(codes), codes.shape[1]), codes.dtype)]),
        np.concatenate([peaks, np.full((rows - len(peaks), peaks.shape[1]), EMPTY)]),
    )


@contextmanager
def writing(folder: Path) -> Iterator[Writer]:
    """Be the library's one writer for a while; readers go on undisturbed.

    What a killed run left half-written is deleted first.

    Raises:
        LibraryError: another process writes to it, or it cannot be written.
    """
    with locked(folder):
        catalog = Catalog(folder)
        try:
            writer = Writer(catalog)
            writer.sweep()
            yield writer
        finally:
            catalog.close()


def absolute(path: Path) -> Path:
    """The path under which a file is known: from the root, links kept as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def choose_merge(
    segments: Sequence[SegmentInfo], spans: Sequence[Spans], full: int
) -> list[SegmentInfo]:
    """Which segments to make one of, of at most `full` rows; none if the library is fine as it is.

    A segment with more dead rows than living ones is always rewritten. Of segments under half of
    `full`, at most `MOST_SMALL` are left: the smallest are merged, and with them each next
    one that is no larger than all of those together. So a row is rewritten only when its segment
    about doubles: a number of times that grows with the logarithm of the library.
    """
    living = living_rows(segments, spans)
    dead = [s for s in segments if living[s.id] < s.rows / 2]
    small = [s for s in segments if s not in dead and living[s.id] < full / 2]
    small.sort(key=lambda s: (living[s.id], s.id))
    surplus = max(0, len(small) - MOST_SMALL)
    chosen: list[SegmentInfo] = []
    rows = 0
    for segment in dead + (small if surplus else []):
        needed = len(chosen) <= len(dead) + surplus or living[segment.id] <= rows
        if not needed or (chosen and rows + living[segment.id] > full):
            break
        chosen.append(segment)
        rows += living[segment.id]
    return chosen


def choose_compaction(
    segments: Sequence[SegmentInfo], spans: Sequence[Spans], full: int
) -> list[list[SegmentInfo]]:
    """Groups of segments to make one of each: every one with dead rows, and the small ones.

    A group holds at most `full` living rows, unless it is a single segment.
    """
    living = living_rows(segments, spans)
    todo = [s for s in segments if living[s.id] < max(0.99 * s.rows, full / 2)]
    groups: list[list[SegmentInfo]] = []
    room = 0
    for segment in sorted(todo, key=lambda s: (-living[s.id], s.id)):
        if not groups or living[segment.id] > room:
            groups.append([])
            room = full
        groups[-1].append(segment)
        room -= living[segment.id]
    return [group for group in groups if len(group) > 1 or living[group[0].id] < group[0].rows]


def living_rows(segments: Sequence[SegmentInfo], spans: Sequence[Spans]) -> dict[int, int]:
    """Rows of each segment that belong to a track."""
    return {segment.id: held.living for segment, held in zip(segments, spans, strict=True)}


def living_runs(held: Spans) -> list[tuple[int, int]]:
    """The rows of a segment that belong to a track: where each run begins, and how long it is."""
    starts = held.starts
    edges = np.flatnonzero(np.diff(held.owners != REMOVED, prepend=False, append=False))
    runs = starts[edges].reshape(-1, 2)
    return [(begin, end - begin) for begin, end in runs.tolist()]


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
