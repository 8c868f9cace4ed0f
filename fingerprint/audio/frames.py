"""Frames of audio without a container: MPEG audio, AAC in ADTS, AC-3 and DTS.

Each begins with a sync word and says how long it is, so several in a row are no coincidence.
"""

import re
from collections.abc import Callable

CHAIN = 3  # frames in a row
SYNC = re.compile(rb"\xff[\xe2-\xff]|\x0b\x77|\x7f\xfe\x80\x01", re.DOTALL)
_HEAD = 8  # bytes of a frame from which its length is known
_MPEG_RATES = (44_100, 48_000, 32_000)  # Hz of MPEG-1; half of them in MPEG-2, a quarter in 2.5
_MPEG_BIT_RATES = {  # kbit/s by (whether MPEG-1, layer)
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_AC3_BIT_RATES = (
    *(32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640),
)


def mpeg_rate(version: int, index: int) -> int:
    """The sample rate (Hz) by the two fields of an MPEG header."""
    return _MPEG_RATES[index] >> {3: 0, 2: 1, 0: 2}[version]


def mpeg_frame_bytes(head: bytes) -> int:
    """The size (bytes) of a frame of MPEG audio, layer II or III; 0 for anything else."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bit_rate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer not in (2, 3) or bit_rate in (0, 15) or rate == 3:
        return 0
    per_frame = 1152 if version == 3 or layer == 2 else 576
    bits = _MPEG_BIT_RATES[version == 3, layer][bit_rate] * 1000
    padding = head[2] >> 1 & 1
    return per_frame // 8 * bits // mpeg_rate(version, rate) + padding


def xing_at(frame: bytes) -> int | None:
    """Where the Xing or Info header lies in a frame of MPEG audio, layer III; None without one."""
    first, mono = frame[1] >> 3 & 3 == 3, frame[3] >> 6 == 3  # MPEG-1
    side = (17 if mono else 32) if first else (9 if mono else 17)  # bytes of side information
    place = 4 + side
    return place if frame[place : place + 4] in (b"Xing", b"Info") else None


def _adts_bytes(head: bytes) -> int:
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5


def _ac3_bytes(head: bytes) -> int:
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return 0
    if head[5] >> 3 > 10:  # E-AC-3
        return 2 * ((head[2] & 7) << 8 | head[3]) + 2
    rate, code = head[4] >> 6, head[4] & 63
    if rate == 3 or code >= 2 * len(_AC3_BIT_RATES):
        return 0
    kbits = _AC3_BIT_RATES[code // 2]
    return (4 * kbits, 2 * (kbits * 320 // 147 + code % 2), 6 * kbits)[rate]


def _dts_bytes(head: bytes) -> int:
    if len(head) < _HEAD or head[:4] != b"\x7f\xfe\x80\x01":
        return 0
    return ((head[5] & 3) << 12 | head[6] << 4 | head[7] >> 4) + 1


_KINDS: tuple[Callable[[bytes], int], ...] = (mpeg_frame_bytes, _adts_bytes, _ac3_bytes, _dts_bytes)


def chained_at(data: bytes, at: int = 0) -> int | None:
    """Which kind of frames lie one behind the other from `at` on; None if none do."""
    for kind, size_of in enumerate(_KINDS):
        place = at
        for _ in range(CHAIN):
            size = size_of(data[place : place + _HEAD])
            if size < _HEAD:
                break
            place += size
        else:
            return kind
    return None


def chained_in(data: bytes, kind: int) -> bool:
    """Whether frames of this kind lie anywhere in some bytes."""
    return any(chained_at(data, found.start()) == kind for found in SYNC.finditer(data))
