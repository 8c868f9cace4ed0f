"""Cohort normalisation: what a query scores at random places that it is not from. Pure NumPy.

A query with little content is similar to everything, a rich one to hardly anything. So a score only
means something relative to the scores of the same query at random places of the library, a cohort
of impostors, as in speaker verification (Auckenthaler et al., "Score normalization for
text-independent speaker verification systems", Digital Signal Processing 2000).

A very small library has no impostors: in a library of one jingle, the jingle is the best match of
any query, and only its own rows are there to be compared with. So the model brings a background,
passages of other music, and a small library is searched together with them as if they were its
tracks. They have no names: where one of them wins, the answer is "not in the library".
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from fingerprint.audio.peaks import joined
from fingerprint.index.landmarks import Query as Landmarks
from fingerprint.index.neighbours import nearest
from fingerprint.recognition.alignment import StoredTracks, weights_of
from fingerprint.recognition.copies import SAME, likeness
from fingerprint.recognition.reference import Reference
from fingerprint.types import (
    Background,
    Candidate,
    Fingerprint,
    Floats,
    Hits,
    Ints,
    Level,
    PeakCodes,
    Rows,
    Track,
)

PASSAGE = 64  # consecutive rows of a passage, about 16 s
PASSAGES = 128  # passages of a cohort, at most: more do not make the level more exact
ROWS_WITHOUT_BACKGROUND = PASSAGE * PASSAGES  # rows of a library that needs no background
SEED = 0
Kept = TypeVar("Kept", Floats, PeakCodes)


def sample(stored: StoredTracks) -> Floats:
    """The cohort: passages from all over a library, one after the other, (R, D).

    The same library gives the same rows. A small library gives all its rows.
    """
    starts = stored.rows.starts
    total = int(starts[-1]) if len(starts) else 0
    if not total:
        return np.zeros((0, 1), np.float32)
    if total <= ROWS_WITHOUT_BACKGROUND:
        return stored.vectors(np.arange(total))
    # One passage from each of equal parts, so that they never overlap.
    parts = np.linspace(0, total, PASSAGES + 1)
    room = np.diff(parts) - PASSAGE
    begins = parts[:-1] + np.random.default_rng(SEED).random(PASSAGES) * np.maximum(room, 0)
    numbers = begins.astype(np.int64)[:, None] + np.arange(PASSAGE)
    return stored.vectors(numbers.ravel())


def level(cohort: Floats, query: Fingerprint, *, hop: float) -> Level:
    """Mean and spread of the query's scores in a cohort (R, D), whose rows are `hop` seconds apart.

    The score at a place is the matcher's at rate 1: the weighted mean cosine of the query's
    windows, `hop` apart, with consecutive rows. Of a query longer than half the cohort, only the
    first windows count.
    """
    step = max(1, round(hop / query.hop))
    weights = weights_of(query)[::step]
    (used,) = np.nonzero(weights)
    used = used[: max(1, len(cohort) // 2)]
    windows, weights = query.vectors[::step][used], weights[used]
    if not len(windows) or not len(cohort):
        return Level(0.0, 0.0)
    cosines = cohort @ windows.T  # (R, M)
    places = len(cohort) - len(windows) + 1
    total = np.zeros(places)
    for i in range(len(windows)):
        total += weights[i] * cosines[i : i + places, i]
    scores = total / weights.sum()
    return Level(float(scores.mean()), float(scores.std()))


def with_background(reference: Reference, background: Background | None) -> Reference:
    """The reference, extended by the background's passages if it is too small for a cohort."""
    starts = reference.rows.starts
    total = int(starts[-1]) if len(starts) else 0
    if background is None or not 0 < total < ROWS_WITHOUT_BACKGROUND:
        return reference
    return WithBackground(reference, background)


def without_copies(
    rivals: Sequence[Candidate], own: Sequence[Candidate], reference: Reference, *, seconds: float
) -> list[Candidate]:
    """The background's candidates (`rivals`) that are not copies of the library's (`own`).

    A library may hold the very music of the background, which must not count against itself.
    """
    if not rivals or not own:
        return list(rivals)
    same = likeness([*own, *rivals], reference, seconds=seconds) >= SAME
    copied = same[len(own) :, : len(own)].any(axis=1)
    return [rivals[number] for number in np.flatnonzero(~copied).tolist()]


class WithBackground:
    """A `Reference`: a library's tracks and, after them, a background's passages, without names."""

    def __init__(self, library: Reference, background: Background) -> None:
        step = round(library.hop / background.hop)
        passages, rows, dim = background.vectors[:, ::step].shape
        self._library = library
        self._vectors = background.vectors[:, ::step].reshape(-1, dim)
        self._peaks = np.concatenate(
            [joined(one, step, library.block // step) for one in background.peaks]
        )
        self._first = int(library.rows.starts[-1])
        ends = self._first + rows * np.arange(1, passages + 1)
        self.rows = Rows(np.concatenate([library.rows.starts, ends]))
        self.hop, self.block = library.hop, library.block

    @property
    def cohort(self) -> Floats:
        return np.concatenate([self._library.cohort, self._vectors])

    def track(self, number: int) -> Track | None:
        return self._library.track(number) if number < len(self._library.rows) else None

    def vectors(self, rows: Ints) -> Floats:
        return self._at(rows, self._library.vectors, self._vectors)

    def peaks(self, rows: Ints) -> PeakCodes:
        return self._at(rows, self._library.peaks, self._peaks)

    def _at(self, rows: Ints, library: Callable[[Ints], Kept], passages: Kept) -> Kept:
        """Rows (K,) of the library or, past its last one, of the passages."""
        behind = rows >= self._first
        found: Kept = np.empty((len(rows), passages.shape[1]), passages.dtype)
        found[behind] = passages[rows[behind] - self._first]
        if not behind.all():
            found[~behind] = library(rows[~behind])
        return found

    def vote(self, query: Landmarks, most: int) -> list[Candidate]:
        return self._library.vote(query, most)

    def search(self, vectors: Floats, *, neighbours: int, search_k: int) -> Hits:
        """`neighbours` hits among the tracks and as many among the passages."""
        own = self._library.search(vectors, neighbours=neighbours, search_k=search_k)
        other = nearest(self._vectors, vectors, neighbours)
        return Hits(
            np.concatenate([own.query, other.query]),
            np.concatenate([own.row, other.row + self._first]),
            np.concatenate([own.similarity, other.similarity]),
        )
