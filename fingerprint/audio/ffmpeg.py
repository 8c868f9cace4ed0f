"""Decoding through FFmpeg, for the formats that libsndfile lacks: PyAV, or the `ffmpeg` program."""

import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import IO, Any, BinaryIO

import numpy as np

from fingerprint.audio.files import without_password
from fingerprint.errors import AudioError
from fingerprint.types import Clip, Floats

# A playlist in disguise must not open connections or other programs.
PROTOCOLS = "file,fd,pipe"
TIMEOUT = 20.0  # s without a byte after which a network stream has broken off
CHUNK = 16_384  # sample frames read from the program at a time
AU_HEADER = struct.Struct(">4s5I")  # magic, offset of the samples, bytes, encoding, Hz, channels


class FfmpegError(Exception):
    """Why FFmpeg gave no audio, to stand after "cannot read song.m4a: "."""


class MissingError(FfmpegError):
    """Neither PyAV nor the program is installed."""


def chunks(file: BinaryIO) -> Iterator[Clip]:
    """Mono chunks at the file's own rate; damage after the first chunk ends the recording.

    Raises:
        FfmpegError: there is no FFmpeg, or it finds no audio.
    """
    try:
        import av  # noqa: F401
    except ImportError:
        if not shutil.which("ffmpeg"):
            raise MissingError(
                "its format needs FFmpeg, if it is audio: pip install 'fingerprint[ffmpeg]', "
                "or install the ffmpeg program"
            ) from None
        return _program_chunks(file)
    return _pyav_chunks(file)


def mono(samples: Floats) -> Floats:
    """Mean of the channels: (channels, T) -> (T,)."""
    with np.errstate(over="ignore", invalid="ignore"):  # such samples are refused later, by name
        # Five times as fast as np.mean where the channels are interleaved in memory.
        total: Floats = samples[0].astype(np.float32)
        for channel in samples[1:]:
            total += channel
        total /= np.float32(len(samples))
    return total


def network_chunks(url: str) -> Iterator[Clip]:
    """Mono chunks of a stream at its own rate, until it ends. PyAV only.

    Raises:
        AudioError: PyAV is missing, or the stream cannot be opened, has no sound, or breaks off.
    """
    name = without_password(url)
    try:
        import av
    except ImportError as error:
        raise AudioError(
            f"cannot open {name}: streams need PyAV: pip install 'fingerprint[ffmpeg]'"
        ) from error
    try:
        with av.open(
            url,
            metadata_errors="replace",
            timeout=(TIMEOUT, TIMEOUT),
            options={"seekable": "0"},  # looking for the end of a broadcast would reconnect
        ) as container:
            if not container.streams.audio:
                raise AudioError(f"cannot open {name}: it has no sound")
            yield from _frames(av, container)
    except (av.FFmpegError, OSError) as error:
        raise AudioError(
            f"cannot read {name}: {error.strerror or without_password(str(error))}"
        ) from error


def _pyav_chunks(file: BinaryIO) -> Iterator[Clip]:
    import av

    started = False
    try:
        file.seek(0)
        with av.open(
            file, metadata_errors="replace", options={"protocol_whitelist": PROTOCOLS}
        ) as container:
            if not container.streams.audio:
                raise FfmpegError("it has no sound")
            for chunk in _frames(av, container):
                started = True
                yield chunk
    except av.FFmpegError as error:
        if not started:
            raise FfmpegError(f"not audio, or damaged ({error.strerror})") from error


def _frames(av: Any, container: Any) -> Iterator[Clip]:
    # Packed frames interleave their channels, and a broadcast may change its layout on the way:
    # the resampler makes every frame planar (channels, T) float at the first frame's rate.
    rate: int = 0
    layout, resampler = None, av.AudioResampler()
    for packet in container.demux(container.streams.audio[0]):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue  # one damaged packet, or the torn first one of a broadcast
        for frame in frames:
            if layout != (layout := (frame.format.name, frame.layout.name, frame.sample_rate)):
                rate = rate or frame.sample_rate
                resampler = av.AudioResampler(format="fltp", rate=rate)
            for planar in resampler.resample(frame):
                yield Clip(mono(planar.to_ndarray()), rate)


def _program_chunks(file: BinaryIO) -> Iterator[Clip]:
    started = False
    with _on_disk(file) as path, TemporaryFile() as log:
        # Sun AU: big-endian floats after a header that can be written to a pipe.
        command = ["ffmpeg", "-nostdin", "-v", "error", "-protocol_whitelist", PROTOCOLS]
        command += ["-i", f"file:{path}", "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "-"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process:
            try:
                assert process.stdout is not None  # noqa: S101, it is a pipe
                for chunk in _au_chunks(process.stdout):
                    started = True
                    yield chunk
                process.wait()
            finally:
                process.kill()  # when only the start was asked for
        log.seek(0)
        if not started:
            first = log.readline().decode(errors="replace").strip()
            reason = re.sub(r"\[[^]]*\] ", "", first) or "it has no sound"  # [demuxer @ address]
            raise FfmpegError(f"not audio, or damaged ({reason})")


@contextmanager
def _on_disk(file: BinaryIO) -> Iterator[str]:
    """A path to the same bytes, for a program that must be able to seek."""
    if not isinstance(file, BytesIO):
        yield str(file.name)
        return
    with NamedTemporaryFile() as copy:
        copy.write(file.getbuffer())
        copy.flush()
        yield copy.name


def _au_chunks(stream: IO[bytes]) -> Iterator[Clip]:
    header = stream.read(AU_HEADER.size)
    if len(header) < AU_HEADER.size:
        return
    _, offset, _, _, rate, channels = AU_HEADER.unpack(header)
    stream.read(offset - AU_HEADER.size)
    frame = 4 * channels  # bytes
    while data := stream.read(CHUNK * frame):
        samples = np.frombuffer(data[: len(data) // frame * frame], dtype=">f4")
        if len(samples):
            yield Clip(mono(samples.astype(np.float32).reshape(-1, channels).T), rate)
