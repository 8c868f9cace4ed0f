"""The smallest scores and soundfont that renderers play, with every byte accounted for."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SOUND_RATE = 22_050  # Hz, of the soundfont's only sample


def write_midi(path: Path, pitches: Sequence[int], seconds: float, velocity: int = 100) -> Path:
    """A MIDI file of one track: notes of `seconds` (at most 100) one after the other."""
    ticks = round(seconds * 960)  # 480 a quarter note, of which two are a second
    events = b"".join(
        bytes([0, 0x90, pitch, velocity]) + _variable(ticks) + bytes([0x80, pitch, 0])
        for pitch in pitches
    )
    events += bytes([0, 0xFF, 0x2F, 0])
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480)
    path.write_bytes(header + b"MTrk" + struct.pack(">I", len(events)) + events)
    return path


def _variable(number: int) -> bytes:
    return bytes([0x80 | number >> 14 & 0x7F, 0x80 | number >> 7 & 0x7F, number & 0x7F])


def write_module(path: Path, periods: Sequence[int], wave: int = 32) -> Path:
    """A ProTracker module: a looped sine of `wave` samples; each note lasts for a pattern, 7.68 s.

    A note of Amiga period p sounds at 3,546,895 / (p `wave`) Hz; one of period 0 is silence.
    """
    sine = np.round(100 * np.sin(2 * np.pi * np.arange(wave) / wave)).astype(np.int8)
    instrument = b"sine".ljust(22, b"\0") + struct.pack(">HBBHH", wave // 2, 0, 64, 0, wave // 2)
    unused = b"\0" * 22 + struct.pack(">HBBHH", 0, 0, 0, 0, 1)
    orders = bytes(range(len(periods))).ljust(128, b"\0")
    patterns = b"".join(
        (struct.pack(">HH", period, 0x1000) if period else b"\0\0\x0c\0").ljust(1_024, b"\0")
        for period in periods
    )
    head = b"test".ljust(20, b"\0") + instrument + 30 * unused + bytes([len(periods), 127])
    path.write_bytes(head + orders + b"M.K." + patterns + sine.tobytes())
    return path


def write_soundfont(path: Path, harmonics: Sequence[float]) -> Path:
    """A soundfont (SF2.01) with one preset: a looped tone of given harmonics, on every key."""
    period = 50  # samples: 441 Hz, nearly MIDI note 69
    cycle = 2 * np.pi * np.arange(40 * period) / period
    tone = sum(a * np.sin(cycle * (k + 1)) for k, a in enumerate(harmonics))
    sample = np.round(12_000 * tone / np.abs(tone).max()).astype("<i2")
    end = len(sample)

    def chunk(name: bytes, body: bytes) -> bytes:
        return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)

    def named(name: bytes, layout: str, *numbers: int) -> bytes:
        return name.ljust(20, b"\0") + struct.pack(f"<{layout}", *numbers)

    header = named(b"tone", "IIIIIBbHH", 0, end, period, end - period, SOUND_RATE, 69, 0, 0, 1)
    described = chunk(b"ifil", struct.pack("<HH", 2, 1)) + chunk(b"INAM", b"test\0\0")
    tables = (
        (
            b"phdr",
            named(b"tone", "HHHIII", 0, 0, 0, 0, 0, 0) + named(b"", "HHHIII", 0, 0, 1, 0, 0, 0),
        ),
        (b"pbag", struct.pack("<4H", 0, 0, 1, 0)),
        (b"pmod", bytes(10)),
        (b"pgen", struct.pack("<4H", 41, 0, 0, 0)),  # generator 41: the instrument
        (b"inst", named(b"tone", "H", 0) + named(b"", "H", 1)),
        (b"ibag", struct.pack("<4H", 0, 0, 2, 0)),
        (b"imod", bytes(10)),
        (b"igen", struct.pack("<6H", 54, 1, 53, 0, 0, 0)),  # 54: looped; 53: the sample
        (b"shdr", header + named(b"", "IIIIIBbHH", 0, 0, 0, 0, 0, 0, 0, 0, 0)),
    )
    body = chunk(b"LIST", b"INFO" + described)
    body += chunk(b"LIST", b"sdta" + chunk(b"smpl", sample.tobytes() + bytes(92)))
    body += chunk(b"LIST", b"pdta" + b"".join(chunk(name, table) for name, table in tables))
    path.write_bytes(chunk(b"RIFF", b"sfbk" + body))
    return path
