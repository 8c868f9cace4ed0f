"""Libraries smaller and far larger than the corpus, for one query at a time.

A smaller one holds some of the tracks. A larger one is simulated by what matters of it: how well
the best of its strangers score. The best score that a query has in each track it is not from is,
over the tracks, taken for normally distributed; the query's own ten best strangers give mean and
spread, by their normal scores (Blom, "Statistical estimates and transformed beta-variables",
1958), and the best two of as many more tracks are drawn from that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

import numpy as np

from fingerprint.recognition.query import Searchable
from fingerprint.types import Floats, Hits, Ints, Rows

NORMAL = NormalDist()
STRANGERS = 10  # of a query, that tell how all others score


@dataclass(frozen=True, slots=True, eq=False)
class SomeTracks:
    """Some tracks of a library, searched exactly; it stands for a `Snapshot`."""

    stored: Floats  # (N, D)
    rows: Rows
    hop: float  # s

    @classmethod
    def of(cls, library: Searchable, tracks: Sequence[int]) -> Self:
        """The tracks of these numbers out of a library."""
        rows = library.rows
        numbers = [np.arange(rows.starts[track], rows.starts[track + 1]) for track in tracks]
        starts = np.cumsum([0, *map(len, numbers)]).astype(np.int64)
        return cls(library.vectors(np.concatenate(numbers)), Rows(starts), library.hop)

    def vectors(self, rows: Ints) -> Floats:
        return self.stored[rows]

    def search(self, vectors: Floats, *, neighbours: int, search_k: int) -> Hits:  # noqa: ARG002
        """The nearest rows of each of `vectors` (M, D) that is not silent."""
        (audible,) = np.nonzero(vectors.any(axis=1))
        cosines = vectors[audible] @ self.stored.T
        most = min(neighbours, cosines.shape[1])
        nearest = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
        return Hits(
            np.repeat(audible, most),
            nearest.ravel().astype(np.int64),
            np.take_along_axis(cosines, nearest, axis=1).ravel().astype(np.float32),
        )


def best_strangers(
    scores: Sequence[float], tracks: int, more: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Drawn scores of the best two of `more` tracks, from those of the best of `tracks` tracks.

    `scores` are of tracks that the query is not from; the best `STRANGERS` count.
    """
    best = np.sort(np.asarray(scores, dtype=np.float64))[::-1][:STRANGERS]
    if len(best) < 2 or more < 2:
        return -1.0, -1.0
    ranks = (np.arange(len(best)) + 0.625) / (tracks + 0.25)
    normal = np.array([-NORMAL.inv_cdf(rank) for rank in ranks])
    spread, mean = np.polyfit(normal, best, 1)
    # The largest of n uniform numbers is U^(1 / n), and so on; as logarithms, for n is large.
    first = np.log(rng.random()) / more
    second = first + np.log(rng.random()) / (more - 1)
    return _drawn(first, mean, spread), _drawn(second, mean, spread)


def _drawn(logarithm: float, mean: float, spread: float) -> float:
    """The score at a quantile that is given by its logarithm; a cosine is at most 1."""
    above = min(max(-np.expm1(logarithm), 1e-300), 1 - 1e-12)
    return float(min(mean - spread * NORMAL.inv_cdf(above), 1.0))
