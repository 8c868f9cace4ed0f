"""Nearest rows by the signs of their numbers: every row is looked at, a bit a number. Pure NumPy.

Two unit vectors at an angle differ in the signs of a share of their numbers that grows with the
angle (Charikar 2002), so those with the most signs in common are near. There is nothing to build
and nothing to store but the signs themselves; the time grows with the rows.
"""

import numpy as np
from numpy.typing import NDArray

from fingerprint.types import Floats, Hits, Ints

BLOCK = 1 << 17  # rows compared at a time: their signs fit into a processor's cache
WORD = 64  # bits

Words = NDArray[np.uint64]


def words(dim: int) -> int:
    """How many words the signs of a vector take."""
    return -(-dim // WORD)


def signs_of(vectors: Floats) -> Words:
    """A bit for each number (N, dim) that is above zero: (N, words)."""
    return pack(vectors > 0)


def pack(bits: NDArray[np.bool_] | NDArray[np.uint8]) -> Words:
    """Words of the bits (N, dim), those of numbers that are not zero: (N, words)."""
    count, dim = bits.shape
    octets = np.zeros((count, words(dim) * WORD // 8), np.uint8)
    octets[:, : -(-dim // 8)] = np.packbits(bits, axis=1, bitorder="little")
    packed: Words = octets.view("<u8")
    return packed


def nearest(stored: Words, vectors: Floats, k: int) -> Hits:
    """The `k` rows of `stored` (R, words) that agree in most signs with each of `vectors` (M, dim).

    Silent vectors have none. The similarity is the cosine of the angle that is likeliest where so
    many signs differ.
    """
    k = min(k, len(stored))
    query = np.flatnonzero(vectors.any(axis=1))
    rows = np.empty((len(query), k), np.int64)
    apart = np.empty((len(query), k), np.int64)
    for number, bits in enumerate(signs_of(vectors[query])):
        rows[number], apart[number] = _nearest(stored, bits, k)
    similarity = np.cos(np.pi * apart / max(1, vectors.shape[1]))
    return Hits(np.repeat(query, k), rows.ravel(), similarity.ravel().astype(np.float32))


def _nearest(stored: Words, bits: Words, k: int) -> tuple[Ints, Ints]:
    """Rows and the number of signs in which they differ, (k,) each."""
    rows, apart = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for first in range(0, len(stored), BLOCK):
        block = stored[first : first + BLOCK]
        count = np.bitwise_count(block[:, 0] ^ bits[0]).astype(np.uint16)
        for word in range(1, len(bits)):
            count += np.bitwise_count(block[:, word] ^ bits[word])
        best = np.argpartition(count, k - 1)[:k] if k < len(count) else np.arange(len(count))
        rows.append(best + first)
        apart.append(count[best].astype(np.int64))
    row, distance = np.concatenate(rows), np.concatenate(apart)
    kept = np.argsort(distance, kind="stable")[:k]
    return row[kept], distance[kept]
