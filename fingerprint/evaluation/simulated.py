"""Libraries smaller and far larger than the corpus, for one query at a time.

A smaller one holds some of the tracks. A larger one is simulated: beside the real tracks it holds
copies of all of them whose embeddings have been mirrored along random principal axes. Mirroring
keeps every length, every similarity within the copy and the library's second moments, so that a
copy looks to a query as another collection of the same size and kind would; and since the mirrored
library compares with a query as the library does with the mirrored query, none of it is stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fingerprint.library.asking import Searchable
from fingerprint.types import Floats, Hits, Ints, Rows

Doubles = NDArray[np.float64]


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


def principal_axes(stored: Floats) -> Doubles:
    """Of the embeddings (N, D) about zero: orthonormal columns (D, D), the strongest last."""
    moments = stored.T.astype(np.float64) @ stored / len(stored)
    axes: Doubles = np.linalg.eigh(moments)[1]
    return axes


def mirror(axes: Doubles, number: int) -> Floats:
    """Symmetric orthogonal matrix (D, D) of copy `number`: each axis kept or turned round.

    The strongest axis, which is little more than the mean of all embeddings, is kept.
    """
    signs = np.random.default_rng([number, len(axes)]).choice([-1.0, 1.0], len(axes))
    signs[-1] = 1.0
    turned: Floats = ((axes * signs) @ axes.T).astype(np.float32)
    return turned
