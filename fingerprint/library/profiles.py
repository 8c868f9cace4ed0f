"""How densely a library stores embeddings: three profiles, and the codes that rows become.

Of a recording's rows, a hop apart, a profile keeps every `step`th. A query's rows lie denser, so
that one of them is near each row that is kept. A row is 16-bit floats, or codes of a fixed
quantiser, the best one for a Gaussian of the variance that a number of a unit vector has (Lloyd
1957, Max 1960). The quantiser depends on nothing in a library: codes are copied from segment to
segment, and no merge loses anything.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import erf, exp, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fingerprint.errors import LibraryError
from fingerprint.types import Floats

HALF = 16  # bits of a number that is stored as a float
Codes = NDArray[Any]  # (rows, dim) float16, or (rows, dim * bits / 8) uint8


@dataclass(frozen=True, slots=True)
class Profile:
    """What is kept of a recording's rows, and what of that the index is built over.

    `index_dim` numbers of an embedding go into the index, those along the segment's principal
    axes; 0 for the embedding as it is. `widening`: how many more neighbours are looked up than
    asked for and then compared by what is stored, because a small index ranks them only roughly.
    """

    name: str
    step: int  # hops of the model between rows
    bits: int  # of a number: 16, 8, 4, 2 or 1
    index_step: int  # rows between indexed ones
    index_dim: int
    trees: int
    widening: int

    def width(self, dim: int) -> int:
        """Numbers in the code of an embedding: floats, or bytes."""
        return dim if self.bits == HALF else -(-dim * self.bits // 8)


PRECISE = Profile("precise", step=1, bits=16, index_step=1, index_dim=0, trees=20, widening=1)
BALANCED = Profile("balanced", step=2, bits=4, index_step=2, index_dim=16, trees=4, widening=10)
COMPACT = Profile("compact", step=4, bits=2, index_step=2, index_dim=8, trees=2, widening=20)
PROFILES = {profile.name: profile for profile in (PRECISE, BALANCED, COMPACT)}


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
    if profile.bits == HALF:
        return vectors.astype(np.float16)
    edges = _levels(profile.bits)[1] / sqrt(vectors.shape[1])
    numbers = np.searchsorted(edges, vectors, side="right").astype(np.uint8)
    numbers[~vectors.any(axis=1)] = 0  # silence; no row of unit length has this code
    return _packed(numbers, profile.bits)


def decode(codes: Codes, profile: Profile, dim: int) -> Floats:
    """The rows (N, dim) that codes stand for: of unit length, or zero where it was silent."""
    if profile.bits == HALF:
        return codes.astype(np.float32)
    levels = _levels(profile.bits)[0]
    rows: Floats = levels[_unpacked(codes, profile.bits)[:, :dim]]
    rows[~codes.any(axis=1)] = 0
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = rows / np.maximum(length, np.float32(1e-6))
    return unit


def _packed(numbers: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Several numbers to a byte, the first one lowest: (N, dim) -> (N, dim * bits / 8)."""
    each = 8 // bits
    padded = np.pad(numbers, ((0, 0), (0, -numbers.shape[1] % each)))
    grouped = padded.reshape(len(numbers), -1, each)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(grouped << shifts, axis=2)
    return packed


def _unpacked(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    numbers = (codes[:, :, None] >> shifts) & np.uint8(2**bits - 1)
    unpacked: NDArray[np.uint8] = numbers.reshape(len(codes), -1)
    return unpacked


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


def _mean(low: float, high: float) -> float:
    """Mean of a standard Gaussian between two bounds."""
    mass = (erf(high / sqrt(2)) - erf(low / sqrt(2))) / 2
    return (exp(-(low**2) / 2) - exp(-(high**2) / 2)) / sqrt(2 * pi) / mass
