"""Recordings that lie one behind the other in one file, as `cat a.wav b.wav` makes them.

Decoders of MP3, AAC, FLAC, Matroska and broadcasts go on by themselves. Where a header says how
long a container is, they stop at its end: WAV, AIFF and the MP4 family. In a chained Ogg they get
over the next link only if it has the same codec, rate and channels.
"""

from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO, Literal

_MOST = 10_000  # recordings in one file
_FIRST_PAGE = b"OggS\0\x02"  # of a stream in Ogg
_PAGE_HEADER = 27  # bytes, and as many more as the page has segments
_BLOCK = 1 << 20  # bytes


class Part:
    """A file from `begin` to `end`, as if there were nothing else."""

    def __init__(self, file: BinaryIO, begin: int, end: int) -> None:
        self.name = str(getattr(file, "name", ""))
        self._file, self._begin, self._end = file, begin, end
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._end - self._begin - self._at)
        self._file.seek(self._begin + self._at)
        data = self._file.read(left if size < 0 else min(size, left))
        self._at += len(data)
        return data

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Raises ValueError for a place before the beginning."""
        at = offset + (0, self._at, self._end - self._begin)[whence]
        if at < 0:
            raise ValueError("a place before the beginning")
        self._at = at
        return at


def recordings(file: BinaryIO) -> list[BinaryIO | Part]:
    """The recordings in a file; mostly it is one."""
    begins = list(_begins(file))
    if len(begins) == 1:
        return [file]
    ends = [*begins[1:], file.seek(0, 2)]
    return [Part(file, begin, end) for begin, end in zip(begins, ends, strict=True)]


def _begins(file: BinaryIO) -> Iterator[int]:
    yield 0
    if _head(file, 0).startswith(_FIRST_PAGE):
        yield from islice(_links(file), _MOST)
        return
    size, at = file.seek(0, 2), 0
    for _ in range(_MOST):
        end = _end(file, at, size)
        if end is None or end >= size or _kind(_head(file, end)) is None:
            return
        yield end
        at = end


def _links(file: BinaryIO) -> Iterator[int]:
    """Where the second and further links of a chained Ogg begin.

    A link begins with the first page of each of its streams, one after the other.
    """
    streams_end = _end_of_page(file, 0)
    for at in _found(file, _FIRST_PAGE):
        if at > streams_end:
            yield at
        if at >= streams_end:
            streams_end = _end_of_page(file, at)


def _end_of_page(file: BinaryIO, at: int) -> int:
    file.seek(at)
    head = file.read(_PAGE_HEADER + 255)
    if len(head) < _PAGE_HEADER:  # cut
        return at + len(head)
    segments = head[_PAGE_HEADER : _PAGE_HEADER + head[_PAGE_HEADER - 1]]
    return at + _PAGE_HEADER + len(segments) + sum(segments)


def _found(file: BinaryIO, wanted: bytes) -> Iterator[int]:
    """Where some bytes occur in a file."""
    begin, kept = 0, b""
    while True:
        file.seek(begin + len(kept))
        block = file.read(_BLOCK)
        if not block:
            return
        data = kept + block
        at = data.find(wanted)
        while at >= 0:
            yield begin + at
            at = data.find(wanted, at + 1)
        kept = data[-len(wanted) + 1 :]
        begin += len(data) - len(kept)


def _kind(head: bytes) -> Literal["riff", "form", "mp4"] | None:
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return "riff"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "form"
    return "mp4" if head[4:8] == b"ftyp" else None


def _end(file: BinaryIO, at: int, size: int) -> int | None:
    """Where a container that begins at `at` ends; None where its header does not say."""
    head = _head(file, at)
    kind = _kind(head)
    if kind is None:
        return None
    if kind == "mp4":
        return _end_of_boxes(file, at, size)
    length = int.from_bytes(head[4:8], "little" if head[:4] in (b"RIFF", b"RF64") else "big")
    if head[:4] == b"RF64" and head[12:16] == b"ds64":
        length = int.from_bytes(head[20:28], "little")
    return at + 8 + length + length % 2


def _end_of_boxes(file: BinaryIO, at: int, size: int) -> int:
    """Where the next `ftyp` begins: each recording has one, at its beginning."""
    first = at
    while at < size:
        head = _head(file, at)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if (at > first and head[4:8] == b"ftyp") or length < 8:
            return at if length >= 8 else size
        at += length
    return size


def _head(file: BinaryIO, at: int) -> bytes:
    file.seek(at)
    return file.read(28)
