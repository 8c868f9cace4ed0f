"""Recordings that lie one behind the other in one file, as `cat a.wav b.wav` makes them.

Decoders of MPEG audio, AAC, AC-3, DTS and broadcasts go on by themselves. Others stop at the
end of the first recording, or decode the next one by the header of the first. So a file is taken
apart: where a header says how long its recording is, there the next one may begin; else wherever
bytes are found with which a recording of the same kind begins.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, pairwise
from typing import BinaryIO, Literal

from fingerprint.audio.trailing import without_tags

_MOST = 10_000  # recordings in one file
_HEAD = 80  # bytes from which a kind is known
_UNKNOWN = 0x7FFF_F000  # and more, if there is less: by a program that could not go back
_PAGE_HEADER = 27  # bytes of an Ogg page, and as many more as the page has segments
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


_File = BinaryIO | Part


def recordings(file: BinaryIO) -> list[BinaryIO | Part]:
    """The recordings in a file, without the tags behind them; mostly it is one."""
    begins = [0, *islice(_further(file), _MOST)]
    size = file.seek(0, 2)
    places = [(begin, without_tags(file, begin, end)) for begin, end in pairwise([*begins, size])]
    if places == [(0, size)]:
        return [file]
    return [Part(file, begin, end) for begin, end in places]


def missing(file: _File) -> int:
    """Bytes of a recording that its header promises and that are not there."""
    begin = id3_size(file)
    kind = _kind(file, begin)
    if kind is None or KINDS[kind] is _end_of_link:  # it would search the whole file
        return 0
    return max(0, (KINDS[kind](file, begin) or 0) - file.seek(0, 2))


def id3_size(file: _File) -> int:
    """Bytes of the ID3 tag that a file begins with; 0 without one."""
    file.seek(0)
    head = file.read(10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _further(file: BinaryIO) -> Iterator[int]:
    """Where the second and further recordings begin."""
    size = file.seek(0, 2)
    at: int | None = id3_size(file)
    while at is not None and (kind := _kind(file, at)):
        end = KINDS[kind](file, at)
        if end is None or not at < end <= size:  # cut, or written where one cannot go back
            alike = _found(file, at + 1, _head(file, at)[:4])
            at = next((one for one in alike if kind.match(_head(file, one))), None)
        else:
            at = end if _kind(file, end) else None
        if at is not None:
            yield at


def _kind(file: _File, at: int) -> re.Pattern[bytes] | None:
    head = _head(file, at)
    return next((kind for kind in KINDS if kind.match(head)), None)


def _head(file: _File, at: int) -> bytes:
    file.seek(at)
    return file.read(_HEAD)


def _found(file: _File, begin: int, wanted: bytes) -> Iterator[int]:
    """Where some bytes occur in a file from `begin` on."""
    kept = b""
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


# Where a recording that begins at `at` ends; None where its header does not say.


def _unsaid(_file: _File, _at: int) -> int | None:
    return None


def _end_of_riff(file: _File, at: int) -> int | None:
    head = _head(file, at)
    big = head[:4] in (b"RIFX", b"FORM")
    length = int.from_bytes(head[4:8], "big" if big else "little")
    if head[:4] == b"RF64" and head[12:16] == b"ds64":
        length = int.from_bytes(head[20:28], "little")
    end = at + 8 + length + length % 2
    return end if length and (length < _UNKNOWN or end <= file.seek(0, 2)) else None


def _end_of_au(file: _File, at: int) -> int | None:
    head = _head(file, at)
    length = int.from_bytes(head[8:12], "big")
    return at + int.from_bytes(head[4:8], "big") + length if length < 0xFFFF_FFFF else None


def _end_of_w64(file: _File, at: int) -> int | None:
    length = int.from_bytes(_head(file, at)[16:24], "little")
    return at + length + -length % 8 if length < 1 << 62 else None


def _end_of_dsd(file: _File, at: int) -> int:
    head = _head(file, at)
    if head[:4] == b"DSD ":
        return at + int.from_bytes(head[12:20], "little")
    return at + 12 + int.from_bytes(head[4:12], "big")


def _end_of_chunks(
    file: _File, at: int, *, chunks: int, name: int, order: Literal["big", "little"], data: bytes
) -> int | None:
    """Of a CAF or an ASF, whose chunks begin `chunks` bytes behind its beginning.

    The length of a chunk has 8 bytes, behind `name` bytes of its name. Only the one that is called
    `data` may be cut; what else does not fit is no chunk.
    """
    first, size = _head(file, at)[:name], file.seek(0, 2)
    own = 12 if order == "big" else 0  # bytes that the length does not count
    begin, at = at, at + chunks
    while at + name + 8 <= size:
        head = _head(file, at)
        length = int.from_bytes(head[name : name + 8], order) + own
        if at > begin and head[:name] == first:
            return at
        if not name + 8 <= length < 1 << 62:  # unknown, as that of a live stream
            return None
        if at + length > size and not head.startswith(data):
            return at
        at += length
    return at


def _end_of_wavpack(file: _File, at: int) -> int:
    """Where the next first block is; or any block behind damage, from where another one begins."""
    begin, size = at, file.seek(0, 2)
    while at < size:
        head = _head(file, at)
        if not _BLOCK_OF_WAVPACK.match(head):
            further = _found(file, at, b"wvpk")
            return next((one for one in further if _BLOCK_OF_WAVPACK.match(_head(file, one))), size)
        if at > begin and _FIRST_OF_WAVPACK.match(head):
            return at
        at += 8 + int.from_bytes(head[4:8], "little")
    return size


def _end_of_musepack(file: _File, at: int) -> int | None:
    """Of a Musepack of version 8: behind its last packet, `SE`."""
    at, size = at + 4, file.seek(0, 2)
    while at < size:
        head = _head(file, at)
        if not _PACKET_OF_MUSEPACK.match(head):
            return None
        length, width = head[2] & 0x7F, 3
        while head[width - 1] & 0x80:
            length, width = length << 7 | head[width] & 0x7F, width + 1
        at += max(length, width)
        if head[:2] == b"SE":
            break
    return at


def _end_of_boxes(file: _File, at: int) -> int:
    """Of an MP4: where the next `ftyp` is, for each recording begins with one."""
    first, size = at, file.seek(0, 2)
    while at < size:
        head = _head(file, at)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if (at > first and head[4:8] == b"ftyp") or length < 8:
            return at if length >= 8 else size
        at += length
    return size


def _end_of_matroska(file: _File, at: int) -> int | None:
    """Behind the segment that follows the header."""
    for _ in range(2):
        head = _head(file, at)
        if head[:4] not in (b"\x1aE\xdf\xa3", b"\x18S\x80g"):
            return None
        width = 9 - head[4].bit_length()  # bytes of the number
        length = int.from_bytes(head[4 : 4 + width], "big") & (1 << 7 * width) - 1
        if length == (1 << 7 * width) - 1:  # that of a live stream
            return None
        at += 4 + width + length
    return at


def _end_of_link(file: _File, at: int) -> int:
    """Of a chained Ogg. A link begins with the first page of each of its streams."""
    streams_end = _end_of_page(file, at)
    for page in _found(file, at + 1, b"OggS\0\x02"):
        if page > streams_end:
            return page
        if page == streams_end:
            streams_end = _end_of_page(file, page)
    return file.seek(0, 2)


def _end_of_page(file: _File, at: int) -> int:
    file.seek(at)
    head = file.read(_PAGE_HEADER + 255)
    if len(head) < _PAGE_HEADER:  # cut
        return at + len(head)
    segments = head[_PAGE_HEADER : _PAGE_HEADER + head[_PAGE_HEADER - 1]]
    return at + _PAGE_HEADER + len(segments) + sum(segments)


_BLOCK_OF_WAVPACK = re.compile(rb"wvpk...\0[\x02-\x10]\x04", re.DOTALL)
# It has samples, the first of all, and of several channels the first.
_FIRST_OF_WAVPACK = re.compile(
    rb".{10}\0.{5}\0{4}(?!\0{4})....."
    rb"[%b]" % re.escape(bytes(flags for flags in range(256) if flags & 8)),
    re.DOTALL,
)
# Two letters, and the length in seven bits a byte.
_PACKET_OF_MUSEPACK = re.compile(rb"[A-Z]{2}[\x80-\xff]{0,8}[\0-\x7f]")
_end_of_caf = partial(_end_of_chunks, chunks=8, name=4, order="big", data=b"data")
_end_of_asf = partial(
    _end_of_chunks, chunks=0, name=16, order="little", data=b"\x36\x26\xb2\x75\x8e\x66"
)
# How recordings of each kind begin, and what says where they end.
KINDS: dict[re.Pattern[bytes], Callable[[_File, int], int | None]] = {
    re.compile(begin, re.DOTALL): end
    for begin, end in (
        (rb"OggS\0\x02", _end_of_link),
        (rb"fLaC[\0\x80]\0\0\x22", _unsaid),
        (rb"(RIFF|RIFX|RF64)....(WAVE|XWMA|AVI )|FORM....AIF[FC]", _end_of_riff),
        (rb"....ftyp", _end_of_boxes),
        (rb"\x1aE\xdf\xa3.{0,60}?\x42\x82.{1,8}?(webm|matroska)", _end_of_matroska),
        (rb"FLV\x01[\x01\x04\x05]\0\0\0\x09\0{4}", _unsaid),
        (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c", _end_of_asf),
        (_BLOCK_OF_WAVPACK.pattern, _end_of_wavpack),
        (rb"MPCKSH", _end_of_musepack),
        (rb"TTA1[\x01\x02]\0[^\0]\0[\x08\x10\x18\x20]\0", _unsaid),
        (rb"\.RMF\0\0\0[\x10\x12]", _unsaid),
        (rb"Creative Voice File\x1a", _unsaid),
        (rb"caff\0\x01\0\0desc\0{7}\x20", _end_of_caf),
        (rb"\.snd\0\0.{6}\0\0\0[\x01-\x1b]\0...\0\0\0[\x01-\x20]", _end_of_au),
        (rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0.{8}wave", _end_of_w64),
        (rb"DSD \x1c\0{7}|FRM8.{8}DSD ", _end_of_dsd),
    )
}
