"""The catalog of a library in Milvus: entries of tracks in a collection that many share.

A library named `music` is two collections: `music` holds an entry for each track, and `music_rows`
the rows of the tracks, which `snapshot` reads. Readers ignore rows whose track has no entry. Entry
0 holds the model and the profile of the library.

Milvus has no transactions, so the order of writing makes an interruption harmless. Before the rows
of a track are written, its entry is, as REMOVED; afterwards it becomes a TRACK. A track's number
follows from its content and its path, so that a rerun writes the same entries and the same rows
again. Removed entries stay for `KEPT` s, in which readers learn of them; then a writer deletes them
together with whatever rows are left.
"""

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

from fingerprint.audio.report import Damage
from fingerprint.config import INDEXED_DIMS
from fingerprint.errors import LibraryError
from fingerprint.library.profiles import profile_of
from fingerprint.library.records import LibraryInfo, Listed, Meta, Stamp
from fingerprint.library.stats import Counts, counted
from fingerprint.milvus.address import Address
from fingerprint.milvus.server import LONGEST_TEXT, Index, Server, suitable
from fingerprint.types import Tags, Track

FORMAT = 1
REMOVED, TRACK, COPY, META = range(4)  # states of an entry
POSITION_BITS = 20  # of a row's key, for its position in the track; the rest is the track's id
NUMBER_BITS = 43
ROWS = "_rows"  # after the library's name: the collection of rows
KEPT = 3_600.0  # s for which the entry of a removed track stays
LONGEST_CONTENT = 128

ENTRY_FIELDS = (
    ("id", "INT64", 0),
    ("nothing", "FLOAT_VECTOR", 2),  # Milvus requires a vector in every collection
    ("state", "INT64", 0),
    ("rows", "INT64", 0),  # number of rows; of a copy, the number of its track
    ("added", "INT64", 0),  # µs since 1970
    ("changed", "INT64", 0),
    ("place", "INT64", 0),  # a hash of the path
    ("content", "VARCHAR", LONGEST_CONTENT),  # digest of the decoded audio
    ("about", "VARCHAR", LONGEST_TEXT),  # JSON: path, stamp, tags, damage
)
_ALL = tuple(name for name, kind, _ in ENTRY_FIELDS if kind != "FLOAT_VECTOR")


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as it is stored; see `ENTRY_FIELDS`."""

    id: int
    state: int
    rows: int
    added: int
    changed: int
    place: int
    content: str
    about: str

    @classmethod
    def of(cls, found: dict[str, Any]) -> Self:
        return cls(**{name: found[name] for name in _ALL})

    def stored(self) -> dict[str, Any]:
        return {**dict(zip(_ALL, astuple(self), strict=True)), "nothing": [0.0, 0.0]}

    def listed(self) -> Listed:
        """Raises LibraryError if values are missing or of a wrong type."""
        try:
            about = json.loads(self.about)
            path = Path(os.fsdecode(bytes.fromhex(about["path"])))
            return Listed(
                Track(path, float(about["duration"]), Tags(*map(str, about["tags"]))),
                Stamp(int(about["size"]), int(about["mtime"])),
                bytes.fromhex(self.content),
                self.added / 1e6,
                self.id,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise LibraryError(f"the entry of track {self.id} in Milvus is damaged") from error

    def damage(self) -> tuple[Damage, ...]:
        return tuple(Damage(*one) for one in json.loads(self.about).get("damage", ()))


def about_of(track: Track, stamp: Stamp, damage: Iterable[Damage] = ()) -> str:
    """The file's part of an entry, as JSON."""
    record: dict[str, Any] = {
        "path": os.fsencode(track.path).hex(),
        "size": stamp.size,
        "mtime": stamp.mtime_ns,
        "duration": track.duration,
        "tags": [_text(one) for one in astuple(track.tags)],
        "damage": [[one.kind, _text(one.message), one.seconds] for one in damage],
    }
    while len(text := json.dumps(record)) > LONGEST_TEXT and record["damage"]:
        record["damage"].pop()
    return text


def place_of(path: Path) -> int:
    """A hash of a path, by which entries are looked up."""
    return _hash(os.fsencode(path), bits=63)


def number_of(content: bytes, path: Path, salt: int) -> int:
    """An id for a track; `salt` gives another one if the first is taken."""
    return max(1, _hash(content, os.fsencode(path), bytes([salt]), bits=NUMBER_BITS))


def _hash(*parts: bytes, bits: int) -> int:
    digest = blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return int.from_bytes(digest.digest(), "little") >> (64 - bits)


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


class MilvusCatalog:
    """The catalog of an open library; the counterpart of `library.store.Catalog`."""

    def __init__(self, server: Server) -> None:
        """Open the library that the server's address names.

        Raises:
            LibraryError: there is none, or it is damaged or of another format version.
        """
        self.server, self.address = server, server.address
        name = server.real_name(self.address.collection)
        if name is None:
            raise LibraryError(
                f"there is no library at {self.address}; make one with: fingerprint index FOLDER"
            )
        self.name = name
        self.rows = name + ROWS
        self.meta = _read_meta(server, name, self.rows)
        for collection in (self.name, self.rows):
            server.load(collection)

    def close(self) -> None:
        self.server.close()

    def is_current(self) -> bool:
        """Whether the library's name still points to the same collection; an alias may be moved."""
        return self.server.real_name(self.address.collection) == self.name

    def entries(self, which: str) -> list[Entry]:
        """The entries that match an expression, by id."""
        found = self.server.every(self.name, which, _ALL, bits=NUMBER_BITS)
        return [Entry.of(one) for one in found]

    def some(self, which: str) -> list[Entry]:
        """The few entries that match an expression, by id, in one round trip."""
        found = self.server.query(self.name, which, _ALL)
        return sorted(map(Entry.of, found), key=lambda one: one.id)

    def listed(self) -> list[Listed]:
        """The catalog's entry of every track, in the order of their paths."""
        found = [one.listed() for one in self._living()]
        return sorted(found, key=lambda one: os.fsencode(one.track.path))

    def _living(self) -> list[Entry]:
        """The damage of every track."""
        return living(self.entries(f"state == {TRACK}"))

    def tracks(self) -> list[Track]:
        return [one.track for one in self.listed()]

    def track(self, number: int) -> Track | None:
        found = self.by_id(number)
        return None if found is None else found.track

    def by_id(self, number: int) -> Listed | None:
        found = self.some(f"id == {number} and state == {TRACK}")
        return found[0].listed() if found else None

    def by_path(self, path: Path) -> Listed | None:
        found = living(self.some(f"place == {place_of(path)} and state == {TRACK}"))
        return next((one for entry in found if (one := entry.listed()).track.path == path), None)

    def track_id(self, path: Path) -> int | None:
        found = self.by_path(path)
        return None if found is None else found.id

    def by_content(self, content: bytes) -> list[Listed]:
        """The tracks whose decoded audio has this digest, the oldest first."""
        found = living(self.some(f'content == "{content.hex()}" and state == {TRACK}'))
        return [one.listed() for one in sorted(found, key=lambda one: one.added)]

    def search(self, text: str, *, after: int, limit: int) -> list[Listed]:
        """At most `limit` tracks with a number above `after`, by their numbers.

        Every word of `text` is in the artist, the title, the album or the path of each. Milvus
        compares no text regardless of case, so all entries are read until there are enough.
        """
        words, found = text.casefold().split(), []
        every = self.server.every(
            self.name, f"state == {TRACK}", _ALL, bits=NUMBER_BITS, after=after
        )
        for one in every:
            listed = Entry.of(one).listed()
            track = listed.track
            tags = track.tags
            inside = "\n".join((tags.artist, tags.title, tags.album, str(track.path))).casefold()
            if all(word in inside for word in words):
                found.append(listed)
            if len(found) == limit:
                break
        return found

    def stamps(self) -> dict[Path, Stamp]:
        """Size and modification time that each track's file, and each copy, had when indexed."""
        every = self.entries(f"state in [{TRACK}, {COPY}]")
        both = [
            *(e for e in every if e.state == COPY),
            *living(e for e in every if e.state == TRACK),
        ]
        return {one.track.path: one.stamp for one in (entry.listed() for entry in both)}

    def stamps_of(self, paths: Iterable[Path]) -> dict[Path, Stamp]:
        """As `stamps`, of the tracks and copies among these files alone."""
        wanted, every = list(paths), self.stamps()
        return {path: every[path] for path in wanted if path in every}

    def copies(self) -> dict[Path, int]:
        """Files that are copies of a track's recording, each with the id of that track."""
        every = self.entries(f"state in [{TRACK}, {COPY}]")
        there = {one.id for one in every if one.state == TRACK}
        found = [one for one in every if one.state == COPY and one.rows in there]
        return {one.listed().track.path: one.rows for one in found}

    def damage(self) -> dict[int, tuple[Damage, ...]]:
        every = self.entries(f"state == {TRACK}")
        return {one.id: lost for one in every if (lost := one.damage())}

    def damage_of(self, number: int) -> tuple[Damage, ...]:
        found = self.some(f"id == {number} and state == {TRACK}")
        return found[0].damage() if found else ()

    def info(self) -> LibraryInfo:
        """`bytes` are those of the rows as they are sent; the server adds its index and copies."""
        every = self._living()
        return LibraryInfo(
            tracks=len(every),
            hours=sum(one.listed().track.duration for one in every) / 3600,
            bytes=sum(one.rows for one in every) * row_bytes(self.meta),
            segments=1,
            profile=self.meta.profile.name,
            model_id=self.meta.model_id,
            format=FORMAT,
        )

    def counts(self) -> Counts:
        """The library in numbers."""
        every = self._living()
        listed, alive = [one.listed() for one in every], sum(one.rows for one in every)
        stored = self.server.count(self.rows)
        return counted(
            self.info(), listed, len(self.copies()), alive=min(alive, stored), stored=stored
        )


def row_bytes(meta: Meta) -> int:
    """The entity of one row: key, vector, and code and peaks as text."""
    content = meta.profile.width(meta.dim) * meta.profile.kind.itemsize + 2 * meta.peaks_kept
    return 8 + 4 * meta.indexed_dims + 4 * -(-content // 3)


def living(entries: Iterable[Entry]) -> list[Entry]:
    """One entry for a path, the latest: a writer may have been stopped before it removed another.

    They come in the order in which they were added.
    """
    latest = {one.place: one for one in sorted(entries, key=lambda one: (one.added, one.id))}
    return sorted(latest.values(), key=lambda one: (one.added, one.id))


def create(server: Server, meta: Meta) -> None:
    """Make an empty library, unless there is one.

    Raises:
        LibraryError: the collection holds something else, or the server refuses.
    """
    name = server.address.collection
    if (real := server.real_name(name)) is not None and _meta_text(server, real) is not None:
        return
    if real is not None and (set(server.fields(real)) != {one[0] for one in ENTRY_FIELDS}):
        raise _foreign(server.address)
    row_fields = (
        ("id", "INT64", 0),
        ("vector", "FLOAT_VECTOR", meta.indexed_dims),
        ("stored", "VARCHAR", LONGEST_TEXT),
    )
    _create_rows(server, name + ROWS, row_fields, suitable(server, 0))
    server.create(name, ENTRY_FIELDS, Index("FLAT", {}))
    record = {
        "format": FORMAT,
        "model": meta.model_id,
        "dim": meta.dim,
        "hop": meta.hop,
        "profile": meta.profile.name,
    }
    if meta.stored_indexed_dims is not None:
        record["indexed_dims"] = meta.stored_indexed_dims
    now = now_us()
    server.load(name)
    server.upsert(name, [Entry(0, META, 0, now, now, 0, "", json.dumps(record)).stored()])


def _create_rows(
    server: Server, name: str, fields: Sequence[tuple[str, str, int]], kinds: Sequence[Index]
) -> None:
    """Create a collection with the best kind of index that the server supports."""
    for number, kind in enumerate(kinds, start=1):
        try:
            server.create(name, fields, kind)
        except LibraryError as error:
            if "index" not in str(error) or number == len(kinds):
                raise
            if server.real_name(name) is not None:
                server.drop(name)
        else:
            return


def _read_meta(server: Server, name: str, rows: str) -> Meta:
    found = _meta_text(server, name)
    if found is None:
        raise _foreign(server.address)
    try:
        record = json.loads(found)
        if record["format"] != FORMAT:
            raise LibraryError(
                f"the library {server.address} has format {record['format']}, this version reads "
                f"format {FORMAT}: index the music again into a new collection"
            )
        meta = Meta(
            str(record["model"]),
            int(record["dim"]),
            float(record["hop"]),
            profile_of(str(record["profile"])),
            int(record.get("indexed_dims", INDEXED_DIMS)),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _foreign(server.address) from error
    if server.real_name(rows) is None or server.fields(rows).get("vector") != meta.indexed_dims:
        raise LibraryError(
            f"the library {server.address} is damaged: its rows, the collection {rows}, are "
            "missing or of another dimension; index the music again into a new collection"
        )
    return meta


def _meta_text(server: Server, name: str) -> str | None:
    """The library's properties, from entry 0; None if the collection is not a complete library."""
    if set(server.fields(name)) != {one[0] for one in ENTRY_FIELDS}:
        return None
    server.load(name)
    found = server.query(name, f"id == 0 and state == {META}", ("about",), strong=True)
    return str(found[0]["about"]) if found else None


def _foreign(address: Address) -> LibraryError:
    return LibraryError(
        f"the collection {address.collection} at {address} is no fingerprint library: "
        "name another collection"
    )


def now_us() -> int:
    """The time in µs since 1970."""
    return time.time_ns() // 1_000


def tracks_since(catalog: MilvusCatalog, moment: int | None) -> list[dict[str, Any]]:
    """The ids of all tracks, or the entries that have changed since a moment (µs)."""
    fields = ("id", "state", "rows", "added", "changed", "place")
    which = f"state == {TRACK}" if moment is None else f"changed >= {moment} and id > 0"
    found = catalog.server.every(
        catalog.name, which, fields, bits=NUMBER_BITS, strong=moment is None
    )
    return list(found)
