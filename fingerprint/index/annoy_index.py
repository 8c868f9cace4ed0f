"""Approximate nearest neighbours by Hamming distance: an Annoy index on disk.

This is the only module that imports Annoy. The index holds sign bits: one bit a dimension, 16 bytes
for 128 dimensions where float32 takes 512, and tree nodes shrink as much. Over 290 hours of music,
four Hamming trees whose hits are reranked find as many right places as ten trees over floats, which
take seven times the disk space (docs/library.md, Profiles).

Annoy's file has no header: it stores neither dimension nor metric, and a file truncated between two
nodes loads without an error. So a JSON sidecar, written last, records them, and is checked before
Annoy opens the file (Annoy also writes its errors to stderr). Index files are complete and never
change, or do not exist.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

import numpy as np
from annoy import AnnoyIndex
from pydantic import ValidationError

from fingerprint.config import PositiveInt, Record
from fingerprint.disk import delete_draft, name_as_text
from fingerprint.errors import LibraryError
from fingerprint.types import Floats, Hits, Ints

METRIC: Literal["hamming"] = "hamming"
SUFFIXES = ("ann", "json")
TREES = 4
BLOCK = 1 << 12  # rows added at a time


class Sidecar(Record):
    """Properties of an index file, checked when it is opened."""

    metric: Literal["hamming"]
    dim: PositiveInt  # dimensions of a vector = bits of a row
    rows: int  # vectors indexed, silent ones included
    items: int  # Annoy's item count: the number of the last row that is not silent, plus one
    trees: int
    bytes: int
    sha256: str


class VectorIndex:
    """Approximate nearest neighbours by Hamming distance of sign bits.

    The files `<path>.ann` and `<path>.json`; the first is memory-mapped, shared by processes.
    """

    def __init__(self, forest: AnnoyIndex | None, sidecar: Sidecar) -> None:
        self._forest = forest  # None: all rows are silent
        self._sidecar = sidecar

    def __len__(self) -> int:
        """The number of rows it was built from."""
        return self._sidecar.rows

    @classmethod
    def build(
        cls,
        rows: Callable[[Ints], Floats],
        count: int,
        path: Path,
        *,
        trees: int = TREES,
        seed: int = 0,
    ) -> Self:
        """Index `count` vectors, each of unit length or zero (silence).

        The same vectors and seed make the same bytes. The files appear complete or not at all.

        Args:
            rows: the vectors (K, D) float32 of some numbers (K,); called for a block at a time.
            count: how many there are.
            path: of the index, without its suffixes.
            trees: of the forest.
            seed: of the random planes at which the trees branch.

        Raises:
            LibraryError: the files cannot be written.
        """
        ann, partial = _file(path, "ann"), _file(path, "ann.tmp")
        try:
            partial.touch()  # Fail before the work, and without Annoy's words on stderr.
            dim = rows(np.arange(0)).shape[1]
            items, planted = _plant(rows, count, partial, trees=trees, seed=seed)
            sidecar = Sidecar(
                metric=METRIC,
                dim=dim,
                rows=count,
                items=items,
                trees=planted,
                bytes=partial.stat().st_size,
                sha256=_digest(partial),
            )
            partial.replace(ann)
            partial = _file(path, "json.tmp")
            partial.write_text(sidecar.model_dump_json() + "\n", encoding="utf-8")
            partial.replace(_file(path, "json"))
        except OSError as error:
            reason = error.strerror or error
            raise LibraryError(
                f"cannot write the index {ann}: {reason}; free space or choose another folder"
            ) from error
        finally:
            delete_draft(partial)
        return cls.open(path, dim)

    @classmethod
    def open(cls, path: Path, dim: int, *, verify: bool = False) -> Self:
        """Memory-map an index of vectors of dimension `dim`; takes constant time.

        With `verify` the whole file is read and compared with its digest.

        Raises:
            LibraryError: a file is missing, truncated, altered, or of another dimension.
        """
        ann = _file(path, "ann")
        sidecar = _read_sidecar(_file(path, "json"))
        if sidecar.dim != dim:
            raise LibraryError(f"{ann} holds vectors of size {sidecar.dim}, the model's are {dim}")
        try:
            if ann.stat().st_size != sidecar.bytes:
                raise _damaged(ann, f"{ann.stat().st_size} bytes instead of {sidecar.bytes}")
            if verify and _digest(ann) != sidecar.sha256:
                raise _damaged(ann, "its content has changed")
            forest = AnnoyIndex(dim, METRIC) if sidecar.items else None
            if forest is not None:
                with name_as_text(ann) as name:
                    forest.load(name)
        except OSError as error:
            raise _damaged(ann, str(error.strerror or error)) from error
        found = (forest.get_n_items(), forest.get_n_trees()) if forest is not None else (0, 0)
        if found != (sidecar.items, sidecar.trees) or sidecar.items > sidecar.rows:
            raise _damaged(ann, "it does not hold the items that its sidecar lists")
        return cls(forest, sidecar)

    def query(self, vectors: Floats, k: int, search_k: int) -> Hits:
        """The approximately `k` nearest rows of each of `vectors` (M, D); silent ones get none.

        `search_k` is the number of nodes inspected per vector. It has no default: Annoy's own,
        trees times k, misses a third of the neighbours and more. The similarity is a cosine,
        estimated from the Hamming distance (Charikar 2002).
        """
        if self._forest is None:
            return Hits(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
        query: list[Ints] = [np.empty(0, np.int64)]
        rows: list[int] = []
        differing: list[float] = []
        for number in np.flatnonzero(vectors.any(axis=1)):
            near, far = self._forest.get_nns_by_vector(
                _bits(vectors[number]), k, search_k, include_distances=True
            )
            query.append(np.full(len(near), number))
            rows += near
            differing += far
        similarity = np.cos(np.pi * np.array(differing, np.float64) / self._sidecar.dim)
        return Hits(np.concatenate(query), np.array(rows, np.int64), similarity.astype(np.float32))


def _plant(
    rows: Callable[[Ints], Floats], count: int, path: Path, *, trees: int, seed: int
) -> tuple[int, int]:
    """Write a forest and count its items and trees. One thread and a seed: the same bytes.

    One thread and a fixed seed make the same bytes every time. An item has the number of its row.
    Silent rows are not added: Annoy leaves unused numbers out of its trees, so they take a little
    space and are never found.
    """
    forest: AnnoyIndex | None = None
    for first in range(0, count, BLOCK):
        vectors = rows(np.arange(first, min(first + BLOCK, count)))
        for number in np.flatnonzero(vectors.any(axis=1)):
            if forest is None:
                forest = AnnoyIndex(vectors.shape[1], METRIC)
                forest.set_seed(seed)
            forest.add_item(first + int(number), _bits(vectors[number]))
    if forest is None:
        return 0, 0
    forest.build(trees, n_jobs=1)
    with name_as_text(path) as name:
        forest.save(name)
    return forest.get_n_items(), forest.get_n_trees()


def _bits(vector: Floats) -> list[int]:
    """The sign bits of a vector (D,)."""
    bits: list[int] = np.greater(vector, 0).astype(np.int8).tolist()
    return bits


def _read_sidecar(path: Path) -> Sidecar:
    try:
        return Sidecar.model_validate_json(path.read_bytes())
    except OSError as error:
        raise _damaged(path, str(error.strerror or error)) from error
    except ValidationError as error:
        raise _damaged(path, error.errors()[0]["msg"]) from error


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _file(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def _damaged(path: Path, why: str) -> LibraryError:
    return LibraryError(f"the index file {path} is damaged: {why}; index the music again")
