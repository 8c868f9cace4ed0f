"""What decoding a recording has to say beside its samples: its announced length and its damage."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal, Self, get_args

from fingerprint.audio.joined import Part, id3_size

LENGTH_TOLERANCE = 0.5  # s, or a thousandth of the length, that a header may be wrong by
MOST = 8  # records of one recording; further ones say nothing new

Kind = Literal[
    "packets",  # packets that cannot be decoded
    "gap",  # a hole in the time line
    "cut",  # the end is missing
    "length",  # more sound than the header says, or bytes that were not read
    "samples",  # samples that are not numbers
    "decoder",  # the decoder's own words about damage that it has concealed
]


@dataclass(frozen=True, slots=True)
class Damage:
    """What was lost of a recording, or replaced; `message` follows the file's name and a colon."""

    kind: Kind
    message: str
    seconds: float = 0.0  # of sound, where it is known

    def as_record(self) -> dict[str, object]:
        """As part of a JSON object: documented, stable, plain types only."""
        return {"kind": self.kind, "message": self.message, "seconds": round(self.seconds, 3)}

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> Self:
        """What `as_record` gave.

        Raises:
            KeyError, ValueError: it is none.
        """
        if record["kind"] not in get_args(Kind):
            raise ValueError(f"{record['kind']!r} is no kind of damage")
        return cls(record["kind"], str(record["message"]), float(record["seconds"]))


@dataclass(slots=True)
class DecodeReport:
    """Filled while a recording is decoded, and complete when its last sample has come."""

    announced: float = 0.0  # s that the header promises; 0 where it promises nothing
    damage: list[Damage] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)  # the container's, as FFmpeg names it

    def add(self, kind: Kind, message: str, seconds: float = 0.0) -> None:
        """Note a damage, unless there are more than enough."""
        found = Damage(kind, message, seconds)
        if len(self.damage) < MOST and found not in self.damage:
            self.damage.append(found)

    def include(self, part: Self, which: str) -> None:
        """Take over the damage of a recording in the file; `which` says of which one."""
        for one in part.damage:
            self.add(one.kind, which + one.message, one.seconds)

    def is_short(self, seconds: float) -> bool:
        """Whether a recording lasts less than was announced."""
        return self._is_off(seconds) and seconds < self.announced

    def compare_length(self, seconds: float) -> bool:
        """Note that a recording lasts longer or shorter than announced, and say whether it does."""
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
    """Seconds by the header of a WAV or an MP3 (Xing, Info, VBRI); 0 where it says nothing.

    Decoders of these two believe the size of the file instead, or make an estimate.
    """
    file.seek(0)
    head = file.read(4096)
    try:
        if head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE":
            return _wav_seconds(head)
        if size := id3_size(file):
            file.seek(size)
            head = file.read(4096)
        return _mp3_seconds(head)
    except (IndexError, ZeroDivisionError, OverflowError):
        return 0.0


PCM = {1, 3, 6, 7, 0xFFFE}  # format tags of WAV whose frames have one size: samples, A-law, µ-law


def _wav_seconds(head: bytes) -> float:
    """By the bytes of PCM, by the samples in the `fact` chunk of compressed sound."""
    order: Literal["big", "little"] = "big" if head[:4] == b"RIFX" else "little"

    def number(begin: int, size: int) -> int:
        return int.from_bytes(head[begin : begin + size], order)

    at, rate, frame, samples = 12, 0, 0, 0  # Hz, bytes
    while at + 8 <= len(head):
        name, size = head[at : at + 4], number(at + 4, 4)
        if name == b"fmt ":
            rate = number(at + 12, 4)
            # Bytes a second are there too, but what FFmpeg writes for ADPCM is made up.
            frame = number(at + 20, 2) if number(at + 8, 2) in PCM else 0
        elif name == b"fact":
            samples = number(at + 8, 4)
        elif name == b"data":
            # A program that writes to a pipe cannot come back to put the true size here.
            unknown = size == 0 or 0x7FFF_F000 <= size <= 0x8000_0000 or size >= 0xFFFF_F000
            if frame:
                return 0.0 if unknown else size / (frame * rate)
            return samples / rate if 0 < samples < 0xFFFF_F000 else 0.0
        at += 8 + size + size % 2
    return 0.0


_MPEG_RATES = (44_100, 48_000, 32_000)  # Hz of version 1; the others halve them
_MPEG_BIT_RATES = {  # kbit/s by version 1 or not, and layer
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def mpeg_frame_bytes(packet: Any) -> int:
    """How long a frame of MPEG audio is by its header; 0 for anything else."""
    head = bytes(packet)[:4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bit_rate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer not in (2, 3) or bit_rate in (0, 15) or rate == 3:
        return 0
    per_frame = 1152 if version == 3 or layer == 2 else 576
    bits = _MPEG_BIT_RATES[version == 3, layer][bit_rate] * 1000
    return per_frame // 8 * bits // _mpeg_rate(version, rate)


def _mpeg_rate(version: int, index: int) -> int:
    return _MPEG_RATES[index] >> {3: 0, 2: 1, 0: 2}[version]


def _mp3_seconds(head: bytes) -> float:
    start = next(_mp3_headers(head), None)
    if start is None:
        return 0.0
    version, mono = head[start + 1] >> 3 & 3, head[start + 3] >> 6 == 3
    frame = (1152 if version == 3 else 576) / _mpeg_rate(version, head[start + 2] >> 2 & 3)
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    tag = start + 4 + side
    if head[tag : tag + 4] in (b"Xing", b"Info") and head[tag + 7] & 1:
        return int.from_bytes(head[tag + 8 : tag + 12], "big") * frame
    if head[start + 36 : start + 40] == b"VBRI":
        return int.from_bytes(head[start + 50 : start + 54], "big") * frame
    return 0.0


def _mp3_headers(head: bytes) -> Iterator[int]:
    """Where a frame header of layer III may be."""
    for at in range(len(head) - 4):
        first, second, third = head[at : at + 3]
        layer_iii = first == 0xFF and second & 0xE6 == 0xE2 and second >> 3 & 3 != 1
        if layer_iii and third >> 2 & 3 != 3 and third >> 4 not in (0, 15):
            yield at


def ogg_is_torn(file: BinaryIO | Part) -> bool:
    """Whether the last page of an Ogg file is not all there.

    That it is marked as the end of its stream cannot be expected: recorders of radio stop at any
    page, and some encoders do not mark it.
    """
    file.seek(0)
    if file.read(4) != b"OggS":
        return False
    size = file.seek(0, 2)
    longest = 27 + 255 + 255 * 255  # bytes of a page
    file.seek(max(0, size - longest))
    tail = file.read(longest)
    # That a page is whole tells nothing of the one before it, which may be torn and reach further.
    pages = [found.start() for found in re.finditer(rb"OggS\0[\0-\7]", tail)]
    return not pages or any(_end_of_page(tail, at) > len(tail) for at in pages)


def _end_of_page(data: bytes, at: int) -> int:
    segments = data[at + 26] if at + 26 < len(data) else 255
    return at + 27 + segments + sum(data[at + 27 : at + 27 + segments])
