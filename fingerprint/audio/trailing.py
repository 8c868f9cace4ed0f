"""Tags at the end of a file, of any format: ID3v1, Lyrics3, APE, and ID3v2 with a footer.

Decoders of formats without a container take them for damaged audio. So they get the file without
its trailing tags, and the text of APE tags is read here.
"""

import re
from collections.abc import Iterator
from typing import BinaryIO, Protocol


class Readable(Protocol):
    """What is needed of a file."""

    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...


_MOST = 16  # tags of one file
_TAIL = 256  # bytes by which the tags are found
_ID3V1, _ENHANCED, _FOOTER = 128, 227, 32  # bytes
_LARGEST = 1 << 25  # bytes of an APE tag that is read
_LONGEST = 1 << 12  # bytes of a text


def without_tags(file: Readable, begin: int, end: int) -> int:
    """Where the audio ends of a recording that lies from `begin` to `end` in a file."""
    for first, _ in _tags(file, begin, end):
        end = first
    return end


def behind_tags(file: Readable, at: int) -> int:
    """The end of the ID3v1 and APE tags that begin at `at`."""
    for _ in range(_MOST):
        file.seek(at)
        head = file.read(_FOOTER)
        if head.startswith(b"TAG"):
            at += _ID3V1
        elif head.startswith(b"APETAGEX") and len(head) == _FOOTER:
            at += _FOOTER + int.from_bytes(head[12:16], "little")
        else:
            break
    return at


def ape_texts(file: BinaryIO) -> dict[str, str]:
    """The texts of an APE tag at the end of a file, several of one name joined with commas."""
    for begin, end in _tags(file, 0, file.seek(0, 2)):
        file.seek(begin)
        data = file.read(min(end - begin, _LARGEST))
        if data[-_FOOTER:].startswith(b"APETAGEX"):
            header = _FOOTER if data.startswith(b"APETAGEX") else 0
            return dict(_texts(data[header:-_FOOTER]))
    return {}


def _tags(file: Readable, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the tags lie, the last one first."""
    for _ in range(_MOST):
        file.seek(max(begin, end - _TAIL))
        size, head = _size(file.read(end - max(begin, end - _TAIL)))
        if size == _ID3V1:
            file.seek(max(begin, end - _ID3V1 - _ENHANCED))
            size += _ENHANCED * (file.read(4) == b"TAG+")
        if not 0 < size <= end - begin:
            return
        file.seek(end - size)
        if not head.match(file.read(_TAIL + 16)):  # its size is wrong
            return
        yield end - size, end
        end -= size


def _size(tail: bytes) -> tuple[int, re.Pattern[bytes]]:
    """Bytes of the tag with which a file ends, 0 without one; and how it must begin."""
    if tail[-_ID3V1:].startswith(b"TAG") and len(tail) >= _ID3V1:
        return _ID3V1, re.compile(b"TAG")
    footer = tail[-_FOOTER:]
    if footer.startswith(b"APETAGEX"):
        header = _FOOTER if footer[23] & 0x80 else 0
        head = rb"APETAGEX" if header else rb"(?s:.{8})[ -~]{2,255}\0"
        return int.from_bytes(footer[12:16], "little") + header, re.compile(head)
    if tail.endswith(b"LYRICS200") and tail[-15:-9].isdigit():
        return int(tail[-15:-9]) + 15, re.compile(b"LYRICSBEGIN")
    if tail[-10:].startswith(b"3DI"):
        size = 0
        for byte in tail[-4:]:
            size = size << 7 | byte & 0x7F
        return size + 20, re.compile(b"ID3")
    return 0, re.compile(b"")


def _texts(items: bytes) -> Iterator[tuple[str, str]]:
    """The items of an APE tag that are text: a size, flags, a name, a zero byte and the value."""
    at = 0
    while (middle := items.find(b"\0", at + 8)) > 0:
        size, flags = (int.from_bytes(items[at + i : at + i + 4], "little") for i in (0, 4))
        name, at = items[at + 8 : middle], middle + 1 + size
        if not flags & 0b110 and size <= _LONGEST:
            text = items[middle + 1 : at].decode(errors="replace")
            yield name.decode(errors="replace"), text.replace("\0", ", ")
