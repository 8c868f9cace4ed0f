"""Audio files and streams to `Clip`: all the sound that a player would play, in order.

A recording is processed in chunks: decoded and averaged to mono, cut, cleaned, resampled, joined.
So a 4-hour file needs no more memory than a short one, and a clip equals the concatenation of its
blocks because both come from the same chain. Where one decoder fails, the next one continues; audio
that no decoder reads is listed in the `DecodeReport`.
"""

from collections.abc import Callable, Iterator
from functools import partial
from io import SEEK_END
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soxr

from fingerprint.audio import ffmpeg
from fingerprint.audio.ffmpeg import DecoderError
from fingerprint.audio.files import display_name
from fingerprint.audio.formats import SNDFILE_SUFFIXES, suffix_of
from fingerprint.audio.joined import Part, promised_end, recordings
from fingerprint.audio.report import DecodeReport, announced_by_header, torn_unit
from fingerprint.audio.sndfile import sndfile_chunks
from fingerprint.audio.source import LONGEST_CLIP, LONGEST_STREAM, opened
from fingerprint.audio.trailing import ape_texts
from fingerprint.errors import AudioError
from fingerprint.types import Clip, Floats

SOURCE_RATES = (1_000, 6_000_000)  # Hz; a header that says otherwise is damaged
LOWEST_BIT_RATE = 500  # bit/s; a header that implies less is wrong
MISSING = 0.01  # share of its bytes by which a header may be wrong
LARGEST_SAMPLE = 2.0**31  # float files may hold integers; beyond 32 bits it is not audio
MENDABLE = 0.01  # share of samples that may be not finite


def load_clip(
    source: Path | BinaryIO,
    sample_rate: int,
    *,
    start: float = 0.0,
    seconds: float | None = None,
    name: str | None = None,
    stream: int | None = None,
    report: DecodeReport | None = None,
) -> Clip:
    """Decode a recording to mono at `sample_rate` (Hz).

    Channels are averaged; the level stays the file's. `start` and `seconds` (s) cut exactly, at the
    file's own samples, before resampling. Of a damaged file the decodable part is returned, and
    `report` lists the damage. A stream, such as standard input, is read to its end. `name` stands
    for the source in error messages; `stream` is the number of an audio track, from 1 on.

    Raises:
        AudioError: the source is missing, unreadable, not audio, holds no samples, or more than
            `LONGEST_CLIP`.
    """
    cut = _Cut(sample_rate, start, seconds, LONGEST_CLIP)
    pieces = list(_pieces(source, cut, name or _name(source), stream, report or DecodeReport()))
    return Clip(np.concatenate(pieces), sample_rate)


def stream_clip(
    source: Path | BinaryIO,
    sample_rate: int,
    *,
    block: float = 60.0,
    start: float = 0.0,
    seconds: float | None = None,
    longest: float | None = None,
    name: str | None = None,
    stream: int | None = None,
    report: DecodeReport | None = None,
) -> Iterator[Clip]:
    """Decode a recording in consecutive blocks of `block` seconds; the last is shorter.

    Their concatenation equals `load_clip(source, sample_rate)`; memory does not grow with the file.
    `report` has the announced length from the first block on, and the damage at the end.

    Raises:
        AudioError: as `load_clip`, possibly after some blocks; the recording is longer than
            `longest` (s), by default `LONGEST_STREAM`.
    """
    size = max(1, round(block * sample_rate))
    pending, held = list[Floats](), 0
    cut = _Cut(sample_rate, start, seconds, longest or LONGEST_STREAM)
    for piece in _pieces(source, cut, name or _name(source), stream, report or DecodeReport()):
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


def resampled(chunks: Iterator[Clip], sample_rate: int, name: str) -> Iterator[Clip]:
    """Resample mono chunks of any rates to clips at `sample_rate` (Hz), one by one.

    Raises:
        AudioError: the samples are not audio.
    """
    for piece in _resampled(_mended(chunks, name, DecodeReport()), sample_rate):
        if len(piece):
            yield Clip(piece, sample_rate)


def _name(source: Path | BinaryIO) -> str:
    return display_name(source) if isinstance(source, Path) else "the audio stream"


class _Cut:
    """The part of a recording that is wanted: sample rate, start, length, and limit (s)."""

    def __init__(
        self, sample_rate: int, start: float, seconds: float | None, longest: float
    ) -> None:
        if sample_rate <= 0 or not start >= 0 or (seconds is not None and not seconds > 0):
            raise ValueError(f"impossible cut: {sample_rate} Hz, from {start} s, {seconds} s long")
        self.sample_rate, self.start, self.seconds = sample_rate, start, seconds
        self.longest = longest

    def exceeded(self, length: float) -> bool:
        """Whether a recording of `length` seconds is longer than is allowed."""
        return min(length - self.start, self.seconds or length) > self.longest


def _pieces(
    source: Path | BinaryIO, cut: _Cut, name: str, stream: int | None, report: DecodeReport
) -> Iterator[Floats]:
    """The whole chain: samples at the requested rate, at least one piece and none empty."""
    held = 0
    with opened(source, name) as file:
        decoded = _after(_decoded(file, cut, name, stream, report), cut.start)
        chunks = _mended(_before(decoded, cut.seconds), name, report)
        try:
            for piece in _resampled(chunks, cut.sample_rate):
                held += len(piece)
                if held > cut.longest * cut.sample_rate:
                    raise _too_long(name, cut)
                if len(piece):
                    yield piece
        except MemoryError as error:  # a damaged header may demand more than the machine has
            raise AudioError(f"cannot read {name}: not enough memory") from error
    if not held:
        after = f" after {cut.start:g} s" if cut.start else ""
        raise AudioError(f"cannot read {name}: it holds no audio, or too little{after}")


def _too_long(name: str, cut: _Cut) -> AudioError:
    return AudioError(f"cannot use {name}: it lasts over {cut.longest / 3600:g} h; cut it up")


# Decoding


Decode = Callable[[BinaryIO | Part, DecodeReport], Iterator[Clip]]


def _decoders(stream: int | None) -> list[Decode]:
    """The decoders, in the order in which they are tried."""
    if ffmpeg.pyav_installed():
        found: list[Decode] = [partial(ffmpeg.pyav_chunks, stream=stream), sndfile_chunks]
    else:
        found = [sndfile_chunks]
        if ffmpeg.program_installed():
            found.append(partial(ffmpeg.program_chunks, stream=stream))
    return [one for one in found if one is not sndfile_chunks] if (stream or 1) > 1 else found


def _decoded(
    file: BinaryIO, cut: _Cut, name: str, stream: int | None, report: DecodeReport
) -> Iterator[Clip]:
    """Mono chunks, at the file's own rates, of all recordings that it holds."""
    size = file.seek(0, SEEK_END)
    if not size:
        raise AudioError(f"cannot read {name}: the file is empty")
    parts, failures, tags = recordings(file), list[DecoderError](), ape_texts(file)
    for number, part in enumerate(parts, 1):
        own, before, started = DecodeReport(), report.announced, False
        try:
            for chunk in _recording(part, stream, own):
                report.announced = before + own.announced
                report.metadata = report.metadata or {**tags, **own.metadata}
                if not started and _is_too_long(report.announced, size, cut):
                    raise _too_long(name, cut)
                started = True
                yield chunk
        except DecoderError as error:
            failures.append(error)
            own.add("cut", f"it cannot be decoded ({error})")
        report.include(own, f"recording {number} of {len(parts)}: " if len(parts) > 1 else "")
    if len(failures) == len(parts):
        raise AudioError(f"cannot read {name}: {_why(name, failures[0])}") from failures[0]


def _recording(file: BinaryIO | Part, stream: int | None, report: DecodeReport) -> Iterator[Clip]:
    """Chunks of the first decoder; where it fails or ends too early, the next one continues.

    Raises:
        DecoderError: none of them decodes anything.
    """
    header = announced_by_header(file)
    got, failures = 0.0, list[DecoderError]()
    for decoder in _decoders(stream):
        try:
            for chunk in _after(decoder(file, report), got):
                report.announced = header or report.announced
                got += chunk.duration
                yield chunk
        except DecoderError as error:
            failures.append(error)
            if not got:  # what it says is damaged the next one may decode
                report.damage.clear()
        else:
            if not report.is_short(got):
                failures.clear()
                break
    if failures and not got:
        raise failures[0]
    _settle(file, report, got, failures)


def _is_too_long(announced: float, size: int, cut: _Cut) -> bool:
    """Whether the header announces more than is allowed, and the file is large enough for it."""
    return cut.exceeded(announced) and size * 8 > announced * LOWEST_BIT_RATE


def _settle(
    file: BinaryIO | Part, report: DecodeReport, got: float, failures: list[DecoderError]
) -> None:
    """Report what is missing at the end of a recording."""
    if report.compare_length(got):
        return
    if failures:
        report.add("cut", f"the rest cannot be decoded ({failures[0]})")
    elif unit := torn_unit(file):
        report.add("cut", f"it breaks off within {unit}")
    elif not announced_by_header(file):
        size = file.seek(0, SEEK_END)
        end = max(size, promised_end(file) or 0)
        if end - size > MISSING * size:
            report.add("cut", f"{1 - size / end:.0%} of its bytes are missing by its header")


def _why(name: str, failure: Exception) -> str:
    known = suffix_of(Path(name)) in SNDFILE_SUFFIXES
    if known or ffmpeg.pyav_installed() or ffmpeg.program_installed():
        return str(failure)
    return (
        "its format needs FFmpeg, if it is audio: pip install 'fingerprint[ffmpeg]', "
        "or install the ffmpeg program"
    )


def _after(chunks: Iterator[Clip], start: float) -> Iterator[Clip]:
    """Drop the first `start` seconds."""
    position = 0.0
    for chunk in chunks:
        skipped = max(0, round((start - position) * chunk.sample_rate))
        position += chunk.duration
        if skipped < len(chunk.samples):
            yield Clip(chunk.samples[skipped:], chunk.sample_rate)


def _before(chunks: Iterator[Clip], seconds: float | None) -> Iterator[Clip]:
    """Keep the first `seconds`."""
    position = 0.0
    for chunk in chunks:
        if seconds is None:
            yield chunk
            continue
        left = round((seconds - position) * chunk.sample_rate)
        yield Clip(chunk.samples[:left], chunk.sample_rate)
        position += chunk.duration
        if len(chunk.samples) >= left:
            return


def _mended(chunks: Iterator[Clip], name: str, report: DecodeReport) -> Iterator[Clip]:
    """Set the few samples that are not finite, or far too large, to zero."""
    bad, total, first = 0, 0.0, 0.0
    for chunk in chunks:
        if not SOURCE_RATES[0] <= chunk.sample_rate <= SOURCE_RATES[1]:
            raise AudioError(
                f"cannot read {name}: damaged (a sample rate of {chunk.sample_rate} Hz)"
            )
        samples = chunk.samples
        lowest, highest = samples.min(initial=0), samples.max(initial=0)
        if not (lowest >= -LARGEST_SAMPLE and highest <= LARGEST_SAMPLE):  # or not a number
            good = np.abs(samples) <= LARGEST_SAMPLE
            first = first or total + int(np.argmin(good)) / chunk.sample_rate
            chunk.samples[~good] = 0
            bad += int(np.count_nonzero(~good))
        total += chunk.duration
        if bad > MENDABLE * max(total, 1.0) * chunk.sample_rate:
            raise AudioError(f"cannot read {name}: damaged (samples that are not finite numbers)")
        yield chunk
    if bad:
        words = f"{bad} samples are not numbers, the first at {first:.1f} s; they count as silence"
        report.add("samples", words)


def _resampled(chunks: Iterator[Clip], sample_rate: int) -> Iterator[Floats]:
    """High-quality band-limited resampling (soxr HQ), whose output does not depend on chunking.

    If the source's rate changes, as between joined recordings, a new resampler is used.
    """
    held = next(chunks, None)
    while held is not None:
        rate = held.sample_rate
        if rate == sample_rate:
            yield held.samples
            held = next(chunks, None)
            continue
        resampler = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
        # One chunk is held back, because the resampler needs to know which chunk is the last.
        for chunk in chunks:
            if chunk.sample_rate != rate:
                break
            yield resampler.resample_chunk(held.samples)
            held = chunk
        else:
            chunk = None
        yield resampler.resample_chunk(held.samples, last=True)
        held = chunk
