"""Candidates from pairs of spectral peaks (landmarks), the second source beside the embeddings.

A landmark is a pair of peaks, hashed as the frequency bin of the first and the distance to the
second in bins and in frames. Where many landmarks of a query occur in a track at one common offset,
that offset is a candidate (Wang, "An industrial-strength audio search algorithm", ISMIR 2003). The
peaks are the ones that verify candidates (`audio.peaks`), so the index can be rebuilt from them at
any time. Landmarks find phone recordings in noisy places that the network misses; the network finds
changed speed, changed pitch and heavy noise that landmarks miss. So recognition uses both.

The index on disk is an inverted index: the distinct hashes in ascending order, and the frames at
which each occurs. Pure NumPy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fingerprint.audio.peaks import BLOCK, FRAME_RATE, peaks_of, positions
from fingerprint.errors import LibraryError
from fingerprint.types import Candidate, Clip, Ints, Outline, PeakCodes, Rows

SUFFIX = "landmarks"
FAN = 2  # landmarks that begin at a peak of a track
QUERY_FAN = 8  # landmarks that begin at a peak of a query, where noise adds peaks in between
QUERY_KEPT = 16  # peaks kept per block of a query
NEAREST, FURTHEST = 2, 63  # frames between the peaks of a landmark
MOST_RISE = 31  # bins between the peaks of a landmark, up or down
LOOKED = 60  # following peaks that are tried as the second of a landmark
MOST_HITS = 400_000  # index entries read for a query, in all segments; the rarest hashes first
LEAST_HITS = 100_000  # of a segment, however small: in a small one all hashes are rare
BIN = 4  # frames of a bin of the histogram of offsets; two neighbouring bins are added up
PLACES = 3  # candidates from one track, at most
_HEADER = 2  # numbers before the arrays in a file: the count of hashes, the count of frames
Words = NDArray[np.uint32]


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """Hashes of a query's landmarks, and of those one bin or one frame off, with their frames."""

    hashes: Ints
    frames: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """Offsets at which most landmarks agree with the query's, the most votes first.

    `frame` (P,) is the frame of the index at which the query begins, exact to `BIN` frames.
    """

    frame: Ints
    votes: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Landmarks:
    """An inverted index: hash `hashes[i]` occurs at `frames[starts[i]:starts[i + 1]]`."""

    hashes: Words
    starts: Words
    frames: Words

    @classmethod
    def of(cls, peaks: PeakCodes, block: int, firsts: Ints) -> Self:
        """The index of peaks (rows, kept).

        Args:
            peaks: peaks of several tracks, one track after the other.
            block: frames of a row.
            firsts: first rows of the tracks, ascending; no landmark spans two tracks.
        """
        bounds = np.unique(np.concatenate([firsts, [0, len(peaks)]])).tolist()
        # A hash and its frame are one number of 64 bits: a third of the memory, sorted in place.
        found = [np.empty(0, np.uint64)]
        for begin, end in pairwise(bounds):
            frame, bin_ = positions(peaks[begin:end], block)
            pairs, when = _landmarks(frame, bin_, FAN)
            found.append((pairs << 32 | when + begin * block).astype(np.uint64))
        every = np.concatenate(found)
        del found
        every.sort()
        hashes: Words = (every >> np.uint64(32)).astype("<u4")
        frames: Words = every.astype("<u4")
        first = np.flatnonzero(np.diff(hashes, prepend=hashes[:1] + np.uint32(1)))
        return cls(hashes[first], np.append(first, len(every)).astype("<u4"), frames)

    def write(self, path: Path) -> None:
        """Write the index to `<path>.landmarks`."""
        header = np.array([len(self.hashes), len(self.frames)], "<u4")
        with _file(path).open("wb") as file:
            for part in (header, self.hashes, self.starts, self.frames):
                file.write(np.ascontiguousarray(part, dtype="<u4").data)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map `<path>.landmarks` into memory.

        Raises:
            LibraryError: it is missing or damaged.
        """
        file = _file(path)
        try:
            words: Words = np.memmap(file, dtype="<u4", mode="r")
            distinct, count = (int(number) for number in words[:_HEADER])
            parts = np.split(words[_HEADER:], [distinct, 2 * distinct + 1])
        except (OSError, ValueError) as error:
            raise LibraryError(f"{file} is missing or damaged") from error
        if len(parts[1]) != distinct + 1 or len(parts[2]) != count or parts[1][-1] != count:
            raise LibraryError(f"{file} is damaged")
        return cls(*parts)

    def vote(self, query: Query, most: int, hits: int = MOST_HITS) -> Votes:
        """The `most` offsets at which most landmarks agree with the query's.

        At most `hits` entries of the index are read.
        """
        order = np.argsort(query.hashes)  # neighbours in the index are neighbours in memory
        hashes, frames = query.hashes[order], query.frames[order]
        place = np.searchsorted(self.hashes, hashes.astype(np.uint32))
        place = np.minimum(place, max(0, len(self.hashes) - 1))
        known = self.hashes[place] == hashes if len(self.hashes) else place < 0
        place, when = place[known], frames[known]
        first = self.starts[place].astype(np.int64)
        count = self.starts[place + 1].astype(np.int64) - first
        rare = np.argsort(count, kind="stable")
        rare = np.sort(rare[np.cumsum(count[rare]) <= hits])
        first, count, when = first[rare], count[rare], when[rare]
        index = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
        begins = self.frames[index].astype(np.int64) - np.repeat(when, count)
        # A frame of 32 bits is a bin of 30; NumPy sorts short integers much faster.
        bins, votes = np.unique((begins // BIN).astype(np.int32), return_counts=True)
        beside = np.flatnonzero(np.diff(bins) == 1)
        joined = votes.copy()
        joined[beside] += votes[beside + 1]
        return _most_voted(bins, joined, most)


def _most_voted(bins: Ints, votes: Ints, most: int) -> Votes:
    """The bins with the most votes; of equal ones the earlier, without sorting all of them.

    Votes are small numbers, nearly all 1 or 2: counting them is faster than partitioning them.
    """
    at_least = np.cumsum(np.bincount(votes)[::-1])[::-1]  # bins with so many votes and more
    least = np.searchsorted(-at_least, -most, side="right") - 1
    leading = np.flatnonzero(votes >= least)
    best = leading[np.argsort(-votes[leading], kind="stable")[:most]]
    return Votes(bins[best].astype(np.int64) * BIN + BIN, votes[best].astype(np.int64))


def candidates(
    query: Query,
    segments: Sequence[tuple[Landmarks | None, int]],
    rows: Rows,
    alive: NDArray[np.bool_],
    *,
    block: int,
    most: int,
) -> list[Candidate]:
    """At most `most` candidates, those with the most landmarks in common with the query.

    Offsets are exact to a few frames; scores are 0.

    Args:
        query: the query's landmarks.
        segments: the landmarks and the number of rows of each, one segment after the other.
        rows: the rows of the tracks in all segments.
        alive: which of the tracks may be candidates.
        block: frames of a row.
        most: candidates.
    """
    frames, votes = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    first, every = 0, max(1, sum(count for _, count in segments))
    for landmarks, count in segments:
        if landmarks is not None:
            hits = max(LEAST_HITS, MOST_HITS * count // every)
            found = landmarks.vote(query, 4 * most, hits)
            frames.append(found.frame + first * block)
            votes.append(found.votes)
        first += count
    frame, votes_of = np.concatenate(frames), np.concatenate(votes)
    frame = frame[np.argsort(-votes_of, kind="stable")]
    # The query may begin before its track, so its middle decides which track it is in.
    middle = (frame + query.frames.max(initial=0) // 2) // block
    total = rows.starts[-1] if len(rows.starts) else 0
    inside = (middle >= 0) & (middle < total)
    frame, middle = frame[inside], middle[inside]
    track = np.searchsorted(rows.starts, middle, side="right") - 1
    frame, track = frame[alive[track]], track[alive[track]]
    kept = first_of_each(track)[:most]
    begins = frame[kept] - rows.starts[track[kept]] * block
    return [
        Candidate(int(number), float(begin) / FRAME_RATE, 1.0, 0.0)
        for number, begin in zip(track[kept], begins, strict=True)
    ]


def query_landmarks(clip: Clip) -> Query:
    """The landmarks of a query: denser than a track's, so that some survive the noise."""
    frame, bin_ = positions(query_peaks(clip), BLOCK)
    hashes, when = _landmarks(frame, bin_, QUERY_FAN)
    rise, wait = hashes >> 6 & 63, hashes & 63
    found, frames = [], []
    for up in (-1, 0, 1):
        for late in (-1, 0, 1):
            inside = (rise + up >= 0) & (rise + up < 64) & (wait + late >= 0) & (wait + late < 64)
            found.append(hashes[inside] + 64 * up + late)
            frames.append(when[inside])
    return Query(np.concatenate(found), np.concatenate(frames))


def query_peaks(clip: Clip) -> PeakCodes:
    """The peaks of a query, (blocks, QUERY_KEPT)."""
    return clip.peaks if isinstance(clip, Outline) else peaks_of(clip, kept=QUERY_KEPT)


def first_of_each(tracks: Sequence[int] | Ints, most: int = PLACES) -> Ints:
    """Positions in `tracks` of the first `most` occurrences of each track, ascending."""
    tracks = np.asarray(tracks)
    order = np.argsort(tracks, kind="stable")
    ranked = tracks[order]
    rank = np.arange(len(order)) - np.searchsorted(ranked, ranked)
    kept: Ints = np.sort(order[rank < most])
    return kept


def _landmarks(frame: Ints, bin_: Ints, fan: int) -> tuple[Ints, Ints]:
    """Hashes and first frames of the landmarks that join each peak with `fan` later ones."""
    found = np.zeros(len(frame), np.int64)
    hashes, frames = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for step in range(1, min(LOOKED, len(frame))):
        wait, rise = frame[step:] - frame[:-step], bin_[step:] - bin_[:-step]
        fits = (wait >= NEAREST) & (wait <= FURTHEST) & (np.abs(rise) <= MOST_RISE)
        (which,) = np.nonzero(fits & (found[:-step] < fan))
        found[which] += 1
        hashes.append(bin_[which] << 12 | rise[which] + MOST_RISE + 1 << 6 | wait[which])
        frames.append(frame[which])
    return np.concatenate(hashes), np.concatenate(frames)


def _file(path: Path) -> Path:
    return path.with_name(f"{path.name}.{SUFFIX}")
