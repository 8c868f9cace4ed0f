"""Strangers' files: what a decoder may not do, and which sound of a file is the recording."""

import os
import re
import shutil
import struct
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fingerprint.audio import ffmpeg, sandbox
from fingerprint.audio.decode import load_clip, stream_clip
from fingerprint.audio.files import find_audio
from fingerprint.audio.formats import AUDIO_SUFFIXES, CODECS, CONTAINERS
from fingerprint.audio.report import DecodeReport
from fingerprint.audio.tags import read_tags
from fingerprint.audio.worker import ConfinedDecoder
from fingerprint.errors import AudioError

RATE = 8_000
landlock = pytest.mark.skipif(not sandbox.abi(), reason="this system has no Landlock")
needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs the ffmpeg program")


def run_ffmpeg(*arguments: object) -> None:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def decoder():
    with ConfinedDecoder() as one:
        yield one


@pytest.fixture(scope="module")
def secrets(song, tmp_path_factory):
    """A folder with recordings that nobody was asked to read, and playlists that name them."""
    folder = tmp_path_factory.mktemp("secrets")
    soundfile.write(folder / "secret.wav", song(1, 5, RATE), RATE)
    run_ffmpeg("-i", folder / "secret.wav", folder / "secret.aac")
    run_ffmpeg("-i", folder / "secret.wav", folder / "secret.ts")
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"
    base = f"file://{folder}"
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT5S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">'
        '<Period><AdaptationSet mimeType="audio/mp4"><Representation id="1" bandwidth="128000">'
        f"<BaseURL>{base}/secret.wav</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )
    lists = {
        "absolute.m3u8": hls.format(f"{base}/secret.aac"),
        "relative.m3u8": hls.format("secret.ts"),
        "network.m3u8": hls.format("http://127.0.0.1:9/a.ts"),
        "concat.ffconcat": "ffconcat version 1.0\nfile 'secret.wav'\n",
        "dash.mpd": dash,
        "talk.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        "m=audio 9 RTP/AVP 0\n",
        "list.pls": f"[playlist]\nFile1={folder}/secret.wav\nNumberOfEntries=1\n",
        "list.m3u": f"{folder}/secret.wav\n",
        "cue.cue": 'FILE "secret.wav" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n',
    }
    for name, text in lists.items():
        (folder / name).write_text(text)
        (folder / f"{name}.m4a").write_text(text)
    return folder


LISTS = "absolute.m3u8 relative.m3u8 network.m3u8 concat.ffconcat dash.mpd talk.sdp list.pls "
LISTS += "list.m3u cue.cue"


@needs_ffmpeg
@pytest.mark.parametrize("suffix", ["", ".m4a"])
@pytest.mark.parametrize("name", LISTS.split())
def test_a_playlist_is_no_recording(name, suffix, secrets, decoder, monkeypatch):
    """FFmpeg would open the files that an HLS, concat or DASH playlist names."""
    path = secrets / (name + suffix)
    monkeypatch.chdir(secrets)
    stream = BytesIO(path.read_bytes())
    for attempt in (
        lambda: load_clip(path, RATE),
        lambda: load_clip(stream, RATE),
        lambda: list(decoder.blocks(path, RATE)),
        lambda: list(decoder.blocks(stream, RATE)),
    ):
        with pytest.raises(AudioError, match="not audio"):
            attempt()
    monkeypatch.setattr(ffmpeg, "pyav_installed", lambda: False)
    with pytest.raises(AudioError, match="not audio"):
        load_clip(path, RATE)


@landlock
@pytest.mark.parametrize(
    "deed",
    [
        "open('/etc/passwd')",
        "open('new', 'w')",
        "os.listdir('/')",
        "os.unlink('old')",
        "subprocess.run(['/bin/true'])",
        "socket.create_connection(('127.0.0.1', 9))",
    ],
)
def test_a_confined_process_opens_nothing(deed, tmp_path):
    code = f"import socket, subprocess, os; from fingerprint.audio import sandbox; {{}}; {deed}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def said(before: str) -> str:
        (tmp_path / "old").touch()
        command = [sys.executable, "-c", code.format(before)]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        return done.stderr

    assert "PermissionError" not in said("pass")
    assert "PermissionError" in said("assert sandbox.confine()")


@landlock
@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "new"])
def test_confined_process_with_network_opens_only_files_for_name_resolution(path, tmp_path):
    code = (
        "import socket\nfrom pathlib import Path\n"
        "from fingerprint.audio import decoding_process, sandbox\n"
        "decoding_process._warm_up_names()\n"
        "assert sandbox.confine(readable=list(map(Path, decoding_process.NAMES)), network=True)\n"
        "with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "    socket.create_connection(server.getsockname()).close()\n"
        "open('/etc/resolv.conf').close()\nprint('connected')\n"
        f"open({path!r}, 'w' if {path!r} == 'new' else 'r')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "connected\n", done.stderr
    assert "PermissionError" in done.stderr


HEARD_ELSEWHERE = {
    "load_clip": "import fingerprint; fingerprint.load_clip(Path(place), 8_000)",
    "scan": "from fingerprint.scanning.scanner import BLOCK, stream_clip; "
    "list(stream_clip(Path(place), 8_000, block=BLOCK))",
    "explain": "from fingerprint.explaining import evidence; "
    "evidence.load_clip(Path(place), 8_000, start=1.0, seconds=2.0)",
    "listen --url": "from fingerprint.listening import network; list(network(place, 8_000))",
}


@needs_ffmpeg
@pytest.mark.parametrize("where", HEARD_ELSEWHERE)
def test_nothing_is_decoded_in_the_callers_process(where, secrets, tmp_path):
    """FFmpeg is never so much as loaded there."""
    pytest.importorskip("av")
    address, server = "", None
    if where == "listen --url":
        handler = partial(SimpleHTTPRequestHandler, directory=secrets)
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever).start()
        address = f"http://127.0.0.1:{server.server_port}/secret.aac"
    place = address or str(secrets / "secret.aac")
    code = f"import sys; from pathlib import Path; place = sys.argv[1]; {HEARD_ELSEWHERE[where]}"
    code += "; assert 'av' not in sys.modules"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, place],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()
    assert done.returncode == 0, done.stderr


def test_decoder_that_cannot_start_is_an_error_of_each_recording(secrets, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with ConfinedDecoder() as decoder:
        for _ in range(2):
            with pytest.raises(AudioError, match="cannot start"):
                decoder.load(secrets / "secret.wav", RATE, longest=60.0)


def test_a_part_of_a_recording_is_cut_in_the_confined_process_too(song, tmp_path, decoder):
    path = tmp_path / "song.wav"
    soundfile.write(path, song(1, 5, 44_100), 44_100)
    whole = decoder.load(path, 44_100, longest=60.0)
    part = decoder.load(path, 44_100, start=1.5, seconds=2.0, longest=60.0)
    np.testing.assert_array_equal(part.samples, whole.samples[66_150 : 66_150 + 88_200])
    with pytest.raises(AudioError, match="too little after 7 s"):
        decoder.load(path, 44_100, start=7.0, longest=60.0)
    with pytest.raises(AudioError, match="lasts over"):
        decoder.load(path, 44_100, longest=3.0)


@landlock
@needs_ffmpeg
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_a_trace_of_the_decoder_shows_no_file_and_no_connection(secrets, tmp_path):
    script = tmp_path / "decode.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom fingerprint.audio.worker import *\n"
        "with ConfinedDecoder() as decoder:\n"
        "    for name in sys.argv[1:]:\n"
        "        try:\n"
        "            print(sum(c.duration for c in decoder.blocks(Path(name), 8000)))\n"
        "        except AudioError as error:\n            print('refused')\n"
    )
    trace = tmp_path / "trace"
    lists = [path for path in secrets.iterdir() if path.stem != "secret"]
    good = [secrets / "secret.wav", secrets / "secret.aac", secrets / "secret.ts"]
    calls = "trace=open,openat,openat2,connect,execve,landlock_restrict_self"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-e", calls, "-o", trace, sys.executable, script, *lists, *good],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    if not trace.exists() or "restrict" not in trace.read_text():
        pytest.skip("processes cannot be traced here")
    shown = done.stdout.split()
    assert shown[: len(lists)] == ["refused"] * len(lists)
    assert all(float(seconds) > 4.9 for seconds in shown[len(lists) :])
    confined, opened = set(), []
    for line in trace.read_text().splitlines():
        pid, call = line.split(maxsplit=1)
        if "landlock_restrict_self" in call:
            confined.add(pid)
        elif pid in confined and re.search(r"= \d", call):
            opened.append(call)
    assert confined
    assert opened == []


# Files that are no files


def test_a_pipe_without_a_writer_times_out(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.wav")
    monkeypatch.setattr("fingerprint.audio.source.SILENT_PIPE", 0.2)
    with pytest.raises(AudioError, match="a pipe into which nothing is written"):
        load_clip(tmp_path / "pipe.wav", RATE)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/random"])
def test_a_device_is_refused(device, tmp_path):
    (tmp_path / "link.wav").symlink_to(device)
    for path in (Path(device), tmp_path / "link.wav"):
        with pytest.raises(AudioError, match="it is a device"):
            load_clip(path, RATE)


def test_a_descriptor_by_name_is_read_as_by_process_substitution(song, decoder):
    stream = BytesIO()
    soundfile.write(stream, song(1, 3, RATE), RATE, format="WAV")
    read, write = os.pipe()

    def send() -> None:
        with os.fdopen(write, "wb") as file:
            file.write(stream.getvalue())

    sender = threading.Thread(target=send)
    sender.start()
    clip = decoder.load(Path(f"/dev/fd/{read}"), RATE, longest=60.0)
    sender.join()
    os.close(read)
    np.testing.assert_allclose(clip.samples, song(1, 3, RATE), atol=1e-4)


def sparse_wav(path: Path, data_bytes: int, header_bytes: int) -> Path:
    with path.open("wb") as file:
        size = header_bytes + 36
        fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8_000, 16_000, 2, 16)
        file.write(struct.pack("<4sI4s", b"RIFF", size, b"WAVE") + fmt)
        file.write(struct.pack("<4sI", b"data", header_bytes))
        file.truncate(44 + data_bytes)
    return path


def test_too_long_recording_is_refused_by_its_header_before_decoding(tmp_path):
    path = sparse_wav(tmp_path / "long.wav", 4_000_000_000, 4_000_000_000)  # 69 h
    blocks = stream_clip(path, RATE, block=1.0)
    with pytest.raises(AudioError, match="lasts over 24 h"):
        next(blocks)


def test_a_recording_that_begins_with_silence_is_not_read_to_its_end_first():
    """Where a file has one track there is nothing to choose; 69 h of silence took minutes."""

    class Counted(BytesIO):
        count = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.count += len(data)
            return data

    stream = Counted()
    soundfile.write(stream, np.zeros(600 * RATE), RATE, format="WAV")
    size = stream.tell()
    stream.seek(0)
    next(stream_clip(stream, RATE, block=1.0))
    assert stream.count < size / 2


def test_header_that_announces_more_than_the_file_holds_is_reported(tmp_path):
    path = sparse_wav(tmp_path / "short.wav", 160_000, 4_000_000_000)
    report = DecodeReport()
    assert load_clip(path, RATE, report=report).duration == 10
    assert "cut" in [one.kind for one in report.damage]


# Which sound is the recording


@pytest.mark.parametrize("noise", [0.0, 1e-4])
@pytest.mark.parametrize("gain", [-1.0, 1.0])
def test_of_channels_that_cancel_each_other_one_is_decoded(gain, noise, song, tmp_path):
    """whisperX#750, pytorch/audio#877, talon#308: one channel is the other upside down."""
    music = song(1, 3, RATE)
    hiss = noise * np.random.default_rng(0).standard_normal((len(music), 2))
    soundfile.write(tmp_path / "x.flac", np.stack([music, gain * music], axis=1) + hiss, RATE)
    heard = load_clip(tmp_path / "x.flac", RATE).samples
    np.testing.assert_allclose(heard, music, atol=1e-3)


@needs_ffmpeg
def test_the_default_stream_is_decoded_or_the_first_that_is_not_silent(song, tmp_path):
    for seed in (1, 2):
        soundfile.write(tmp_path / f"{seed}.wav", song(seed, 3, RATE), RATE)
    soundfile.write(tmp_path / "0.wav", np.zeros(3 * RATE), RATE)
    tracks = [one for name in (0, 1, 2) for one in ("-i", tmp_path / f"{name}.wav")]
    path = tmp_path / "film.mkv"
    maps = ["-map", "0", "-map", "1", "-map", "2", "-c:a", "flac"]

    def heard(stream: int | None = None) -> int:
        samples = load_clip(path, RATE, stream=stream).samples
        truth = {1: song(1, 3, RATE), 2: song(2, 3, RATE), 0: np.zeros(3 * RATE, np.float32)}
        return next(i for i, one in truth.items() if np.abs(samples - one).max() < 1e-3)

    run_ffmpeg(*tracks, *maps, "-disposition:a", "0", path)
    assert [heard(), heard(1), heard(2), heard(3)] == [1, 0, 1, 2]
    run_ffmpeg(*tracks, *maps, "-disposition:a", "0", "-disposition:a:2", "default", path)
    assert heard() == 2
    with pytest.raises(AudioError, match="no audio track 4"):
        load_clip(path, RATE, stream=4)


@pytest.mark.parametrize("times", [64, 128, 256, 512])
def test_dsd_of_every_rate_is_read(times, tmp_path):
    pytest.importorskip("av")
    rate, seconds = 44_100 * times, 0.25
    time = np.arange(round(rate * seconds) // 32_768 * 32_768) / rate
    wanted = 0.5 * np.sin(2 * np.pi * 1_000 * time)
    # A first-order modulator without its loop: bits whose running sum follows that of the signal.
    bits = np.diff(np.floor(np.cumsum((wanted + 1) / 2)), prepend=0).astype(np.uint8)
    data = np.packbits(bits, bitorder="little").tobytes()
    fmt = struct.pack("<4sQIIIIIIQII", b"fmt ", 52, 1, 0, 1, 1, rate, 1, len(bits), 4_096, 0)
    body = fmt + struct.pack("<4sQ", b"data", 12 + len(data)) + data
    path = tmp_path / "tone.dsf"
    path.write_bytes(struct.pack("<4sQQQ", b"DSD ", 28, 28 + len(body), 0) + body)
    clip = load_clip(path, RATE)
    middle = clip.samples[500:-500]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert clip.duration == pytest.approx(len(bits) / rate, abs=0.01)
    assert np.argmax(spectrum) * RATE / len(middle) == pytest.approx(1_000, abs=20)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["x.mkv", "x.mov", "x.avi", "x.wv", "x.m4a", "x.flac", "x.webm"])
def test_tags_of_every_container_are_read(name, song, decoder, tmp_path):
    pytest.importorskip("av")
    soundfile.write(tmp_path / "x.wav", song(1, 2, 48_000), 48_000)
    tags = ["-metadata", "title=A title", "-metadata", "artist=An artist"]
    run_ffmpeg("-i", tmp_path / "x.wav", *tags, tmp_path / name)
    report = DecodeReport()
    load_clip(tmp_path / name, RATE, report=report)
    found = read_tags(tmp_path / name, report.metadata)
    assert (found.title, found.artist) == ("A title", "An artist")


def test_a_walk_finds_what_the_decoders_read(tmp_path):
    """bocan-music#530, MPD#1001, xbmc#27290, YAMJ#561: left out of folders without a word."""
    av = pytest.importorskip("av")
    formats = [av.ContainerFormat(name, "r") for name in sorted(av.formats_available & _readable())]
    allowed = [one for one in formats if set(one.name.split(",")) & set(CONTAINERS)]
    assert {name for one in allowed for name in one.name.split(",")} >= set(CONTAINERS)
    pictures = {"mks", "avif", "heic", "heif", "mj2", "mac", "psp"}  # or captions, or ambiguous
    missing = {
        suffix
        for one in allowed
        for suffix in one.extensions
        if suffix not in pictures and f".{suffix}" not in AUDIO_SUFFIXES
    }
    assert missing == set()
    known = {av.Codec(name, "r").type for name in CODECS if name in av.codecs_available}
    assert known == {"audio"}


def _readable() -> set[str]:
    import av

    found = set()
    for name in av.formats_available:
        try:
            av.ContainerFormat(name, "r")
        except ValueError:
            continue
        found.add(name)
    return found


def test_typescript_files_are_not_taken_for_transport_streams(tmp_path):
    (tmp_path / "main.ts").write_text("export const answer = 42;\n")
    (tmp_path / "film.ts").write_bytes((b"G" + bytes(187)) * 3)
    (tmp_path / "disc.ts").write_bytes((bytes(4) + b"G" + bytes(187)) * 3)
    assert [path.name for path in find_audio([tmp_path])] == ["disc.ts", "film.ts"]


def test_folders_deeper_than_the_recursion_limit_are_walked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    depth = 1_100
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    assert list(find_audio([tmp_path])) == []
    for _ in range(depth):  # pytest could not remove them
        os.chdir("..")
        Path("d").rmdir()


@needs_ffmpeg
@pytest.mark.parametrize("name", ["film.mkv", "film.mp4"])
def test_film_with_subtitles_pictures_and_chapters_is_decoded(name, song, tmp_path):
    soundfile.write(tmp_path / "song.wav", song(3, 4.0, 16_000), 16_000)
    (tmp_path / "words.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nWords\n")
    (tmp_path / "marks.txt").write_text(
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=2000\ntitle=One\n"
    )
    inputs = [part for name in ("song.wav", "words.srt", "marks.txt") for part in ("-i", name)]
    inputs = [tmp_path / part if "." in part else part for part in inputs]
    picture = ["-f", "lavfi", "-i", "color=s=64x64:d=4"]
    streams = ["-map", "0", "-map", "1", "-map", "3", "-map_metadata", "2"]
    words = ["-c:s", "mov_text" if name.endswith("mp4") else "srt"]
    run_ffmpeg(*inputs, *picture, *streams, *words, tmp_path / name)
    report = DecodeReport()
    with ConfinedDecoder() as decoder:
        clip = decoder.load(tmp_path / name, 8_000, longest=60.0, report=report)
    assert clip.duration == pytest.approx(4.0, abs=0.1)
    assert not report.damage


@needs_ffmpeg
@pytest.mark.parametrize("by", ["name", "standard input"])
def test_without_pyav_the_ffmpeg_program_decodes_in_the_confined_process(by, song, tmp_path):
    """The program opens its input by name and writes no file; both must be possible there."""
    path = tmp_path / "song.m4a"
    soundfile.write(tmp_path / "song.wav", song(1, 5, RATE), RATE)
    run_ffmpeg("-i", tmp_path / "song.wav", path)
    (tmp_path / "absent" / "av").mkdir(parents=True)
    (tmp_path / "absent" / "av" / "__init__.py").write_text("raise ImportError\n")
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from fingerprint.audio.worker import ConfinedDecoder\n"
        "source = Path(sys.argv[1]) if len(sys.argv) > 1 else sys.stdin.buffer\n"
        "with ConfinedDecoder() as decoder:\n"
        "    print(decoder.load(source, 8_000, longest=60.0).duration)\n"
    )
    paths = os.pathsep.join([str(tmp_path / "absent"), *filter(None, sys.path)])
    arguments = [path] if by == "name" else []
    with path.open("rb") as stream:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            stdin=stream,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": paths},
        )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(5, abs=0.2)
