"""Tags are written here byte by byte, after the formats' own descriptions."""

import os
import struct
import unicodedata

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from fingerprint.audio.tags import LONGEST, read_tags
from fingerprint.types import Tags

RECORDING = "f00d0000-1111-2222-3333-444455556666"
RELEASE = "beef0000-1111-2222-3333-444455556666"
FULL = Tags(
    title="Für Elise",
    artist="Ludwig, Clara",
    album="Bagatelles",
    isrc="USABC1234567",
    musicbrainz_recording=RECORDING,
    musicbrainz_release=RELEASE,
)
COMMENTS = [
    "TITLE=Für Elise",
    "ARTIST=Ludwig",
    "ARTIST=Clara",
    "ALBUM=Bagatelles",
    "ISRC=USABC1234567",
    f"MUSICBRAINZ_TRACKID={RECORDING}",
    f"MUSICBRAINZ_ALBUMID={RELEASE}",
]


def vorbis_comment(comments):
    fields = [text.encode() for text in ["a maker", *comments]]
    sized = [struct.pack("<I", len(field)) + field for field in fields]
    return sized[0] + struct.pack("<I", len(comments)) + b"".join(sized[1:])


def flac(path, comments):
    """A FLAC file with a comment block between its first block and its audio."""
    soundfile.write(path, np.zeros(4_000), 8_000, format="FLAC")
    data = path.read_bytes()
    body = vorbis_comment(comments)
    block = bytes([4]) + len(body).to_bytes(3, "big") + body
    end = 4 + 4 + 34  # magic, block header, STREAMINFO
    first = data[:4] + bytes([data[4] & 0x7F]) + data[5:end]
    path.write_bytes(first + block + data[end:])
    return path


def id3(path, frames):
    """An ID3v2.3 tag before an MP3 stream; text frames in UTF-16."""
    soundfile.write(path, np.zeros(8_000), 16_000, format="MP3")
    body = b"".join(
        name.encode() + struct.pack(">IH", len(content), 0) + content for name, content in frames
    )
    size = bytes((len(body) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x03\x00\x00" + size + body + path.read_bytes())
    return path


def utf16(*texts):
    return b"\x01" + b"\x00\x00".join(text.encode("utf-16") for text in texts)


def test_flac_comments_are_read(tmp_path):
    assert read_tags(flac(tmp_path / "a.flac", COMMENTS)) == FULL


def test_id3_frames_are_read(tmp_path):
    frames = [
        ("TIT2", utf16("Für Elise")),
        ("TPE1", utf16("Ludwig, Clara")),
        ("TALB", utf16("Bagatelles")),
        ("TSRC", utf16("USABC1234567")),
        ("UFID", b"http://example.org\x00" + RELEASE.encode()),
        ("UFID", b"http://musicbrainz.org\x00" + RECORDING.encode()),
        ("TXXX", utf16("MusicBrainz Album Id", RELEASE)),
    ]
    assert read_tags(id3(tmp_path / "a.mp3", frames)) == FULL


@pytest.mark.parametrize("suffix", [".ogg", ".flac", ".wav"])
def test_what_libsndfile_writes_is_read(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    with soundfile.SoundFile(path, "w", 8_000, 1) as file:
        file.title, file.artist, file.album = "Title", "Artist", "Album"
        file.write(np.zeros(4_000))
    assert read_tags(path) == Tags("Title", "Artist", "Album")


def test_mp4_atoms_are_read(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w") as container:
        container.metadata.update({"title": "Title", "artist": "Artist", "album": "Album"})
        stream = container.add_stream("aac", rate=8_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4_000), np.float32), "fltp", "mono")
        frame.sample_rate = 8_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    assert read_tags(path) == Tags("Title", "Artist", "Album")


def test_a_file_without_tags_has_empty_ones(song, write_audio, tmp_path):
    assert read_tags(write_audio(tmp_path / "a.mp3", song(1, 1, 16_000), 16_000)) == Tags()


def test_control_characters_are_removed_and_spaces_joined(tmp_path):
    path = flac(tmp_path / "a.flac", ["TITLE= a\x1b[31mb\r\nc\u202ed \t e\x07 ", "ARTIST=\x00"])
    assert read_tags(path) == Tags(title="a [31mb c d e")


def test_an_endless_tag_is_cut(tmp_path):
    path = flac(tmp_path / "a.flac", ["TITLE=" + "x" * 1_000_000])
    assert read_tags(path).title == "x" * LONGEST


def test_invalid_musicbrainz_ids_are_dropped(tmp_path):
    path = flac(tmp_path / "a.flac", ["MUSICBRAINZ_TRACKID=../../etc", "MUSICBRAINZ_ALBUMID="])
    assert read_tags(path) == Tags()


@pytest.mark.parametrize("name", ["missing.mp3", "folder", "text.mp3", "empty.flac", "a\0b.mp3"])
def test_files_that_are_not_recordings_have_no_tags(name, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.mp3").write_text("words")
    (tmp_path / "empty.flac").touch()
    assert read_tags(tmp_path / name) == Tags()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(10)
def test_a_pipe_has_no_tags_and_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp3")
    assert read_tags(tmp_path / "pipe.mp3") == Tags()


@given(st.text(max_size=600))
def test_any_text_comes_out_as_one_clean_line(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("tags") / "a.flac"
    title = read_tags(flac(path, ["TITLE=" + text.encode(errors="replace").decode()])).title
    assert len(title) <= LONGEST
    assert title == title.strip()
    assert len(title.splitlines()) <= 1
    assert not any(unicodedata.category(character) in {"Cc", "Cs"} for character in title)


@given(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=20))
@pytest.mark.parametrize("kind", ["flac", "mp3"])
def test_damaged_tags_never_raise(kind, tmp_path_factory, changes):
    path = tmp_path_factory.mktemp("tags") / f"a.{kind}"
    if kind == "flac":
        flac(path, COMMENTS)
    else:
        id3(path, [("TIT2", utf16("Title")), ("UFID", b"x\x00y"), ("TXXX", utf16("a", "b"))])
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    path.write_bytes(data)
    assert isinstance(read_tags(path), Tags)
