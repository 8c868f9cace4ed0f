"""Are two places of the library the same recording? Pure NumPy.

A collection holds many recordings twice: an album and a compilation, a file and its re-encode. Both
match a query equally well, and that must not make either less believable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fingerprint.recognition.alignment import StoredTracks
from fingerprint.types import Candidate, Floats, Hits, Ints, Rows

SAME = 0.95  # mean cosine; copies measure 0.99, other tracks of one game up to 0.86
SHARED = 0.9  # of the longer of two recordings, at least, that both must have to be the same
PROBES = 16  # rows of a recording that are looked up to find its twins
TRIED = 6  # places that most of them agree on, and that are compared
COMPARED = 128  # rows, at most, over the whole of what two recordings share


def likeness(
    candidates: Sequence[Candidate], stored: StoredTracks, *, seconds: float
) -> NDArray[np.float64]:
    """How alike n candidates are under the query: mean cosines (n, n), from `SAME` on copies.

    Compares the stored embeddings of the stretches that the query of `seconds` covers, between the
    rows by interpolation, since the copies' grids need not coincide.

    Args:
        candidates: the places.
        stored: the tracks.
        seconds: length of the stretches.
    """
    stretches = [_stretch(place, stored, seconds) for place in candidates]
    alike = np.eye(len(stretches))
    for i, one in enumerate(stretches):
        for j, other in enumerate(stretches[:i]):
            both = one.any(axis=1) & other.any(axis=1)
            if both.any():
                cosines = np.sum(one[both] * other[both], axis=1)
                alike[i, j] = alike[j, i] = float(cosines.mean())
    return alike


def _stretch(place: Candidate, stored: StoredTracks, seconds: float) -> Floats:
    """Unit embeddings a hop apart from the place on, zeros beyond the track: (R, D)."""
    hop = stored.hop
    first, last = (int(start) for start in stored.rows.starts[place.track : place.track + 2])
    position = place.offset / hop + place.rate * np.arange(max(1, int(seconds / hop)))  # (R,)
    below = np.floor(position).astype(np.int64)
    inside = (below >= 0) & (below + 1 < last - first)
    number = first + np.where(inside, below, 0)
    after = np.minimum(number + 1, last - 1)
    needed, which = np.unique(np.stack([number, after]), return_inverse=True)
    near, far = stored.vectors(needed)[which.reshape(2, -1)]
    share = (position - below)[:, None]
    mixed = ((1 - share) * near + share * far) * inside[:, None]
    length = np.linalg.norm(mixed, axis=1, keepdims=True)
    unit: Floats = (mixed / np.maximum(length, 1e-6)).astype(np.float32)
    return unit


@dataclass(frozen=True, slots=True)
class Twin:
    """A track that is the same recording: mean cosine, and the share of the longer one compared."""

    track: int  # number in `Rows`
    cosine: float
    shared: float


def twins_of(
    recording: Floats,
    lookup: Callable[[Floats], Hits],
    rows: Rows,
    vectors: Callable[[Ints], Floats],
    *,
    step: int = 1,
) -> list[Twin]:
    """The tracks that are the same recording from end to end, the most similar first.

    Neighbours of a few of the recording's rows vote for tracks and shifts; a shift is then measured
    to a fraction of a row and the two compared all along. A recording that is part of a longer one
    is no twin of it.

    Args:
        recording: (N, D).
        lookup: rows (M, D) to their nearest neighbours in the library.
        rows: which library rows are whose.
        vectors: row numbers (K,) to stored vectors (K, D).
        step: rows of the recording to one of the library.
    """
    audible = np.flatnonzero(recording.any(axis=1))
    if not len(audible):
        return []
    probes = np.unique(audible[np.linspace(0, len(audible) - 1, PROBES).astype(np.int64)])
    hits = lookup(recording[probes])
    track = np.searchsorted(rows.starts, hits.row, side="right") - 1
    # Rows of the recording from its start to the track's.
    shift = (hits.row - rows.starts[track]) * step - probes[hits.query]
    votes, count = np.unique(np.stack([track, shift // step]), axis=1, return_counts=True)
    found: dict[int, Twin] = {}
    for place in np.argsort(-count, kind="stable")[:TRIED]:
        number, coarse = votes[:, place].tolist()
        first, last = rows.starts[number : number + 2].tolist()
        length = (last - first) * step
        shared = _shared(coarse * step, len(recording), length) / max(length, len(recording))
        if shared >= SHARED - step / length:
            stretch = np.unique(np.linspace(first, last - 1, COMPARED).astype(np.int64))
            moments = (stretch - first) * step
            cosine = _cosine(recording, vectors(stretch), moments, coarse * step, step)
            if cosine > getattr(found.get(number), "cosine", 0):
                found[number] = Twin(number, cosine, shared)
    return sorted(found.values(), key=lambda twin: -twin.cosine)


def _shared(shift: int, length: int, other: int) -> int:
    return max(0, min(other, shift + length) - max(0, shift))


def _cosine(recording: Floats, stored: Floats, moments: Ints, shift: int, step: int) -> float:
    """Mean cosine at the best shift near this one; 0 if it is no better than what chance gives.

    `moments` are where in a track, in rows of the recording, the stored rows (K, D) lie.
    """
    near = np.arange(shift - step, shift + 2 * step, dtype=np.float64)
    best = near[np.argmax([_likeness(recording, stored, moments - lag) for lag in near])]
    lags = best + np.arange(-8, 9) / 8
    cosine = max(_likeness(recording, stored, moments - lag) for lag in lags)
    # What rows from other moments have in common says nothing, and all rows may have much.
    chance = max(0.0, _likeness(recording, stored, (moments - best)[::-1]))
    return cosine if cosine - chance >= SAME * (1 - chance) else 0.0


def _likeness(recording: Floats, stored: Floats, position: NDArray[np.float64]) -> float:
    """Mean cosine of stored rows with the recording at fractional rows; 0 if nothing is there."""
    below = np.floor(position).astype(np.int64)
    inside = (below >= 0) & (below + 1 < len(recording))
    share = (position - below)[inside, None]
    mixed = (1 - share) * recording[below[inside]] + share * recording[below[inside] + 1]
    audible = mixed.any(axis=1) & stored[inside].any(axis=1)
    if not audible.any():
        return 0.0
    mixed, other = mixed[audible], stored[inside][audible]
    whole = np.linalg.norm(recording[below[inside][audible]], axis=1)  # mixing shortens rows
    cosines = np.sum(mixed * other, axis=1) * whole / np.linalg.norm(mixed, axis=1)
    return min(1.0, float(np.mean(cosines)))
