"""A snapshot of a library in Milvus, which recognition searches.

The entries of the tracks are read once, and later only those that have changed; their rows are
numbered consecutively, as recognition requires. A row's key in Milvus is the number of its track
and its position in it. The index holds the Matryoshka dimensions of its embedding; a text field
holds the code of the whole embedding, by which hits are reranked, and the spectral peaks. Landmarks
are in `landmarks`.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any, Self

import numpy as np

from fingerprint.audio.peaks import EMPTY
from fingerprint.index.landmarks import Query
from fingerprint.index.neighbours import best_per_query, index_part, reranked
from fingerprint.index.quantisation import Codes, decode
from fingerprint.library.records import Meta
from fingerprint.library.segments import PEAK_KIND, Stored
from fingerprint.milvus.catalog import POSITION_BITS, TRACK, MilvusCatalog
from fingerprint.milvus.landmarks import LocalLandmarks
from fingerprint.milvus.server import MOST, Index
from fingerprint.recognition.cohort import sample
from fingerprint.types import Candidate, Floats, Hits, Ints, PeakCodes, Rows, Track

CACHED = 65_536  # rows that are kept in memory
MOST_RUNS = 500  # runs of consecutive keys in one expression, at most


@dataclass(frozen=True, eq=False)  # no slots: the order is a cached property
class Known:
    """The tracks read so far: (n,) each, in the order in which they were added."""

    number: Ints
    rows: Ints
    added: Ints
    place: Ints

    @classmethod
    def of(cls, table: dict[int, tuple[int, int, int]]) -> Self:
        """From rows, moment and place by number."""
        rising = sorted(table, key=lambda number: (table[number][1], number))
        every = [(number, *table[number]) for number in rising]
        return cls(*np.array(every, dtype=np.int64).reshape(-1, 4).T)

    @cached_property
    def latest(self) -> Ints:
        """The tracks that exist: of each path, the one added last, as in `catalog.living`."""
        _, last = np.unique(self.place[::-1], return_index=True)
        return np.sort(len(self.place) - 1 - last).astype(np.int64)

    def updated(self, changes: Iterable[dict[str, Any]]) -> "Known":
        """The tracks updated by entries that may have changed; the same object if none has."""
        new = [one for one in changes if not self._has(one)]
        if not new:
            return self
        columns = (self.number, self.rows, self.added, self.place)
        table = {one[0]: one[1:] for one in zip(*(c.tolist() for c in columns), strict=True)}
        for one in new:
            table.pop(one["id"], None)
            if one["state"] == TRACK:
                table[one["id"]] = (one["rows"], one["added"], one["place"])
        return Known.of(table)

    @cached_property
    def order(self) -> tuple[Ints, Ints]:
        """The numbers, ascending, and where in the order of adding each of them is."""
        order = np.argsort(self.number)
        return self.number[order], order

    def _has(self, entry: dict[str, Any]) -> bool:
        """Whether an entry is unchanged."""
        numbers, order = self.order
        at = int(np.searchsorted(numbers, entry["id"]))
        there = at < len(numbers) and int(numbers[at]) == entry["id"]
        if entry["state"] != TRACK or not there:
            return entry["state"] != TRACK and not there
        here = order[at]
        known = (int(self.rows[here]), int(self.added[here]), int(self.place[here]))
        return known == (entry["rows"], entry["added"], entry["place"])


class RowStore:
    """The stored rows, read by their keys, with a cache of the latest.

    A row never changes under its key, because a track's number follows from its content. Rows that
    are missing, as those of a track that has just been added may be, are read again next time.
    """

    def __init__(self, catalog: MilvusCatalog) -> None:
        self._catalog, self._meta = catalog, catalog.meta
        self._width = stored_width(self._meta)
        self._kept = np.zeros((CACHED, self._width), np.uint8)
        self._key_at = np.full(CACHED, -1, np.int64)
        self._slot: dict[int, int] = {}
        self._next = 0
        self._lock = Lock()

    def read(self, keys: Ints, *, strong: bool = False) -> tuple[Codes, PeakCodes]:
        """Codes (K, width) and peaks (K, kept) of the rows with these keys, silent where none.

        `strong`: include rows that another writer has just written.
        """
        wanted, which = np.unique(keys, return_inverse=True)
        with self._lock:
            slots = np.array([self._slot.get(key, -1) for key in wanted.tolist()], np.int64)
            known = slots >= 0
            rows = np.tile(_silence(self._meta), (len(wanted), 1))
            rows[known] = self._kept[slots[known]]
        missing = wanted[~known]
        for first in range(0, len(missing), MOST):
            found, content = self._fetched(missing[first : first + MOST], strong=strong)
            rows[np.searchsorted(wanted, found)] = content
            if len(missing) <= CACHED // 4:
                self._keep(found, content)
        octets = rows[which.ravel()]
        return unpacked(octets, self._meta)

    def _fetched(self, keys: Ints, *, strong: bool) -> tuple[Ints, Any]:
        found = self._catalog.server.query(
            self._catalog.rows, _which(keys), ("id", "stored"), strong=strong
        )
        numbers = np.array([one["id"] for one in found], dtype=np.int64)
        text = "".join(one["stored"] for one in found)
        content = np.frombuffer(base64.b64decode(text), np.uint8).reshape(-1, self._width)
        return numbers, content

    def _keep(self, keys: Ints, content: Any) -> None:
        with self._lock:
            for key, row in zip(keys.tolist(), content, strict=True):
                slot = self._next
                self._slot.pop(int(self._key_at[slot]), None)
                self._kept[slot], self._key_at[slot], self._slot[key] = row, key, slot
                self._next = (slot + 1) % CACHED


@dataclass(frozen=True, eq=False)  # no slots: `cohort` is a cached property
class MilvusSnapshot:
    """The tracks in the order in which they were added. It is a `Reference` of `recognition`.

    Track i of `rows` has the number `owners[i]`.
    """

    catalog: MilvusCatalog
    known: Known
    stored: RowStore
    landmarks: LocalLandmarks | None
    index: Index

    @cached_property
    def rows(self) -> Rows:
        return Rows(np.concatenate([[0], np.cumsum(self._lengths)]).astype(np.int64))

    @cached_property
    def owners(self) -> Ints:
        return self.known.number[self.known.latest]

    @cached_property
    def _lengths(self) -> Ints:
        return self.known.rows[self.known.latest]

    @cached_property
    def _by_number(self) -> tuple[Ints, Ints]:
        order = np.argsort(self.owners)
        return self.owners[order], order

    @property
    def hop(self) -> float:
        return self.catalog.meta.row_hop

    @property
    def block(self) -> int:
        return self.catalog.meta.peak_block

    @cached_property
    def cohort(self) -> Floats:
        """Random passages of the library, for cohort normalisation; read once per snapshot."""
        return sample(self)

    def track(self, number: int) -> Track | None:
        """The track with that number in `rows`; None if it has been removed."""
        return self.catalog.track(int(self.owners[number]))

    def search(self, vectors: Floats, *, neighbours: int, search_k: int) -> Hits:
        """The nearest rows of living tracks, at most `neighbours` for each row of `vectors`.

        All vectors are sent at once.
        """
        (audible,) = np.nonzero(vectors.any(axis=1))
        if not len(audible) or not len(self.rows):
            return _hits([], [], [])
        widening = max(self.catalog.meta.widening, self.index.widening)
        limit = min(neighbours * widening, MOST)
        found = self.catalog.server.nearest(
            self.catalog.rows,
            index_part(vectors[audible], self.catalog.meta.indexed_dims),
            limit,
            self.index.search(search_k, limit),
        )
        query = np.repeat(audible, [len(some) for some in found])
        keys = np.array([key for some in found for key, _ in some], dtype=np.int64)
        row, alive = self._placed(keys)
        hits = _hits(query[alive], row[alive], np.zeros(int(alive.sum())))
        return best_per_query(reranked(hits, vectors, self.vectors), neighbours)

    def vectors(self, rows: Ints) -> Floats:
        """The embeddings (K, dim) of the rows (K,), decoded from their stored codes."""
        meta = self.catalog.meta
        return decode(self.stored.read(self._keys(rows))[0], meta.profile.bits, meta.dim)

    def peaks(self, rows: Ints) -> PeakCodes:
        """The spectral peaks (K, kept) of the rows (K,)."""
        return self.stored.read(self._keys(rows))[1]

    def vote(self, query: Query, most: int) -> list[Candidate]:
        """At most `most` candidates, those with the most landmarks in common with the query."""
        if self.landmarks is None:
            return []
        return self.landmarks.vote(query, most, self.owners, self._lengths)

    def _keys(self, rows: Ints) -> Ints:
        track = np.searchsorted(self.rows.starts, rows, side="right") - 1
        keys: Ints = self.owners[track] << POSITION_BITS | (rows - self.rows.starts[track])
        return keys

    def _placed(self, keys: Ints) -> tuple[Ints, Any]:
        """The rows with these keys, and which of them belong to tracks that exist."""
        numbers, order = self._by_number
        number, position = keys >> POSITION_BITS, keys & ((1 << POSITION_BITS) - 1)
        at = np.minimum(np.searchsorted(numbers, number), len(numbers) - 1)
        track = order[at]
        alive = (numbers[at] == number) & (position < self._lengths[track])
        return self.rows.starts[track] + position, alive


def peaks_of(stored: RowStore, number: Ints, rows: Ints) -> PeakCodes:
    """The peaks of whole tracks with these numbers and numbers of rows."""
    first = np.cumsum(rows) - rows
    position = np.arange(rows.sum()) - np.repeat(first, rows)
    return stored.read(np.repeat(number, rows) << POSITION_BITS | position, strong=True)[1]


def packed(stored: Stored, number: int, vectors: Floats) -> list[dict[str, Any]]:
    """The rows of a track as entities; silent rows without peaks are left out."""
    raw = _octets(stored.codes, stored.peaks)
    text = base64.b64encode(raw.tobytes()).decode()
    width = 4 * raw.shape[1] // 3
    full = stored.codes.any(axis=1) | (stored.peaks != EMPTY).any(axis=1)
    return [
        {
            "id": number << POSITION_BITS | position,
            "vector": vectors[position],
            "stored": text[position * width : (position + 1) * width],
        }
        for position in np.flatnonzero(full).tolist()
    ]


def unpacked(octets: Any, meta: Meta) -> tuple[Codes, PeakCodes]:
    """The codes and the peaks in rows of `_octets`."""
    kind = meta.profile.kind
    middle = meta.profile.width(meta.dim) * kind.itemsize
    end = middle + meta.peaks_kept * PEAK_KIND.itemsize
    codes = np.ascontiguousarray(octets[:, :middle]).view(kind)
    return codes, np.ascontiguousarray(octets[:, middle:end]).view(PEAK_KIND)


def stored_width(meta: Meta) -> int:
    """Bytes of a row: a multiple of three, so that base64 needs no padding."""
    return int(_silence(meta).shape[0])


def _which(keys: Ints) -> str:
    """The expression for keys, ascending. Milvus reads a few ranges faster than many keys."""
    runs = np.split(keys, np.flatnonzero(np.diff(keys) > 1) + 1)
    if len(runs) > MOST_RUNS:
        return f"id in {keys.tolist()}"
    return " or ".join(f"(id >= {run[0]} and id <= {run[-1]})" for run in runs)


def _silence(meta: Meta) -> Any:
    codes = np.zeros((1, meta.profile.width(meta.dim)), meta.profile.kind)
    return _octets(codes, np.full((1, meta.peaks_kept), EMPTY))[0]


def _octets(codes: Codes, peaks: PeakCodes) -> Any:
    parts = (codes, peaks.astype(PEAK_KIND))
    flat = [np.ascontiguousarray(one).view(np.uint8).reshape(len(codes), -1) for one in parts]
    width = sum(one.shape[1] for one in flat)
    return np.concatenate([*flat, np.zeros((len(codes), -width % 3), np.uint8)], axis=1)


def _hits(query: Sequence[int] | Ints, row: Sequence[int] | Ints, similarity: Any) -> Hits:
    return Hits(
        np.asarray(query, np.int64), np.asarray(row, np.int64), np.asarray(similarity, np.float32)
    )
