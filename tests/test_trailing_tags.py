"""Tags behind the sound, written byte by byte: none of them is taken for damage, or for sound."""

import io
import struct

import numpy as np
import pytest

from fingerprint.audio.decode import load_clip
from fingerprint.audio.report import DecodeReport
from fingerprint.audio.tags import read_tags
from fingerprint.audio.trailing import ape_texts, without_tags

RATE = 16_000
COVER = np.random.default_rng(1).bytes(100_000)
ID3V1 = b"TAG" + bytes(125)
ENHANCED = b"TAG+" + bytes(223) + ID3V1
LYRICS = b"LYRICSBEGIN" + b"la" * 500
LYRICS = LYRICS + b"%06dLYRICS200" % len(LYRICS)
ID3V2 = b"ID3\4\0\x10" + (size := bytes([0, 6, 13, 32])) + COVER + b"3DI\4\0\x10" + size


def ape(items, *, header=True):
    """An APE tag of version 2."""
    body = b"".join(
        struct.pack("<II", len(value), flags) + name + b"\0" + value for name, value, flags in items
    )
    rest = struct.pack("<III", 2000, len(body) + 32, len(items))
    flags = 1 << 31 if header else 0
    first = b"APETAGEX" + rest + struct.pack("<I8x", flags | 1 << 29) if header else b""
    return first + body + b"APETAGEX" + rest + struct.pack("<I8x", flags)


ITEMS = [
    (b"Cover Art (Front)", b"a.jpg\0" + COVER, 2),
    (b"Title", b"Tide", 0),
    (b"Artist", b"Anna\0Bo", 0),
]
TAGS = {
    "ID3v1": ID3V1,
    "ID3v1 enhanced": ENHANCED,
    "Lyrics3": LYRICS + ID3V1,
    "APE": ape(ITEMS),
    "APE without a header": ape(ITEMS, header=False),
    "APE and ID3v1": ape(ITEMS) + ID3V1,
    "ID3v2": ID3V2,
}


@pytest.mark.parametrize("tag", TAGS.values(), ids=TAGS)
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg"])
def test_tags_behind_the_sound_are_neither_sound_nor_damage(
    suffix, tag, song, write_audio, tmp_path
):
    path = write_audio(tmp_path / f"song{suffix}", song(1, 3, RATE), RATE)
    bare = load_clip(path, RATE).samples
    path.write_bytes(path.read_bytes() + tag)
    report = DecodeReport()
    np.testing.assert_array_equal(load_clip(path, RATE, report=report).samples, bare)
    assert not report.damage


def test_texts_of_an_ape_tag_are_read(song, write_audio, tmp_path):
    path = write_audio(tmp_path / "song.mp3", song(1, 3, RATE), RATE)
    path.write_bytes(path.read_bytes() + TAGS["APE and ID3v1"])
    report = DecodeReport()
    load_clip(path, RATE, report=report)
    tags = read_tags(path, report.metadata)
    assert (tags.title, tags.artist) == ("Tide", "Anna, Bo")


@pytest.mark.parametrize(
    "tail",
    [
        b"APETAGEX" + struct.pack("<4I8x", 2000, 0xFFFF_FFF0, 9, 0),
        b"APETAGEX" + struct.pack("<4I8x", 2000, 0, 9, 0),
        b"APETAGEX" + struct.pack("<4I8x", 2000, 500, 9, 0),
        b"APETAGEX" + struct.pack("<4I8x", 2000, 500, 9, 1 << 31),
        b"000500LYRICS200",
        b"3DI\4\0\0\0\0\1\0",
        b"999999LYRICS200",
        b"3DI\4\0\0\x7f\x7f\x7f\x7f",
        b"TAG" + bytes(100),
    ],
)
def test_a_tag_with_a_wrong_size_hides_no_sound(tail):
    file = io.BytesIO(bytes(1_000) + tail)
    assert without_tags(file, 0, 1_000 + len(tail)) == 1_000 + len(tail)
    assert not ape_texts(file)
