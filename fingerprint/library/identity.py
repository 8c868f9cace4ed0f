"""Deduplication: find the tracks of a library that are the same recording, by their sound."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fingerprint.index.neighbours import best_per_query
from fingerprint.library.library import Library
from fingerprint.library.records import REMOVED
from fingerprint.library.snapshot import Snapshot
from fingerprint.library.writer import Entry
from fingerprint.recognition.copies import Twin, twins_of
from fingerprint.types import Floats, Hits, Ints, Rows

NEIGHBOURS = 5  # of each row that is looked up
INSPECTED = 2_000  # nodes of the index a row


def twin_in_library(library: Library, vectors: Floats) -> int | None:
    """The id of the track that is most similar to these embeddings (N, dim) and the same recording.

    They are a hop of the model apart.
    """
    now = library.snapshot()
    twins = twins_in(now, vectors, step=library.meta.profile.step)
    return int(now.owners[twins[0].track]) if twins else None


def twins_in(now: Snapshot, vectors: Floats, *, step: int) -> list[Twin]:
    """Every track of a snapshot that is the same recording; `step` is that of `twins_of`."""
    if not len(now.rows):
        return []
    found = twins_of(
        vectors,
        lambda rows: now.search(rows, neighbours=NEIGHBOURS, search_k=INSPECTED),
        now.rows,
        now.vectors,
        step=step,
    )
    return [twin for twin in found if now.owners[twin.track] != REMOVED]


def twin_among(entries: Sequence[Entry], vectors: Floats) -> Path | None:
    """As `twin_in_library`, among tracks that are not committed yet; returns the track's path."""
    if not entries:
        return None
    lengths = [len(entry.vectors) for entry in entries]
    rows = Rows(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def stored(numbers: Ints) -> Floats:
        track = np.searchsorted(rows.starts, numbers, side="right") - 1
        places = zip(track, numbers - rows.starts[track], strict=True)
        return np.stack([entries[number].vectors[row] for number, row in places])

    twins = twins_of(vectors, lambda probes: _nearest(probes, entries), rows, stored)
    return entries[twins[0].track].track.path if twins else None


def _nearest(probes: Floats, entries: Sequence[Entry]) -> Hits:
    cosines = np.concatenate([probes @ entry.vectors.T for entry in entries], axis=1)  # (M, R)
    most = min(NEIGHBOURS, cosines.shape[1])
    kept = np.argpartition(cosines, -most, axis=1)[:, -most:]
    query = np.repeat(np.arange(len(probes)), kept.shape[1])
    row = kept.ravel().astype(np.int64)
    return best_per_query(Hits(query, row, cosines[query, row]), NEIGHBOURS)
