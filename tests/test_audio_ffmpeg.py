"""What libsndfile cannot read: PyAV, the ffmpeg program, and the advice where there is neither."""

import io
import shutil
import sys

import numpy as np
import pytest
import soundfile

from fingerprint.audio import ffmpeg
from fingerprint.audio.decode import load_clip, stream_clip
from fingerprint.errors import AudioError

RATE = 8_000
CODECS = {".m4a": "aac", ".webm": "libopus", ".wv": "wavpack", ".mkv": "mp2", ".wma": "wmav2"}


@pytest.fixture(params=["PyAV", "program"])
def decoder(request, monkeypatch):
    """Each way to FFmpeg that this machine has."""
    if request.param == "PyAV":
        pytest.importorskip("av")
    elif not shutil.which("ffmpeg"):
        pytest.skip("the ffmpeg program is not installed")
    else:
        monkeypatch.setitem(sys.modules, "av", None)
    return request.param


@pytest.fixture
def no_ffmpeg(monkeypatch, tmp_path_factory):
    monkeypatch.setitem(sys.modules, "av", None)  # makes the import fail
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("nothing")))


@pytest.fixture(scope="module")
def encoded(song, tmp_path_factory):
    """One song of 6 s at 48 kHz in formats that only FFmpeg reads."""
    av = pytest.importorskip("av")
    folder = tmp_path_factory.mktemp("encoded")
    samples = song(1, 6, 48_000)
    paths = {}
    for suffix, codec in CODECS.items():
        paths[suffix] = folder / f"song{suffix}"
        with av.open(str(paths[suffix]), "w") as container:
            stream = container.add_stream(codec, 48_000, layout="mono", bit_rate=96_000)
            fit = av.AudioResampler(stream.format.name, "mono", 48_000, stream.frame_size or 4_096)
            frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
            frame.sample_rate, frame.pts = 48_000, 0  # with a time the muxer notes the delay
            for piece in [*fit.resample(frame), *fit.resample(None), None]:
                container.mux(stream.encode(piece))
    return paths


@pytest.fixture(scope="module")
def silent_film(tmp_path_factory):
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("film") / "silent.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux([*stream.encode(picture), *stream.encode(None)])
    return path


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A Matroska file with PCM of a signal and minus its half, and that signal."""
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("pair") / "pair.mka"
    left = (0.5 * np.sin(np.arange(9_600) / 9)).astype(np.float32)
    packed = np.stack([left, -left / 2], axis=1).reshape(1, -1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=48_000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(packed, "flt", "stereo")
        frame.sample_rate = 48_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path, left


@pytest.mark.parametrize("suffix", CODECS)
def test_the_same_music_comes_out_at_the_same_place(suffix, encoded, song, decoder):
    clip = load_clip(encoded[suffix], 48_000)
    truth = song(1, 6, 48_000)
    if suffix == ".wma":
        truth = truth[2_048:]  # FFmpeg drops its first frame
    assert clip.duration == pytest.approx(6, abs=0.1)
    # The program of FFmpeg 5 leaves the 481 samples in by which MP2's encoder delays the sound.
    delays = (0, 481) if (suffix, decoder) == (".mkv", "program") else (0,)
    size = min(len(clip.samples), len(truth)) - max(delays)
    assert any(
        np.corrcoef(clip.samples[delay : delay + size], truth[:size])[0, 1] > 0.98
        for delay in delays
    )


@pytest.mark.parametrize("suffix", CODECS)
def test_blocks_and_streams_give_what_the_file_gives(suffix, encoded, decoder):
    whole = load_clip(encoded[suffix], RATE).samples
    blocks = [block.samples for block in stream_clip(encoded[suffix], RATE, block=0.9)]
    stream = load_clip(io.BytesIO(encoded[suffix].read_bytes()), RATE).samples
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)
    np.testing.assert_allclose(stream, whole, atol=1e-6)


def test_a_cut_is_exact_to_a_sample(encoded, decoder):
    whole = load_clip(encoded[".m4a"], 48_000).samples
    part = load_clip(encoded[".m4a"], 48_000, start=1.5, seconds=2).samples
    np.testing.assert_allclose(part, whole[72_000:168_000], atol=2e-6)


def test_a_truncated_file_gives_what_is_there(encoded, decoder, tmp_path):
    data = encoded[".wv"].read_bytes()
    (tmp_path / "half.wv").write_bytes(data[: len(data) // 2])
    assert 1 < load_clip(tmp_path / "half.wv", RATE).duration < 5


def test_an_index_at_the_end_that_is_cut_off_is_an_error(encoded, decoder, tmp_path):
    data = encoded[".m4a"].read_bytes()
    (tmp_path / "half.m4a").write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioError, match="not audio, or damaged"):
        load_clip(tmp_path / "half.m4a", RATE)


def test_a_film_without_sound_is_an_error(silent_film, decoder):
    with pytest.raises(AudioError, match=r"cannot read .*silent\.mp4: "):
        load_clip(silent_film, RATE)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile 'http://127.0.0.1:9/a.wav'\n",
    ],
)
def test_playlist_with_an_audio_suffix_opens_no_connection(text, decoder, tmp_path):
    (tmp_path / "list.m4a").write_text(text)
    with pytest.raises(AudioError, match="cannot read"):
        load_clip(tmp_path / "list.m4a", RATE)


def test_two_channels_keep_their_mean(pair, decoder):
    path, left = pair
    np.testing.assert_allclose(load_clip(path, 48_000).samples, left / 4, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_the_programs_output_is_read_by_its_header(channels):
    samples = np.random.default_rng(0).uniform(-1, 1, (40_000, channels)).astype(np.float32)
    stream = io.BytesIO()
    soundfile.write(stream, samples, 44_100, format="AU", subtype="FLOAT", endian="BIG")
    stream.seek(0)
    clips = list(ffmpeg._au_chunks(stream))
    assert {clip.sample_rate for clip in clips} == {44_100}
    joined = np.concatenate([clip.samples for clip in clips])
    np.testing.assert_allclose(joined, samples.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("name", ["song.m4a", "song.wma", "film.mp4", "song"])
def test_without_ffmpeg_the_error_says_what_to_install(name, no_ffmpeg, tmp_path):
    (tmp_path / name).write_bytes(b"\x00\x00\x00\x18ftypM4A " + bytes(100))
    with pytest.raises(AudioError, match=r"needs FFmpeg.*fingerprint\[ffmpeg\].*ffmpeg program"):
        load_clip(tmp_path / name, RATE)


def test_without_ffmpeg_a_damaged_wav_is_still_just_damaged(no_ffmpeg, tmp_path):
    (tmp_path / "song.wav").write_text("words")
    with pytest.raises(AudioError, match="not audio, or damaged"):
        load_clip(tmp_path / "song.wav", RATE)


def test_without_ffmpeg_an_empty_recording_just_holds_nothing(no_ffmpeg, tmp_path):
    soundfile.write(tmp_path / "zero.wav", np.zeros(0), RATE)
    with pytest.raises(AudioError, match="it holds no audio"):
        load_clip(tmp_path / "zero.wav", RATE)
