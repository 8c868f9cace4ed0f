"""The same sound twice: copies of a recording, and passages that a track repeats. Pure NumPy.

A collection holds many recordings twice: an album and a compilation, a file and its re-encode. Both
match a query equally well, and neither may lower the confidence of the other. Music also repeats
itself, in loops sample by sample: then a query fits several offsets of one track equally well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fingerprint.recognition.alignment import StoredTracks, interpolated
from fingerprint.types import Candidate, Doubles, Floats, Hits, Ints, Rows

SAME = 0.95  # mean cosine of copies, at least: copies measure 0.99, tracks of one game up to 0.86
SHARED = 0.9  # share of the longer of two recordings that both have, at least, to be the same
PROBES = 16  # rows of a recording that are looked up to find its twins
TRIED = 6  # (track, shift) pairs with the most votes, whose rows are compared
COMPARED = 128  # rows, at most, that are compared over the whole of what two recordings share

SAME_PASSAGE = 0.97  # mean cosine of a repeat, at least; other bars of a piece stay below
CLEARLY = 0.1  # a repeat is at most this share as far from the passage as the median place is
SIMILAR_PASSAGE = 0.5  # mean cosine of a passage that may be taken for another one, at least
MOST_SIMILAR = 12  # such passages, at most
APART = 1.0  # s; nearer offsets are the same place
FRACTIONS = 4  # of a row, at which two passages are compared


def likeness(candidates: Sequence[Candidate], stored: StoredTracks, *, seconds: float) -> Doubles:
    """Mean cosines (n, n) of what n candidates have under the query; copies reach `SAME`.

    Compares stored embeddings, interpolated between rows, since the rows of two copies need not
    begin at the same moments of the recording.

    Args:
        candidates: tracks with offsets and rates.
        stored: the tracks.
        seconds: how long a stretch is compared.
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
    """Unit embeddings from the candidate's offset on, a hop apart, zero past the track: (R, D)."""
    hop = stored.hop
    first, last = (int(start) for start in stored.rows.starts[place.track : place.track + 2])
    position = place.offset / hop + place.rate * np.arange(max(1, int(seconds / hop)))  # (R,)
    below = np.floor(position).astype(np.int64)
    inside = (below >= 0) & (below + 1 < last - first)
    number = first + np.where(inside, below, 0)
    after = np.minimum(number + 1, last - 1)
    needed, which = np.unique(np.stack([number, after]), return_inverse=True)
    near, far = stored.vectors(needed)[which.reshape(2, -1)]
    stretch: Floats = _unit(interpolated(near, far, position - below)) * inside[:, None]
    return stretch


def _unit(mixed: Doubles) -> Floats:
    """Embeddings (N, D) made as long as unit vectors; rows of zeros stay."""
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

    Hits of a few of the recording's rows vote for (track, shift) pairs; for those with most votes
    the shift is measured to a fraction of a row, and the rows are compared over all that both
    share. A recording that is part of a longer one is not its twin.

    Args:
        recording: (N, D).
        lookup: returns the nearest neighbours, in the library, of rows (M, D).
        rows: which library rows belong to which track.
        vectors: returns the stored vectors (K, D) of row numbers (K,).
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
    """Mean cosine at the best shift near the given one; 0 if it is no better than chance.

    `moments` (K,) are the positions of the stored rows (K, D) in their track, in rows of the
    recording.
    """
    near = np.arange(shift - step, shift + 2 * step, dtype=np.float64)
    best = near[np.argmax([_cosine_at(recording, stored, moments - lag) for lag in near])]
    lags = best + np.arange(-8, 9) / 8
    cosine = max(_cosine_at(recording, stored, moments - lag) for lag in lags)
    # Rows from different moments may be similar, too: such a cosine proves nothing.
    chance = max(0.0, _cosine_at(recording, stored, (moments - best)[::-1]))
    return cosine if cosine - chance >= SAME * (1 - chance) else 0.0


def _cosine_at(recording: Floats, stored: Floats, position: Doubles) -> float:
    """Mean cosine of stored rows with the recording at fractional rows; 0 if none overlap."""
    below = np.floor(position).astype(np.int64)
    inside = (below >= 0) & (below + 1 < len(recording))
    share = (position - below)[inside]
    below, stored = below[inside], stored[inside]
    mixed = interpolated(recording[below], recording[below + 1], share)
    audible = mixed.any(axis=1) & stored.any(axis=1)
    if not audible.any():
        return 0.0
    mixed, other = mixed[audible], stored[audible]
    whole = np.linalg.norm(recording[below[audible]], axis=1)  # mixing shortens rows
    cosines = np.sum(mixed * other, axis=1) * whole / np.linalg.norm(mixed, axis=1)
    return min(1.0, float(np.mean(cosines)))


def repeats(
    track: Floats, place: Candidate, *, hop: float, window: float, seconds: float
) -> list[float]:
    """Other offsets (s) at which the track sounds as it does under the query, ascending.

    Args:
        track: the track's rows (R, D), `hop` seconds apart.
        place: the candidate.
        hop: s.
        window: s of audio that a row describes.
        seconds: length of the query.
    """
    scores = _along(track, place, hop, window, seconds)
    if not len(scores):
        return []
    # In a track that sounds much the same all the time, a repeat has to be all but identical.
    least = max(SAME_PASSAGE, 1 - CLEARLY * (1 - float(np.median(scores))))
    return sorted(place.offset + shift for shift in _peaks(scores, least, place, hop))


def similar(
    track: Floats, place: Candidate, *, hop: float, window: float, seconds: float
) -> list[float]:
    """Other offsets (s) at which the track sounds much as it does under the query, nearest first.

    A piece that repeats a bar with another melody on top is found at any of its bars. Arguments as
    for `repeats`.
    """
    scores = _along(track, place, hop, window, seconds)
    found = _peaks(scores, SIMILAR_PASSAGE, place, hop) if len(scores) else []
    found.sort(key=lambda shift: -scores[round((place.offset + shift) / hop * FRACTIONS)])
    return [place.offset + shift for shift in found[:MOST_SIMILAR]]


def _along(track: Floats, place: Candidate, hop: float, window: float, seconds: float) -> Doubles:
    """How much the track sounds like the passage under the query, from every fraction of a row on.

    Mean cosines (P,); none if the query overruns the track, for then there is nothing to compare
    its rest with.
    """
    reach = place.rate * max(0.0, seconds - window)
    first, count = place.offset / hop, 1 + int(reach / hop)
    if first < 0 or first + count >= len(track):
        return np.empty(0)
    return _passage_scores(track, _between_rows(track, first + np.arange(count)))


def _peaks(scores: Doubles, least: float, place: Candidate, hop: float) -> list[float]:
    """Where scores of at least `least` are highest within `APART`, in s from the candidate."""
    near = round(APART / hop * FRACTIONS)
    found = [
        number / FRACTIONS * hop - place.offset
        for number in np.flatnonzero(scores >= least)
        if scores[number] == scores[max(0, number - near) : number + near + 1].max()
    ]
    return [float(shift) for shift in found if abs(shift) >= APART]


def _passage_scores(track: Floats, passage: Floats) -> Doubles:
    """Mean cosine of the passage with the track from every fraction of a row on, (P,).

    The cosine with a mixture of two rows is the same mixture of the cosines with either, over the
    mixture's length.
    """
    count = len(passage)
    last = len(track) - count
    scores = np.zeros((last, FRACTIONS))
    cosines = track @ passage.T
    square = np.square(track).sum(axis=1)
    product = (track[:-1] * track[1:]).sum(axis=1)
    for part in range(FRACTIONS):
        far = part / FRACTIONS
        near = 1 - far
        length = np.sqrt(near**2 * square[:-1] + far**2 * square[1:] + 2 * near * far * product)
        mixed = near * cosines[:-1] + far * cosines[1:]
        mixed /= np.maximum(length, 1e-6)[:, None]
        for i in range(count):
            scores[:, part] += mixed[i : i + last, i]
    flat: Doubles = (scores / count).ravel()
    return flat


def _between_rows(track: Floats, position: NDArray[np.floating]) -> Floats:
    """Unit embeddings at fractional rows, all inside the track; silent ones stay zero."""
    below = np.minimum(np.floor(position).astype(np.int64), len(track) - 2)
    return _unit(interpolated(track[below], track[below + 1], position - below))
