"""Approximate nearest neighbours by faiss IVF-PQ: inverted lists of product-quantised rows.

This is the only module that imports faiss. Each row is in the inverted list of its nearest
centroid, as a product-quantised (PQ) code of its residual: a byte for every eight dimensions (Jégou
et al. 2011). The lists stay on disk, memory-mapped: a query reads the lists of its nearest
centroids only. A row takes 24 bytes, a third of them for its number. The similarities of hits are
those of the codes, so hits are reranked by the rows themselves.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np

from fingerprint.disk import name_as_text
from fingerprint.errors import LibraryError
from fingerprint.types import Floats, Hits, Ints

SUFFIX = "faiss"
LEAST_ROWS = 10_000  # of which lists are made; fewer are compared one by one in a moment
LEAST_SAMPLE = 39 * 256  # vectors that the codes are learnt from; faiss warns of fewer
MOST_LISTS = 1 << 11
MANY_ROWS = 1_000_000  # from which an index is built by all processors
_PER_LIST = 40  # rows that a list's mean is learnt from
_READ_PER_NODE = 16  # rows read for a node of the effort; further rows are mostly wrong
_READ_PER_HIT = 64  # rows read, at least, for each hit, so that a small effort has few to rerank
_BLOCK = 1 << 14  # rows added at a time


class InvertedLists:
    """Approximate nearest neighbours by cosine, in `<path>.faiss`, memory-mapped."""

    def __init__(self, index: Any) -> None:
        self._index = index

    def __len__(self) -> int:
        """The number of rows it was built from."""
        return int(self._index.ntotal)

    @classmethod
    def build(cls, rows: Callable[[Ints], Floats], count: int, path: Path) -> None:
        """Index `count` vectors, at least `LEAST_ROWS`; `rows(numbers)` returns them, (K, dim).

        Raises:
            LibraryError: faiss is not installed, or the file cannot be written.
        """
        faiss = load_faiss()
        lists = min(2 ** round(np.log2(count) / 2), MOST_LISTS)  # as many as rows in each, or fewer
        size = max(LEAST_SAMPLE, min(count, _PER_LIST * lists))
        sample = rows(np.linspace(0, count - 1, size).astype(np.int64))
        dim = sample.shape[1]
        index = faiss.index_factory(dim, f"IVF{lists},PQ{dim // 8}x8", faiss.METRIC_INNER_PRODUCT)
        index.do_polysemous_training = False  # for comparing codes by Hamming distance, and slow
        faiss.omp_set_num_threads(os.cpu_count() or 1 if count >= MANY_ROWS else 1)
        file = _file(path)
        try:
            index.train(sample)
            for first in range(0, count, _BLOCK):
                index.add(rows(np.arange(first, min(first + _BLOCK, count))))
            with name_as_text(file) as name:
                faiss.write_index(index, name)
        except (RuntimeError, OSError) as error:
            raise LibraryError(
                f"cannot write the index {file}: free space or choose another folder"
            ) from error
        finally:
            faiss.omp_set_num_threads(1)

    @classmethod
    def open(cls, path: Path, dim: int, count: int) -> Self:
        """Map an index of `count` vectors of size `dim` into memory.

        Raises:
            LibraryError: faiss is not installed, or the file is missing, damaged, or does not hold
                `count` vectors of that size.
        """
        faiss, file = load_faiss(), _file(path)
        try:
            with name_as_text(file) as name:
                index = faiss.read_index(name, faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        except (RuntimeError, OSError) as error:
            raise _damaged(file) from error
        if (index.d, index.ntotal) != (dim, count):
            raise _damaged(file)
        return cls(index)

    def query(self, vectors: Floats, k: int, search_k: int) -> Hits:
        """The approximately `k` nearest rows of each of `vectors` (M, dim); silent ones get none.

        `search_k` is the search effort in Annoy nodes. A small effort finds fewer than `k` rows.
        """
        faiss = load_faiss()
        audible = np.flatnonzero(vectors.any(axis=1))
        read = _READ_PER_NODE * search_k
        k = min(k, max(1, read // _READ_PER_HIT))
        probes = min(max(1, round(read * self._index.nlist / len(self))), self._index.nlist)
        similarity, row = self._index.search(
            vectors[audible], k, params=faiss.SearchParametersIVF(nprobe=probes)
        )
        there = row.ravel() >= 0
        query = np.repeat(audible, k)[there]
        return Hits(query, row.ravel()[there], similarity.ravel()[there])


def load_faiss() -> Any:
    """Raises LibraryError if it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise LibraryError(
            "this library's profile needs faiss: pip install 'fingerprint[faiss]'"
        ) from error
    faiss.omp_set_num_threads(1)  # queries run in parallel, not the parts of one query
    return faiss


def _file(path: Path) -> Path:
    return path.with_name(f"{path.name}.{SUFFIX}")


def _damaged(path: Path) -> LibraryError:
    return LibraryError(f"the index file {path} is damaged: index the music again")
