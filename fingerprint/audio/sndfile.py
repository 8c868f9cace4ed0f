"""Decoding with libsndfile: the fallback after FFmpeg, and the decoder where there is no FFmpeg.

libsndfile stops at the first bad frame of a FLAC file, after the first link of a chained Ogg file,
and at an estimated end of an MP3 without a Xing header. If it leaves bytes unread, `StoppedError`
is raised, so that another decoder can continue from there.
"""

from collections.abc import Iterator
from io import SEEK_CUR, SEEK_END, BytesIO
from os import SEEK_SET, lseek
from typing import BinaryIO

import soundfile

from fingerprint.audio.ffmpeg import CHUNK, DecoderError, mono
from fingerprint.audio.joined import Part
from fingerprint.audio.report import DecodeReport
from fingerprint.types import Clip

UNREAD = 1 << 16  # bytes at the end of a compressed file that may be unread: tags
COMPRESSED = frozenset({"MP3", "OGG", "FLAC"})


class StoppedError(DecoderError):
    """The decoder stopped before the end of the file."""


def sndfile_chunks(file: BinaryIO | Part, report: DecodeReport) -> Iterator[Clip]:
    """Mono chunks at the file's own sample rate.

    Raises:
        DecoderError: libsndfile cannot read the file; after some chunks, a `StoppedError`.
    """
    file.seek(0)
    target: BinaryIO | Part | int = file
    if not isinstance(file, BytesIO | Part):
        # By descriptor: faster, and libsndfile cannot guess the format from the name.
        target = file.fileno()
        lseek(target, 0, SEEK_SET)  # the file object's own seek may have moved its buffer only
    read = 0
    try:
        with _Decoder(target, closefd=False) as decoder:
            if decoder.format != "MP3" and not report.announced:
                report.announced = decoder.frames / decoder.samplerate
            while len(samples := decoder.read(CHUNK, dtype="float32", always_2d=True)):
                yield Clip(mono(samples.T), decoder.samplerate)
                read += len(samples)
                if len(samples) < CHUNK:  # the end, or damage, after which MP3 needs a seek
                    decoder.seek(decoder.tell())
            if decoder.format in COMPRESSED:
                _expect_end(file)
    except soundfile.LibsndfileError as error:
        words = error.error_string.strip(" .") or "no whole frame"
        kind = StoppedError if read else DecoderError
        raise kind(f"not audio, or damaged ({words})") from error


def _expect_end(file: BinaryIO | Part) -> None:
    """Raises StoppedError if more than `UNREAD` bytes were not read."""
    if isinstance(file, BytesIO | Part):
        at, size = file.tell(), file.seek(0, SEEK_END)
    else:
        at = lseek(file.fileno(), 0, SEEK_CUR)
        size = lseek(file.fileno(), 0, SEEK_END)
        lseek(file.fileno(), at, SEEK_SET)
    if size - at > UNREAD:
        raise StoppedError(f"{(size - at) / size:.0%} of its bytes were not read")


class _Decoder(soundfile.SoundFile):  # type: ignore[misc]  # it is untyped
    """A `SoundFile` that reads MP3 sequentially; `SoundFile.read` seeks after every chunk.

    An MP3 frame has part of its data in earlier frames (the bit reservoir), in many of them if they
    are small. After a seek, libmpg123 reads too few of these, and decodes the next frames wrongly.
    """

    def seekable(self) -> bool:
        return self.format != "MP3" and bool(super().seekable())
