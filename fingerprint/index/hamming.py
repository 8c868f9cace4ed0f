"""Nearest neighbours by exhaustive Hamming search over sign bits. Pure NumPy.

The share of dimensions in which two unit vectors have different signs grows with the angle between
them (Charikar 2002), so a small Hamming distance of sign bits means a high cosine. There is no
index to build and nothing to store but the sign bits; a search takes time in proportion to the
rows.
"""

import numpy as np
from numpy.typing import NDArray

from fingerprint.types import Floats, Hits

BLOCK = 1 << 15  # rows compared at a time: their signs fit into a processor's cache
WORD = 64  # bits
ALL = np.uint64(2**WORD - 1)

Words = NDArray[np.uint64]


def words(dim: int) -> int:
    """Number of words that hold the sign bits of a vector."""
    return -(-dim // WORD)


def signs_of(vectors: Floats) -> Words:
    """Sign bits of vectors (N, dim), 1 where a number is above zero: (N, words)."""
    return pack(vectors > 0)


def pack(bits: NDArray[np.bool_] | NDArray[np.uint8]) -> Words:
    """Pack bits (N, dim), any number but zero counting as 1, into words: (N, words)."""
    count, dim = bits.shape
    octets = np.zeros((count, words(dim) * WORD // 8), np.uint8)
    octets[:, : -(-dim // 8)] = np.packbits(bits, axis=1, bitorder="little")
    packed: Words = octets.view("<u8")
    return packed


def nearest(stored: Words, vectors: Floats, k: int) -> Hits:
    """The `k` rows of `stored` (R, words) at the least Hamming distance from each of `vectors`.

    Silent vectors of the (M, dim) get none. Bits that the last word has beyond `dim` do not count.
    The similarity is a cosine, estimated from the distance.
    """
    k = min(k, len(stored))
    query = np.flatnonzero(vectors.any(axis=1))
    signs = signs_of(vectors[query])
    beyond = -vectors.shape[1] % WORD  # bits
    kind = np.uint8 if vectors.shape[1] < 256 else np.uint16
    none = np.empty(0, np.int64)
    rows, apart = [[none] for _ in query], [[none] for _ in query]
    furthest = [vectors.shape[1]] * len(query)  # difference of the k-th nearest in the first block
    for first in range(0, len(stored), BLOCK):
        block = np.ascontiguousarray(stored[first : first + BLOCK].T)
        if beyond:
            block = np.concatenate([block[:-1], block[-1:] & ALL >> np.uint64(beyond)])
        for number, bits in enumerate(signs):
            differing = np.bitwise_count(block[0] ^ bits[0]).astype(kind, copy=False)
            for word in range(1, len(bits)):
                differing += np.bitwise_count(block[word] ^ bits[word])
            if first == 0 and k < len(differing):
                # The k-th smallest by counting: differences are few small numbers.
                furthest[number] = int(np.searchsorted(np.cumsum(np.bincount(differing)), k))
            near = np.flatnonzero(differing <= furthest[number])
            rows[number].append(near + first)
            apart[number].append(differing[near].astype(np.int64))
    kept = [np.argsort(np.concatenate(one), kind="stable")[:k] for one in apart]
    row = [np.concatenate(one)[which] for one, which in zip(rows, kept, strict=True)]
    distance = [np.concatenate(one)[which] for one, which in zip(apart, kept, strict=True)]
    similarity = np.cos(np.pi * np.concatenate([none, *distance]) / max(1, vectors.shape[1]))
    return Hits(np.repeat(query, k), np.concatenate([none, *row]), similarity.astype(np.float32))
