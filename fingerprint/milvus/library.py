"""Open and change a library in Milvus; the same interface as `fingerprint.library.Library`."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Self, cast

import numpy as np

from fingerprint.errors import LibraryError
from fingerprint.index.neighbours import index_part
from fingerprint.library.library import DEFAULTS, Embedder, Library
from fingerprint.library.profiles import STANDARD, profile_of
from fingerprint.library.records import Meta
from fingerprint.library.segments import Stored
from fingerprint.library.snapshot import Snapshot
from fingerprint.library.stats import Counts
from fingerprint.library.store import Catalog
from fingerprint.library.writer import Changes, Copy, Entry, Relabel, Writer, absolute, stored_of
from fingerprint.milvus import catalog as entries
from fingerprint.milvus.address import Address
from fingerprint.milvus.catalog import (
    COPY,
    KEPT,
    POSITION_BITS,
    REMOVED,
    TRACK,
    MilvusCatalog,
    about_of,
    now_us,
    number_of,
    place_of,
    tracks_since,
)
from fingerprint.milvus.landmarks import LocalLandmarks
from fingerprint.milvus.server import Server, suitable
from fingerprint.milvus.snapshot import Known, MilvusSnapshot, RowStore, packed, peaks_of
from fingerprint.search import SearchConfig
from fingerprint.types import Fingerprint, Floats, Track

LOOK_AGAIN = 2.0  # s between two refreshes of what other writers have changed
SKEW = 60 * 1_000_000  # µs by which the clocks of writers may differ
START_OVER = KEPT / 2  # s without a refresh after which all entries are read again
BATCH_ROWS = 20_000  # rows of the tracks whose entries are written together
AT_ONCE = 50  # tracks whose rows are deleted by one expression
MOST_SALTS = 256


class MilvusLibrary(Library):
    """An open library in Milvus. It follows what writers change, some seconds later."""

    def __init__(
        self, place: MilvusCatalog, model: Embedder, config: SearchConfig = DEFAULTS
    ) -> None:
        self.model = model
        self.config = config
        self._lock = Lock()
        self._attach(place)

    def _attach(self, place: MilvusCatalog) -> None:
        self._place = place
        self._rows, self._landmarks = _readers(place)
        self._index = place.server.index(place.rows)
        self._now, self._latest, self._looked = self._snapshot(Known.of({})), 0, -START_OVER
        self.snapshot()

    @classmethod
    def at(cls, address: Address, model: Embedder, *, config: SearchConfig = DEFAULTS) -> Self:
        """Open the library at an address.

        Raises:
            LibraryError: there is none, or it is of another format version or made with another
                model; or the server is away or refuses.
        """
        server = Server(address)
        try:
            place = MilvusCatalog(server)
            _check_model(place, model)
            return cls(place, model, config)
        except BaseException:
            server.close()
            raise

    @classmethod
    def create_or_open_at(
        cls, address: Address, model: Embedder, *, profile: str | None = None
    ) -> Self:
        """Open the library at an address; where there is none, make it first.

        Raises:
            LibraryError: as `at`, or the collection holds something else, or a library of another
                profile.
        """
        server = Server(address)
        try:
            kind = profile_of(profile or STANDARD.name)
            entries.create(server, Meta(model.id, model.dim, model.hop, kind, model.indexed_dims))
            place = MilvusCatalog(server)
            _check_model(place, model)
            if profile not in (None, place.meta.profile.name):
                raise LibraryError(
                    f"the library {address} has the profile {place.meta.profile.name}, not "
                    f"{profile}: index into a new collection"
                )
            return cls(place, model)
        except BaseException:
            server.close()
            raise

    @property
    def folder(self) -> Path:
        """Folder of this machine where `serve` keeps uploads."""
        import platformdirs

        return platformdirs.user_data_path("fingerprint") / "milvus" / self._place.name

    @property
    def catalog(self) -> Catalog:
        return cast("Catalog", self._place)  # it has the methods of `Catalog` that `Library` uses

    def close(self) -> None:
        self._place.close()

    def counts(self) -> Counts:
        return self._place.counts()

    def snapshot(self) -> Snapshot:
        """The library as last read; it is refreshed after `LOOK_AGAIN` s."""
        with self._lock:
            if time.monotonic() - self._looked >= LOOK_AGAIN:
                self._look()
            return cast("Snapshot", self._now)  # both are a `Reference` with owners

    def _look(self) -> None:
        now = time.monotonic()
        if self._latest and not self._place.is_current():  # the alias has been moved
            place = MilvusCatalog(self._place.server)
            _check_model(place, self.model)
            self._rows, self._landmarks = _readers(place)
            self._place, self._latest = place, 0
            self._index = place.server.index(place.rows)
            self._now = self._snapshot(Known.of({}))
        stale = now - self._looked >= START_OVER or not self._latest
        found = tracks_since(self._place, None if stale else self._latest - SKEW)
        known = (Known.of({}) if stale else self._now.known).updated(found)
        if known is not self._now.known:
            self._now = self._snapshot(known)
        self._latest = max(1, self._latest, *(one["changed"] for one in found))
        self._looked = now

    def _snapshot(self, known: Known) -> MilvusSnapshot:
        return MilvusSnapshot(self._place, known, self._rows, self._landmarks, self._index)

    def fingerprint(self, track: Track) -> Fingerprint | None:
        """The stored rows of a track; None if it is not in the library."""
        now = cast("MilvusSnapshot", self.snapshot())
        number = self._place.track_id(track.path)
        (found,) = np.nonzero(now.owners == number)
        if number is None or not len(found):
            return None
        rows = np.arange(*now.rows.starts[found[0] : found[0] + 2])
        return Fingerprint(now.vectors(rows), now.hop)

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Change the library; others may do so at the same time."""
        with writing_with(self._place) as writer:
            try:
                yield writer
            finally:
                self._looked = min(self._looked, time.monotonic() - LOOK_AGAIN)


class MilvusWriter(Writer):
    """A writer of a library in Milvus, one of many; see `catalog` for the order of writing."""

    def __init__(self, place: MilvusCatalog) -> None:
        super().__init__(cast("Catalog", place))
        self._place, self._server = place, place.server

    def remove(self, paths: Iterable[Path]) -> int:
        """Remove the tracks of these files; returns how many were removed."""
        wanted = {place_of(absolute(path)) for path in paths}
        found = self._at_places(wanted)
        self._forget(found)
        return sum(one.state == TRACK for one in found)

    def apply(self, changes: Changes) -> int:
        """Make all changes; if interrupted, repeating the call completes them.

        Returns how many tracks were removed by number.

        Raises:
            LibraryError: the server is away or refuses.
            ValueError: an entry has no rows, or rows of another size than the library's.
        """
        if changes == Changes():
            return 0
        self._check(changes.entries)
        removed = self._by_number(changes.removed)
        self._put(self._relabelled(changes.relabels))
        self._forget(self._at_places(one.place for one in removed))
        for some in _batches(changes.entries):
            self._put(self._write_rows(some))
        self._note_copies(changes.copies)
        if changes.forgotten:
            places = {place_of(path) for path in changes.forgotten}
            self._forget([one for one in self._at_places(places) if one.state == COPY])
        return len(removed)

    def merge(self) -> None:
        """Does nothing: Milvus merges its segments by itself."""

    def sweep(self) -> None:
        """Delete what was removed, or was left by an interrupted run, more than `KEPT` s ago."""
        old = now_us() - int(KEPT * 1e6)
        gone = self._place.entries(f"state == {REMOVED} and changed < {old}")
        self._delete_rows([one.id for one in gone])
        self._delete([one.id for one in gone])

    def compact(self, on_progress: Callable[[int, int], None] = lambda _done, _all: None) -> None:
        """Sweep, and give the library the index that suits its size."""
        on_progress(0, 1)
        self.sweep()
        rows, server = self._place.rows, self._server
        tracks = server.count(self._place.name, f"state == {TRACK}")
        kinds, now = suitable(server, tracks), server.index(rows)
        if now.name not in {kind.name for kind in kinds}:
            for number, kind in enumerate(kinds, start=1):
                try:
                    server.rebuild(rows, kind)
                    break
                except LibraryError as error:
                    if "index" not in str(error) or number == len(kinds):
                        raise
        on_progress(1, 1)

    def _put(self, new: Sequence[entries.Entry]) -> None:
        """Write entries; other tracks and copies of the same paths are removed."""
        numbers = {one.id for one in new}
        before = self._at_places(one.place for one in new)
        self._upsert(new)
        self._forget([one for one in before if one.id not in numbers])

    def _write_rows(self, new: Sequence[Entry]) -> list[entries.Entry]:
        """Write the rows of tracks; returns their entries, which are not written as TRACK yet."""
        stored = [stored_of(entry, self._meta) for entry in new]
        numbered = self._numbered(new, stored)
        there = {one.id for one in self._by_number([one.id for one in numbered])}
        self._upsert(replace(one, state=REMOVED) for one in numbered if one.id not in there)
        step = self._meta.profile.step
        for entry, rows, one in zip(new, stored, numbered, strict=True):
            vectors = index_part(entry.vectors[:: step // entry.step], self._meta.indexed_dims)
            keys = _padded(vectors, len(rows))
            self._server.upsert(self._place.rows, packed(rows, one.id, keys))
        if numbered:
            self._server.settle(self._place.rows)
        return numbered

    def _numbered(self, new: Sequence[Entry], stored: Sequence[Stored]) -> list[entries.Entry]:
        """Entries for tracks; each gets an id that no other track has."""
        now = now_us()
        found = []
        for order, (entry, rows) in enumerate(zip(new, stored, strict=True)):
            if len(rows) >> POSITION_BITS:
                raise ValueError(f"{entry.track.path}: {len(rows)} rows are too many")
            path = absolute(entry.track.path)
            content = entry.content or blake2b(rows.codes.tobytes(), digest_size=16).digest()
            one = entries.Entry(
                id=number_of(content, path, 0),
                state=TRACK,
                rows=len(rows),
                added=now + order,
                changed=now,
                place=place_of(path),
                content=entry.content.hex(),
                about=about_of(replace(entry.track, path=path), entry.stamp, entry.damage),
            )
            found.append((one, content, path))
        return self._free(found)

    def _free(self, wanted: Sequence[tuple[entries.Entry, bytes, Path]]) -> list[entries.Entry]:
        """The entries, with new ids for those whose id another track has."""
        chosen: dict[int, entries.Entry] = {}
        todo = list(wanted)
        for salt in range(1, MOST_SALTS):
            taken = {
                one.id: one for one in self._by_number([one.id for one, _, _ in todo], all_=True)
            }
            again = []
            for one, content, path in todo:
                other = chosen.get(one.id) or taken.get(one.id)
                if other is None or _may_replace(one, other):
                    chosen[one.id] = one
                else:
                    again.append((replace(one, id=number_of(content, path, salt)), content, path))
            if not again:
                return sorted(chosen.values(), key=lambda one: one.added)
            todo = again
        raise LibraryError("no free numbers for new tracks")

    def _relabelled(self, changes: Iterable[Relabel]) -> list[entries.Entry]:
        every = {one.track_id: one for one in changes}
        now, found = now_us(), []
        for one in self._by_number(list(every)):
            new, known = every[one.id], one.listed().track
            track = Track(absolute(new.path), known.duration, new.tags)
            about = about_of(track, new.stamp, one.damage())
            found.append(replace(one, changed=now, place=place_of(track.path), about=about))
        return found

    def _note_copies(self, copies: Iterable[Copy]) -> None:
        """Record files as copies of a track; tracks that they had are removed."""
        now, noted = now_us(), []
        for copy in copies:
            original = self._place.by_path(absolute(copy.of))
            if original is None:
                continue
            path = absolute(copy.path)
            before = self._at_places({place_of(path)})
            for number in [one.id for one in before if one.state == TRACK]:
                of_old = self._place.some(f"state == {COPY} and rows == {number}")
                noted += [replace(one, rows=original.id, changed=now) for one in of_old]
            self._forget(before)
            about = about_of(Track(path, 0.0), copy.stamp)
            number = number_of(b"copy", path, 0)
            place = place_of(path)
            noted.append(entries.Entry(number, COPY, original.id, now, now, place, "", about))
        self._upsert(noted)

    def _at_places(self, places: Iterable[int]) -> list[entries.Entry]:
        """The tracks and copies of files."""
        states = f"state in [{TRACK}, {COPY}]"
        return self._some("place", places, states)

    def _by_number(self, numbers: Iterable[int], *, all_: bool = False) -> list[entries.Entry]:
        return self._some("id", numbers, "id > 0" if all_ else f"state == {TRACK}")

    def _some(self, field: str, values: Iterable[int], which: str) -> list[entries.Entry]:
        every = sorted(set(values))
        found: list[entries.Entry] = []
        for first in range(0, len(every), 1_000):
            found += self._place.some(f"{field} in {every[first : first + 1_000]} and {which}")
        return found

    def _upsert(self, some: Iterable[entries.Entry]) -> None:
        if stored := [one.stored() for one in some]:
            self._server.upsert(self._place.name, stored)

    def _forget(self, some: Sequence[entries.Entry]) -> None:
        """Remove tracks, with the notes of their copies; and notes of copies."""
        tracks = [one for one in some if one.state == TRACK]
        notes = [one for one in some if one.state == COPY]
        if tracks:
            notes += self._some("rows", [one.id for one in tracks], f"state == {COPY}")
            now = now_us()
            self._upsert(replace(one, state=REMOVED, changed=now) for one in tracks)
            self._delete_rows([one.id for one in tracks])
        self._delete([one.id for one in notes])

    def _delete(self, numbers: Sequence[int]) -> None:
        for first in range(0, len(numbers), 1_000):
            self._server.delete(self._place.name, f"id in {list(numbers[first : first + 1_000])}")

    def _delete_rows(self, numbers: Sequence[int]) -> None:
        for first in range(0, len(numbers), AT_ONCE):
            some = numbers[first : first + AT_ONCE]
            ranges = (
                f"(id >= {one << POSITION_BITS} and id < {(one + 1) << POSITION_BITS})"
                for one in some
            )
            self._server.delete(self._place.rows, " or ".join(ranges))


@contextmanager
def writing_with(place: MilvusCatalog) -> Iterator[Writer]:
    """Change a library that is open."""
    writer = MilvusWriter(place)
    writer.sweep()
    yield writer


@contextmanager
def opened(address: Address) -> Iterator[MilvusCatalog]:
    """The catalog at an address, without a model.

    Raises:
        LibraryError: as `MilvusLibrary.at`.
    """
    server = Server(address)
    try:
        yield MilvusCatalog(server)
    finally:
        server.close()


def publish(address: Address, alias: str) -> None:
    """Point an alias to the library at an address: its readers switch over at once.

    Raises:
        LibraryError: there is no library, or the alias is the name of a collection.
    """
    with opened(address) as place:
        server = place.server
        if server.real_name(alias) == alias:
            raise LibraryError(
                f"{alias} is a collection at {address.named(alias)}, not an alias: choose another"
            )
        server.point(alias, place.name)


def _readers(place: MilvusCatalog) -> tuple[RowStore, LocalLandmarks | None]:
    """The reader of rows, and the landmarks if the library's profile has them."""
    import platformdirs

    rows, meta = RowStore(place), place.meta
    if not meta.profile.landmarks:
        return rows, None
    of = repr((place.address.uri, place.name, meta.model_id, meta.profile.name))
    name = f"{place.name}-{blake2b(of.encode(), digest_size=8).hexdigest()}"
    folder = platformdirs.user_cache_path("fingerprint") / "milvus" / name
    return rows, LocalLandmarks(folder, meta.peak_block, partial(peaks_of, rows))


def _check_model(place: MilvusCatalog, model: Embedder) -> None:
    if place.meta.model_id == model.id and place.meta.dim != model.dim:
        raise LibraryError(
            f"the library {place.address} has embeddings of {place.meta.dim} numbers, those of "
            f"this model have {model.dim}: index into a new collection"
        )
    if place.meta.model_id != model.id:
        raise LibraryError(
            f"the library {place.address} was made with model {place.meta.model_id[:12]}, this is "
            f"model {model.id[:12]}: use that model, or index into a new collection"
        )
    if place.meta.indexed_dims != model.indexed_dims:
        raise LibraryError(
            f"the library {place.address} indexes {place.meta.indexed_dims} dimensions of an "
            f"embedding, this model has {model.indexed_dims} for it: index into a new collection"
        )


def _may_replace(one: entries.Entry, other: entries.Entry) -> bool:
    """Whether an entry is of the same recording in the same file, or of one that was removed."""
    same = one.content == other.content
    return same and (one.place == other.place or other.state == REMOVED)


def _batches(new: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Groups of tracks whose entries are written together; an interruption loses at most one."""
    some: list[Entry] = []
    held = 0
    for entry in new:
        some.append(entry)
        held += len(entry.vectors)
        if held >= BATCH_ROWS:
            yield some
            some, held = [], 0
    if some:
        yield some


def _padded(vectors: Floats, rows: int) -> Floats:
    tail = np.zeros((rows - len(vectors), vectors.shape[1]), np.float32)
    return np.concatenate([vectors, tail])
