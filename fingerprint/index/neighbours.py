"""Shared by all indices: the Matryoshka dimensions they hold, and reranking of their hits.

Pure NumPy. Training makes the first dimensions of an embedding, 128 by default, an embedding of
their own (Matryoshka representation learning, Kusupati et al. 2022;
`fingerprint.lab.training.mining`). An index of half of the dimensions is half as large and twice as
fast; its hits are reranked by all of them.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fingerprint.types import Floats, Hits, Ints

ROWS_PER_NODE = 32  # compared by signs or codes in the time in which Annoy inspects a node


def index_part(vectors: Floats, dims: int) -> Floats:
    """The indexed Matryoshka dimensions (N, min(D, dims)) of embeddings (N, D).

    Rows have unit length; rows of silence stay zero.
    """
    if vectors.shape[1] <= dims:
        return vectors
    first = vectors[:, :dims]
    length = np.linalg.norm(first, axis=1, keepdims=True)
    scaled: Floats = first / np.maximum(length, np.float32(1e-6))
    return scaled


def nearest(stored: Floats, vectors: Floats, most: int) -> Hits:
    """The `most` rows of `stored` (N, D) nearest to each of `vectors` (M, D) that is not silent."""
    (audible,) = np.nonzero(vectors.any(axis=1))
    cosines = vectors[audible] @ stored.T
    most = min(most, len(stored))
    found = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
    return Hits(
        np.repeat(audible, most),
        found.ravel().astype(np.int64),
        np.take_along_axis(cosines, found, axis=1).ravel().astype(np.float32),
    )


def best_per_query(hits: Hits, most: int) -> Hits:
    """The `most` most similar hits of every query row; of equally similar ones the lower rows."""
    near = where(hits, _near_enough(hits, most))
    order = np.lexsort((near.row, -near.similarity, near.query))
    query = near.query[order]
    rank = np.arange(len(query)) - np.searchsorted(query, query)
    return where(near, order[rank < most])


def _near_enough(hits: Hits, most: int) -> Ints:
    """The positions of hits as similar as the `most`th of their query row, in linear time."""
    order = np.argsort(hits.query, kind="stable")
    ends = np.flatnonzero(np.diff(hits.query[order])) + 1
    kept = [np.empty(0, np.int64)]
    for group in np.split(order, ends):
        similarity = hits.similarity[group]
        least = np.partition(similarity, -most)[-most] if len(group) > most else -np.inf
        kept.append(group[similarity >= least])
    return np.concatenate(kept)


def reranked(hits: Hits, vectors: Floats, stored: Callable[[Ints], Floats]) -> Hits:
    """The hits of `vectors` (M, D), with cosines over all dimensions of the stored rows.

    `stored(rows)` returns the embeddings (K, D) of rows (K,).
    """
    needed, which = np.unique(hits.row, return_inverse=True)
    cosine = np.sum(stored(needed)[which] * vectors[hits.query], axis=1)
    return Hits(hits.query, hits.row, cosine)


def where(hits: Hits, which: Ints | NDArray[np.bool_]) -> Hits:
    """The hits at these positions, or where the mask is true."""
    return Hits(hits.query[which], hits.row[which], hits.similarity[which])
