"""Where else in its track does a passage sound the same? Pure NumPy.

Music repeats itself, in loops to the sample. Then a query fits several places equally, and which
of them is named would be chance.
"""

import numpy as np
from numpy.typing import NDArray

from fingerprint.types import Candidate, Floats

SAME = 0.97  # mean cosine of two passages, between the rows; other bars of a piece stay below
CLEARLY = 0.1  # share of what sets a passage apart from the rest of its track that may be missing
APART = 1.0  # s; nearer places are the same place
TRIED = 4  # fractions of a row at which two passages are compared


def repeats(
    track: Floats, place: Candidate, *, hop: float, window: float, seconds: float
) -> list[float]:
    """Other offsets (s) at which the track plays what it plays under the query, ascending.

    Args:
        track: the track's rows (R, D), `hop` seconds apart.
        place: where the query is.
        hop: s.
        window: s that a row describes.
        seconds: length of the query.
    """
    reach = place.rate * max(0.0, seconds - window)
    first, count = place.offset / hop, 1 + int(reach / hop)
    if first < 0 or first + count >= len(track):
        return []  # it overruns the track: what is beyond cannot be compared
    passage = _between(track, first + np.arange(count))
    scores = _scores(track, passage)
    near = round(APART / hop * TRIED)
    # Where a track sounds much the same all the time, only the very same is a repeat.
    least = max(SAME, 1 - CLEARLY * (1 - float(np.median(scores))))
    found = [
        number / TRIED
        for number in np.flatnonzero(scores >= least)
        if scores[number] == scores[max(0, number - near) : number + near + 1].max()
    ]
    shifts = (np.array(found) - first) * hop
    return sorted(float(place.offset + shift) for shift in shifts if abs(shift) >= APART)


def _scores(track: Floats, passage: Floats) -> NDArray[np.float64]:
    """Mean cosine of the passage with the track from every `TRIED`th of a row on, (P,)."""
    count = len(passage)
    last = len(track) - count
    scores = np.zeros((last, TRIED))
    for part in range(TRIED):
        shifted = _between(track, np.arange(len(track) - 1) + part / TRIED)
        cosines = shifted @ passage.T
        for i in range(count):
            scores[:, part] += cosines[i : i + last, i]
    flat: NDArray[np.float64] = (scores / count).ravel()
    return flat


def _between(track: Floats, position: NDArray[np.floating]) -> Floats:
    """Unit embeddings at positions between the rows, all inside; silent ones stay zero."""
    below = np.minimum(np.floor(position).astype(np.int64), len(track) - 2)
    share = (position - below)[:, None]
    mixed = (1 - share) * track[below] + share * track[below + 1]
    length = np.linalg.norm(mixed, axis=1, keepdims=True)
    unit: Floats = (mixed / np.maximum(length, 1e-6)).astype(np.float32)
    return unit
