"""Endless sound, block by block: the microphone, a network stream, raw samples on a pipe."""

import struct
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from io import BufferedReader, RawIOBase
from pathlib import Path
from queue import Queue
from typing import Any, BinaryIO, Literal
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import Request, url2pathname, urlopen

import numpy as np

from fingerprint.audio.confined import stream_clip
from fingerprint.audio.decode import resampled
from fingerprint.audio.ffmpeg import TIMEOUT, mono
from fingerprint.audio.playlists import entries, m3u_entries, text_of
from fingerprint.audio.source import open_recording
from fingerprint.audio.worker import stream_confined
from fingerprint.errors import AudioError
from fingerprint.types import Clip, Floats

BLOCK = 0.5  # s at a time
WAITING = 60  # blocks in the microphone's queue, at most, while recognition is busy
WAV_ENCODINGS: dict[tuple[int, int], Literal["s16le", "s32le", "f32le"]] = {
    (1, 16): "s16le",
    (1, 32): "s32le",
    (3, 32): "f32le",
}  # by format tag and bits of a WAV header
LINKS = 3  # playlists followed, at most, that name another playlist
MOST_ADDRESSES = 8  # addresses of a playlist that are tried
LONGEST_PLAYLIST = 1 << 16  # bytes
FIRST_PAUSE = 1.0  # s before an interrupted stream is opened again
LONGEST_PAUSE = 60.0  # s
STABLE = 30.0  # s of sound after which the next pause is short again
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
        if not blocks.full():  # else sound is dropped, so that memory is bounded
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
    """Mono clips of whatever FFmpeg can open (Icecast, HLS, RTSP, a file) at `sample_rate`.

    A radio station's playlist (M3U, PLS, XSPF, ASX) is followed to the first address in it that
    gives sound. The clips end with the stream.

    Raises:
        AudioError: it cannot be opened, holds no sound, or breaks off with an error.
    """
    return _followed(url, sample_rate, LINKS)


def reconnecting(
    connect: Callable[[], Iterator[Clip]],
    *,
    on_pause: Callable[[str, float], None] = lambda _why, _seconds: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Clip | None]:
    """The clips of a source without end, and None wherever it was interrupted.

    Pauses double from `FIRST_PAUSE` to `LONGEST_PAUSE`. `on_pause` gets the reason why
    the source has ended, and the length of the pause (s).

    Raises:
        AudioError: the first attempt gives no sound, so the address is probably wrong.
    """
    pause, ever = FIRST_PAUSE, False
    while True:
        played, why = 0.0, "the stream has ended"
        try:
            for clip in connect():
                ever = True
                played += clip.duration
                yield clip
        except AudioError as error:
            if not ever:
                raise
            why = str(error)
        if not ever:
            raise AudioError("the stream holds no sound")
        yield None
        pause = FIRST_PAUSE if played >= STABLE else pause
        on_pause(why, pause)
        sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _followed(url: str, sample_rate: int, links: int) -> Iterator[Clip]:
    """The sound of an address; of a playlist, that of its first entry with sound."""
    chunks = _sound(url, sample_rate)
    try:
        first = next(chunks, None)
    except AudioError:
        if not links or not (addresses := _addresses(url)):
            raise
        yield from _first_sound(addresses, sample_rate, links - 1)
        return
    if first is not None:
        yield first
        yield from chunks


def _sound(url: str, sample_rate: int) -> Iterator[Clip]:
    parts = urlsplit(url)
    if len(parts.scheme) > 1 and parts.scheme != "file":
        return stream_confined(url, sample_rate)
    return stream_clip(_path(url), sample_rate, block=BLOCK)


def _path(url: str) -> Path:
    """The path of a file's name or of a file:// address."""
    return Path(url2pathname(urlsplit(url).path) if url.startswith("file:") else url)


def _first_sound(addresses: list[str], sample_rate: int, links: int) -> Iterator[Clip]:
    for number, address in enumerate(addresses, start=1):
        chunks = _followed(address, sample_rate, links)
        try:
            first = next(chunks, None)
        except AudioError:
            if number == len(addresses):
                raise
            continue
        if first is not None:
            yield first
            yield from chunks
            return


def _addresses(url: str) -> list[str]:
    """The web addresses in the playlist at `url`; none if it is not a playlist."""
    try:
        content = _beginning(url)
    except (OSError, ValueError, HTTPException):
        return []
    text = text_of(content)
    if "\0" in text:
        return []
    found = entries(text)
    names = m3u_entries(text) if found is None else found
    joined = [urljoin(url, name) for name in names] if found is not None else names
    return [one for one in joined if urlsplit(one).scheme in ("http", "https")][:MOST_ADDRESSES]


def _beginning(url: str) -> bytes:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        with open_recording(_path(url)) as file:  # a playlist on the disk
            return file.read(LONGEST_PLAYLIST)
    user, _, host = parts.netloc.rpartition("@")
    request = Request(parts._replace(netloc=host, fragment="").geturl())  # noqa: S310 - checked
    if user:
        request.add_header("Authorization", "Basic " + b64encode(unquote(user).encode()).decode())
    with urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 - checked
        content: bytes = answer.read(LONGEST_PLAYLIST)
        return content


def raw_samples(stream: BinaryIO, form: PcmFormat, sample_rate: int) -> Iterator[Clip]:
    """Raw PCM from a pipe, until it closes, as mono blocks at `sample_rate`.

    `form` is the layout of samples without a WAV header.

    Raises:
        AudioError: it is another kind of recording, or WAV that holds another kind of samples.
    """
    source = BufferedReader(_Raw(stream))
    head = source.peek(12)[:12]
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        form = _wav_form(source)
    elif head.startswith((b"OggS", b"fLaC", b"ID3", b"FORM", b"RF64")) or head[4:8] == b"ftyp":
        raise AudioError(
            "standard input is a recording, not raw samples: `fingerprint identify -` takes it"
        )
    return resampled(_pcm_chunks(source, form), sample_rate, "standard input")


class _Raw(RawIOBase):
    """Adapts a stream to `BufferedReader`."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read = getattr(self._stream, "read1", self._stream.read)  # whatever has arrived
        data: bytes = read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _wav_form(source: BinaryIO) -> PcmFormat:
    """Read a WAV header up to the samples."""
    source.read(12)
    form: PcmFormat | None = None
    while len(head := source.read(8)) == 8:
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name == b"data" and form is not None:
            return form
        content = source.read(size + size % 2)
        if name == b"fmt " and len(content) >= 16:
            kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
            if kind == 0xFFFE and len(content) >= 26:  # extensible: the format tag comes later
                kind = int.from_bytes(content[24:26], "little")
            encoding = WAV_ENCODINGS.get((kind, bits))
            if encoding is None or not channels or not rate:
                break
            form = PcmFormat(rate, channels, encoding)
    raise AudioError("cannot read standard input: WAV of 16, 32 or floating 32 bits is needed here")


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
            with np.errstate(all="ignore"):  # samples of another encoding are refused later
                scaled = (samples / full_scale).astype(np.float32)
            yield Clip(mono(scaled.T), form.sample_rate)
