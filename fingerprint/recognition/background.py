"""Strangers for a library that has too few of its own. Pure NumPy.

Every null of recognition is taken from the library: the cohort of scores, that of the peaks, the
best other track. A library of one jingle has none: whatever is asked of it, the jingle is the best
there is, and its own rows are all that it could stand out from. So passages of other music travel
with the model, and a small library is searched together with them, as if they were its tracks. They
are never named: what they win is not in the library.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from fingerprint.audio.peaks import joined
from fingerprint.index.landmarks import Query as Landmarks
from fingerprint.index.neighbours import nearest
from fingerprint.recognition.cohort import PASSAGE, PASSAGES
from fingerprint.recognition.copies import SAME, likeness
from fingerprint.recognition.query import Reference
from fingerprint.types import Background, Candidate, Floats, Hits, Ints, PeakCodes, Rows, Track

Kept = TypeVar("Kept", Floats, PeakCodes)
ENOUGH = PASSAGE * PASSAGES  # rows of a library that has strangers enough


def backed(reference: Reference, background: Background | None) -> Reference:
    """The reference, and the passages of the background behind it if it is small."""
    starts = reference.rows.starts
    total = int(starts[-1]) if len(starts) else 0
    if background is None or not 0 < total < ENOUGH:
        return reference
    return Backed(reference, background)


def without_copies(
    rivals: Sequence[Candidate], own: Sequence[Candidate], reference: Reference, *, seconds: float
) -> list[Candidate]:
    """The candidates of the background that are no copies of a library's under the query.

    The music of the background may be in the library, too: it does not speak against itself.
    """
    if not rivals or not own:
        return list(rivals)
    same = likeness([*own, *rivals], reference, seconds=seconds) >= SAME
    copied = same[len(own) :, : len(own)].any(axis=1)
    return [rivals[number] for number in np.flatnonzero(~copied).tolist()]


class Backed:
    """A `Reference`: a library's tracks, and behind them the passages, which have no names."""

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
        """The library's at rows that are its own, else the passages'."""
        behind = rows >= self._first
        found: Kept = np.empty((len(rows), passages.shape[1]), passages.dtype)
        found[behind] = passages[rows[behind] - self._first]
        if not behind.all():
            found[~behind] = library(rows[~behind])
        return found

    def vote(self, query: Landmarks, most: int) -> list[Candidate]:
        return self._library.vote(query, most)

    def search(self, vectors: Floats, *, neighbours: int, search_k: int) -> Hits:
        """As many neighbours among the passages as among the tracks."""
        own = self._library.search(vectors, neighbours=neighbours, search_k=search_k)
        strange = nearest(self._vectors, vectors, neighbours)
        return Hits(
            np.concatenate([own.query, strange.query]),
            np.concatenate([own.row, strange.row + self._first]),
            np.concatenate([own.similarity, strange.similarity]),
        )
