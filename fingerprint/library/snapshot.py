"""A read-only snapshot of a library: all open segments, their rows numbered consecutively."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fingerprint.audio.peaks import BLOCK
from fingerprint.errors import LibraryError
from fingerprint.index.landmarks import Query, candidates
from fingerprint.index.neighbours import best_per_query, reranked, where
from fingerprint.library.records import REMOVED, SegmentInfo, Spans
from fingerprint.library.segments import Segment, open_segment
from fingerprint.library.store import Catalog
from fingerprint.recognition.cohort import sample
from fingerprint.types import Candidate, Floats, Hits, Ints, PeakCodes, Rows, Track

LEAST_NODES = 250  # index nodes inspected per vector in a segment, however small it is


@dataclass(frozen=True, eq=False)  # no slots: `cohort` is a cached property
class Snapshot:
    """The `Reference` of a library, against which `recognition` recognises.

    Span i of `rows` belongs to the track with the id `owners[i]`, or to `REMOVED` if the track has
    been removed and its rows are still in their segment. `hop` is the time (s) between rows.
    """

    segments: tuple[Segment, ...]
    rows: Rows
    owners: Ints
    hop: float
    catalog: Catalog

    @cached_property
    def cohort(self) -> Floats:
        """Random passages of the library, for cohort normalisation; read once per snapshot."""
        return sample(self)

    @cached_property
    def _has_removed(self) -> bool:
        return bool(np.any(self.owners == REMOVED))

    def track(self, number: int) -> Track | None:
        """The track of span `number` of `rows`; None if it is removed."""
        owner = int(self.owners[number])
        return None if owner == REMOVED else self.catalog.track(owner)

    def search(self, vectors: Floats, *, neighbours: int, search_k: int) -> Hits:
        """The nearest rows of tracks that exist, at most `neighbours` for each of `vectors`.

        `search_k` index nodes are inspected per vector. Segments share them in proportion to their
        size, so a query costs the same in few segments and in many.
        """
        total = sum(segment.info.rows for segment in self.segments)
        widening = self.segments[0].meta.widening if self.segments else 1
        found = []
        for segment, first in zip(self.segments, self._first_rows(), strict=False):
            share = max(LEAST_NODES, -(-search_k * segment.info.rows // total))
            found.append(_shifted(segment.search(vectors, neighbours * widening, share), first))
        hits = _joined(found)
        if self._has_removed:
            owner = self.owners[np.searchsorted(self.rows.starts, hits.row, side="right") - 1]
            hits = where(hits, owner != REMOVED)
        if widening > 1:
            hits = reranked(best_per_query(hits, neighbours * widening), vectors, self.vectors)
        return best_per_query(hits, neighbours)

    def vectors(self, rows: Ints) -> Floats:
        """The embeddings (K, dim) of the rows (K,), decoded from their stored codes."""
        first = self._first_rows()
        place = np.searchsorted(first, rows, side="right") - 1
        found = np.empty((len(rows), self.segments[0].meta.dim), dtype=np.float32)
        for number in np.unique(place):
            here = place == number
            found[here] = self.segments[number].vectors(rows[here] - first[number])
        return found

    @property
    def block(self) -> int:
        """Spectrogram frames per row of peaks."""
        return self.segments[0].meta.peak_block if self.segments else BLOCK

    def peaks(self, rows: Ints) -> PeakCodes:
        """The spectral peaks (K, kept) of the rows (K,)."""
        first = self._first_rows()
        place = np.searchsorted(first, rows, side="right") - 1
        found = np.empty((len(rows), self.segments[0].meta.peaks_kept), dtype=np.uint16)
        for number in np.unique(place):
            here = place == number
            found[here] = self.segments[number].peaks(rows[here] - first[number])
        return found

    def vote(self, query: Query, most: int) -> list[Candidate]:
        """At most `most` candidates, those with the most landmarks in common with the query."""
        parts = [(segment.landmarks, segment.info.rows) for segment in self.segments]
        alive = self.owners != REMOVED
        return candidates(query, parts, self.rows, alive, block=self.block, most=most)

    def _first_rows(self) -> Ints:
        lengths = [segment.info.rows for segment in self.segments]
        return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def take_snapshot(catalog: Catalog, previous: Snapshot | None = None) -> Snapshot:
    """Open the segments that the catalog lists; those open in `previous` are reused.

    Raises:
        LibraryError: a segment's file is missing or damaged.
    """
    opened = {segment.info.id: segment for segment in previous.segments} if previous else {}
    infos, spans = catalog.layout()
    while True:
        try:
            placed = place_rows(infos, spans)
            segments = tuple(
                opened.get(info.id) or open_segment(catalog.folder, info, catalog.meta)
                for info in infos
            )
            return Snapshot(segments, *placed, catalog.meta.row_hop, catalog)
        except LibraryError:
            # A segment may have been merged since the catalog was read: if so, read it again.
            known, (infos, spans) = infos, catalog.layout()
            if infos == known:
                raise


def place_rows(segments: Sequence[SegmentInfo], spans: Sequence[Spans]) -> tuple[Rows, Ints]:
    """Number the rows of all segments consecutively and split them where tracks begin and end.

    Returns the n spans between the splits and the owner (n,) of each.

    Raises:
        LibraryError: a segment's spans are not as long as the segment, or two have one owner.
    """
    for segment, held in zip(segments, spans, strict=True):
        # A sum could overflow: no span may be longer than the segment.
        right = np.all((held.rows > 0) & (held.rows <= segment.rows))
        if not right or int(held.rows.sum()) != segment.rows:
            raise LibraryError(
                f"the catalog is damaged: the tracks of segment {segment.id} are not as long as it"
            )
    owners = np.concatenate([np.empty(0, np.int64), *(held.owners for held in spans)])
    living = np.sort(owners[owners != REMOVED])
    if (twice := living[1:][living[1:] == living[:-1]]).size:
        raise LibraryError(f"the catalog is damaged: track {twice[0]} lies in two places")
    rows = np.concatenate([np.zeros(1, np.int64), *(held.rows for held in spans)])
    return Rows(np.cumsum(rows)), owners


def _shifted(hits: Hits, by: int) -> Hits:
    return Hits(hits.query, hits.row + by, hits.similarity)


def _joined(parts: Sequence[Hits]) -> Hits:
    return Hits(
        np.concatenate([np.empty(0, np.int64), *(part.query for part in parts)]),
        np.concatenate([np.empty(0, np.int64), *(part.row for part in parts)]),
        np.concatenate([np.empty(0, np.float32), *(part.similarity for part in parts)]),
    )
