"""Choosing among nearest neighbours. Pure NumPy."""

import numpy as np
from numpy.typing import NDArray

from fingerprint.types import Hits, Ints


def best_per_query(hits: Hits, most: int) -> Hits:
    """The `most` most similar hits of every query row."""
    order = np.lexsort((hits.row, -hits.similarity, hits.query))
    query = hits.query[order]
    rank = np.arange(len(query)) - np.searchsorted(query, query)
    return where(hits, order[rank < most])


def where(hits: Hits, which: Ints | NDArray[np.bool_]) -> Hits:
    """Some of the hits, by number or by a mask."""
    return Hits(hits.query[which], hits.row[which], hits.similarity[which])
