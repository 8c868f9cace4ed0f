"""Endless sound, block by block: the microphone, a network stream, raw samples on a pipe."""

from collections.abc import Iterator
from dataclasses import dataclass
from queue import Queue
from typing import Any, BinaryIO, Literal

import numpy as np

from fingerprint.audio.decode import resampled
from fingerprint.audio.ffmpeg import mono, network_chunks
from fingerprint.errors import AudioError
from fingerprint.types import Clip, Floats

BLOCK = 0.5  # s at a time
WAITING = 60  # blocks that a busy recogniser may leave in the microphone's queue
ENCODINGS = {"s16le": "<i2", "s32le": "<i4", "f32le": "<f4"}


@dataclass(frozen=True, slots=True)
class PcmFormat:
    """How raw samples are laid out; channels are interleaved."""

    sample_rate: int = 44_100  # Hz
    channels: int = 1
    encoding: Literal["s16le", "s32le", "f32le"] = "s16le"


def microphone(sample_rate: int, device: str | int | None = None) -> Iterator[Clip]:
    """Mono blocks from a microphone at `sample_rate` (Hz), for as long as it is read.

    Raises:
        AudioError: sounddevice or PortAudio is not installed, or there is no such device.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the PortAudio library
        raise AudioError(
            f"cannot open the microphone: {error}; pip install 'fingerprint[microphone]', and on "
            "Linux the package libportaudio2"
        ) from error
    blocks: Queue[Floats] = Queue(WAITING)

    def take(samples: Floats, _frames: int, _time: Any, _status: Any) -> None:
        if not blocks.full():  # who cannot keep up loses sound, not memory
            blocks.put_nowait(samples[:, 0].copy())

    try:
        with sounddevice.InputStream(
            samplerate=sample_rate,
            blocksize=round(BLOCK * sample_rate),
            device=device,
            channels=1,
            dtype="float32",
            callback=take,
        ):
            while True:
                yield Clip(blocks.get(), sample_rate)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise AudioError(
            f"cannot open the microphone: {error}; is one connected? --microphone names it"
        ) from error


def network(url: str, sample_rate: int) -> Iterator[Clip]:
    """Mono blocks of whatever FFmpeg can open (Icecast, HLS, RTSP, a file) at `sample_rate`.

    Ends when the stream does.

    Raises:
        AudioError: it cannot be opened, holds no sound, or breaks off with an error.
    """
    return resampled(network_chunks(url), sample_rate, url)


def raw_samples(stream: BinaryIO, form: PcmFormat, sample_rate: int) -> Iterator[Clip]:
    """Raw PCM from a pipe, until it closes, as mono blocks at `sample_rate`."""
    return resampled(_pcm_chunks(stream, form), sample_rate, "standard input")


def _pcm_chunks(stream: BinaryIO, form: PcmFormat) -> Iterator[Clip]:
    kind = np.dtype(ENCODINGS[form.encoding])
    frame = kind.itemsize * form.channels  # bytes
    full_scale = 1.0 if kind.kind == "f" else float(np.iinfo(kind).max) + 1
    rest = b""
    while data := stream.read(round(BLOCK * form.sample_rate) * frame - len(rest)):
        data = rest + data
        whole = len(data) // frame * frame
        rest = data[whole:]
        samples = np.frombuffer(data[:whole], kind).reshape(-1, form.channels)
        if len(samples):
            yield Clip(mono((samples / full_scale).astype(np.float32).T), form.sample_rate)
