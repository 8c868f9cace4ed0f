"""Where in a library of 32-bit sub-fingerprints a query fits best: sliding bit errors, NumPy 2."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint32]  # one sub-fingerprint a frame, (frames,)
BITS = 32  # of a sub-fingerprint


@dataclass(frozen=True, slots=True)
class Alignment:
    """A query of which `errors` (0..1) of the bits differ from track `track`, `frame` frames in."""

    track: int
    frame: int
    errors: float


def best_alignment(query: Codes, codes: Codes, starts: NDArray[np.int64]) -> Alignment | None:
    """The place with the fewest differing bits, of all where the whole query fits in one track.

    Track i is `codes[starts[i]:starts[i + 1]]`. None if the query is empty or fits nowhere.
    Chromaprint's own service aligns whole recordings; sliding a snippet over every frame and
    taking the least bit error rate is the search of Haitsma and Kalker (2002), without an index.
    """
    shifts = len(codes) - len(query) + 1
    if not len(query) or shifts < 1:
        return None
    errors = np.zeros(shifts, np.int64)
    for i, code in enumerate(query):
        errors += np.bitwise_count(codes[i : i + shifts] ^ code)
    first = np.arange(shifts)
    track = np.searchsorted(starts, first, side="right") - 1  # the last of those that start there
    whole = first + len(query) <= starts[track + 1]
    if not whole.any():
        return None
    best = int(np.argmin(np.where(whole, errors, BITS * len(query) + 1)))
    found = int(track[best])
    return Alignment(found, best - int(starts[found]), int(errors[best]) / (BITS * len(query)))
