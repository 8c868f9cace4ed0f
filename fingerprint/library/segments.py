"""The files of a segment, written once, never changed: quantised embeddings, peaks, indices."""

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fingerprint.audio.files import Presence, presence
from fingerprint.disk import LONGEST_NPY_HEADER, flush, npy_header
from fingerprint.errors import LibraryError
from fingerprint.index import annoy_index, ivf_pq, landmarks
from fingerprint.index.hamming import nearest
from fingerprint.index.landmarks import Landmarks
from fingerprint.index.neighbours import ROWS_PER_NODE, index_part
from fingerprint.index.quantisation import Codes, decode, signs
from fingerprint.library.records import FileInfo, Meta, SegmentInfo
from fingerprint.types import Floats, Hits, Ints, PeakCodes

FOLDER = "segments"
CODES = "npy"  # suffix of the file of quantised embeddings
PEAKS = "peaks"
PEAK_KIND = np.dtype("<u2")
_OWN = re.compile(r"\d{6,}\.\w+(\.tmp)?")  # names of segment files; other files are left alone
_SAMPLE = 4096  # bytes, a page
_SAMPLES = 256  # pages of a file that its digest covers
_BLOCK = 1 << 16  # rows that are copied at a time


class NearestRows(Protocol):
    """A nearest-neighbour index of a segment's rows: Annoy or IVF-PQ."""

    def query(self, vectors: Floats, k: int, search_k: int) -> Hits: ...


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """Rows of tracks, one after the other: quantised embeddings (R, width) and peaks (R, kept).

    Row i of a track holds the embedding of the window that begins i row hops into it, and the peaks
    of the i-th block of frames. If a track has more rows of one kind, the other is padded with
    silence.
    """

    codes: Codes
    peaks: PeakCodes

    def __len__(self) -> int:
        return len(self.codes)

    def part(self, first: int, count: int) -> "Stored":
        """`count` rows from row `first` on."""
        return Stored(self.codes[first : first + count], self.peaks[first : first + count])


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """An open segment: rows memory-mapped, with the indices that the library's profile has."""

    info: SegmentInfo
    meta: Meta
    stored: Stored
    index: NearestRows | None
    landmarks: Landmarks | None

    @property
    def codes(self) -> Codes:
        return self.stored.codes

    def search(self, vectors: Floats, neighbours: int, search_k: int) -> Hits:
        """The approximately `neighbours` nearest rows of each of `vectors` (M, dim).

        The index is used only if comparing the sign bits of all rows would take longer than
        inspecting `search_k` of its nodes. Similarities are comparable between segments; they are
        cosines if the library's `widening` is 1.
        """
        part = index_part(vectors, self.meta.indexed_dims)
        if self.index is not None and len(self.codes) > ROWS_PER_NODE * search_k:
            return self.index.query(part, neighbours, search_k)
        return nearest(signs(self.codes, self.meta.indexed_dims), part, neighbours)

    def vectors(self, rows: Ints) -> Floats:
        """The embeddings (K, dim) of rows (K,)."""
        return decode(self.codes[rows], self.meta.profile.bits, self.meta.dim)

    def peaks(self, rows: Ints) -> PeakCodes:
        """The spectral peaks (K, kept) of rows (K,)."""
        found: PeakCodes = self.stored.peaks[rows]
        return found


def write_segment(
    folder: Path,
    number: int,
    pieces: Sequence[Stored],
    meta: Meta,
    lengths: Ints | Sequence[int] | None = None,
) -> SegmentInfo:
    """Write and fsync a segment's files. They take effect once the catalog lists the segment.

    Args:
        folder: the library's.
        number: the segment's id.
        pieces: the rows of its tracks, one track after the other, in pieces of any length; copied
        in
            blocks, so a segment may be larger than the memory.
        meta: the library's.
        lengths: rows of each track; None: each piece is a track.

    Raises:
        LibraryError: the disk is full or cannot be written; the files are deleted again.
    """
    codes_path, peaks_path = path_of(folder, number, CODES), path_of(folder, number, PEAKS)
    lengths = [len(piece) for piece in pieces] if lengths is None else lengths
    try:
        codes_path.parent.mkdir(exist_ok=True)
        flush(folder)  # the name of the folder just made
        _write_array(codes_path, [piece.codes for piece in pieces])
        _write_array(peaks_path, [piece.peaks for piece in pieces])
        written = SegmentInfo(number, sum(map(len, pieces)), ())
        stored = _opened_rows(folder, written, meta)
        _build_index(folder, number, stored.codes, meta)
        if meta.profile.landmarks:
            firsts = np.cumsum([0, *lengths])[:-1].astype(np.int64)
            marks = Landmarks.of(stored.peaks, meta.peak_block, firsts)
            marks.write(codes_path.with_suffix(""))
        for path in files_of(folder, number):
            flush(path)
        flush(codes_path.parent)
        return replace(written, files=_described(folder, number))
    except BaseException as error:
        delete_files(files_of(folder, number))
        if isinstance(error, OSError):
            raise LibraryError(
                f"cannot write {codes_path.parent}: {error.strerror or error}; free space or "
                "choose another folder, and run again: what was indexed before is kept"
            ) from error
        raise


def open_segment(folder: Path, info: SegmentInfo, meta: Meta) -> Segment:
    """Memory-map a segment's files; only the sample of pages that their digests cover is read.

    Raises:
        LibraryError: a file is missing or damaged.
    """
    for suffix in suffixes(meta, info.rows):
        _check(folder, info, suffix)
    stored = _opened_rows(folder, info, meta)
    stem = path_of(folder, info.id, CODES).with_suffix("")
    pairs = Landmarks.open(stem) if meta.profile.landmarks else None
    return Segment(info, meta, stored, _open_index(folder, info, meta), pairs)


def suffixes(meta: Meta, rows: int) -> tuple[str, ...]:
    """Suffixes of all files of a segment of `rows` rows."""
    marks = (landmarks.SUFFIX,) if meta.profile.landmarks else ()
    return (CODES, PEAKS, *index_suffixes(meta, rows), *marks)


def index_suffixes(meta: Meta, rows: int) -> tuple[str, ...]:
    """Suffixes of the index files of a segment of `rows` rows; empty if it has no index."""
    if meta.profile.index == "annoy":
        return annoy_index.SUFFIXES
    has_lists = meta.profile.index == "faiss" and rows >= ivf_pq.LEAST_ROWS
    return (ivf_pq.SUFFIX,) if has_lists else ()


def _build_index(folder: Path, number: int, codes: Codes, meta: Meta) -> None:
    def keys_of(some: Codes) -> Floats:
        return index_part(decode(some, meta.profile.bits, meta.dim), meta.indexed_dims)

    path = path_of(folder, number, CODES).with_suffix("")
    match index_suffixes(meta, len(codes)):
        case annoy_index.SUFFIXES:
            annoy_index.VectorIndex.build(lambda rows: keys_of(codes[rows]), len(codes), path)
        case (ivf_pq.SUFFIX,):
            ivf_pq.InvertedLists.build(lambda rows: keys_of(codes[rows]), len(codes), path)


def _open_index(folder: Path, info: SegmentInfo, meta: Meta) -> NearestRows | None:
    path = path_of(folder, info.id, CODES).with_suffix("")
    match index_suffixes(meta, info.rows):
        case annoy_index.SUFFIXES:
            return annoy_index.VectorIndex.open(path, meta.indexed_dims)
        case (ivf_pq.SUFFIX,):
            return ivf_pq.InvertedLists.open(path, meta.indexed_dims, info.rows)
    return None


def open_rows(folder: Path, info: SegmentInfo, meta: Meta) -> Stored:
    """The rows of a segment without its indices."""
    _check(folder, info, CODES)
    _check(folder, info, PEAKS)
    return _opened_rows(folder, info, meta)


def _opened_rows(folder: Path, info: SegmentInfo, meta: Meta) -> Stored:
    profile = meta.profile
    shape = (info.rows, profile.width(meta.dim))
    return Stored(
        _mapped(path_of(folder, info.id, CODES), shape, profile.kind),
        _mapped(path_of(folder, info.id, PEAKS), (info.rows, meta.peaks_kept), PEAK_KIND),
    )


def damaged_files(folder: Path, info: SegmentInfo, meta: Meta) -> list[Path]:
    """Files of a segment that are missing, or whose SHA-256 is not the catalog's.

    Raises:
        LibraryError: a file cannot be read, so nothing is known about its content.
    """
    expected = suffixes(meta, info.rows)
    written = {file.suffix: file for file in info.files}
    damaged = []
    for suffix in expected:
        path = path_of(folder, info.id, suffix)
        if suffix not in written or _sha256(path) != written[suffix].sha256:
            damaged.append(path)
    return damaged


def digest(path: Path) -> str:
    """SHA-256 of a file's length and of pages evenly spread over it, its first and last included.

    It detects a file that was truncated, swapped or left partly empty by a crash, at a cost that
    does not grow with the file. Files of up to 1 MiB are covered whole.
    """
    with path.open("rb", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        found = hashlib.sha256(str(size).encode())
        last = max(-(-size // _SAMPLE) - 1, 0)
        for page in np.unique(np.linspace(0, last, _SAMPLES).astype(int)).tolist():
            file.seek(page * _SAMPLE)
            found.update(file.read(_SAMPLE))
    return found.hexdigest()


def files_of(folder: Path, number: int) -> list[Path]:
    """Every file of a segment, sidecars included."""
    return sorted((folder / FOLDER).glob(f"{_stem(number)}.*"))


def strays(folder: Path, known: Iterable[int]) -> list[Path]:
    """Files of segments that the catalog does not list: left by a killed run, or merged away."""
    stems = {_stem(number) for number in known}
    every = [path for path in (folder / FOLDER).glob("*") if _OWN.fullmatch(path.name)]
    return [path for path in every if path.name.split(".")[0] not in stems]


def delete_files(paths: Iterable[Path]) -> None:
    """Delete files; one that a reader has open, on some systems, is left for the next writer."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            continue


def path_of(folder: Path, number: int, suffix: str) -> Path:
    """Path of a segment's file with that suffix."""
    return folder / FOLDER / f"{_stem(number)}.{suffix}"


def _stem(number: int) -> str:
    return f"{number:06d}"


def _described(folder: Path, number: int) -> tuple[FileInfo, ...]:
    return tuple(
        FileInfo(path.suffix[1:], path.stat().st_size, digest(path), _sha256(path) or "")
        for path in files_of(folder, number)
    )


def _sha256(path: Path) -> str | None:
    """The file's SHA-256; None if there is no such file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        if presence(path) in (Presence.GONE, Presence.EMPTIED):
            return None
        raise _unreadable(path, error) from error


def _check(folder: Path, info: SegmentInfo, suffix: str) -> None:
    path = path_of(folder, info.id, suffix)
    expected = [file.digest for file in info.files if file.suffix == suffix]
    try:
        if [digest(path)] == expected:
            return
    except OSError as error:
        if presence(path) in (Presence.GONE, Presence.EMPTIED):
            raise _damaged(path) from error
        raise _unreadable(path, error) from error
    raise _damaged(path)


def _mapped(path: Path, shape: tuple[int, int], kind: np.dtype[Any]) -> Codes:
    """Memory-map an array written by `_write_array`; it must have this shape and number type."""
    try:
        with path.open("rb") as file:
            header = npy_header(file.read(LONGEST_NPY_HEADER))
            if header is None or header[:2] != (kind.str, shape):
                raise _damaged(path)
            return np.memmap(file, kind, "r", header[2], shape)
    except ValueError as error:  # the file is shorter than that
        raise _damaged(path) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> LibraryError:
    return LibraryError(
        f"cannot read {path}: {error.strerror or error}; it may be whole, so nothing is done about "
        "it: make it readable or, if its disk has lost it for good, delete it and repair"
    )


def _damaged(path: Path) -> LibraryError:
    return LibraryError(
        f"{path} is missing, cut short or damaged: `fingerprint verify --repair` makes it anew "
        "from the music, or restore it from a copy"
    )


def _write_array(path: Path, pieces: Sequence[Codes]) -> None:
    """Arrays (n, width), one after the other, as one in NumPy's format."""
    # Not np.save, whose error for a full disk does not say so.
    kind = np.lib.format.dtype_to_descr(pieces[0].dtype)
    shape = (sum(map(len, pieces)), pieces[0].shape[1])
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            for first in range(0, len(piece), _BLOCK):
                file.write(np.ascontiguousarray(piece[first : first + _BLOCK]).data)
