"""Recordings that lie one behind the other in one file, as `cat a.wav b.wav` makes them.

Decoders of MPEG audio, AAC, AC-3, DTS and transport streams read joined recordings by themselves.
Others stop at the end of the first recording, or decode the second one with the header of the
first. So a file is split: if a header says how long its recording is, the next one may begin at its
end; else at the next signature of the same format, or at one of another format where the frames of
the first recording have ended.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, pairwise
from typing import BinaryIO, Literal

from fingerprint.audio.frames import SYNC, chained_at, chained_in, mpeg_frame_bytes, xing_at
from fingerprint.audio.trailing import behind_tags, without_tags

_MOST = 10_000  # recordings in one file
_HEAD = 80  # bytes by which the format is recognised
_UNKNOWN = 0x7FFF_F000  # and more, if there is less: by a program that could not go back
_PAGE_HEADER = 27  # bytes of an Ogg page, and as many more as the page has segments
_BLOCK = 1 << 20  # bytes
_WINDOW = 1 << 16  # bytes in which there are frames of any kind
_PLACES = 16  # at which a file is looked at
_MOST_TAGS = 16  # before a recording
_MOST_BLOCKS = 100  # of metadata in a FLAC


class Part:
    """A file's bytes from `begin` to `end`, as a file.

    `mended` is a place in the file and the bytes that are read there instead.
    """

    def __init__(
        self, file: BinaryIO, begin: int, end: int, mended: tuple[int, bytes] | None = None
    ) -> None:
        self.name = str(getattr(file, "name", ""))
        self._file, self._begin, self._end = file, begin, end
        self._mended = mended
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._end - self._begin - self._at)
        self._file.seek(self._begin + self._at)
        data = self._file.read(left if size < 0 else min(size, left))
        if self._mended:
            data = self._with_mended(data)
        self._at += len(data)
        return data

    def _with_mended(self, data: bytes) -> bytes:
        assert self._mended  # noqa: S101
        first, right = self._mended
        first -= self._begin + self._at
        kept = max(0, -first), min(len(right), len(data) - first)
        if kept[0] >= kept[1]:
            return data
        return data[: first + kept[0]] + right[slice(*kept)] + data[first + kept[1] :]

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
    """The recordings in a file, usually one, without the tags behind them."""
    begins = [0, *islice(_further(file), _MOST)]
    size = file.seek(0, 2)
    places = [(begin, _end_of_sound(file, begin, end)) for begin, end in pairwise([*begins, size])]
    mended = [_mended(file, begin) for begin, _ in places]
    if places == [(0, size)] and mended == [None]:
        return [file]
    return [Part(file, *place, one) for place, one in zip(places, mended, strict=True)]


def _end_of_sound(file: BinaryIO, begin: int, end: int) -> int:
    """Without tags; and without zeros behind a RIFF, each of which FFmpeg takes for a chunk."""
    promised = promised_end(file, begin)
    if promised and promised < end and not _head(file, promised).strip(b"\0"):
        file.seek(promised)
        if not any(
            file.read(min(_BLOCK, end - at)).strip(b"\0") for at in range(promised, end, _BLOCK)
        ):
            return promised
    return without_tags(file, begin, end)


def _mended(file: BinaryIO, begin: int) -> tuple[int, bytes] | None:
    """A place in a header, and what has to be there for FFmpeg to decode the recording."""
    begin += id3_size(file, begin)
    head = _head(file, begin)
    if head[:6] == b"MPCKSH" and (at := _wrong_table_of_musepack(file, begin)):
        return at, b"XX"
    if head[:4] == b".snd" and head[8:12] == bytes(4):  # by a program that could not go back
        return begin + 8, b"\xff" * 4
    return None


def promised_end(file: _File, begin: int = 0) -> int | None:
    """Where a recording ends by its header; None where that does not say.

    Somebody else may be reading the file: the place is kept.
    """
    place, end = file.tell(), None
    begin += id3_size(file, begin)
    kind = _kind(file, begin)
    if kind and KINDS[kind] is not _end_of_link:  # it would search the whole file
        end = KINDS[kind](file, begin)
        if end and KINDS[kind] is _end_of_riff and not _adds_up(file, begin, end):
            end = None
    file.seek(place)
    return end


def id3_size(file: _File, at: int = 0) -> int:
    """Bytes of the ID3 tags that begin at `at`; 0 without one."""
    begin = at
    for _ in range(_MOST_TAGS):
        file.seek(at)
        head = file.read(10)
        if head[:3] != b"ID3" or len(head) < 10:
            break
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte & 0x7F
        at += 10 + size
    return at - begin


def _further(file: BinaryIO) -> Iterator[int]:
    """Where the second and further recordings begin."""
    size, at = file.seek(0, 2), _next(file, 0)
    while at is not None and at < size:
        yield at
        at = _next(file, at)


def _next(file: _File, at: int) -> int | None:
    """Where the recording behind the one at `at` begins."""
    size, begin = file.seek(0, 2), at + id3_size(file, at)
    kind = _kind(file, begin)
    end = KINDS[kind](file, begin) if kind else None
    if end is not None and begin < end <= size:
        end = behind_tags(file, end)
        return end if _begins(file, end) else None
    if (end := _end_of_mp3(file, begin)) and end < size:
        end = behind_tags(file, end)
        if _begins(file, end):
            return end
    further = None
    if kind:  # cut, or written where one cannot go back
        alike = _found(file, begin + 1, _head(file, begin)[:4])
        further = next((one for one in alike if kind.match(_head(file, one))), None)
    end = without_tags(file, begin, further or size)
    return _of_another_kind(file, begin, end) or further


def _end_of_mp3(file: _File, at: int) -> int | None:
    """Behind as many bytes as the Xing header in its first frame says."""
    head = _head(file, at)
    if len(head) < _HEAD or not mpeg_frame_bytes(head):
        return None
    begin = xing_at(head)
    if begin is None or head[begin + 7] & 3 != 3:
        return None
    return at + int.from_bytes(head[begin + 12 : begin + 16], "big")


def _begins(file: _File, at: int) -> bool:
    """Whether a recording of any kind begins here."""
    at += id3_size(file, at)
    head = _window(file, at, at + _WINDOW)
    return bool(_kind(file, at) or _OTHERS.match(head)) or chained_at(head) is not None


def _of_another_kind(file: _File, begin: int, end: int) -> int | None:
    """Where one of another kind begins behind a recording whose end no header gives.

    At several places there must be what such a recording consists of; if it is missing at one, the
    other one begins between this place and the one before.
    """
    if (is_alike := _sign(file, begin)) is None:
        return None
    behind, many = begin + 1, min(_PLACES, max(1, (end - begin) // _WINDOW))
    for place in (begin + (end - begin) * number // many for number in range(1, many + 1)):
        if not is_alike(_window(file, max(begin, place - _WINDOW), place)):
            break
        behind = max(behind, place - _WINDOW)
    else:
        return None
    for at in _matching(file, behind, place):
        tag = id3_size(file, at)
        if at >= behind and _begins(file, at):
            if tag or not is_alike(_window(file, at, at + _WINDOW)):
                return at
            behind = at + tag
    return None


def _sign(file: _File, at: int) -> Callable[[bytes], bool] | None:
    """Whether some bytes are of a recording like the one at `at`, if that can be told."""
    head = _window(file, at, at + _WINDOW)
    if (frames := chained_at(head)) is not None:
        return partial(chained_in, kind=frames)
    sign = next((sign for begin, sign in _SIGNS if begin.match(head)), None)
    if head[:4] == b"fLaC" and (frame := _first_frame_of_flac(file, at + 4)[:3]):
        sign = re.compile(re.escape(frame))
    return (lambda data: bool(sign.search(data))) if sign else None


def _first_frame_of_flac(file: _File, at: int) -> bytes:
    """Its beginning, behind the metadata that begins at `at`; nothing if it is not to be found."""
    for _ in range(_MOST_BLOCKS):
        head = _head(file, at)[:4]
        at += 4 + int.from_bytes(head[1:], "big")
        if not head or head[0] & 0x80:
            break
    frame = _head(file, at)
    return frame if frame[:2] == b"\xff\xf8" else b""


def _window(file: _File, begin: int, end: int) -> bytes:
    file.seek(begin)
    return file.read(end - begin)


def _matching(file: _File, begin: int, end: int) -> Iterator[int]:
    """Where a recording may begin between two places."""
    for at in range(begin, end, _BLOCK):
        for found in _BEGINNINGS.finditer(_window(file, at, min(end, at + _BLOCK + _HEAD))):
            if found.start() < _BLOCK:
                yield at + found.start()


def _kind(file: _File, at: int) -> re.Pattern[bytes] | None:
    head = _head(file, at)
    return next((kind for kind in KINDS if kind.match(head)), None)


def _head(file: _File, at: int) -> bytes:
    file.seek(at)
    return file.read(_HEAD)


def _found(file: _File, begin: int, wanted: bytes) -> Iterator[int]:
    """The position of the first match of `wanted` in a file, from `begin` on."""
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


def _adds_up(file: _File, at: int, end: int) -> bool:
    """Whether the chunks of a RIFF, one of which is the sound, lead from its head to its end."""
    order: Literal["big", "little"] = (
        "big" if _head(file, at)[:4] in (b"RIFX", b"FORM") else "little"
    )
    at, sounds, end = at + 12, 0, min(end, file.seek(0, 2))
    while at + 8 <= end:
        head = _head(file, at)
        sounds += head[:4] in (b"data", b"SSND")
        if not _NAME_OF_CHUNK.match(head):
            return False
        length = int.from_bytes(head[4:8], order)
        at += 8 + length + length % 2
    return sounds <= 1


def _end_of_au(file: _File, at: int) -> int | None:
    head = _head(file, at)
    length = int.from_bytes(head[8:12], "big")
    return at + int.from_bytes(head[4:8], "big") + length if 0 < length < 0xFFFF_FFFF else None


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
        if at + length > size or length < name + 8:
            if not head.startswith(data):
                return at
            if not name + 8 <= length < 1 << 62:  # unknown, as that of a live stream
                return None
        at += length
    return at


def _end_of_tta(file: _File, at: int) -> int | None:
    """Behind the frames whose lengths its table gives; None where they are wrong."""
    head = _head(file, at)
    rate, samples = (int.from_bytes(head[i : i + 4], "little") for i in (10, 14))
    count = -(-samples // max(1, rate * 256 // 245))
    begin = at + 22 + 4 * count + 4  # checksums are behind the header and the table
    if begin > file.seek(0, 2):
        return None
    table = _window(file, at + 22, at + 22 + 4 * count)
    end = begin + sum(int.from_bytes(table[i : i + 4], "little") for i in range(0, 4 * count, 4))
    return end if _begins(file, behind_tags(file, end)) else None


def _end_of_voc(file: _File, at: int) -> int | None:
    """Behind its terminator; None without one."""
    end = next((end for kind, end in voc_blocks(file, at) if kind == 0), None)
    return end if end and _begins(file, end) else None


def voc_blocks(file: _File, at: int = 0) -> Iterator[tuple[int, int]]:
    """The types and the ends of the blocks of a VOC that begins at `at`; 0 is the terminator."""
    size = file.seek(0, 2)
    at += int.from_bytes(_head(file, at)[20:22], "little")
    while at < size:
        head = _head(file, at)[:4]
        at += 4 + int.from_bytes(head[1:], "little") if head[0] else 1
        yield head[0], at


def _end_of_ape(file: _File, at: int) -> int | None:
    """Of a Monkey's Audio of version 3.98 or later: behind the parts whose lengths it gives."""
    head = _head(file, at)
    if int.from_bytes(head[4:6], "little") < 3980:
        return None
    return at + sum(int.from_bytes(head[i : i + 4], "little") << bits for i, bits in _PARTS_OF_APE)


def _end_of_wavpack(file: _File, at: int) -> int:
    """Where the next first block is; or any block behind damage, from where another one begins."""
    begin, size = at, file.seek(0, 2)
    while at < size:
        head = _head(file, at)
        if not _BLOCK_OF_WAVPACK.match(head):
            further = _found(file, at, b"wvpk")
            return next((one for one in further if _BLOCK_OF_WAVPACK.match(_head(file, one))), at)
        if at > begin and _FIRST_OF_WAVPACK.match(head):
            return at
        at += 8 + int.from_bytes(head[4:8], "little")
    return size


def _end_of_musepack(file: _File, at: int) -> int | None:
    """Of a Musepack of version 8: behind its last packet, `SE`."""
    return next((end for name, _, end in _packets_of_musepack(file, at) if name == b"SE"), None)


def _packets_of_musepack(file: _File, at: int) -> Iterator[tuple[bytes, int, int]]:
    """Names and places of the packets, up to where none is."""
    at, size = at + 4, file.seek(0, 2)
    while at < size:
        head = _head(file, at)
        if not _PACKET_OF_MUSEPACK.match(head):
            return
        length, width = musepack_number(head[2:])
        end = at + max(length, 2 + width)
        yield head[:2], at, end
        at = end


def musepack_number(data: bytes) -> tuple[int, int]:
    """A number of Musepack 8, with seven bits a byte, and how many bytes it has."""
    number = 0
    for width, byte in enumerate(data, 1):
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, width
    return number, len(data)


def _wrong_table_of_musepack(file: _File, begin: int) -> int | None:
    """Where a packet says that the table is where none is; FFmpeg would decode nothing."""
    for name, at, _ in _packets_of_musepack(file, begin):
        if name == b"AP":  # sound
            break
        if name == b"SO":
            head = _head(file, at)[2:]
            table = at + musepack_number(head[musepack_number(head)[1] :])[0]
            return None if _head(file, table)[:2] == b"ST" else at
    return None


def _end_of_boxes(file: _File, at: int) -> int:
    """Of an MP4: where the next `ftyp` is, for each recording begins with one."""
    first, size = at, file.seek(0, 2)
    while at < size:
        head = _head(file, at)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if at > first and head[4:8] == b"ftyp":
            return at
        if length < 8 and head[:4] == bytes(4):  # to the end of the file
            return size
        if (
            length < 8
            or not _NAME_OF_BOX.match(head)
            or (at + length > size and head[4:8] != b"mdat")
        ):
            return at
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
    streams_end, end = _end_of_page(file, at), file.seek(0, 2)
    for page in _found(file, at + 1, b"OggS\0\x02"):
        if page > streams_end:
            end = page
            break
        if page == streams_end:
            streams_end = _end_of_page(file, page)
    # Something else may lie between the last page and the end.
    for begin in range(end - _WINDOW - _PAGE_HEADER, at - _WINDOW, -_WINDOW):
        data = _window(file, max(at, begin), begin + _WINDOW + _PAGE_HEADER)
        if (last := data.rfind(b"OggS\0")) >= 0:
            last = _end_of_page(file, max(at, begin) + last)
            return last if last < end and _begins(file, last) else end
    return end


def _end_of_page(file: _File, at: int) -> int:
    file.seek(at)
    head = file.read(_PAGE_HEADER + 255)
    if len(head) < _PAGE_HEADER:  # cut
        return at + len(head)
    segments = head[_PAGE_HEADER : _PAGE_HEADER + head[_PAGE_HEADER - 1]]
    return at + _PAGE_HEADER + len(segments) + sum(segments)


_NAME_OF_CHUNK = re.compile(rb"[ -~]{4}")
_NAME_OF_BOX = re.compile(rb".{4}[ -~\xa9][ -~]{3}", re.DOTALL)
# The descriptor, the header, the table, the head of the WAV, the frames (64 bits), its tail.
_PARTS_OF_APE = ((8, 0), (12, 0), (16, 0), (20, 0), (24, 0), (28, 32), (32, 0))
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
        (rb"TTA1[\x01\x02]\0[^\0]\0[\x08\x10\x18\x20]\0", _end_of_tta),
        (rb"\.RMF\0\0\0[\x10\x12]", _unsaid),
        (rb"Creative Voice File\x1a", _end_of_voc),
        (rb"caff\0\x01\0\0desc\0{7}\x20", _end_of_caf),
        (rb"\.snd\0\0.{6}\0\0\0[\x01-\x1b]\0...\0\0\0[\x01-\x20]", _end_of_au),
        (rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0.{8}wave", _end_of_w64),
        (rb"DSD \x1c\0{7}|FRM8.{8}DSD ", _end_of_dsd),
        (rb"MAC [^\0][\x0e\x0f]", _end_of_ape),
        (rb"MP\+[\x07\x17]...\0", _unsaid),
        (rb"tBaK\x01.\0\0", _unsaid),
    )
}
# What recordings consist of whose headers do not say where they end: broadcasts, discs, FLV.
_SIGNS = [
    (re.compile(begin, re.DOTALL), re.compile(sign, re.DOTALL))
    for begin, sign in (
        (rb"(.{4})?G(.{187}|.{191}|.{203})G", rb"G.{187}G.{187}G|G.{191}G.{191}G|G.{203}G.{203}G"),
        (rb"\0\0\x01\xba", rb"\0\0\x01\xba[\x21-\x7f]"),
        (rb"FLV\x01", rb"\0[\0-\x0f]..[\x08\x09\x12][\0-\x0f].{6}\0{3}"),
    )
]
# What a recording may begin with besides: a disc, a broadcast, AMR, Shorten.
_OTHERS = re.compile(rb"\0\0\x01\xba[\x21-\x7f]|G.{187}G.{187}G|#!AMR|ajkg[\x01-\x03]", re.DOTALL)
_BEGINNINGS = re.compile(
    b"|".join([b"ID3[\2-\4]\0", SYNC.pattern, _OTHERS.pattern, *(one.pattern for one in KINDS)]),
    re.DOTALL,
)
