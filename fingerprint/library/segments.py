"""The files of one segment: embeddings and their index, written once and never changed."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from fingerprint.errors import LibraryError
from fingerprint.library.store import SegmentInfo
from fingerprint.search.index import VectorIndex
from fingerprint.types import Floats

FOLDER = "segments"
_SAMPLE = 4096  # bytes, a page
_SAMPLES = 256  # pages of a file that its digest covers


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """An open segment: `vectors` (rows, dim) float16 stay on the disk, as does the index."""

    info: SegmentInfo
    vectors: NDArray[np.float16]
    index: VectorIndex


def write_segment(folder: Path, number: int, vectors: Floats, *, trees: int) -> SegmentInfo:
    """Write a segment's files and see them onto the disk. They count once the catalog has them.

    Raises:
        LibraryError: the disk is full or cannot be written; what was written is removed again.
    """
    vectors_path, index_path = _paths(folder, number)
    try:
        vectors_path.parent.mkdir(exist_ok=True)
        with vectors_path.open("wb") as file:
            _write_array(file, vectors.astype(np.float16))
        VectorIndex.build(vectors, index_path.with_suffix(""), trees=trees)
        for path in files_of(folder, number):
            _flush(path)
        _flush(vectors_path.parent)
        return SegmentInfo(
            id=number,
            rows=len(vectors),
            bytes=sum(path.stat().st_size for path in files_of(folder, number)),
            vectors_digest=digest(vectors_path),
            index_digest=digest(index_path),
        )
    except BaseException as error:
        delete_files(files_of(folder, number))
        if isinstance(error, OSError):
            raise LibraryError(
                f"cannot write {vectors_path.parent}: {error.strerror or error}; free space or "
                "choose another folder, and run again: what was indexed before is kept"
            ) from error
        raise


def open_segment(folder: Path, info: SegmentInfo, dim: int) -> Segment:
    """Map a segment's files into memory; nothing but a sample of them is read.

    Raises:
        LibraryError: a file is missing or is not what was written.
    """
    vectors_path, index_path = _paths(folder, info.id)
    _check(vectors_path, info.vectors_digest)
    _check(index_path, info.index_digest)
    try:
        vectors = np.load(vectors_path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise _damaged(vectors_path) from error
    if vectors.shape != (info.rows, dim) or vectors.dtype != np.float16:
        raise _damaged(vectors_path)
    return Segment(info, vectors, VectorIndex.open(index_path.with_suffix(""), dim))


def digest(path: Path) -> str:
    """SHA-256 of a file's length and of pages evenly spread over it, its first and last included.

    It sees a file that was cut short, swapped or left half empty by a crash, at a cost that does
    not grow with the file; files of up to 1 MiB are covered whole.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        found = hashlib.sha256(str(size).encode())
        pages = -(-size // _SAMPLE)
        for page in np.unique(np.linspace(0, max(pages - 1, 0), _SAMPLES).astype(int)).tolist():
            file.seek(page * _SAMPLE)
            found.update(file.read(_SAMPLE))
    return found.hexdigest()


def files_of(folder: Path, number: int) -> list[Path]:
    """Every file of a segment, sidecars included."""
    return sorted((folder / FOLDER).glob(f"{_stem(number)}.*"))


def strays(folder: Path, known: Iterable[int]) -> list[Path]:
    """Files of segments that the catalog does not have: left by a killed run or merged away."""
    stems = {_stem(number) for number in known}
    return [path for path in (folder / FOLDER).glob("*") if path.name.split(".")[0] not in stems]


def delete_files(paths: Iterable[Path]) -> None:
    """Delete what can be deleted: where a reader's open file cannot be, the next writer tries."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            continue


def _paths(folder: Path, number: int) -> tuple[Path, Path]:
    stem = folder / FOLDER / _stem(number)
    return stem.with_suffix(".npy"), stem.with_suffix(".ann")


def _stem(number: int) -> str:
    return f"{number:06d}"


def _check(path: Path, expected: str) -> None:
    try:
        if digest(path) == expected:
            return
    except OSError as error:
        raise _damaged(path) from error
    raise _damaged(path)


def _damaged(path: Path) -> LibraryError:
    return LibraryError(
        f"{path} is missing, cut short or damaged: restore it from a copy, "
        "or index the music again into a new folder"
    )


def _write_array(file: BinaryIO, array: NDArray[np.float16]) -> None:
    # Not np.save, whose error for a full disk does not say so.
    header = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(file, header)
    file.write(np.ascontiguousarray(array).data)


def _flush(path: Path) -> None:
    """See a file, or a folder's entries, onto the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot, and need not
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
