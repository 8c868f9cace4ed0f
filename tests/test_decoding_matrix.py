"""Formats x damages: nothing is lost without a word, and ffmpeg plays no more than we do.

The suite takes a few formats; all of them, cut, spoilt and torn at every tenth, with

    FINGERPRINT_MATRIX=whole python -m pytest tests/test_decoding_matrix.py
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fingerprint.audio.decode import load_clip
from fingerprint.audio.report import DecodeReport
from fingerprint.errors import AudioError

pytest.importorskip("av")
if not shutil.which("ffmpeg"):
    pytest.skip("the ffmpeg program is not installed", allow_module_level=True)

RATE = 8_000
SECONDS = 8.0
# What FFmpeg is told to write, by what the file is called.
FORMATS = {
    "s16.wav": "-c:a pcm_s16le",
    "s24.wav": "-c:a pcm_s24le",
    "float.wav": "-c:a pcm_f32le",
    "x.aiff": "",
    "x.au": "",
    "x.w64": "",
    "x.caf": "",
    "x.flac": "",
    "x.ogg": "-c:a libvorbis",
    "low.ogg": "-c:a libvorbis -ar 22050 -ac 1",
    "x.opus": "-c:a libopus",
    "flac.oga": "-c:a flac",
    "x.spx": "-c:a libspeex -ar 32000",
    "x.mp3": "-c:a libmp3lame -b:a 128k",
    "vbr.mp3": "-c:a libmp3lame -q:a 4",
    "nothing.mp3": "-c:a libmp3lame -q:a 4 -write_xing 0 -id3v2_version 0",
    "x.mp2": "",
    "x.aac": "-c:a aac",
    "x.m4a": "-c:a aac",
    "fast.m4a": "-c:a aac -movflags +faststart",
    "alac.m4a": "-c:a alac",
    "fragments.m4a": "-c:a aac -movflags frag_keyframe+empty_moov -frag_duration 1000000",
    "adpcm.wav": "-c:a adpcm_ima_wav",
    "flac.mka": "-c:a flac",
    "ac3.mkv": "-c:a ac3",
    "x.webm": "-c:a libopus",
    "x.wma": "-c:a wmav2",
    "x.wv": "",
    "x.tta": "",
    "x.ac3": "",
    "x.eac3": "",
    "x.dts": "-c:a dca -strict -2 -ar 48000",
    "x.ts": "-c:a mp2",
    "x.m2ts": "-c:a ac3",
    "x.vob": "-c:a mp2 -f vob",
    "x.avi": "-c:a libmp3lame",
    "x.flv": "-c:a aac",
    "x.mov": "-c:a aac",
    "x.voc": "",
    "x.mka": "-c:a libvorbis",
    "x.rm": "-c:a ac3",
}
WHOLE = bool(os.environ.get("FINGERPRINT_MATRIX"))
NAMES = (
    list(FORMATS)
    if WHOLE
    else [
        "s16.wav",
        "adpcm.wav",
        "x.flac",
        "x.ogg",
        "x.opus",
        "nothing.mp3",
        "vbr.mp3",
        "x.aac",
        "fast.m4a",
        "x.caf",
        "x.voc",
        "x.wv",
    ]
)
TENTHS = range(1, 10) if WHOLE else [5]
# Of these nothing says how long they are, and a cut between two packets leaves no trace.
UNCOUNTED = {"nothing.mp3", "x.mp2", "x.aac", "x.ac3", "x.eac3", "x.dts", "x.ts", "x.m2ts", "x.vob"}

Damage = Callable[[bytes, int], bytes]


def cut(data: bytes, tenth: int) -> bytes:
    return data[: len(data) * tenth // 10]


def spoilt(data: bytes, tenth: int) -> bytes:
    at = len(data) * tenth // 10
    noise = np.random.default_rng(tenth).bytes(2_000)
    return data[:at] + noise + data[at + len(noise) :]


def torn(data: bytes, tenth: int) -> bytes:
    at = len(data) * tenth // 10
    return data[:at] + data[at + 2_000 :]


def zeroed(data: bytes, tenth: int) -> bytes:
    at = len(data) * tenth // 10
    return data[:at] + bytes(200) + data[at + 200 :]


def with_junk(data: bytes, tenth: int) -> bytes:
    return np.random.default_rng(tenth).bytes(700) + data


def with_a_large_tag(data: bytes, tenth: int) -> bytes:
    return b"ID3\x03\0\0" + bytes([0, 10, 0, 0]) + bytes(10 << 14) + data


def with_a_tag_behind(data: bytes, tenth: int) -> bytes:
    return data + b"TAG" + b"x" * 125


# What is lost behind the damage, too. A table of contents says where each packet is: that of an MP4
# comes last if it is not put first, and that of a TTA has the only trace of where a frame begins.
# RealMedia has packets of which each leads to the next, and FFmpeg does not look for another one.
# The ffmpeg program plays no more of them, and what it says is said here.
INDEXED: dict[str, tuple[Damage, ...]] = {
    "x.m4a": (cut, torn),
    "alac.m4a": (cut, torn),
    "x.mov": (cut, torn),
    "fast.m4a": (torn,),
    "fragments.m4a": (torn, spoilt),
    "x.tta": (torn,),
    "x.rm": (torn, spoilt, zeroed),
}
PAGES = {"low.ogg": 1.0}  # s in an Ogg page, of which a cut leaves nothing


@pytest.fixture(scope="module")
def encode(song, tmp_path_factory):
    """`encode(name)`: one song of 8 s in stereo at 44.1 kHz."""
    folder = tmp_path_factory.mktemp("matrix")
    samples = np.stack([song(1, SECONDS, 44_100), song(2, SECONDS, 44_100)], axis=1)
    soundfile.write(folder / "truth.wav", samples, 44_100)

    def encoded(name: str) -> bytes:
        path = folder / name
        if not path.exists():
            command = ["ffmpeg", "-nostdin", "-v", "error", "-i", folder / "truth.wav"]
            subprocess.run([*command, *FORMATS[name].split(), path], check=True)
        return path.read_bytes()

    return encoded


def converted(encode, path: Path, *options: str) -> None:
    """The song in another form, as the ffmpeg program writes it."""
    wav = path.with_name("x.wav")
    wav.write_bytes(encode("s16.wav"))
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", wav, *options, path], check=True)


def oracle(path: Path) -> np.ndarray:
    """What the ffmpeg program makes of a file."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", path, "-map", "0:a:0"]
    command += ["-ac", "1", "-ar", str(RATE), "-f", "f32le", "-"]
    found = subprocess.run(command, capture_output=True, check=False).stdout
    return np.frombuffer(found[: len(found) // 4 * 4], "<f4")


def decoded(path: Path) -> tuple[np.ndarray, list[str]]:
    """Samples, and what is said of the damage or the refusal."""
    report = DecodeReport()
    try:
        samples = load_clip(path, RATE, report=report).samples
    except AudioError as error:
        return np.zeros(0, np.float32), [str(error)]
    return samples, [one.message for one in report.damage]


def check_whole(name: str, encode, folder: Path) -> None:
    path = folder / name
    path.write_bytes(encode(name))
    samples, said = decoded(path)
    truth = oracle(path)
    assert said == []
    assert len(samples) == pytest.approx(SECONDS * RATE, abs=0.1 * RATE)
    assert len(samples) == pytest.approx(len(truth), abs=0.02 * RATE)
    size = min(len(samples), len(truth))
    assert np.corrcoef(samples[:size], truth[:size])[0, 1] > 0.99


def check_damage(name: str, damage: Damage, tenth: int, encode, folder: Path) -> None:
    path = folder / name
    data = damage(encode(name), tenth)
    path.write_bytes(data)
    samples, said = decoded(path)
    assert len(samples) > len(oracle(path)) - 0.15 * RATE
    lost = SECONDS - len(samples) / RATE
    if lost > 0.6 and not said:
        assert name in UNCOUNTED, f"{lost:.2f} s are missing"
        assert damage is cut, f"{lost:.2f} s are missing"
        assert cut_within_a_packet(path, data), "a cut is never noticed"
    if damage in (with_junk, with_a_large_tag):
        assert lost < 0.1
    if damage not in INDEXED.get(name, ()):
        least = tenth / 10 * SECONDS - 1.3 - PAGES.get(name, 0.0)
        assert len(samples) / RATE > (least if damage is cut else 5)


def cut_within_a_packet(path: Path, data: bytes) -> bool:
    """Whether it is noticed when a little more is cut off: packets are longer than that."""
    for fewer in (100, 350, 700):
        path.write_bytes(data[:-fewer])
        if decoded(path)[1]:
            return True
    return False


DAMAGES = [cut, spoilt, torn, zeroed]
ADDITIONS = [with_junk, with_a_large_tag, with_a_tag_behind]


@pytest.mark.parametrize("name", NAMES)
def test_intact_file_is_decoded_whole_without_warnings(name, encode, tmp_path):
    check_whole(name, encode, tmp_path)


@pytest.mark.parametrize("tenth", TENTHS)
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", NAMES)
def test_every_loss_of_sound_is_reported(name, damage, tenth, encode, tmp_path):
    """faster-whisper#988, rodio#401, PyAV#2303: damaged packets; libsndfile#1001: no Xing."""
    check_damage(name, damage, tenth, encode, tmp_path)


@pytest.mark.parametrize("addition", ADDITIONS)
@pytest.mark.parametrize("name", NAMES)
def test_junk_and_tags_are_not_decoded_as_sound(name, addition, encode, tmp_path):
    check_damage(name, addition, 5, encode, tmp_path)


# Constructed truth


XING = {"x.mp3", "vbr.mp3"}  # the first part's header says how long that one is


@pytest.mark.parametrize("name", FORMATS)
def test_joined_recordings_are_all_decoded(name, encode, tmp_path):
    """MPD#1200, getID3#272, NAudio#292, mixxx#568; in Ogg libsndfile#277, liquidsoap#3062."""
    path = tmp_path / name
    path.write_bytes(encode(name) * 3)
    samples, said = decoded(path)
    assert said == [] or name in XING
    assert len(samples) == pytest.approx(3 * SECONDS * RATE, abs=0.2 * RATE)
    third = len(samples) // 3
    first, last = samples[RATE : 5 * RATE], samples[2 * third + RATE :]
    found = np.correlate(last[: 5 * RATE], first[:RATE], "valid")
    assert abs(int(np.argmax(found))) < 0.1 * RATE


# What holds its rate and its channels in a header, of which the next recording has its own.
HEADED = ["s16.wav", "adpcm.wav", "x.aiff", "x.au", "x.w64", "x.caf", "x.flac", "fast.m4a", "x.mov"]
HEADED += ["flac.mka", "x.mka", "x.wma", "x.wv", "x.tta", "x.flv", "x.voc"]


@pytest.mark.parametrize("name", HEADED)
def test_joined_recordings_may_differ_in_length_rate_and_channels(name, encode, tmp_path):
    """The second was missing, or was played by the header of the first."""
    other, path = tmp_path / f"other-{name}", tmp_path / name
    path.write_bytes(encode(name))
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", path, "-t", "5", "-ar", "22050"]
    subprocess.run([*command, "-ac", "1", *FORMATS[name].split(), other], check=True)
    first, second = decoded(other)[0], decoded(path)[0]
    path.write_bytes(other.read_bytes() + encode(name) + other.read_bytes())
    samples, said = decoded(path)
    assert said == []
    expected = np.concatenate([first, second, first])
    assert len(samples) == pytest.approx(len(expected), abs=0.01 * RATE)
    size = min(len(samples), len(expected))
    assert np.corrcoef(samples[:size], expected[:size])[0, 1] > 0.99


KINDS = ["s16.wav", "x.flac", "x.mp3", "x.ogg", "x.aac", "x.m4a", "x.ac3", "x.wv", "x.tta", "x.vob"]
PAIRS = [
    (first, second)
    for first in (*KINDS, "x.aiff", "x.caf", "x.wma", "x.flv", "x.mka", "x.ts")
    for second in KINDS
    if first != second
]


@pytest.mark.parametrize(("first", "second"), PAIRS if WHOLE else PAIRS[::7])
def test_joined_recordings_may_be_of_different_kinds(first, second, encode, tmp_path):
    """Only the first was decoded; of a third of the pairs, nothing was said."""
    path = tmp_path / first
    path.write_bytes(encode(first) + encode(second))
    samples, _ = decoded(path)
    assert len(samples) == pytest.approx(2 * SECONDS * RATE, abs=0.2 * RATE)
    begin, end = round((SECONDS + 0.8) * RATE), round((SECONDS + 4.2) * RATE)
    piece = samples[RATE : 4 * RATE]
    assert np.correlate(samples[begin:end], piece, "valid").max() > 0.9 * np.dot(piece, piece)


@pytest.mark.parametrize("name", ["x.mp3", "nothing.mp3"])
def test_tags_with_pictures_between_joined_mp3s_are_not_decoded_as_sound(name, encode, tmp_path):
    """What is random in them was decoded, and hundreds of damaged packets were reported."""
    path = tmp_path / name
    picture = np.random.default_rng(1).bytes(1 << 20)
    tag = b"ID3\x03\0\0\0\x40\0\0" + picture
    path.write_bytes(encode(name) + b"TAG" + bytes(125) + tag + encode(name))
    samples, said = decoded(path)
    assert said == []
    assert len(samples) == pytest.approx(2 * SECONDS * RATE, abs=0.1 * RATE)


def test_free_format_mp3_is_decoded_by_the_fallback_decoder(encode, tmp_path):
    """FFmpeg decodes none of it; what it said of the damage remained."""
    if not (lame := shutil.which("lame")):
        pytest.skip("lame is not installed")
    (tmp_path / "x.wav").write_bytes(encode("s16.wav"))
    path = tmp_path / "x.mp3"
    command = [lame, "--quiet", "--freeformat", "-b", "400", tmp_path / "x.wav", path]
    subprocess.run(command, check=True)
    samples, said = decoded(path)
    assert said == []
    assert len(samples) == pytest.approx(SECONDS * RATE, abs=0.1 * RATE)


def test_a_broadcast_at_a_low_bit_rate_is_not_damaged(encode, tmp_path):
    """Half of it is packaging."""
    path = tmp_path / "x.ts"
    converted(encode, path, "-c:a", "libopus", "-b:a", "16k")
    samples, said = decoded(path)
    assert said == []
    assert len(samples) == pytest.approx(SECONDS * RATE, abs=0.1 * RATE)


def test_fragments_from_the_middle_of_a_broadcast_are_not_cut(encode, tmp_path):
    path = tmp_path / "x.m4a"
    flags = "frag_keyframe+empty_moov+default_base_moof"
    converted(encode, path, "-frag_duration", "1000000", "-movflags", flags)
    data = path.read_bytes()
    begins = [found.start() - 4 for found in re.finditer(b"moof", data)]
    path.write_bytes(data[: begins[0]] + data[begins[3] :])
    samples, said = decoded(path)
    assert said == []
    assert len(samples) == pytest.approx((SECONDS - 3) * RATE, abs=0.2 * RATE)


def test_wav_header_inside_a_tak_file_is_not_decoded(tmp_path):
    """TAK and Shorten keep the header of the file they were made of: noise was heard."""
    path = tmp_path / "x.tak"
    soundfile.write(tmp_path / "x.wav", np.zeros(40_000), RATE)
    path.write_bytes(b"tBaK\1\x0d\0\0" + bytes(72) + (tmp_path / "x.wav").read_bytes())
    assert not len(decoded(path)[0])


@pytest.mark.parametrize("tenth", TENTHS)
def test_truncated_musepack_is_decoded_up_to_the_cut(tenth, encode, tmp_path):
    """The table at its end is missing: it was refused."""
    if not (mpcenc := shutil.which("mpcenc")):
        pytest.skip("mpcenc is not installed")
    (tmp_path / "x.wav").write_bytes(encode("s16.wav"))
    path = tmp_path / "x.mpc"
    subprocess.run([mpcenc, "--silent", tmp_path / "x.wav", path], check=True)
    path.write_bytes(cut(path.read_bytes(), tenth))
    samples, said = decoded(path)
    assert len(samples) == pytest.approx(SECONDS * RATE * tenth / 10, abs=0.6 * RATE)
    assert any("ends after" in one for one in said)


@pytest.mark.parametrize("name", ["s16.wav", "x.flac", "x.ogg", "x.aiff", "x.au", "x.caf", "x.wv"])
def test_joined_recordings_are_all_decoded_without_pyav(name, encode, tmp_path, monkeypatch):
    monkeypatch.setattr("fingerprint.audio.ffmpeg.pyav_installed", lambda: False)
    path = tmp_path / name
    path.write_bytes(encode(name) * 3)
    samples, said = decoded(path)
    assert said == []
    assert len(samples) == pytest.approx(3 * SECONDS * RATE, abs=0.1 * RATE)


def test_damage_names_the_joined_recording_that_it_is_in(encode, tmp_path):
    path = tmp_path / "x.flac"
    whole = encode("x.flac")
    path.write_bytes(whole + whole[:100] + spoilt(whole, 5) + whole)
    samples, said = decoded(path)
    assert len(samples) == pytest.approx(3 * SECONDS * RATE, abs=0.6 * RATE)
    assert any(one.startswith("recording 2 of 4: it cannot be decoded") for one in said)
    assert any(one.startswith("recording 3 of 4: ") for one in said)
    assert not any(one.startswith(("recording 1", "recording 4")) for one in said)


def unfinished(data: bytes) -> bytes:
    """Its header does not say how long it is, as of a program that writes to a pipe."""
    if data.startswith(b"RIFF"):
        return piped(data)
    if data.startswith(b".snd"):
        return data[:8] + b"\xff" * 4 + data[12:]
    at = data.index(b"\x18S\x80g") + 4  # the segment of a Matroska
    return data[:at] + b"\x01" + b"\xff" * 7 + data[at + 8 :]


@pytest.mark.parametrize("name", ["s16.wav", "x.au", "x.webm"])
def test_joined_recordings_without_a_length_are_all_decoded(name, encode, tmp_path):
    path = tmp_path / name
    path.write_bytes(unfinished(encode(name)) * 3)
    samples, _ = decoded(path)
    assert len(samples) == pytest.approx(3 * SECONDS * RATE, abs=0.01 * RATE)


def test_a_change_of_rate_and_channels_on_the_way_keeps_the_time_line(encode, tmp_path):
    parts = []
    for rate, channels in ((44_100, 2), (22_050, 1), (44_100, 1)):
        part = tmp_path / f"{rate}{channels}.mp3"
        (tmp_path / "x.flac").write_bytes(encode("x.flac"))
        command = ["ffmpeg", "-nostdin", "-v", "error", "-i", tmp_path / "x.flac"]
        command += ["-ar", str(rate), "-ac", str(channels), "-write_xing", "0"]
        subprocess.run([*command, "-id3v2_version", "0", part], check=True)
        parts.append(part.read_bytes())
    path = tmp_path / "joined.mp3"
    path.write_bytes(b"".join(parts))
    samples, _ = decoded(path)
    assert len(samples) == pytest.approx(3 * SECONDS * RATE, abs=0.2 * RATE)
    for begin in (0, SECONDS, 2 * SECONDS):
        piece = samples[round(begin * RATE) : round((begin + SECONDS - 0.2) * RATE)]
        assert np.sqrt(np.mean(piece**2)) > 0.01


CHAINS = [
    ("x.ogg", "x.opus"),
    ("x.opus", "x.ogg"),
    ("flac.oga", "x.ogg"),
    ("x.ogg", "low.ogg"),
    ("low.ogg", "x.ogg"),
    ("x.spx", "x.opus"),
]


@pytest.mark.parametrize(("first", "second"), CHAINS)
def test_links_of_a_chain_may_differ_in_codec_rate_and_channels(first, second, encode, tmp_path):
    """The second was missing; in small files nothing was said."""
    path = tmp_path / "chain.ogg"
    path.write_bytes(encode(first) + encode(second) + encode(first))
    samples, said = decoded(path)
    assert said == []
    assert len(samples) == pytest.approx(3 * SECONDS * RATE, abs=0.1 * RATE)
    ours, truth = samples[: round(SECONDS * RATE)], samples[-round(SECONDS * RATE) :]
    assert np.corrcoef(ours, truth)[0, 1] > 0.99


# Healthy files of which it was said that they are damaged.


def piped(data: bytes) -> bytes:
    """A WAV as a program writes it that cannot come back to its header."""
    at = data.index(b"data") + 4
    return data[:4] + b"\xff" * 4 + data[8:at] + b"\xff" * 4 + data[at + 4 :]


def with_half_a_sample(data: bytes) -> bytes:
    at = data.index(b"data") + 4
    size = int.from_bytes(data[at : at + 4], "little") + 1
    return data[:at] + size.to_bytes(4, "little") + data[at + 4 :] + b"\0"


def with_zeros_behind(data: bytes) -> bytes:
    return data + bytes(3_000_000)


def with_a_large_picture(data: bytes) -> bytes:
    """In a chunk of a WAV, which is longer than the sound."""
    picture = b"id3 " + (4_000_000).to_bytes(4, "little") + bytes(4_000_000)
    return data[:4] + (len(data + picture) - 8).to_bytes(4, "little") + data[8:] + picture


def without_a_length(data: bytes) -> bytes:
    """An AU by a program that could not go back to its header."""
    return data[:8] + bytes(4) + data[12:]


def with_much_padding(data: bytes) -> bytes:
    return data[:42] + b"\x01\x7f\0\0" + bytes(0x7F_0000) + data[42:]


def with_an_id3_of_10_mb(data: bytes) -> bytes:
    return b"ID3\x03\0\0\x04\0\0\0" + bytes(4 << 21) + data


def with_a_tag_of_id3v24_behind(data: bytes) -> bytes:
    tag = b"\x04\0\x10\0\0\x02\0"
    return data + b"ID3" + tag + bytes(256) + b"3DI" + tag


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("s16.wav", piped),
        ("float.wav", piped),
        ("s24.wav", piped),
        ("s16.wav", with_half_a_sample),
        ("nothing.mp3", with_a_tag_of_id3v24_behind),
        ("s16.wav", with_zeros_behind),
        ("s16.wav", with_a_large_picture),
        ("x.au", without_a_length),
        ("x.flac", with_much_padding),
        ("s16.wav", with_an_id3_of_10_mb),
        ("fast.m4a", with_an_id3_of_10_mb),
        ("x.ogg", with_an_id3_of_10_mb),
        ("x.flac", with_an_id3_of_10_mb),
        ("x.mp3", with_an_id3_of_10_mb),
    ],
)
def test_unusual_but_intact_files_give_no_warnings(name, change, encode, tmp_path):
    path = tmp_path / name
    path.write_bytes(change(encode(name)))
    samples, said = decoded(path)
    assert said == []
    assert len(samples) == pytest.approx(SECONDS * RATE, abs=0.1 * RATE)


def test_sound_that_begins_late_in_its_container_is_not_cut(encode, tmp_path):
    (tmp_path / "x.flac").write_bytes(encode("x.flac"))
    path = tmp_path / "late.mka"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-itsoffset", "5", "-i", tmp_path / "x.flac"]
    subprocess.run([*command, path], check=True)
    samples, said = decoded(path)
    assert said == []
    assert len(samples) == pytest.approx(SECONDS * RATE, abs=0.1 * RATE)


def test_silence_stands_for_a_lost_frame_of_flac(encode, song, tmp_path):
    """xiph/flac#464 and #632, AudioMuse-AI#885: all behind one wrong byte was lost."""
    data = bytearray(encode("x.flac"))
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "x.flac"
    path.write_bytes(data)
    report = DecodeReport()
    samples = load_clip(path, 44_100, report=report).samples
    truth = (song(1, SECONDS, 44_100) + song(2, SECONDS, 44_100)) / 2
    assert len(samples) == len(truth)
    wrong = np.flatnonzero(np.abs(samples - truth) > 1e-3)
    assert wrong[-1] - wrong[0] < 10_000
    assert len(report.damage) == 1


@pytest.mark.parametrize("name", ["s16.wav", "x.flac", "x.ogg", "x.opus", "x.mp3", "vbr.mp3"])
def test_both_decoders_give_the_same_sound(name, encode, tmp_path, monkeypatch):
    path = tmp_path / name
    path.write_bytes(encode(name))
    ours = load_clip(path, RATE).samples
    monkeypatch.setattr("fingerprint.audio.ffmpeg.pyav_installed", lambda: False)
    theirs = load_clip(path, RATE).samples
    size = min(len(ours), len(theirs))
    assert abs(len(ours) - len(theirs)) < 0.06 * RATE
    ours, theirs = ours[:size], theirs[:size]
    assert np.dot(ours, theirs) / np.linalg.norm(ours) / np.linalg.norm(theirs) > 0.999
