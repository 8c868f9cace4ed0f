"""Places that a query may be from, by pairs of spectral peaks: the second way to candidates.

A landmark is a peak and one that follows it: the bin of the first, the bins and the frames between
them. A query that has many landmarks in common with a track, all at one distance in time, is from
there (Wang, "An industrial-strength audio search algorithm", ISMIR 2003). The peaks are those that
verify candidates (`audio.peaks`), so an index can be made again from them at any time. Landmarks
find what phones record in noisy places where the network does not, and the network finds changed
speed, pitch and heavy noise where landmarks do not: so both are asked.

An index is an inverted index on disk: the hashes that occur, ascending, and the frames at which
each does. Pure NumPy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fingerprint.audio.peaks import BLOCK, peaks_of, positions
from fingerprint.errors import LibraryError
from fingerprint.types import Clip, Ints, Outline, PeakCodes

SUFFIX = "landmarks"
FAN = 2  # partners of a peak in a track
QUERY_FAN = 8  # and in a query, where noise may have put peaks between
QUERY_KEPT = 16  # peaks of a query's block
NEAREST, FURTHEST = 2, 63  # frames from a peak to its partner
ASIDE = 31  # bins either way
LOOKED = 60  # following peaks among which partners are sought
MOST_HITS = 400_000  # frames that are looked at for a query; the rarest hashes come first
BIN = 4  # frames of a bin of votes; a place is two of them wide
PLACES = 3  # of a track, at most
_HEADER = 2  # numbers before the arrays in a file: how many hashes, how many frames
Words = NDArray[np.uint32]


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """The landmarks of a query and all that are a bin or a frame off: hashes, and their frames."""

    hashes: Ints
    frames: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """Places with most landmarks in common with the query, most first.

    `frame` (P,) is that of the index under the query's first, within `BIN` of the truth.
    """

    frame: Ints
    votes: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Landmarks:
    """An index: hash `hashes[i]` occurs at `frames[starts[i]:starts[i + 1]]`, in frames."""

    hashes: Words
    starts: Words
    frames: Words

    @classmethod
    def build(cls, peaks: PeakCodes, block: int, firsts: Ints, path: Path) -> None:
        """Write `<path>.landmarks` of peaks (rows, kept), `block` frames a row.

        Args:
            peaks: of a number of tracks, one after the other.
            block: frames of a row.
            firsts: rows at which tracks begin, ascending; landmarks reach over none of them.
            path: of the index, without its suffix.
        """
        bounds = np.unique(np.concatenate([firsts, [0, len(peaks)]])).tolist()
        # A hash and its frame are one number of 64 bits: a third of the memory, sorted in place.
        found = [np.empty(0, np.uint64)]
        for begin, end in pairwise(bounds):
            frame, bin_ = positions(peaks[begin:end], block)
            hashes, when = _landmarks(frame, bin_, FAN)
            found.append((hashes << 32 | when + begin * block).astype(np.uint64))
        every = np.concatenate(found)
        del found
        every.sort()
        hashes, frames = (every >> np.uint64(32)).astype("<u4"), every.astype("<u4")
        first = np.flatnonzero(np.diff(hashes, prepend=hashes[:1] + np.uint32(1)))
        with _file(path).open("wb") as file:
            for part in ([len(first), len(every)], hashes[first], first, [len(every)], frames):
                file.write(np.asarray(part, dtype="<u4").data)

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

    def vote(self, query: Query, most: int) -> Votes:
        """The places where most landmarks agree, at most `most`."""
        place = np.searchsorted(self.hashes, query.hashes.astype(np.uint32))
        place = np.minimum(place, max(0, len(self.hashes) - 1))
        known = self.hashes[place] == query.hashes if len(self.hashes) else place < 0
        place, when = place[known], query.frames[known]
        first = self.starts[place].astype(np.int64)
        count = self.starts[place + 1].astype(np.int64) - first
        rare = np.argsort(count, kind="stable")
        rare = rare[np.cumsum(count[rare]) <= MOST_HITS]
        first, count, when = first[rare], count[rare], when[rare]
        index = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
        begins = self.frames[index].astype(np.int64) - np.repeat(when, count)
        bins, votes = np.unique(begins // BIN, return_counts=True)
        after = np.minimum(np.searchsorted(bins, bins + 1), max(0, len(bins) - 1))
        if len(bins):
            votes = votes + np.where(bins[after] == bins + 1, votes[after], 0)
        best = np.argsort(-votes, kind="stable")[:most]
        return Votes(bins[best] * BIN + BIN, votes[best].astype(np.int64))


def query_landmarks(clip: Clip) -> Query:
    """The landmarks of a query, dense enough that some are left whatever noise covers."""
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
    """Numbers of the first `most` of each track, in their order."""
    tracks = np.asarray(tracks)
    order = np.argsort(tracks, kind="stable")
    ranked = tracks[order]
    rank = np.arange(len(order)) - np.searchsorted(ranked, ranked)
    kept: Ints = np.sort(order[rank < most])
    return kept


def _landmarks(frame: Ints, bin_: Ints, fan: int) -> tuple[Ints, Ints]:
    """Hashes, and frames at which they begin, of each peak with its first `fan` partners."""
    found = np.zeros(len(frame), np.int64)
    hashes, frames = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for step in range(1, min(LOOKED, len(frame))):
        wait, rise = frame[step:] - frame[:-step], bin_[step:] - bin_[:-step]
        fits = (wait >= NEAREST) & (wait <= FURTHEST) & (np.abs(rise) <= ASIDE)
        (which,) = np.nonzero(fits & (found[:-step] < fan))
        found[which] += 1
        hashes.append(bin_[which] << 12 | rise[which] + ASIDE + 1 << 6 | wait[which])
        frames.append(frame[which])
    return np.concatenate(hashes), np.concatenate(frames)


def _file(path: Path) -> Path:
    return path.with_name(f"{path.name}.{SUFFIX}")
