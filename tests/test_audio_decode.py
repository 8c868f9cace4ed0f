import io
import os
import struct
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from fingerprint.audio import decode
from fingerprint.audio.decode import load_clip, stream_clip
from fingerprint.audio.joined import recordings
from fingerprint.audio.report import DecodeReport, announced_by_header
from fingerprint.errors import AudioError

RATE = 8_000
SNDFILE = [".wav", ".flac", ".ogg", ".mp3", ".opus"]


def tone(frequency, seconds, sample_rate, amplitude=0.5):
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (amplitude * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def lag(samples, reference):
    """By how many samples the first is late, found by cross-correlation."""
    size = 2 * max(len(samples), len(reference))
    spectrum = np.fft.rfft(samples, size) * np.conj(np.fft.rfft(reference, size))
    shift = int(np.argmax(np.fft.irfft(spectrum, size)))
    return shift if shift < size // 2 else shift - size


def joined(blocks):
    return np.concatenate([block.samples for block in blocks])


@pytest.fixture(scope="module")
def encoded(song, write_audio, tmp_path_factory):
    """One song of 6 s at 48 kHz in every format that libsndfile writes."""
    folder = tmp_path_factory.mktemp("encoded")
    samples = song(1, 6, 48_000)
    return {suffix: write_audio(folder / f"song{suffix}", samples, 48_000) for suffix in SNDFILE}


# The signal


@pytest.mark.parametrize(("suffix", "least"), [(".wav", 0.9999), (".ogg", 0.98)])
def test_all_of_eight_channels_are_averaged(suffix, least, tmp_path):
    channels = np.stack([tone(200 + 150 * i, 3, RATE) for i in range(8)], axis=1)
    soundfile.write(tmp_path / f"x{suffix}", channels, RATE)
    heard, mean = load_clip(tmp_path / f"x{suffix}", RATE).samples, channels.mean(axis=1)
    assert len(heard) == len(mean)
    assert np.corrcoef(heard, mean)[0, 1] > least


def test_24_bit_samples_in_32_bit_words_are_read_as_integers(tmp_path):
    samples = (tone(440, 2, RATE) * 2**23).astype("<i4") << 8
    fmt = struct.pack("<4sIHHIIHHHHI", b"fmt ", 40, 0xFFFE, 1, RATE, RATE * 4, 4, 32, 22, 24, 4)
    pcm = bytes.fromhex("0100000000001000800000aa00389b71")
    data = struct.pack("<4sI", b"data", samples.nbytes) + samples.tobytes()
    body = b"WAVE" + fmt + pcm + data
    (tmp_path / "x.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    report = DecodeReport()
    clip = load_clip(tmp_path / "x.wav", RATE, report=report)
    np.testing.assert_allclose(clip.samples, samples / 2**31, atol=1e-6)
    assert not report.damage


def test_an_mp3_whose_id3_tag_says_it_is_larger_than_the_file_is_decoded(encoded, tmp_path):
    pytest.importorskip("av")
    tag = b"ID3\3\0\0\x7f\x7f\x7f\x7f"
    (tmp_path / "x.mp3").write_bytes(tag + encoded[".mp3"].read_bytes())
    clip, whole = load_clip(tmp_path / "x.mp3", RATE), load_clip(encoded[".mp3"], RATE)
    assert abs(clip.duration - whole.duration) < 0.1


def test_joined_musepack_recordings_are_split_and_their_length_is_read():
    header = b"SH\x0e" + bytes(4) + b"\x08\xa0\xa6\x30\0\x1b\x1b"  # 12 s
    one = b"MPCK" + header + b"AP\x81\x02" + bytes(126) + b"SE\3"
    assert announced_by_header(io.BytesIO(one)) == 12
    found = recordings(io.BytesIO(one + one + b"TAG" + bytes(125)))
    assert [part.read() for part in found] == [one, one]


@pytest.mark.parametrize("source_rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_a_tone_keeps_its_frequency_and_amplitude_at_any_rate(source_rate, write_audio, tmp_path):
    path = write_audio(tmp_path / "tone.wav", tone(1_000, 3, source_rate), source_rate)
    clip = load_clip(path, RATE)
    middle = clip.samples[RATE // 2 : RATE // 2 + 2 * RATE]
    spectrum = np.abs(np.fft.rfft(middle))
    assert clip.sample_rate == RATE
    assert clip.samples.dtype == np.float32
    assert clip.duration == pytest.approx(3, abs=1 / RATE)
    assert np.argmax(spectrum) * RATE / len(middle) == 1_000
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=1e-3)


def test_resampling_removes_frequencies_above_the_new_limit_without_aliasing(write_audio, tmp_path):
    path = write_audio(tmp_path / "high.wav", tone(5_000, 2, 44_100), 44_100)
    middle = load_clip(path, RATE).samples[RATE // 2 : -RATE // 2]
    assert np.abs(middle).max() < 1e-3


def test_channels_are_averaged(write_audio, tmp_path):
    channels = np.stack([tone(300 + 100 * i, 1, RATE, 0.1 * (i + 1)) for i in range(8)], axis=1)
    path = write_audio(tmp_path / "eight.wav", channels, RATE, subtype="FLOAT")
    np.testing.assert_allclose(load_clip(path, RATE).samples, channels.mean(axis=1), atol=1e-6)


def test_silence_is_audio(write_audio, tmp_path):
    path = write_audio(tmp_path / "silence.flac", np.zeros(RATE, np.float32), RATE)
    assert not load_clip(path, RATE).samples.any()


@pytest.mark.parametrize("suffix", SNDFILE)
@pytest.mark.parametrize("source_rate", [8_000, 16_000, 48_000])
def test_every_format_gives_the_same_music_at_the_same_place(
    suffix, source_rate, song, write_audio, tmp_path
):
    samples = song(2, 4, source_rate)
    clip = load_clip(write_audio(tmp_path / f"song{suffix}", samples, source_rate), 16_000)
    truth = load_clip(write_audio(tmp_path / "truth.wav", samples, source_rate), 16_000)
    size = min(len(clip.samples), len(truth.samples))
    assert abs(lag(clip.samples, truth.samples)) <= 1
    assert clip.duration == pytest.approx(4, abs=0.08)
    assert np.corrcoef(clip.samples[:size], truth.samples[:size])[0, 1] > 0.95


# Cutting and streaming


@pytest.mark.parametrize("suffix", SNDFILE)
def test_blocks_join_to_the_whole_clip(suffix, encoded):
    blocks = list(stream_clip(encoded[suffix], RATE, block=0.7))
    np.testing.assert_allclose(joined(blocks), load_clip(encoded[suffix], RATE).samples, atol=1e-6)
    assert {len(block.samples) for block in blocks[:-1]} == {5_600}
    assert 0 < len(blocks[-1].samples) <= 5_600


@pytest.mark.parametrize("suffix", SNDFILE)
def test_a_cut_is_exact_to_a_sample(suffix, encoded):
    whole = load_clip(encoded[suffix], 48_000).samples
    part = load_clip(encoded[suffix], 48_000, start=1.23456, seconds=2.5).samples
    begin = round(1.23456 * 48_000)
    np.testing.assert_allclose(part, whole[begin : begin + 120_000], atol=2e-6)


@given(
    start=st.floats(0, 2), seconds=st.floats(0.01, 3), rate=st.sampled_from([8_000, 11_025, 16_000])
)
def test_a_cut_has_the_requested_length_or_ends_with_the_file(start, seconds, rate, encoded):
    clip = load_clip(encoded[".flac"], rate, start=start, seconds=seconds)
    assert clip.duration == pytest.approx(min(seconds, 6 - start), abs=1 / rate + 1 / 48_000)


@pytest.mark.parametrize("suffix", SNDFILE)
def test_a_cut_beyond_the_end_is_an_error(suffix, encoded):
    with pytest.raises(AudioError, match=r"no audio, or too little after 60 s"):
        load_clip(encoded[suffix], RATE, start=60)


@pytest.mark.parametrize("cut", [{"start": -1}, {"seconds": 0}, {"start": float("nan")}])
def test_an_impossible_cut_is_refused(cut, encoded):
    with pytest.raises(ValueError, match="impossible cut"):
        load_clip(encoded[".wav"], RATE, **cut)


def test_an_hour_streams_in_bounded_memory(tmp_path):
    seconds, click = 3_600, 3_500
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16"):
        pass
    header = bytearray(path.read_bytes())  # 44 bytes that end in the length of the samples
    header[40:44] = (2 * RATE * seconds).to_bytes(4, "little")
    header[4:8] = (2 * RATE * seconds + 36).to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(header)
        file.seek(44 + 2 * RATE * click)
        file.write((30_000).to_bytes(2, "little"))
        file.truncate(44 + 2 * RATE * seconds)  # a sparse file: the rest is silence
    tracemalloc.start()
    total, found = 0, None
    for block in stream_clip(path, RATE // 2):
        if block.samples.any():
            found = (total + int(np.argmax(block.samples))) / block.sample_rate
        total += len(block.samples)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == seconds * RATE // 2
    assert found == pytest.approx(click, abs=1e-3)
    assert peak < 10e6  # bytes; the file is 58 MB


@pytest.fixture(params=[16_000, 22_050, 44_100])
def dense(request, song, write_audio, tmp_path):
    """MP3 at 25 to 40 kbit/s, whose frames keep their data in many frames before them."""
    options = {"bitrate_mode": "VARIABLE", "compression_level": 0.9}
    rate = request.param
    return write_audio(tmp_path / "dense.mp3", song(1, 20, rate), rate, **options)


def test_low_rate_mp3_in_chunks_equals_the_whole_and_prints_no_warnings(dense, capfd):
    whole, rate = soundfile.read(dense, dtype="float32")
    begin = round(1.23456 * rate)
    np.testing.assert_allclose(load_clip(dense, rate).samples, whole, atol=1e-4)
    np.testing.assert_allclose(joined(stream_clip(dense, rate, block=0.7)), whole, atol=1e-4)
    part = load_clip(dense, rate, start=1.23456).samples
    np.testing.assert_allclose(part, whole[begin:], atol=1e-4)
    assert capfd.readouterr().err == ""  # libmpg123 writes there by itself


def test_one_damaged_frame_does_not_end_an_mp3(song, write_audio, tmp_path):
    path = write_audio(tmp_path / "damaged.mp3", song(1, 20, 16_000), 16_000)
    data = bytearray(path.read_bytes())
    header = data.index(data[:2], len(data) // 2) + 1
    data[header] ^= 0x08  # the frame now claims to be of MPEG 1, and so of twice the rate
    path.write_bytes(data)
    assert 14 < load_clip(path, 16_000).duration < 20


# Streams


@pytest.mark.parametrize("suffix", SNDFILE)
def test_a_stream_gives_what_its_file_gives(suffix, encoded):
    clip = load_clip(io.BytesIO(encoded[suffix].read_bytes()), RATE)
    np.testing.assert_allclose(clip.samples, load_clip(encoded[suffix], RATE).samples, atol=1e-6)


def test_a_pipe_is_read_to_its_end(encoded):
    read, write = os.pipe()

    def send():
        with os.fdopen(write, "wb") as file:
            file.write(encoded[".flac"].read_bytes())

    sender = threading.Thread(target=send)
    sender.start()
    with os.fdopen(read, "rb") as stream:
        clip = load_clip(stream, RATE)
    sender.join()
    np.testing.assert_array_equal(clip.samples, load_clip(encoded[".flac"], RATE).samples)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_a_path_like_any_other(encoded, tmp_path):
    path = tmp_path / "pipe.wav"
    os.mkfifo(path)
    sender = threading.Thread(target=lambda: path.write_bytes(encoded[".wav"].read_bytes()))
    sender.start()
    clip = load_clip(path, RATE)
    sender.join()
    np.testing.assert_array_equal(clip.samples, load_clip(encoded[".wav"], RATE).samples)


def test_errors_show_the_given_name():
    with pytest.raises(AudioError, match=r"^cannot read standard input: the file is empty$"):
        load_clip(io.BytesIO(), RATE, name="standard input")


# Bad input: one clear line each


def refusal(source):
    with pytest.raises(AudioError) as caught:
        load_clip(source, RATE)
    assert len(str(caught.value).splitlines()) == 1
    if isinstance(source, Path):
        with pytest.raises(AudioError, match="cannot read"):
            list(stream_clip(source, RATE))
    return str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "missing.wav"
    assert refusal(path) == f"cannot read {path}: no such file or directory"


def test_a_folder_is_not_a_recording(tmp_path):
    assert "is a directory" in refusal(tmp_path)


def test_a_link_to_nowhere_is_missing(tmp_path):
    (tmp_path / "link.wav").symlink_to(tmp_path / "nowhere.wav")
    assert "no such file" in refusal(tmp_path / "link.wav")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_an_error(encoded, tmp_path):
    path = tmp_path / "secret.wav"
    path.write_bytes(encoded[".wav"].read_bytes())
    path.chmod(0)
    assert "permission denied" in refusal(path)


def test_a_path_with_a_null_character_is_an_error():
    assert "null" in refusal(Path("a\0b.wav"))


@pytest.mark.parametrize("name", ["empty.mp3", "empty.wav", "empty.m4a"])
def test_an_empty_file_says_so(name, tmp_path):
    (tmp_path / name).touch()
    assert "the file is empty" in refusal(tmp_path / name)


@pytest.mark.parametrize("suffix", [*SNDFILE, ".m4a", ".txt", ".raw", ""])
def test_text_is_not_audio_whatever_its_name(suffix, tmp_path):
    path = tmp_path / f"text{suffix}"
    path.write_text("These are the words of the song.\n" * 100)
    refusal(path)


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c63000100000500010d0a2db40000000049454e44ae426082"
)


@pytest.mark.parametrize("suffix", [".mp3", ".m4a"])
def test_an_image_is_not_audio(suffix, tmp_path):
    path = tmp_path / f"cover{suffix}"
    path.write_bytes(PNG)
    refusal(path)


@pytest.mark.parametrize("suffix", [".wav", ".ogg"])
def test_a_recording_of_no_length_holds_no_audio(suffix, write_audio, tmp_path):
    path = write_audio(tmp_path / f"zero{suffix}", np.zeros(0, np.float32), 44_100)
    assert "it holds no audio" in refusal(path)


def test_one_sample_that_resamples_to_none_is_too_short(write_audio, tmp_path):
    path = write_audio(tmp_path / "one.wav", np.ones(1, np.float32) / 2, 44_100)
    assert "too little" in refusal(path)


def test_one_sample_at_the_rate_asked_for_is_a_clip(write_audio, tmp_path):
    path = write_audio(tmp_path / "one.wav", np.ones(1, np.float32) / 2, RATE)
    assert load_clip(path, RATE).samples.tolist() == [0.5]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_that_are_not_finite_are_refused(value, channels, write_audio, tmp_path):
    samples = np.repeat(tone(440, 3, RATE)[:, None], channels, axis=1)
    samples[20_000:20_500] = value
    path = write_audio(tmp_path / "bad.wav", samples, RATE, subtype="FLOAT")
    assert "not finite" in refusal(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("channels", [1, 2])
def test_one_sample_that_is_not_finite_is_silence_and_reported(
    value, channels, write_audio, tmp_path
):
    samples = np.repeat(tone(440, 3, RATE)[:, None], channels, axis=1)
    samples[20_000] = value
    path = write_audio(tmp_path / "bad.wav", samples, RATE, subtype="FLOAT")
    report = DecodeReport()
    mended = load_clip(path, RATE, report=report).samples
    samples[20_000] = 0
    np.testing.assert_allclose(mended, samples[:, 0], atol=1e-6)
    assert [one.kind for one in report.damage] == ["samples"]


def test_an_absurd_sample_rate_is_refused(write_audio, tmp_path):
    path = write_audio(tmp_path / "slow.wav", tone(440, 1, RATE), 1)
    assert "a sample rate of 1 Hz" in refusal(path)


def test_a_header_that_promises_hours_allocates_nothing(encoded, tmp_path):
    data = bytearray(encoded[".flac"].read_bytes())
    data[21] |= 0x0F  # the 36-bit number of samples in STREAMINFO
    data[22:26] = b"\xff" * 4
    path = tmp_path / "long.flac"
    path.write_bytes(data)
    clip = load_clip(path, RATE)
    assert 5 < clip.duration <= 6


def test_header_with_a_thousand_channels_is_decoded(encoded, tmp_path):
    data = bytearray(encoded[".wav"].read_bytes())
    data[22:24] = (1_000).to_bytes(2, "little")
    data[32:34] = (2_000).to_bytes(2, "little")
    path = tmp_path / "wide.wav"
    path.write_bytes(data)
    assert load_clip(path, RATE).duration < 1


@pytest.mark.parametrize("suffix", SNDFILE)
def test_a_truncated_file_gives_what_is_there(suffix, encoded, tmp_path):
    data = encoded[suffix].read_bytes()
    path = tmp_path / f"half{suffix}"
    path.write_bytes(data[: len(data) * 2 // 3])
    clip, whole = load_clip(path, RATE), load_clip(encoded[suffix], RATE)
    size = len(clip.samples) - RATE // 10  # the last frame may be torn
    assert 1 < clip.duration < 5.5
    np.testing.assert_allclose(clip.samples[:size], whole.samples[:size], atol=1e-3)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_a_name_of_any_bytes_is_read_and_shown_on_one_line(encoded, tmp_path):
    good = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n\x1b[31m.wav"))
    good.write_bytes(encoded[".wav"].read_bytes())
    assert load_clip(good, RATE).duration == pytest.approx(6)
    bad = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfe\n\x1b[31m.wav"))
    bad.write_bytes(b"junk")
    assert r"\xfe\n\x1b[31m.wav" in refusal(bad)


# Strangers' bytes: a clip or an AudioError, never anything else


def clip_or_refusal(data):
    try:
        clip = load_clip(io.BytesIO(data), RATE)
    except AudioError as error:
        lines = str(error).splitlines()
    else:
        lines = [f"{clip.duration} s"] if np.isfinite(clip.samples).all() else []
    assert len(lines) == 1


@given(st.binary(max_size=2_000), st.sampled_from([b"", b"RIFF", b"fLaC", b"OggS", b"ID3\x03"]))
def test_random_bytes_are_a_clip_or_one_line(data, magic):
    clip_or_refusal(magic + data)


@pytest.mark.parametrize("size", range(28))
@pytest.mark.parametrize("suffix", [".ogg", ".opus", ".wav"])
def test_a_file_cut_within_its_first_header_is_one_line(suffix, size, encoded):
    clip_or_refusal(encoded[suffix].read_bytes()[:size])


@pytest.mark.parametrize("suffix", SNDFILE)
@given(st.data())
def test_a_file_cut_anywhere_is_a_clip_or_one_line(suffix, encoded, data):
    whole = encoded[suffix].read_bytes()
    clip_or_refusal(whole[: data.draw(st.integers(0, len(whole)))])


@pytest.mark.parametrize("suffix", SNDFILE)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=30))
def test_a_file_with_wrong_bytes_is_a_clip_or_one_line(suffix, encoded, changes):
    data = bytearray(encoded[suffix].read_bytes())
    for place, value in changes:
        data[int(place**3 * (len(data) - 1))] = value  # the header more often than the rest
    clip_or_refusal(bytes(data))


def test_a_header_that_promises_too_much_is_refused(tmp_path):
    path = tmp_path / "crafted.wav"
    soundfile.write(path, np.zeros(8_000, np.float32), 8_000)
    content = bytearray(path.read_bytes())
    content[22:24] = (65_535).to_bytes(2, "little")  # channels
    content[32:34] = (65_534).to_bytes(2, "little")  # bytes a frame
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"crafted\.wav"):
        load_clip(path, 8_000)


def test_nan_sample_does_not_silence_its_neighbours(song, tmp_path):
    """The first third of a second was taken for silence, and nothing was said."""
    samples = song(1, 3, 8_000)
    samples[[100, 3_000]] = np.nan, np.inf
    soundfile.write(tmp_path / "x.wav", samples, 8_000, subtype="FLOAT")
    report = DecodeReport()
    heard = load_clip(tmp_path / "x.wav", 8_000, report=report).samples
    samples[[100, 3_000]] = 0
    np.testing.assert_allclose(heard, samples, atol=1e-6)
    assert [one.kind for one in report.damage] == ["samples"]


def test_recording_longer_than_the_limit_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(8_000 * 40, np.float32), 8_000)
    monkeypatch.setattr(decode, "LONGEST_CLIP", 30.0)
    monkeypatch.setattr(decode, "LONGEST_STREAM", 35.0)
    with pytest.raises(AudioError, match="lasts over"):
        load_clip(path, 8_000)
    assert load_clip(path, 8_000, seconds=5).duration == 5
    with pytest.raises(AudioError, match="lasts over"):
        list(stream_clip(path, 8_000, block=10))
