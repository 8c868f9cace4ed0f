"""Scalar quantisation of embeddings: codes of 8, 4, 2 or 1 bits a dimension. Pure NumPy.

Eight bits: int8 with a fixed step. Fewer bits: the optimal scalar quantiser of a Gaussian with the
variance of one dimension of a unit vector (Lloyd 1957, Max 1960). The quantiser does not depend on
the library's content, so merging segments copies codes and loses nothing.
"""

from functools import cache
from itertools import pairwise
from math import erf, exp, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fingerprint.index.hamming import Words, pack, words
from fingerprint.types import Floats

BYTE = 8  # bits a dimension at which codes are int8
REACH = 6.0  # standard deviations of a dimension beyond which int8 saturates
_OCTETS = np.arange(256, dtype=np.uint8)[:, None]
Codes = NDArray[Any]  # (rows, dim) int8, or (rows, width) words of bit planes, the highest first


def code_type(bits: int) -> np.dtype[Any]:
    """The NumPy type of a code's elements."""
    return np.dtype("i1" if bits == BYTE else "<u8")


def code_width(dim: int, bits: int) -> int:
    """Elements in the code of one embedding: int8, or words of 64 bits."""
    return dim if bits == BYTE else bits * words(dim)


def encode(vectors: Floats, bits: int) -> Codes:
    """The codes (N, width) of embeddings (N, dim)."""
    if bits == BYTE:
        most = np.iinfo(np.int8).max
        steps: Codes = np.clip(np.rint(vectors / _step(vectors.shape[1])), -most, most)
        return steps.astype(np.int8)
    edges = (_levels(bits)[1] / sqrt(vectors.shape[1])).astype(np.float32)
    numbers = np.zeros(vectors.shape, np.uint8)
    for edge in edges:  # there are few: far faster than np.searchsorted
        numbers += vectors >= edge
    numbers[~vectors.any(axis=1)] = 0  # silence; no row of unit length has this code
    planes = [pack(numbers & np.uint8(1 << bit)) for bit in reversed(range(bits))]
    return np.concatenate(planes, axis=1)


def decode(codes: Codes, bits: int, dim: int) -> Floats:
    """The decoded embeddings (N, dim); zero for silence.

    Quantisation shrinks cosines by a constant factor; decoded vectors are scaled up to compensate.
    """
    if bits == BYTE:
        return _scaled(codes.astype(np.float32), 1.0)
    plane = codes.shape[1] * 8 // bits  # bytes
    octets = np.ascontiguousarray(codes).view(np.uint8).reshape(len(codes), bits, plane)
    if bits == 1:  # eight dimensions at a time: ten times as fast
        eight = _levels(1)[0][np.unpackbits(_OCTETS, axis=1, bitorder="little")]
        rows: Floats = eight.take(octets[:, 0], axis=0).reshape(len(codes), 8 * plane)[:, :dim]
    else:
        planes = np.unpackbits(octets, axis=2, bitorder="little")[:, :, :dim]  # (N, bits, dim)
        numbers = planes[:, 0]
        for bit in range(1, bits):
            numbers = numbers << np.uint8(1) | planes[:, bit]
        rows = _levels(bits)[0].take(numbers)
    rows[~codes.any(axis=1)] = 0
    return _scaled(rows, 1 / float(_cosine(bits)))


def _scaled(rows: Floats, to: float) -> Floats:
    """Scale rows to the length `to`, in place; zero rows stay zero."""
    length = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    rows *= (np.float32(to) / np.maximum(length, np.float32(1e-6)))[:, None]
    return rows


def signs(codes: Codes, dim: int) -> Words:
    """The sign bits of codes of less than 8 bits: their first bit plane."""
    plane: Words = codes[:, : words(dim)]
    return plane


def _step(dim: int) -> np.float32:
    """The step between int8 levels; they cover `REACH` standard deviations of a dimension.

    Rounding changes the direction of an embedding of 256 dimensions by less than a degree.
    """
    return np.float32(min(1.0, REACH / sqrt(dim)) / np.iinfo(np.int8).max)


@cache
def _levels(bits: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Levels and edges of the optimal quantiser of a standard Gaussian.

    Lloyd's iteration with exact means: each level is the mean of its cell, each edge is halfway
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
    """Cosine between a long Gaussian vector and its decoded code.

    Since each level is the mean of its cell, it is the root of the share of energy they keep.
    """
    levels, edges = _levels(bits)
    ends = [-1.0, *(erf(edge / sqrt(2)) for edge in edges.tolist()), 1.0]
    return np.float32(np.sqrt(np.sum(np.diff(ends) / 2 * levels.astype(np.float64) ** 2)))


def _mean(low: float, high: float) -> float:
    """Mean of a standard Gaussian between two bounds."""
    mass = (erf(high / sqrt(2)) - erf(low / sqrt(2))) / 2
    return (exp(-(low**2) / 2) - exp(-(high**2) / 2)) / sqrt(2 * pi) / mass
