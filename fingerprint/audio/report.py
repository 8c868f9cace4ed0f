"""The report of decoding a recording: its damage, the length in its header, its metadata.

Also the parsers of the headers (WAV, MP3, Ogg) from which that length is known.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal, Self, get_args

from fingerprint.audio.frames import mpeg_rate, xing_at
from fingerprint.audio.joined import Part, id3_size, musepack_number, voc_blocks

LENGTH_TOLERANCE = 0.5  # s by which a header may be wrong, or a thousandth of the length if more
MOST = 8  # records kept of one recording

Kind = Literal[
    "packets",  # packets that cannot be decoded
    "gap",  # missing time between time stamps
    "cut",  # the end is missing
    "length",  # more audio than the header says, or bytes that were not read
    "samples",  # samples that are not finite numbers
    "decoder",  # a message of the decoder about damage that it has concealed
]


@dataclass(frozen=True, slots=True)
class Damage:
    """Audio that was lost or replaced; `message` follows the file's name and a colon."""

    kind: Kind
    message: str
    seconds: float = 0.0  # of audio lost, if known

    def as_record(self) -> dict[str, object]:
        """For JSON output; documented, so its fields are stable."""
        return {"kind": self.kind, "message": self.message, "seconds": round(self.seconds, 3)}

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> Self:
        """The inverse of `as_record`.

        Raises:
            KeyError, ValueError: the record is malformed.
        """
        if record["kind"] not in get_args(Kind):
            raise ValueError(f"{record['kind']!r} is not a kind of damage")
        return cls(record["kind"], str(record["message"]), float(record["seconds"]))


@dataclass(slots=True)
class DecodeReport:
    """Filled while a recording is decoded; complete after its last sample."""

    announced: float = 0.0  # length (s) by the header; 0 if it gives none
    damage: list[Damage] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)  # of the container, with FFmpeg's keys

    def add(self, kind: Kind, message: str, seconds: float = 0.0) -> None:
        """Add a damage, unless it was added before or there are `MOST` already."""
        found = Damage(kind, message, seconds)
        if len(self.damage) < MOST and found not in self.damage:
            self.damage.append(found)

    def include(self, part: Self, which: str) -> None:
        """Add the damage of one of several joined recordings; `which` precedes its messages."""
        for one in part.damage:
            self.add(one.kind, which + one.message, one.seconds)

    def is_short(self, seconds: float) -> bool:
        """Whether a length is less than the header's, beyond the tolerance."""
        return self._is_off(seconds) and seconds < self.announced

    def compare_length(self, seconds: float) -> bool:
        """Compare the decoded length with the header's; whether they differ, which is reported."""
        if not self._is_off(seconds):
            return False
        header = f"its header says {clock(self.announced)}"
        if seconds > self.announced:
            self.add("length", f"it lasts {clock(seconds)}, {header}")
        else:
            self.add("cut", f"it ends after {clock(seconds)}, {header}", self.announced - seconds)
        return True

    def _is_off(self, seconds: float) -> bool:
        tolerance = max(LENGTH_TOLERANCE, self.announced / 1000)
        return bool(self.announced) and abs(seconds - self.announced) > tolerance


def clock(seconds: float) -> str:
    """Minutes and seconds, `m:ss.s`."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def announced_by_header(file: BinaryIO | Part) -> float:
    """The length (s) by the header of a WAV, WMA, Musepack or MP3 (Xing, VBRI); 0 without one.

    Decoders of these formats use the file's size, an estimate, or round to 1.7 s.
    """
    file.seek(0)
    head = file.read(4096)
    try:
        if head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE":
            return _wav_seconds(head)
        if size := id3_size(file):
            file.seek(size)
            head = file.read(4096)
        if head[:6] == b"MPCKSH":
            return _musepack_seconds(head)
        if head[:4] == b"0&\xb2u":
            return _asf_seconds(head)
        return _mp3_seconds(head)
    except (IndexError, ZeroDivisionError, OverflowError):
        return 0.0


PCM = {1, 3, 6, 7, 0xFFFE}  # WAV format tags with frames of fixed size: PCM, float, A-law, µ-law


def _wav_seconds(head: bytes) -> float:
    """From the size of the data chunk for PCM, from the `fact` chunk for compressed audio."""
    order: Literal["big", "little"] = "big" if head[:4] == b"RIFX" else "little"

    def number(begin: int, size: int) -> int:
        return int.from_bytes(head[begin : begin + size], order)

    at, rate, frame, samples = 12, 0, 0, 0  # Hz, bytes
    while at + 8 <= len(head):
        name, size = head[at : at + 4], number(at + 4, 4)
        if name == b"fmt ":
            rate = number(at + 12, 4)
            # The header's byte rate is not used: FFmpeg writes a wrong one for ADPCM.
            frame = number(at + 20, 2) if number(at + 8, 2) in PCM else 0
        elif name == b"fact":
            samples = number(at + 8, 4)
        elif name == b"data":
            # A program that writes to a pipe cannot seek back to fill in the size.
            unknown = size == 0 or 0x7FFF_F000 <= size <= 0x8000_0000 or size >= 0xFFFF_F000
            if frame:
                return 0.0 if unknown else size / (frame * rate)
            return samples / rate if 0 < samples < 0xFFFF_F000 else 0.0
        at += 8 + size + size % 2
    return 0.0


def _asf_seconds(head: bytes) -> float:
    """From the properties of a WMA, without the time (ms) for which a player waits first."""
    at = head.find(_ASF_PROPERTIES)
    if at < 0 or head[at + 88] & 1:  # a broadcast
        return 0.0
    length, waiting = (int.from_bytes(head[at + i : at + i + 8], "little") for i in (64, 80))
    return max(0.0, length / 1e7 - waiting / 1e3)


_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def _musepack_seconds(head: bytes) -> float:
    """From the header of a stream (SH) of version 8, whose numbers have seven bits a byte."""
    numbers, at = [], 6
    for skipped in (5, 0, 0):  # bytes behind the packet's length: a checksum, the version
        number, width = musepack_number(head[at:])
        numbers.append(number)
        at += width + skipped
    _, samples, silence = numbers
    return max(0, samples - silence) / _MUSEPACK_RATES[head[at] >> 5]


_MUSEPACK_RATES = (44_100, 48_000, 37_800, 32_000)  # Hz


def _mp3_seconds(head: bytes) -> float:
    """From the frame count in a Xing, Info or VBRI header in the first frame."""
    start = next(_mp3_headers(head), None)
    if start is None:
        return 0.0
    version = head[start + 1] >> 3 & 3
    frame = (1152 if version == 3 else 576) / mpeg_rate(version, head[start + 2] >> 2 & 3)
    xing = xing_at(head[start:])
    if xing and head[start + xing + 7] & 1:
        return int.from_bytes(head[start + xing + 8 : start + xing + 12], "big") * frame
    if head[start + 36 : start + 40] == b"VBRI":
        return int.from_bytes(head[start + 50 : start + 54], "big") * frame
    return 0.0


def _mp3_headers(head: bytes) -> Iterator[int]:
    """Positions at which a frame header of layer III may begin."""
    for at in range(len(head) - 4):
        first, second, third = head[at : at + 3]
        layer_iii = first == 0xFF and second & 0xE6 == 0xE2 and second >> 3 & 3 != 1
        if layer_iii and third >> 2 & 3 != 3 and third >> 4 not in (0, 15):
            yield at


def torn_unit(file: BinaryIO | Part) -> str | None:
    """What an Ogg or VOC file breaks off within; None if it ends behind a page or block.

    An end-of-stream flag or a terminator is not required: stream recorders stop at any page, and
    some encoders never write them.
    """
    file.seek(0)
    head = file.read(22)
    if head[:4] == b"OggS":
        return "an Ogg page" if _ogg_is_torn(file) else None
    if head.startswith(b"Creative Voice File\x1a"):
        return "a block of its VOC" if _voc_is_torn(file) else None
    return None


_LAST_BLOCK_OF_VOC = 9  # type of a block


def _voc_is_torn(file: BinaryIO | Part) -> bool:
    """Whether the last block is incomplete."""
    size = file.seek(0, 2)
    for kind, end in voc_blocks(file):
        if kind == 0 or kind > _LAST_BLOCK_OF_VOC:  # SoX writes a wrong length
            return False
        if end > size:
            return True
    return False


def _ogg_is_torn(file: BinaryIO | Part) -> bool:
    size = file.seek(0, 2)
    longest = 27 + 255 + 255 * 255  # bytes of the largest page: header, lacing values, segments
    file.seek(max(0, size - longest))
    tail = file.read(longest)
    # A complete page may lie within a torn one before it, so all pages are checked.
    pages = [found.start() for found in re.finditer(rb"OggS\0[\0-\7]", tail)]
    return not pages or any(_end_of_page(tail, at) > len(tail) for at in pages)


def _end_of_page(data: bytes, at: int) -> int:
    segments = data[at + 26] if at + 26 < len(data) else 255
    return at + 27 + segments + sum(data[at + 27 : at + 27 + segments])
