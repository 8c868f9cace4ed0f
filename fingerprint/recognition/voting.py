"""Where in the library might the query be? Its windows' neighbours vote. Pure NumPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fingerprint.types import Candidate, Fingerprint, Hits, Ints, Rows

Doubles = NDArray[np.float64]

PLACES = 3  # per track at most: a chorus comes back, but must not crowd others out


def vote(query: Fingerprint, hits: Hits, rows: Rows, *, hop: float, most: int) -> list[Candidate]:
    """The places that most neighbours agree on, most votes first; scores are left at 0.

    A hit says "the query starts here" with its squared cosine as weight. Votes are counted in bins
    of half a hop; a place is three bins wide, since a true offset spreads over a whole hop.
    """
    track = np.searchsorted(rows.starts, hits.row, side="right") - 1
    offset = (hits.row - rows.starts[track]) * hop - (query.start + hits.query * query.hop)
    weight = np.maximum(hits.similarity, 0).astype(np.float64) ** 2
    step = np.floor(offset / (hop / 2)).astype(np.int64)
    step -= step.min(initial=0)
    stride = step.max(initial=0) + 2  # An empty bin between tracks, so that none are joined.
    bins, which = np.unique(track * stride + step, return_inverse=True)  # (B,), (M,)
    left, here, right = _joined(bins, np.bincount(which, weight))
    middle = _joined(bins, np.bincount(which, weight * offset))[1] / np.maximum(here, 1e-9)
    peaks = np.flatnonzero((here > left) & (here >= right) & (here > 0))
    places: list[Candidate] = []
    used: dict[int, int] = {}
    for b in peaks[np.argsort(-here[peaks], kind="stable")]:
        number = int(bins[b] // stride)
        used[number] = used.get(number, 0) + 1
        if used[number] <= PLACES:
            places.append(Candidate(number, float(middle[b]), rate=1.0, score=0.0))
        if len(places) == most:
            break
    return places


def _joined(bins: Ints, sums: NDArray[Any]) -> Doubles:
    """Each of the bins with its two neighbours: (3, B) for the bin before, this one and the next.

    `bins` (B,) ascend and need not be consecutive; a bin that is not listed holds nothing.
    """
    near = bins + np.array([[-1], [1]])  # (2, B)
    at = np.minimum(np.searchsorted(bins, near), len(bins) - 1)
    there = bins[at] == near
    joined = sums + (sums[at] * there).sum(axis=0)
    before, after = joined[at] * there
    return np.stack([before, joined, after])
