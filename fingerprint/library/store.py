"""The catalog of a library: one SQLite file that says which segments and tracks exist.

On disk a library is a folder:

    catalog.db            the truth: what is not in it does not exist
    segments/000001.npy   embeddings (rows, dim) float16, memory-mapped when read
    segments/000001.ann   their Annoy index, with its sidecar
    writer.lock           held by the one process that writes

Segment files are written first and never changed; a single transaction then makes them part of
the library. A track that is removed only loses its row here, and its embeddings lie dead in their
segment until the segment is merged away. The catalog keeps SQLite's rollback journal (no WAL), so
that a library on a read-only disk can be read.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Self

from fingerprint.errors import LibraryError
from fingerprint.types import Tags, Track

FORMAT = 1
CATALOG = "catalog.db"
BUSY_TIMEOUT = 30.0  # s that a reader waits for a commit, which takes milliseconds

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL);
CREATE TABLE segments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, not even after a deletion
    rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL,  -- of all its files
    vectors_digest TEXT NOT NULL,
    index_digest TEXT NOT NULL
);
CREATE TABLE tracks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    segment INTEGER NOT NULL REFERENCES segments (id),
    first_row INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    path BLOB NOT NULL UNIQUE,  -- the bytes of the absolute path: names need not be valid text
    size INTEGER NOT NULL,  -- bytes
    mtime_ns INTEGER NOT NULL,
    duration REAL NOT NULL,  -- s
    title TEXT NOT NULL,
    artist TEXT NOT NULL,
    album TEXT NOT NULL,
    isrc TEXT NOT NULL,
    musicbrainz_recording TEXT NOT NULL,
    musicbrainz_release TEXT NOT NULL,
    added REAL NOT NULL  -- s since 1970
);
CREATE INDEX tracks_by_place ON tracks (segment, first_row);
"""
_TRACK = "path, duration, title, artist, album, isrc, musicbrainz_recording, musicbrainz_release"


@dataclass(frozen=True, slots=True)
class Meta:
    """What a library is made for: embeddings of one model, `dim` wide, one every `hop` seconds."""

    model_id: str
    dim: int
    hop: float  # s


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """A segment's line in the catalog; the digests are those of `segments.digest`."""

    id: int
    rows: int
    bytes: int
    vectors_digest: str
    index_digest: str


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a track's embeddings lie: `rows` rows of a segment, from `first_row` on."""

    track_id: int
    segment: int
    first_row: int
    rows: int


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells a changed file from an unchanged one."""

    size: int  # bytes
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Raises OSError if there is no such file."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class LibraryInfo:
    """A library in numbers."""

    tracks: int
    hours: float  # of audio
    bytes: int  # on disk
    segments: int
    model_id: str
    format: int


class Catalog:
    """An open catalog. Every method is one transaction and turns SQLite's errors into ours."""

    def __init__(self, folder: Path) -> None:
        """Open the catalog in `folder`.

        Raises:
            LibraryError: there is none, it is damaged, or it is of another format version.
        """
        self.folder = folder
        path = folder / CATALOG
        if not path.is_file():
            raise LibraryError(
                f"{folder} is not a fingerprint library: it has no {CATALOG}; "
                "make one with `fingerprint index`, or name another folder"
            )
        with self._reporting():
            # A reader too may have to roll back what a killed writer left: "rw", which SQLite
            # takes for "ro" where the disk is read-only.
            uri = f"{path.absolute().as_uri()}?mode=rw"
            self._db = sqlite3.connect(
                uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA synchronous = FULL")
            found = dict(self._db.execute("SELECT key, value FROM meta"))
        if found.get("format") != FORMAT:
            raise LibraryError(
                f"the library {folder} has format {found.get('format')}, this version reads "
                f"format {FORMAT}: index the music again into a new folder"
            )
        self.meta = Meta(str(found["model"]), int(found["dim"]), float(found["hop"]))

    def close(self) -> None:
        self._db.close()

    def version(self) -> int:
        """A number that changes whenever another connection has changed the catalog."""
        with self._reporting():
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def layout(self) -> tuple[list[SegmentInfo], list[Extent]]:
        """Every segment by id, and every track's place by segment and row, at one moment."""
        with self.transaction("DEFERRED"):
            segments = self._db.execute(
                "SELECT id, rows, bytes, vectors_digest, index_digest FROM segments ORDER BY id"
            ).fetchall()
            extents = self._db.execute(
                "SELECT id, segment, first_row, rows FROM tracks ORDER BY segment, first_row"
            ).fetchall()
        return [SegmentInfo(*row) for row in segments], [Extent(*row) for row in extents]

    def tracks(self) -> list[Track]:
        """Every track, in the order of their paths."""
        with self._reporting():
            found = self._db.execute(f"SELECT {_TRACK} FROM tracks ORDER BY path").fetchall()  # noqa: S608 - constant
        return [_track(row) for row in found]

    def track(self, track_id: int) -> Track | None:
        """The track of that number; None if it has been removed."""
        with self._reporting():
            row = self._db.execute(
                f"SELECT {_TRACK} FROM tracks WHERE id = ?",  # noqa: S608 - constant
                (track_id,),
            ).fetchone()
        return None if row is None else _track(row)

    def stamps(self) -> dict[Path, Stamp]:
        """What every track's file looked like when it was indexed."""
        with self._reporting():
            found = self._db.execute("SELECT path, size, mtime_ns FROM tracks").fetchall()
        return {Path(os.fsdecode(path)): Stamp(size, time) for path, size, time in found}

    def info(self) -> LibraryInfo:
        with self.transaction("DEFERRED"):
            tracks, seconds = self._db.execute(
                "SELECT count(*), total(duration) FROM tracks"
            ).fetchone()
            segments, size = self._db.execute(
                "SELECT count(*), total(bytes) FROM segments"
            ).fetchone()
        size = int(size) + (self.folder / CATALOG).stat().st_size
        return LibraryInfo(tracks, seconds / 3600, size, segments, self.meta.model_id, FORMAT)

    def next_segment(self) -> int:
        """The number that the next segment gets."""
        with self._reporting():
            row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'segments'")
            found = row.fetchone()
        return 1 if found is None else int(found[0]) + 1

    @contextmanager
    def transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        """Everything within happens, or nothing does."""
        with self._reporting():
            self._db.execute(f"BEGIN {kind}")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk has rolled back by itself
                    self._db.execute("ROLLBACK")
                raise

    # The rest is called within a transaction of the writer.

    def insert_segment(self, segment: SegmentInfo) -> None:
        self._db.execute("INSERT INTO segments VALUES (?, ?, ?, ?, ?)", astuple(segment))

    def insert_track(
        self, track: Track, stamp: Stamp, place: tuple[int, int, int], *, added: float
    ) -> None:
        """Add a track at `place` (segment, first row, rows); it replaces the one of that path."""
        self._db.execute(
            "INSERT OR REPLACE INTO tracks VALUES (NULL, ?,?,?, ?,?,?, ?, ?,?,?,?,?,?, ?)",
            (
                *place,
                os.fsencode(track.path),
                stamp.size,
                stamp.mtime_ns,
                track.duration,
                *map(_storable, astuple(track.tags)),
                added,
            ),
        )

    def move_track(self, track_id: int, *, segment: int, first_row: int) -> None:
        self._db.execute(
            "UPDATE tracks SET segment = ?, first_row = ? WHERE id = ?",
            (segment, first_row, track_id),
        )

    def delete_track(self, path: Path) -> int:
        """How many were removed: one or none."""
        return self._db.execute("DELETE FROM tracks WHERE path = ?", (os.fsencode(path),)).rowcount

    def delete_empty_segments(self) -> None:
        self._db.execute("DELETE FROM segments WHERE id NOT IN (SELECT segment FROM tracks)")

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise LibraryError(f"{self.folder / CATALOG}: {error}; {advice(error)}") from error


def create_catalog(folder: Path, meta: Meta) -> None:
    """Write an empty catalog into a folder; it is there completely or not at all."""
    new = folder / f"{CATALOG}.new"
    new.unlink(missing_ok=True)
    db = sqlite3.connect(new, isolation_level=None)
    try:
        db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        db.executemany(
            "INSERT INTO meta VALUES (?, ?)",
            [("format", FORMAT), ("model", meta.model_id), ("dim", meta.dim), ("hop", meta.hop)],
        )
    finally:
        db.close()
    new.replace(folder / CATALOG)


def _track(row: tuple[Any, ...]) -> Track:
    path, duration, *tags = row
    return Track(Path(os.fsdecode(path)), duration, Tags(*tags))


def _storable(text: str) -> str:
    """SQLite takes no lone surrogates, which a broken tag may hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def advice(error: sqlite3.DatabaseError) -> str:
    """What to do about it."""
    text = str(error)
    if "locked" in text:
        return "another program holds it; try again when it is done"
    if "full" in text or "disk I/O" in text:
        return "free space on the disk and run again: what was indexed before is kept"
    if "readonly" in text or "unable to open" in text:
        return "check that you may read and write the folder"
    return "the catalog is damaged: restore it from a copy, or index into a new folder"
