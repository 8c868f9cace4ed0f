"""The catalog of a library: one SQLite file that says which segments and tracks exist.

On disk a library is a folder:

    catalog.db              which segments and tracks exist; files it does not list are ignored
    segments/000001.npy     embeddings (rows, width), memory-mapped when read; see `profiles`
    segments/000001.ann     their Annoy index, with its sidecar .json, if the profile has one
    segments/000001.faiss   or their IVF-PQ index
    writer.lock             held by the one process that writes

Segment files are written first and never changed; a single transaction then makes them part of the
library. A segment's row says which tracks it holds, as one array, so that opening a library of any
size reads a few rows and no track. A track that is removed only loses its row here, and its
embeddings lie dead in their segment until the segment is merged away. The catalog keeps SQLite's
rollback journal (no WAL), so that a library on a read-only disk can be read. It is synchronous to
the end (EXTRA): files of a segment that was merged away are deleted only once no power cut can
bring the old catalog back.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from fingerprint.audio.files import display_name
from fingerprint.audio.report import Damage
from fingerprint.config import INDEXED_DIMS
from fingerprint.disk import flush
from fingerprint.errors import LibraryError
from fingerprint.library.profiles import profile_of
from fingerprint.library.records import (
    REMOVED,
    FileInfo,
    LibraryInfo,
    Listed,
    Meta,
    SegmentInfo,
    Spans,
    Stamp,
)
from fingerprint.types import Ints, Tags, Track

FORMAT = 5
CATALOG = "catalog.db"
BUSY_TIMEOUT = 30.0  # s for which a reader waits for a commit, which takes milliseconds

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL);
CREATE TABLE segments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, not even after a deletion
    rows INTEGER NOT NULL,
    spans BLOB NOT NULL  -- pairs of a track's id and how many rows it has, <i8, in their order
);
CREATE TABLE files (
    segment INTEGER NOT NULL REFERENCES segments (id) ON DELETE CASCADE,
    suffix TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    digest TEXT NOT NULL,  -- of pages spread over the file, checked whenever it is opened
    sha256 TEXT NOT NULL,  -- of all of it
    PRIMARY KEY (segment, suffix)
) WITHOUT ROWID;
CREATE TABLE tracks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path BLOB NOT NULL UNIQUE,  -- the bytes of the absolute path: names need not be valid text
    size INTEGER NOT NULL,  -- bytes
    mtime_ns INTEGER NOT NULL,
    content BLOB NOT NULL,  -- digest of the decoded audio; empty where it is not known
    duration REAL NOT NULL,  -- s
    title TEXT NOT NULL,
    artist TEXT NOT NULL,
    album TEXT NOT NULL,
    isrc TEXT NOT NULL,
    musicbrainz_recording TEXT NOT NULL,
    musicbrainz_release TEXT NOT NULL,
    added REAL NOT NULL  -- s since 1970
);
CREATE INDEX tracks_by_content ON tracks (content);
CREATE TABLE dead (track INTEGER PRIMARY KEY);  -- removed tracks whose rows lie in a segment
CREATE TRIGGER tracks_die AFTER DELETE ON tracks BEGIN INSERT INTO dead VALUES (old.id); END;
CREATE TABLE copies (  -- files that hold a recording which another file stands for
    path BLOB PRIMARY KEY,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    track INTEGER NOT NULL REFERENCES tracks (id) ON DELETE CASCADE
);
CREATE INDEX copies_by_track ON copies (track);
CREATE TABLE damage (  -- what was lost of a recording when it was decoded
    track INTEGER NOT NULL REFERENCES tracks (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    seconds REAL NOT NULL
);
CREATE INDEX damage_by_track ON damage (track);
"""
_TRACK = "path, duration, title, artist, album, isrc, musicbrainz_recording, musicbrainz_release"
_LISTED = f"id, size, mtime_ns, content, added, {_TRACK}"


class Catalog:
    """An open catalog. Every method is one transaction and raises SQLite's errors as LibraryError.

    Threads may share it; their transactions run one after the other.
    """

    def __init__(self, folder: Path) -> None:
        """Open the catalog in `folder`.

        Raises:
            LibraryError: there is none, it is damaged, or it is of another format version.
        """
        self.folder = folder
        self._lock = RLock()
        path = folder / CATALOG
        if not path.is_file():
            raise LibraryError(
                f"{folder} is not a fingerprint library: it has no {CATALOG}; "
                "make one with `fingerprint index`, or name another folder"
            )
        self._identity = _identity(path)
        with self._reporting():
            # "rw" because a reader, too, may have to roll back a killed writer's transaction;
            # on a read-only disk SQLite falls back to "ro".
            uri = f"{path.absolute().as_uri()}?mode=rw"
            self._db = sqlite3.connect(
                uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
            )
        try:
            self.meta = self._read_meta()
        except BaseException:
            self._db.close()
            raise

    def _read_meta(self) -> Meta:
        with self._reporting():
            for pragma in ("synchronous = EXTRA", "foreign_keys = ON", "trusted_schema = OFF"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.create_function("folded", -1, _folded, deterministic=True)
            found = dict(self._db.execute("SELECT key, value FROM meta"))
        if found.get("format") != FORMAT:
            raise LibraryError(
                f"the library {self.folder} has format {found.get('format')}, this version reads "
                f"format {FORMAT}: index the music again into a new folder"
            )
        try:
            profile = profile_of(str(found["profile"]))
            return Meta(
                str(found["model"]),
                int(found["dim"]),
                float(found["hop"]),
                profile,
                int(found.get("indexed_dims", INDEXED_DIMS)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise LibraryError(
                f"{self.folder / CATALOG}: {advice(sqlite3.DatabaseError())}"
            ) from error

    def close(self) -> None:
        self._db.close()

    def is_replaced(self) -> bool:
        """Whether another file has taken the place of the open one, since its library was replaced.

        False if there is no file now: then the open one is all that is left of the library.
        """
        try:
            return _identity(self.folder / CATALOG) != self._identity
        except OSError:
            return False

    def version(self) -> int:
        """A number that changes whenever another connection has changed the catalog."""
        with self._reporting():
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def layout(self) -> tuple[list[SegmentInfo], list[Spans]]:
        """Every segment by id, and the tracks that each holds, at one moment."""
        with self.transaction("DEFERRED"):
            return self._segments(), list(self._spans().values())

    def contents(self) -> tuple[list[SegmentInfo], list[Spans], dict[int, Listed]]:
        """Every segment, the tracks that each holds, and every track by id, at one moment."""
        with self.transaction("DEFERRED"):
            listed = {one.id: one for one in self._listed("")}
            return self._segments(), list(self._spans().values()), listed

    def _spans(self) -> dict[int, Spans]:
        """Of every segment, by id."""
        dead = np.array(self._db.execute("SELECT track FROM dead").fetchall(), np.int64).ravel()
        found = {}
        for number, blob in self._db.execute("SELECT id, spans FROM segments ORDER BY id"):
            owners, rows = _pairs(blob)
            found[number] = Spans(np.where(np.isin(owners, dead), REMOVED, owners), rows)
        return found

    def _segments(self) -> list[SegmentInfo]:
        files: dict[int, list[FileInfo]] = {}
        for number, *file in self._db.execute("SELECT * FROM files ORDER BY segment, suffix"):
            files.setdefault(number, []).append(FileInfo(*file))
        found = self._db.execute("SELECT id, rows FROM segments ORDER BY id").fetchall()
        return [SegmentInfo(number, rows, tuple(files.get(number, ()))) for number, rows in found]

    def tracks(self) -> list[Track]:
        """Every track, in the order of their paths."""
        return [listed.track for listed in self.listed()]

    def listed(self) -> list[Listed]:
        """The catalog's entry of every track, in the order of their paths."""
        return self._listed("ORDER BY path")

    def track(self, track_id: int) -> Track | None:
        """The track with that id; None if it has been removed."""
        found = self.by_id(track_id)
        return None if found is None else found.track

    def by_id(self, track_id: int) -> Listed | None:
        """The catalog's entry of the track with that id; None if it has been removed."""
        found = self._listed("WHERE id = ?", track_id)
        return found[0] if found else None

    def search(self, text: str, *, after: int, limit: int) -> list[Listed]:
        """At most `limit` tracks with ids above `after`, in the order of their ids.

        Each has every word of `text` in its artist, title, album or path.
        """
        words = text.casefold().split()
        which = " ".join("AND instr(folded(artist, title, album, path), ?)" for _ in words)
        return self._listed(f"WHERE id > ? {which} ORDER BY id LIMIT ?", after, *words, limit)

    def by_path(self, path: Path) -> Listed | None:
        """The track of that file, if it has one."""
        found = self._listed("WHERE path = ?", os.fsencode(path))
        return found[0] if found else None

    def by_content(self, content: bytes) -> list[Listed]:
        """The tracks whose decoded audio has this digest, the oldest first."""
        return self._listed("WHERE content = ? ORDER BY id", content)

    def _listed(self, which: str, *values: object) -> list[Listed]:
        with self._reporting():
            found = self._db.execute(f"SELECT {_LISTED} FROM tracks {which}", values).fetchall()  # noqa: S608 - constants
            return [_listed(row) for row in found]

    def track_id(self, path: Path) -> int | None:
        """The id of the track of that file; None if there is none."""
        with self._reporting():
            row = self._db.execute(
                "SELECT id FROM tracks WHERE path = ?", (os.fsencode(path),)
            ).fetchone()
        return None if row is None else int(row[0])

    def stamps(self) -> dict[Path, Stamp]:
        """Size and modification time that each track's file, and each copy, had when indexed."""
        with self._reporting():
            found = self._db.execute(
                "SELECT path, size, mtime_ns FROM copies "
                "UNION ALL SELECT path, size, mtime_ns FROM tracks"
            ).fetchall()
        return {Path(os.fsdecode(path)): Stamp(size, time) for path, size, time in found}

    def stamps_of(self, paths: Iterable[Path]) -> dict[Path, Stamp]:
        """As `stamps`, of the tracks and copies among these files alone; looked up by key."""
        found = {}
        with self.transaction("DEFERRED"):
            for path in paths:
                row = self._db.execute(
                    "SELECT size, mtime_ns FROM tracks WHERE path = ?1 "
                    "UNION ALL SELECT size, mtime_ns FROM copies WHERE path = ?1",
                    (os.fsencode(path),),
                ).fetchone()
                if row is not None:
                    found[path] = Stamp(*row)
        return found

    def copies(self) -> dict[Path, int]:
        """Files that are copies of a track's recording, each with the id of that track."""
        with self._reporting():
            found = self._db.execute("SELECT path, track FROM copies ORDER BY path").fetchall()
        return {Path(os.fsdecode(path)): track for path, track in found}

    def copies_by_track(self) -> dict[int, list[tuple[Path, Stamp]]]:
        """The copies of each track, by its id, as they were when they were indexed."""
        with self._reporting():
            rows = self._db.execute("SELECT track, path, size, mtime_ns FROM copies ORDER BY path")
            found: dict[int, list[tuple[Path, Stamp]]] = {}
            for track, path, size, time in rows:
                found.setdefault(track, []).append((Path(os.fsdecode(path)), Stamp(size, time)))
        return found

    def damage(self) -> dict[int, tuple[Damage, ...]]:
        """The sound that was lost in decoding, by track id."""
        with self._reporting():
            rows = self._db.execute("SELECT * FROM damage ORDER BY track, rowid").fetchall()
        found: dict[int, tuple[Damage, ...]] = {}
        for track, kind, message, seconds in rows:
            found[track] = (*found.get(track, ()), Damage(kind, str(message), float(seconds)))
        return found

    def damage_of(self, track_id: int) -> tuple[Damage, ...]:
        """The sound of one track that was lost in decoding."""
        which = "SELECT kind, message, seconds FROM damage WHERE track = ? ORDER BY rowid"
        with self._reporting():
            rows = self._db.execute(which, (track_id,)).fetchall()
        return tuple(Damage(kind, str(message), float(seconds)) for kind, message, seconds in rows)

    def info(self) -> LibraryInfo:
        with self.transaction("DEFERRED"):
            tracks, seconds = self._db.execute(
                "SELECT count(*), total(duration) FROM tracks"
            ).fetchone()
            (segments,) = self._db.execute("SELECT count(*) FROM segments").fetchone()
            (size,) = self._db.execute("SELECT total(bytes) FROM files").fetchone()
        size = int(size) + (self.folder / CATALOG).stat().st_size
        meta = self.meta
        return LibraryInfo(
            tracks, seconds / 3600, size, segments, meta.profile.name, meta.model_id, FORMAT
        )

    def next_segment(self) -> int:
        """The id that the next segment will get."""
        with self._reporting():
            row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'segments'")
            found = row.fetchone()
        return 1 if found is None else int(found[0]) + 1

    def faults(self) -> list[str]:
        """The faults that SQLite's integrity check finds in the catalog; empty for a sound one."""
        try:
            found = self._db.execute("PRAGMA integrity_check").fetchall()
            found += [
                (f"a row of {table} refers to nothing",)
                for table, *_ in self._db.execute("PRAGMA foreign_key_check")
            ]
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not is_damage(error):
                raise self._error(error) from error  # it could not be read: not a fault in it
            return [str(error)]
        return [text for (text,) in found if text != "ok"]

    @contextmanager
    def transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        """Run the block as one transaction, rolled back on an exception."""
        with self._lock, self._reporting():
            self._db.execute(f"BEGIN {kind}")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself rolls back when the disk is full
                    self._db.execute("ROLLBACK")
                raise

    # The following methods are called within a transaction of the writer.

    def insert_segment(self, segment: SegmentInfo, spans: Spans) -> None:
        """Add a segment that holds these tracks, and nothing else."""
        pairs = np.stack([spans.owners, spans.rows], axis=1).astype("<i8").tobytes()
        self._db.execute("INSERT INTO segments VALUES (?, ?, ?)", (segment.id, segment.rows, pairs))
        self._db.executemany(
            "INSERT INTO files VALUES (?, ?, ?, ?, ?)",
            [(segment.id, *astuple(file)) for file in segment.files],
        )

    def insert_track(
        self,
        track: Track,
        stamp: Stamp,
        content: bytes,
        *,
        added: float,
        damage: Iterable[Damage] = (),
    ) -> int:
        """Add a track, in place of the one of that path; returns its id."""
        self.delete_path(track.path)
        file = (os.fsencode(track.path), stamp.size, stamp.mtime_ns, content, track.duration)
        tags = map(_storable, astuple(track.tags))
        inserted = self._db.execute(
            "INSERT INTO tracks VALUES (NULL, ?,?,?,?,?, ?,?,?,?,?,?, ?)", (*file, *tags, added)
        )
        self._db.executemany(
            "INSERT INTO damage VALUES (?, ?, ?, ?)",
            [(inserted.lastrowid, one.kind, _storable(one.message), one.seconds) for one in damage],
        )
        return int(inserted.lastrowid or 0)

    def relabel_tracks(self, changes: Iterable[tuple[int, Path, Stamp, Tags]]) -> None:
        """Give tracks other paths or tags; tracks and copies already at those paths are deleted."""
        found = list(changes)
        for number, *_ in found:  # so that files may swap their names
            self._db.execute(
                "UPDATE tracks SET path = CAST(X'00' || id AS BLOB) WHERE id = ?", (number,)
            )
        for number, path, stamp, tags in found:
            self.delete_path(path)
            file = (os.fsencode(path), stamp.size, stamp.mtime_ns)
            self._db.execute(
                "UPDATE tracks SET path = ?, size = ?, mtime_ns = ?, title = ?, artist = ?, "
                "album = ?, isrc = ?, musicbrainz_recording = ?, musicbrainz_release = ? "
                "WHERE id = ?",
                (*file, *map(_storable, astuple(tags)), number),
            )

    def insert_copy(self, path: Path, stamp: Stamp, track_id: int) -> None:
        """Record that a file holds a track's recording, so that it is not decoded again.

        If the file had a track of its own, the copies of that track become copies of the new one.
        """
        self._db.execute(
            "UPDATE copies SET track = ? WHERE track = (SELECT id FROM tracks WHERE path = ?)",
            (track_id, os.fsencode(path)),
        )
        self.delete_path(path)
        self._db.execute(
            "INSERT INTO copies VALUES (?, ?, ?, ?)",
            (os.fsencode(path), stamp.size, stamp.mtime_ns, track_id),
        )

    def forget_copies(self, paths: Iterable[Path]) -> None:
        """Delete the entries of copies."""
        for path in paths:
            self._db.execute("DELETE FROM copies WHERE path = ?", (os.fsencode(path),))

    def delete_path(self, path: Path) -> int:
        """Delete the track or the copy of that path; returns the number of tracks, 0 or 1."""
        self._db.execute("DELETE FROM copies WHERE path = ?", (os.fsencode(path),))
        return self._db.execute("DELETE FROM tracks WHERE path = ?", (os.fsencode(path),)).rowcount

    def delete_tracks(self, ids: Iterable[int]) -> int:
        """Delete tracks; returns how many existed."""
        removed = [self._db.execute("DELETE FROM tracks WHERE id = ?", (one,)) for one in ids]
        return sum(row.rowcount for row in removed)

    def delete_empty_segments(self) -> None:
        """Delete the segments in which every row is dead."""
        self.delete_segments(n for n, spans in self._spans().items() if not len(spans.alive))

    def delete_segments(self, numbers: Iterable[int]) -> None:
        """Delete segments; their living tracks must lie in another one."""
        for number in numbers:
            of = (number,)
            for (blob,) in self._db.execute("SELECT spans FROM segments WHERE id = ?", of):
                held = ((owner,) for owner in _pairs(blob)[0].tolist())
                self._db.executemany("DELETE FROM dead WHERE track = ?", held)
            self._db.execute("DELETE FROM segments WHERE id = ?", of)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except (sqlite3.DatabaseError, OverflowError, UnicodeDecodeError) as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> LibraryError:
        # SQLite's messages quote damaged content, which need not be valid text.
        wrong = error if isinstance(error, sqlite3.DatabaseError) else sqlite3.DatabaseError()
        words = display_name(str(error).encode("utf-8", "replace").decode())
        what = advice(wrong)
        if "readonly" in words and (self.folder / f"{CATALOG}-journal").exists():
            what = "a change was cut off here, and to undo it the folder must be writable for once"
        return LibraryError(f"{self.folder / CATALOG}: {words}; {what}")


def create_catalog(folder: Path, meta: Meta) -> None:
    """Write an empty catalog into a folder, completely or not at all."""
    new = folder / f"{CATALOG}.new"
    new.unlink(missing_ok=True)
    try:
        _fill_new(new, meta)
        new.replace(folder / CATALOG)
        flush(folder)
    except sqlite3.DatabaseError as error:
        raise LibraryError(
            f"cannot make a library in {folder}: {error}; {advice(error)}"
        ) from error
    finally:
        new.unlink(missing_ok=True)


def _fill_new(file: Path, meta: Meta) -> None:
    db = sqlite3.connect(file, isolation_level=None)
    try:
        db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        db.executemany(
            "INSERT INTO meta VALUES (?, ?)",
            [
                ("format", FORMAT),
                ("model", meta.model_id),
                ("dim", meta.dim),
                ("hop", meta.hop),
                ("profile", meta.profile.name),
            ],
        )
        if meta.stored_indexed_dims is not None:
            db.execute("INSERT INTO meta VALUES (?, ?)", ("indexed_dims", meta.stored_indexed_dims))
    finally:
        db.close()


def _listed(row: tuple[Any, ...]) -> Listed:
    """Whatever a damaged or a crafted catalog holds in place of what it should is refused."""
    number, size, mtime_ns, content, added, path, duration, *tags = row
    try:
        return Listed(
            Track(Path(os.fsdecode(path)), float(duration), Tags(*map(str, tags))),
            Stamp(int(size), int(mtime_ns)),
            bytes(content),
            float(added),
            int(number),
        )
    except (TypeError, ValueError) as error:
        raise sqlite3.DatabaseError("a track's row holds values of another kind") from error


def _pairs(blob: object) -> tuple[Ints, Ints]:
    """The owners and the rows (n,) of a segment's spans."""
    try:
        owners, rows = np.frombuffer(blob, "<i8").reshape(-1, 2).T.astype(np.int64)  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        raise sqlite3.DatabaseError("a segment's row holds values of another kind") from error
    return owners, rows


def _identity(path: Path) -> tuple[int, int]:
    """Equal for the same file only, as long as it is open."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _folded(*parts: str | bytes) -> str:
    """The text that `search` searches, case-folded."""
    text = (part if isinstance(part, str) else os.fsdecode(part) for part in parts)
    return _storable("\n".join(text).casefold())


def _storable(text: str) -> str:
    """Text without the lone surrogates of broken tags, which SQLite cannot store."""
    return text.encode("utf-8", "replace").decode("utf-8")


def is_damage(error: Exception) -> bool:
    """Whether the error means a damaged catalog, rather than one that cannot be accessed."""
    code = getattr(error, "sqlite_errorcode", None)  # None: raised here, not by SQLite
    damage = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)  # no such table
    return code is None or code & 0xFF in damage


def advice(error: sqlite3.DatabaseError) -> str:
    """What the user can do about an error of SQLite."""
    text = str(error)
    if "locked" in text:
        return "another program holds it; try again when it is done"
    if "full" in text or "disk I/O" in text:
        return "free space on the disk and run again: what was indexed before is kept"
    if "readonly" in text or "unable to open" in text:
        return "check that you may read and write the folder"
    if not is_damage(error):
        return "try again"
    return "the catalog is damaged: restore it from a copy, or index into a new folder"
