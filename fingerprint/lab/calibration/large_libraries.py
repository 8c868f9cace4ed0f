"""Libraries smaller and far larger than the corpus, for one query at a time.

A smaller one holds some of the tracks. A larger one is simulated by the scores of its best
impostors. A query's best scores in the tracks that it is not from are assumed to be
normally distributed; its ten best impostors give mean and spread, by their normal scores (Blom,
"Statistical estimates and transformed beta-variables", 1958), and the best two of as many
additional tracks are drawn from that distribution.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import Self

import numpy as np

from fingerprint.index.landmarks import PLACES
from fingerprint.index.landmarks import Query as Landmarks
from fingerprint.index.neighbours import best_per_query, nearest, where
from fingerprint.recognition.cohort import sample
from fingerprint.recognition.reference import Reference
from fingerprint.types import Candidate, Floats, Hits, Ints, PeakCodes, Rows, Track

NORMAL = NormalDist()
NOBODY = -1.0  # score of a track that nobody loses to
MOST_PLACES = 2_000  # places of a whole library by landmarks, to leave some for a part of it
IMPOSTORS = 10  # best impostors of a query, by which the scores of all others are estimated


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows `first` to `last` of a track, `last` not included."""

    first: int
    last: int


@dataclass(frozen=True, eq=False)  # no slots, for the cohort is kept
class SomeTracks:
    """Some tracks of a reference, searched exactly."""

    stored: Floats  # (N, D)
    rows: Rows
    hop: float  # s
    tracks: tuple[Track | None, ...]
    stored_peaks: PeakCodes  # (N, kept)
    block: int  # frames
    origin: tuple[Reference, Mapping[int, Stretch]] | None = None  # of what it is a part, and which

    @classmethod
    def of(cls, reference: Reference, numbers: Sequence[int]) -> Self:
        """The tracks of these numbers out of a reference."""
        lengths = np.diff(reference.rows.starts)
        return cls.cut(reference, {n: Stretch(0, int(lengths[n])) for n in numbers})

    @classmethod
    def cut(cls, reference: Reference, stretches: Mapping[int, Stretch], tail: int = 0) -> Self:
        """Stretches of tracks, by the tracks' numbers, as if files had been cut there.

        The windows of a file's last `tail` rows would reach beyond its end, so there are none.
        """
        starts = reference.rows.starts
        rows = [starts[n] + np.arange(one.first, one.last) for n, one in stretches.items()]
        vectors = reference.vectors(np.concatenate(rows))
        lengths = [len(some) for some in rows]
        ends = np.cumsum(lengths)
        for length, end in zip(lengths, ends.tolist(), strict=True):
            vectors[end - min(tail, length - 1) : end] = 0
        return cls(
            vectors,
            Rows(np.concatenate([[0], ends]).astype(np.int64)),
            reference.hop,
            tuple(reference.track(number) for number in stretches),
            reference.peaks(np.concatenate(rows)),
            reference.block,
            (reference, stretches),
        )

    @cached_property
    def cohort(self) -> Floats:
        return sample(self)

    def track(self, number: int) -> Track | None:
        return self.tracks[number]

    def vectors(self, rows: Ints) -> Floats:
        return self.stored[rows]

    def peaks(self, rows: Ints) -> PeakCodes:
        return self.stored_peaks[rows]

    def vote(self, query: Landmarks, most: int) -> list[Candidate]:
        """Those of the whole that are of these tracks, under their numbers here."""
        if self.origin is None:
            return []
        whole, stretches = self.origin
        here = {number: place for place, number in enumerate(stretches)}
        return [
            replace(
                one,
                track=here[one.track],
                offset=one.offset - stretches[one.track].first * self.hop,
            )
            for one in whole.vote(query, MOST_PLACES)
            if one.track in here
        ][:most]

    def search(self, vectors: Floats, *, neighbours: int, search_k: int) -> Hits:  # noqa: ARG002
        """The nearest rows of each of `vectors` (M, D) that is not silent."""
        return nearest(self.stored, vectors, neighbours)


@dataclass(frozen=True, slots=True, eq=False)
class Without:
    """A reference in which some tracks, by number, are never found, as if they were not in it."""

    whole: Reference
    hidden: frozenset[int]

    @property
    def rows(self) -> Rows:
        return self.whole.rows

    @property
    def hop(self) -> float:
        return self.whole.hop

    @property
    def cohort(self) -> Floats:
        return self.whole.cohort

    def track(self, number: int) -> Track | None:
        return self.whole.track(number)

    @property
    def block(self) -> int:
        return self.whole.block

    def vectors(self, rows: Ints) -> Floats:
        return self.whole.vectors(rows)

    def peaks(self, rows: Ints) -> PeakCodes:
        return self.whole.peaks(rows)

    def vote(self, query: Landmarks, most: int) -> list[Candidate]:
        found = self.whole.vote(query, most + PLACES * len(self.hidden))
        return [one for one in found if one.track not in self.hidden][:most]

    def search(self, vectors: Floats, *, neighbours: int, search_k: int) -> Hits:
        """The nearest rows of the other tracks; twice as many are looked up, to leave enough."""
        hits = self.whole.search(vectors, neighbours=2 * neighbours, search_k=search_k)
        owner = np.searchsorted(self.rows.starts, hits.row, side="right") - 1
        return best_per_query(where(hits, ~np.isin(owner, [*self.hidden])), neighbours)


@dataclass(frozen=True, slots=True)
class Impostors:
    """The best two scores, and the best two fits of the peaks, of tracks that are new."""

    scores: tuple[float, float]
    fits: tuple[float, float]


def best_two(
    scores: Sequence[float],
    tracks: int,
    more: int,
    rng: np.random.Generator,
    *,
    largest: float = math.inf,
) -> tuple[float, float]:
    """Drawn scores of the best two of `more` tracks, from those of the best of `tracks` tracks.

    `scores` are of tracks that the query is not from; the best `IMPOSTORS` count. None is above
    `largest`.
    """
    best = np.sort(np.asarray(scores, dtype=np.float64))[::-1][:IMPOSTORS]
    if len(best) < 2 or more < 2:
        return NOBODY, NOBODY
    ranks = (np.arange(len(best)) + 0.625) / (tracks + 0.25)
    normal = np.array([-NORMAL.inv_cdf(rank) for rank in ranks])
    spread, mean = np.polyfit(normal, best, 1)
    # The largest of n uniform numbers is U^(1 / n), and so on; as logarithms, for n is large.
    first = np.log(rng.random()) / more
    second = first + np.log(rng.random()) / (more - 1)
    one, other = (_drawn(quantile, mean, spread) for quantile in (first, second))
    return min(one, largest), min(other, largest)


def _drawn(logarithm: float, mean: float, spread: float) -> float:
    """The score at a quantile that is given by its logarithm."""
    above = min(max(-np.expm1(logarithm), 1e-300), 1 - 1e-12)
    return float(mean - spread * NORMAL.inv_cdf(above))
