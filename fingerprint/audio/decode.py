"""Audio files and streams to `Clip`: libsndfile first, FFmpeg for what it cannot read.

A recording passes through in chunks: decoded and averaged to mono, cut, checked, resampled,
gathered. So a 4-hour file needs no more memory than a short one, and a clip equals the
concatenation of its blocks because both come from the same chain.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import SEEK_END, BytesIO
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from fingerprint.audio import ffmpeg
from fingerprint.audio.files import SNDFILE_SUFFIXES, display_name, reason
from fingerprint.errors import AudioError
from fingerprint.types import Clip, Floats

CHUNK = 16_384  # sample frames decoded at a time, and at most lost where a file is damaged
LARGEST_STREAM = 1 << 30  # bytes; a pipe is held in memory
SOURCE_RATES = (1_000, 1_000_000)  # Hz; a header that says otherwise is damaged
LONGEST_CLIP = 4 * 3600.0  # s in memory at once: 460 MB at 8 kHz
LONGEST_STREAM = 24 * 3600.0  # s; more is a mistake, or a small file that wants to be a bomb
LARGEST_SAMPLE = 2.0**31  # float files may hold integers; beyond 32 bits it is not audio


def load_clip(
    source: Path | BinaryIO,
    sample_rate: int,
    *,
    start: float = 0.0,
    seconds: float | None = None,
    name: str | None = None,
) -> Clip:
    """Decode a recording to mono at `sample_rate` (Hz).

    Channels are averaged; the level stays the file's. `start` and `seconds` (s) cut exactly, at the
    file's own samples, before resampling. A truncated file gives what is there. A stream, such as
    standard input, is read to its end. `name` stands for the source in error messages.

    Raises:
        AudioError: the source is missing, unreadable, not audio, damaged, holds no samples, or
            more than `LONGEST_CLIP`.
    """
    name = name or _name(source)
    pieces = list(
        _bounded(
            _pieces(source, sample_rate, start, seconds, name), sample_rate, LONGEST_CLIP, name
        )
    )
    return Clip(np.concatenate(pieces), sample_rate)


def stream_clip(
    source: Path | BinaryIO, sample_rate: int, *, block: float = 60.0, name: str | None = None
) -> Iterator[Clip]:
    """Decode a recording in consecutive blocks of `block` seconds; the last is shorter.

    Their concatenation equals `load_clip(source, sample_rate)`; memory does not grow with a file,
    whereas a stream is read to its end first.

    Raises:
        AudioError: as `load_clip`, possibly after some blocks; over `LONGEST_STREAM` for sure.
    """
    size = max(1, round(block * sample_rate))
    pending, held = list[Floats](), 0
    name = name or _name(source)
    pieces = _pieces(source, sample_rate, 0.0, None, name)
    for piece in _bounded(pieces, sample_rate, LONGEST_STREAM, name):
        pending.append(piece)
        held += len(piece)
        if held >= size:
            samples = np.concatenate(pending)
            held %= size
            for begin in range(0, len(samples) - held, size):
                yield Clip(samples[begin : begin + size], sample_rate)
            pending = [samples[len(samples) - held :]]
    if held:
        yield Clip(np.concatenate(pending), sample_rate)


def announced_duration(path: Path) -> float:
    """Seconds that the header promises, for a plan only: it may be wrong, or 0 for not known."""
    try:
        with _open(path) as file, _Decoder(file.fileno(), closefd=False) as decoder:
            return float(decoder.frames / decoder.samplerate)
    except (OSError, soundfile.LibsndfileError, ZeroDivisionError):
        return 0.0


def resampled(chunks: Iterator[Clip], sample_rate: int, name: str) -> Iterator[Clip]:
    """Mono chunks of any source, all of one rate, as clips at `sample_rate` (Hz), as they come.

    Raises:
        AudioError: the samples are not audio.
    """
    for piece in _resampled(_checked(chunks, name), sample_rate):
        if len(piece):
            yield Clip(piece, sample_rate)


def _name(source: Path | BinaryIO) -> str:
    return display_name(source) if isinstance(source, Path) else "the audio stream"


def _pieces(
    source: Path | BinaryIO, sample_rate: int, start: float, seconds: float | None, name: str
) -> Iterator[Floats]:
    """The whole chain: samples at `sample_rate`, at least one piece and none empty."""
    if sample_rate <= 0 or not start >= 0 or (seconds is not None and not seconds > 0):
        raise ValueError(f"impossible cut: {sample_rate} Hz, from {start} s, {seconds} s long")
    empty = True
    with _opened(source, name) as file:
        chunks = _checked(_before(_decoded(file, start, name), seconds), name)
        for piece in _resampled(chunks, sample_rate):
            if len(piece):
                empty = False
                yield piece
    if empty:
        after = f" after {start:g} s" if start else ""
        raise AudioError(f"cannot read {name}: it holds no audio, or too little{after}")


def _bounded(
    pieces: Iterator[Floats], sample_rate: int, longest: float, name: str
) -> Iterator[Floats]:
    """Give up where a recording goes on and on, whatever its header has promised."""
    held = 0
    for piece in pieces:
        held += len(piece)
        if held > longest * sample_rate:
            raise AudioError(f"cannot use {name}: it lasts over {longest / 3600:g} h; cut it up")
        yield piece


@contextmanager
def _opened(source: Path | BinaryIO, name: str) -> Iterator[BinaryIO]:
    """The source as a seekable binary file; a pipe is first read into memory."""
    try:
        if isinstance(source, Path):
            with _open(source) as file:
                yield file if file.seekable() else _slurped(file, name)
        else:
            yield _slurped(source, name)
    except OSError as error:
        raise AudioError(f"cannot read {name}: {reason(error)}") from error


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb", buffering=0)
    except ValueError as error:  # a null character
        raise OSError(str(error)) from error


def _slurped(stream: BinaryIO, name: str) -> BytesIO:
    buffer = BytesIO()
    while data := stream.read(1 << 20):
        buffer.write(data)
        if buffer.tell() > LARGEST_STREAM:
            raise AudioError(f"cannot read {name}: a stream over 1 GiB; save it as a file first")
    return buffer


def _decoded(file: BinaryIO, start: float, name: str) -> Iterator[Clip]:
    """Mono chunks at the file's own rate from `start` on, by the first decoder that gives any."""
    if not file.seek(0, SEEK_END):
        raise AudioError(f"cannot read {name}: the file is empty")
    damage = ""
    try:
        chunks = _sndfile_chunks(file, start)
        first = next(chunks, None)
        if first is not None:
            yield from chain([first], chunks)
            return
    except soundfile.LibsndfileError as error:
        damage = f"not audio, or damaged ({error.error_string.strip(' .') or 'no whole frame'})"
    try:
        yield from _after(ffmpeg.chunks(file), start)
    except ffmpeg.FfmpegError as error:
        # Without damage libsndfile has read the file, and found that it holds nothing.
        if damage:
            known = isinstance(error, ffmpeg.MissingError) and _is_sndfile(name)
            raise AudioError(f"cannot read {name}: {damage if known else error}") from error


def _is_sndfile(name: str) -> bool:
    return Path(name).suffix.lower() in SNDFILE_SUFFIXES


def _sndfile_chunks(file: BinaryIO, start: float) -> Iterator[Clip]:
    """Raises LibsndfileError before the first chunk only; later damage ends the recording."""
    file.seek(0)
    # By number where there is one: faster, and libsndfile cannot judge the content by the name.
    target = file if isinstance(file, BytesIO) else file.fileno()
    with _Decoder(target, closefd=False) as decoder:
        exact = decoder.format != "MP3"  # there, libmpg123 only guesses where a time is
        skipped = round(start * decoder.samplerate) if exact else 0
        if skipped < decoder.frames:
            decoder.seek(skipped)
            yield from _reads(decoder) if exact else _after(_reads(decoder), start)


class _Decoder(soundfile.SoundFile):  # type: ignore[misc]  # it is untyped
    """Reads MP3 straight on, where `SoundFile.read` would seek after every chunk.

    A frame of MP3 keeps part of its data in frames before it: many, where they are small. After a
    seek libmpg123 goes back to too few of them, and spoils the frames that follow.
    """

    def seekable(self) -> bool:
        return self.format != "MP3" and bool(super().seekable())


def _reads(decoder: soundfile.SoundFile) -> Iterator[Clip]:
    samples = decoder.read(CHUNK, dtype="float32", always_2d=True)  # (T, channels)
    while len(samples):
        yield Clip(ffmpeg.mono(samples.T), decoder.samplerate)
        try:
            if len(samples) < CHUNK:  # the end, or damage that MP3 only gets over by a seek
                decoder.seek(decoder.tell())
            samples = decoder.read(CHUNK, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            return


def _after(chunks: Iterator[Clip], start: float) -> Iterator[Clip]:
    """Drop the first `start` seconds."""
    position = 0  # samples
    for chunk in chunks:
        skipped = max(0, round(start * chunk.sample_rate) - position)
        position += len(chunk.samples)
        if skipped < len(chunk.samples):
            yield Clip(chunk.samples[skipped:], chunk.sample_rate)


def _before(chunks: Iterator[Clip], seconds: float | None) -> Iterator[Clip]:
    """Keep the first `seconds`."""
    position = 0  # samples
    for chunk in chunks:
        if seconds is None:
            yield chunk
            continue
        left = round(seconds * chunk.sample_rate) - position
        yield Clip(chunk.samples[:left], chunk.sample_rate)
        position += len(chunk.samples)
        if len(chunk.samples) >= left:
            return


def _checked(chunks: Iterator[Clip], name: str) -> Iterator[Clip]:
    for chunk in chunks:
        if not SOURCE_RATES[0] <= chunk.sample_rate <= SOURCE_RATES[1]:
            raise AudioError(
                f"cannot read {name}: damaged (a sample rate of {chunk.sample_rate} Hz)"
            )
        if not (np.abs(chunk.samples) <= LARGEST_SAMPLE).all():  # not a number fails this too
            raise AudioError(f"cannot read {name}: damaged (samples that are not finite numbers)")
        yield chunk


def _resampled(chunks: Iterator[Clip], sample_rate: int) -> Iterator[Floats]:
    """High-quality band-limited resampling (soxr HQ), whose output does not depend on chunking."""
    held = next(chunks, None)
    if held is None:
        return
    if held.sample_rate == sample_rate:
        yield from (chunk.samples for chunk in chain([held], chunks))
        return
    resampler = soxr.ResampleStream(held.sample_rate, sample_rate, 1, dtype="float32", quality="HQ")
    # One chunk is held back: the resampler must be told of the last, and cannot take an empty one.
    for chunk in chunks:
        yield resampler.resample_chunk(held.samples)
        held = chunk
    yield resampler.resample_chunk(held.samples, last=True)
