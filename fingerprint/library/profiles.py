"""How densely a library stores embeddings: four profiles, and the codes that rows become.

Of a recording's rows, a hop apart, a profile keeps every `step`th. A query's rows lie denser, so
that one of them is near each row that is kept. A row is a byte for each number, or codes of a fixed
quantiser, the best one for a Gaussian of the variance that a number of a unit vector has (Lloyd
1957, Max 1960). The quantiser depends on nothing in a library: codes are copied from segment to
segment, and no merge loses anything.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import erf, exp, pi, sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fingerprint.errors import LibraryError
from fingerprint.search.signs import Words, pack, words
from fingerprint.types import Floats

FULL_BYTES = 128_000_000  # of codes in one segment: what a merge holds in memory; 36 h if precise
BYTE = 8  # bits of a number that is stored as a multiple of a step
REACH = 6.0  # standard deviations of a number, beyond which a byte holds no more
Codes = NDArray[Any]  # (rows, dim) bytes, or (rows, width) words: the highest bits come first


@dataclass(frozen=True, slots=True)
class Profile:
    """What is kept of a recording's rows, and how they are found.

    By an index, or else by comparing the signs of all of them. What an index of codes or the signs
    find, `widening` times as many rows as asked for, is compared again by what is stored.
    """

    name: str
    step: int  # hops of the model between rows
    bits: int  # of a number: 8, 4, 2 or 1
    index: Literal["annoy", "faiss", None]
    widening: int = 1

    @property
    def kind(self) -> np.dtype[Any]:
        """Of the numbers in a code."""
        return np.dtype("i1" if self.bits == BYTE else "<u8")

    def width(self, dim: int) -> int:
        """Numbers in the code of an embedding: bytes, or words of 64 bits."""
        return dim if self.bits == BYTE else self.bits * words(dim)

    def full_rows(self, dim: int) -> int:
        """Rows of which no more than one segment is made."""
        return FULL_BYTES // (self.width(dim) * self.kind.itemsize)


PRECISE = Profile("precise", step=1, bits=8, index="annoy")
LARGE = Profile("large", step=2, bits=2, index="faiss", widening=10)
BALANCED = Profile("balanced", step=2, bits=2, index=None, widening=10)
COMPACT = Profile("compact", step=2, bits=1, index=None, widening=10)
PROFILES = {profile.name: profile for profile in (PRECISE, LARGE, BALANCED, COMPACT)}


def profile_of(name: str) -> Profile:
    """Raises LibraryError for a name that this version does not know."""
    if name not in PROFILES:
        raise LibraryError(
            f"there is no profile {name!r}: choose {', '.join(PROFILES)}; a library that names "
            "another was made by another version"
        )
    return PROFILES[name]


def encode(vectors: Floats, profile: Profile) -> Codes:
    """The codes (N, width) of rows (N, dim) that are kept."""
    if profile.bits == BYTE:
        most = np.iinfo(np.int8).max
        steps: Codes = np.clip(np.rint(vectors / _step(vectors.shape[1])), -most, most)
        return steps.astype(np.int8)
    edges = (_levels(profile.bits)[1] / sqrt(vectors.shape[1])).astype(np.float32)
    numbers = np.zeros(vectors.shape, np.uint8)
    for edge in edges:  # far faster than a search, for there are few
        numbers += vectors >= edge
    numbers[~vectors.any(axis=1)] = 0  # silence; no row of unit length has this code
    planes = [pack(numbers & np.uint8(1 << bit)) for bit in reversed(range(profile.bits))]
    return np.concatenate(planes, axis=1)


def decode(codes: Codes, profile: Profile, dim: int) -> Floats:
    """The rows (N, dim) that codes stand for; zero where it was silent.

    Coding turns a row away from itself, by the same angle on average. So that cosines with other
    rows stay what they were, what is left of them is lengthened by as much.
    """
    if profile.bits == BYTE:
        return _scaled(codes.astype(np.float32), 1.0)
    octets = np.ascontiguousarray(codes).view(np.uint8).reshape(len(codes), profile.bits, -1)
    planes = np.unpackbits(octets, axis=2, bitorder="little")[:, :, :dim]  # (N, bits, dim)
    numbers = planes[:, 0]
    for bit in range(1, profile.bits):
        numbers = numbers << np.uint8(1) | planes[:, bit]
    rows: Floats = _levels(profile.bits)[0][numbers]
    rows[~codes.any(axis=1)] = 0
    return _scaled(rows, 1 / float(_cosine(profile.bits)))


def _scaled(rows: Floats, to: float) -> Floats:
    """The rows, changed in place, at one length; zero where they are zero."""
    length = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    rows *= (np.float32(to) / np.maximum(length, np.float32(1e-6)))[:, None]
    return rows


def signs(codes: Codes, dim: int) -> Words:
    """The signs of the numbers that codes of less than 8 bits stand for: their first plane."""
    plane: Words = codes[:, : words(dim)]
    return plane


def _step(dim: int) -> np.float32:
    """Between the values that a byte holds. They reach beyond what numbers of unit vectors are.

    Rounding to them turns a row of 256 numbers by less than a degree.
    """
    return np.float32(min(1.0, REACH / sqrt(dim)) / np.iinfo(np.int8).max)


@cache
def _levels(bits: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Levels and the edges between them of the best quantiser of a standard Gaussian.

    Lloyd's iteration with exact means: each level is the mean of its cell, each edge lies halfway
    between two levels.
    """
    levels = np.linspace(-2.5, 2.5, 2**bits) if bits > 1 else np.array([-1.0, 1.0])
    for _ in range(500):
        edges = (levels[1:] + levels[:-1]) / 2
        bounds = [-np.inf, *edges.tolist(), np.inf]
        levels = np.array([_mean(low, high) for low, high in pairwise(bounds)])
    return levels.astype(np.float32), (levels[1:] + levels[:-1]) / 2


@cache
def _cosine(bits: int) -> np.float32:
    """Cosine of a long Gaussian vector with what its code stands for.

    It is the root of the share of energy that the levels keep, for each is the mean of its cell.
    """
    levels, edges = _levels(bits)
    ends = [-1.0, *(erf(edge / sqrt(2)) for edge in edges.tolist()), 1.0]
    return np.float32(np.sqrt(np.sum(np.diff(ends) / 2 * levels.astype(np.float64) ** 2)))


def _mean(low: float, high: float) -> float:
    """Mean of a standard Gaussian between two bounds."""
    mass = (erf(high / sqrt(2)) - erf(low / sqrt(2))) / 2
    return (exp(-(low**2) / 2) - exp(-(high**2) / 2)) / sqrt(2 * pi) / mass
