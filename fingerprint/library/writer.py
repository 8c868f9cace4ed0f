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
MOST_SMALL = 8  # segments: each query searches the index of every one


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A track to be added, with its embeddings (rows, dim) and its file's stamp.

    `content` is the digest of the decoded audio, empty if unknown. Rows are `step` model hops
    apart; `step` divides the step of the library's profile. `peaks` (rows, kept) holds the peaks of
    one block of frames a row; None for made-up tracks, which are found but cannot be verified.
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
    """A track whose recording moved to another file, or got other tags."""

    track_id: int
    path: Path
    stamp: Stamp
    tags: Tags


@dataclass(frozen=True, slots=True)
class Copy:
    """A file with the same recording as the track at the path `of`."""

    path: Path
    stamp: Stamp
    of: Path


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes of one transaction, made in this order: relabel, remove, add, note copies, forget."""

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
        """Add tracks as one new segment; a track replaces the one that has the same path.

        Raises:
            LibraryError: the disk is full or fails; the library is as it was.
            ValueError: an entry has no rows, or rows of another size than the library's.
        """
        self.apply(Changes(entries=entries))

    def remove(self, paths: Iterable[Path]) -> int:
        """Remove the tracks of these files; returns how many were removed."""
        with self._committed():
            return sum(self.catalog.delete_path(absolute(path)) for path in paths)

    def apply(self, changes: Changes) -> int:
        """Make all changes or, on an error, none; returns how many of `removed` existed.

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
        """Raise ValueError for an entry without rows, or with rows of another dimension."""
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
        """Merge small segments and drop dead rows, as `choose_merge` chooses."""
        while True:
            segments, spans = self.catalog.layout()
            chosen = choose_merge(segments, spans, self._meta.full_rows)
            if not chosen:
                return
            self.rewrite(chosen)

    def compact(self, on_progress: Callable[[int, int], None] = lambda _done, _all: None) -> None:
        """Drop every dead row and merge segments as far as their maximum size allows.

        `on_progress(done, total)` gets the number of rows rewritten so far, and of all to rewrite.
        """
        segments, spans = self.catalog.layout()
        groups = choose_compaction(segments, spans, self._meta.full_rows)
        done, total = 0, sum(segment.rows for group in groups for segment in group)
        for group in groups:
            on_progress(done, total)
            self.rewrite(group)
            done += sum(segment.rows for segment in group)
        on_progress(done, total)

    def rewrite(self, chosen: Sequence[SegmentInfo]) -> None:
        """Make one new segment of the living rows of some, with a new index.

        Codes are copied, never decoded, so rewriting loses nothing; the old indices are not read.
        """
        every = {info.id: held for info, held in zip(*self.catalog.layout(), strict=True)}
        spans = [every[info.id] for info in chosen]
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
        """Delete the files of segments that the catalog does not list."""
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
        """Write a segment of tracks with `rows` rows each, which come in pieces of any length."""
        number = self.catalog.next_segment()
        return write_segment(self.catalog.folder, number, pieces, self._meta, rows)

    @contextmanager
    def _committed(self) -> Iterator[None]:
        """A transaction that also deletes segments without tracks, and then their files."""
        try:
            with self.catalog.transaction():
                yield
                self.catalog.delete_empty_segments()
        finally:
            self.sweep()


def stored_of(entry: Entry, meta: Meta) -> Stored:
    """A track's rows as they are stored; the shorter of codes and peaks is padded with silence."""
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
    """Hold the library's write lock; readers are not blocked.

    Partly written files of a killed run are deleted first.

    Raises:
        LibraryError: another process holds the lock, or the folder cannot be written.
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
    """The absolute path under which a file is recorded; links are not resolved."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def choose_merge(
    segments: Sequence[SegmentInfo], spans: Sequence[Spans], full: int
) -> list[SegmentInfo]:
    """Segments to merge into one of at most `full` rows; empty if nothing needs merging.

    A segment with more dead rows than living ones is always rewritten. At most `MOST_SMALL`
    segments under half of `full` remain: the smallest are merged, and then each next larger one
    that has no more rows than those together. So a row is rewritten only when its segment about
    doubles, and the number of rewrites grows with the logarithm of the library.
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
    """Groups of segments, each to be merged into one: those with dead rows, and the small ones.

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
    """Hold the write lock: an SQLite lock, which works everywhere and ends with its process."""
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
