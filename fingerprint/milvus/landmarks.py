"""The landmarks of a library in Milvus: an inverted index that each reader keeps on its own disk.

Milvus finds nearest vectors; it cannot count landmarks at common offsets. So a reader builds the
index from the spectral peaks in the stored rows, when the first doubtful query needs it, and then
only of the tracks that have been added since. It is the index of a folder, so candidates are the
same.

A track's rows never change, so neither does a part, the index of some tracks: it is named by their
numbers, and written under a temporary name and renamed. So processes may share the folder without
locks, and anybody may delete it at any time.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from fingerprint.audio.peaks import EMPTY
from fingerprint.disk import flush
from fingerprint.errors import LibraryError
from fingerprint.index.landmarks import SUFFIX, Landmarks, Query, candidates
from fingerprint.library.segments import delete_files
from fingerprint.types import Candidate, Ints, PeakCodes, Rows

MOST_ROWS = 10_000_000  # of a library with landmarks, 700 h: 650 MB and minutes to build
FULL_ROWS = 500_000  # of a part, unless its only track has more
NUMBERS = "tracks"  # suffix of the file with the numbers and the rows of a part's tracks


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The landmarks of the tracks `number` (n,), which have `rows` (n,) rows each."""

    number: Ints
    rows: Ints
    landmarks: Landmarks

    @property
    def name(self) -> str:
        content = self.number.astype("<i8").tobytes() + self.rows.astype("<i8").tobytes()
        return blake2b(content, digest_size=12).hexdigest()


class LocalLandmarks:
    """The landmarks of the tracks of a library, as far as they have been needed.

    Args:
        folder: where parts are kept; if it cannot be written, they are kept in memory.
        block: frames of a row.
        read: the peaks (rows, kept) of all rows of tracks with these numbers and numbers of rows.
    """

    def __init__(self, folder: Path, block: int, read: Callable[[Ints, Ints], PeakCodes]) -> None:
        self._folder, self._block, self._read = folder, block, read
        self._parts: list[Part] | None = None
        self._lock = Lock()

    def vote(self, query: Query, most: int, number: Ints, rows: Ints) -> list[Candidate]:
        """At most `most` candidates; those of track i of `number` (n,) have the track i."""
        if rows.sum() > MOST_ROWS:
            return []
        with self._lock:
            parts = self._parts = self._updated(number, rows)
        held = np.concatenate([np.empty(0, np.int64), *(part.number for part in parts)])
        track, alive = _found(held, number)
        _, first = np.unique(held, return_index=True)
        alive &= np.isin(np.arange(len(held)), first)  # two processes may both have indexed a track
        lengths = np.concatenate([np.zeros(1, np.int64), *(part.rows for part in parts)])
        found = candidates(
            query,
            [(part.landmarks, int(part.rows.sum())) for part in parts],
            Rows(np.cumsum(lengths)),
            alive,
            block=self._block,
            most=most,
        )
        return [replace(one, track=int(track[one.track])) for one in found]

    def _updated(self, number: Ints, rows: Ints) -> list[Part]:
        """Parts that cover all these tracks. Smaller ones are merged, and those mostly removed."""
        parts = list(self._opened()) if self._parts is None else self._parts
        held = np.concatenate([np.empty(0, np.int64), *(part.number for part in parts)])
        _, known = _found(number, held)
        if known.all():
            return parts
        new, kept = ~known, []
        for part in sorted(parts, key=lambda one: int(one.rows.sum())):
            _, alive = _found(part.number, number)
            here = np.isin(number, part.number)
            size = int(part.rows.sum())
            small = size <= rows[new].sum() and size < FULL_ROWS / 2
            if small or part.rows[alive].sum() < size / 2:
                new |= here
            else:
                kept.append(part)
        gone = [part for part in parts if part not in kept]
        made = [self._made(number[some], rows[some]) for some in _groups(np.flatnonzero(new), rows)]
        for part in gone:
            delete_files([self._path(part.name, SUFFIX), self._path(part.name, NUMBERS)])
        return kept + made

    def _made(self, number: Ints, rows: Ints) -> Part:
        peaks = self._read(number, rows)
        firsts = np.cumsum(rows) - rows
        part = Part(number, rows, Landmarks.of(peaks, self._block, firsts))
        # Rows that a writer is just removing are read as silence. They are not kept.
        audible = np.logical_or.reduceat((peaks != EMPTY).any(axis=1), firsts)
        try:
            if audible.all():
                self._write(part)
                return Part(number, rows, Landmarks.open(self._folder / part.name))
        except (OSError, LibraryError):
            pass  # it stays in memory
        return part

    def _write(self, part: Part) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = f".{part.name}-{os.getpid()}"
        try:
            part.landmarks.write(self._folder / draft)
            with self._path(draft, NUMBERS).open("wb") as file:
                file.write(np.stack([part.number, part.rows]).astype("<i8").data)
            for suffix in (SUFFIX, NUMBERS):  # with the second, the part exists
                flush(self._path(draft, suffix))
                self._path(draft, suffix).replace(self._path(part.name, suffix))
        finally:
            delete_files([self._path(draft, SUFFIX), self._path(draft, NUMBERS)])

    def _opened(self) -> Iterator[Part]:
        """The parts in the folder; damaged ones are deleted."""
        for path in sorted(self._folder.glob(f"*.{NUMBERS}")):
            try:
                number, rows = np.fromfile(path, "<i8").reshape(2, -1).astype(np.int64)
                part = Part(number, rows, Landmarks.open(path.with_suffix("")))
                if part.name == path.stem:
                    yield part
                    continue
            except (OSError, ValueError, LibraryError):
                pass
            delete_files([path, path.with_suffix(f".{SUFFIX}")])

    def _path(self, name: str, suffix: str) -> Path:
        return self._folder / f"{name}.{suffix}"


def _groups(tracks: Ints, rows: Ints) -> list[Ints]:
    """Tracks in groups of at most `FULL_ROWS` rows, unless a single track has more."""
    before = np.cumsum(rows[tracks]) - rows[tracks]
    return np.split(tracks, np.flatnonzero(np.diff(before // FULL_ROWS)) + 1)


def _found(wanted: Ints, held: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Where in `held` each number of `wanted` is, and whether it is."""
    order = np.argsort(held, kind="stable")
    at = np.searchsorted(held[order], wanted)
    at = order[np.minimum(at, len(held) - 1)] if len(held) else np.zeros(len(wanted), np.int64)
    return at, held[at] == wanted if len(held) else np.zeros(len(wanted), bool)
