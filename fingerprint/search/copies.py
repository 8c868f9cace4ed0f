"""Are two places of the library the same recording? Pure NumPy.

A collection holds many recordings twice: an album and a compilation, a file and its re-encode. Both
match a query equally well, and that must not make either less believable.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fingerprint.types import Candidate, Floats, Ints, Rows

SAME = 0.95  # mean cosine; copies measure 0.99, other tracks of one game up to 0.86


def same_recordings(
    candidates: Sequence[Candidate],
    rows: Rows,
    vectors: Callable[[Ints], Floats],
    *,
    hop: float,
    seconds: float,
) -> NDArray[np.bool_]:
    """Which of n candidates are the same recording under the query, (n, n).

    Compares the stored embeddings of the stretches that the query of `seconds` covers, between the
    rows by interpolation, since the copies' grids need not coincide. Every candidate is a copy of
    itself.

    Args:
        candidates: the places.
        rows: which library rows are whose.
        vectors: row numbers (K,) to stored vectors (K, D).
        hop: s between a track's rows.
        seconds: length of the stretches.
    """
    stretches = [_stretch(place, rows, vectors, hop, seconds) for place in candidates]
    same = np.eye(len(stretches), dtype=bool)
    for i, one in enumerate(stretches):
        for j, other in enumerate(stretches[:i]):
            both = one.any(axis=1) & other.any(axis=1)
            cosines = np.sum(one[both] * other[both], axis=1)
            same[i, j] = same[j, i] = bool(both.any()) and float(cosines.mean()) >= SAME
    return same


def _stretch(
    place: Candidate, rows: Rows, vectors: Callable[[Ints], Floats], hop: float, seconds: float
) -> Floats:
    """Unit embeddings a hop apart from the place on, zeros beyond the track: (R, D)."""
    first, last = int(rows.starts[place.track]), int(rows.starts[place.track + 1])
    position = place.offset / hop + place.rate * np.arange(max(1, int(seconds / hop)))  # (R,)
    below = np.floor(position).astype(np.int64)
    inside = (below >= 0) & (below + 1 < last - first)
    number = first + np.where(inside, below, 0)
    after = np.minimum(number + 1, last - 1)
    needed, which = np.unique(np.stack([number, after]), return_inverse=True)
    near, far = vectors(needed)[which.reshape(2, -1)]
    share = (position - below)[:, None]
    mixed = ((1 - share) * near + share * far) * inside[:, None]
    length = np.linalg.norm(mixed, axis=1, keepdims=True)
    unit: Floats = (mixed / np.maximum(length, 1e-6)).astype(np.float32)
    return unit
