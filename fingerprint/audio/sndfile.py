"""Decoding through libsndfile: for what FFmpeg gives up on, and where there is no FFmpeg.

It stops at the first bad frame of a FLAC, behind the first link of a chained Ogg, and at an
estimated end of an MP3 without a Xing header. Whenever it has left bytes of a file unread it says
so, for another decoder to go on.
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

UNREAD = 1 << 16  # bytes at the end of a compressed file that may be tags
COMPRESSED = frozenset({"MP3", "OGG", "FLAC"})


class StoppedError(DecoderError):
    """The decoder stopped before the end of the file."""


def sndfile_chunks(file: BinaryIO | Part, report: DecodeReport) -> Iterator[Clip]:
    """Mono chunks at the file's own rate.

    Raises:
        DecoderError: it is nothing that libsndfile reads; a `StoppedError` after some chunks.
    """
    file.seek(0)
    target: BinaryIO | Part | int = file
    if not isinstance(file, BytesIO | Part):
        # By number: faster, and libsndfile cannot judge the content by the name.
        target = file.fileno()
        lseek(target, 0, SEEK_SET)  # where the file object has a buffer
    read = 0
    try:
        with _Decoder(target, closefd=False) as decoder:
            if decoder.format != "MP3" and not report.announced:
                report.announced = decoder.frames / decoder.samplerate
            while len(samples := decoder.read(CHUNK, dtype="float32", always_2d=True)):
                yield Clip(mono(samples.T), decoder.samplerate)
                read += len(samples)
                if len(samples) < CHUNK:  # the end, or damage that MP3 only gets over by a seek
                    decoder.seek(decoder.tell())
            if decoder.format in COMPRESSED:
                _expect_end(file)
    except soundfile.LibsndfileError as error:
        words = error.error_string.strip(" .") or "no whole frame"
        kind = StoppedError if read else DecoderError
        raise kind(f"not audio, or damaged ({words})") from error


def _expect_end(file: BinaryIO | Part) -> None:
    if isinstance(file, BytesIO | Part):
        at, size = file.tell(), file.seek(0, SEEK_END)
    else:
        at = lseek(file.fileno(), 0, SEEK_CUR)
        size = lseek(file.fileno(), 0, SEEK_END)
        lseek(file.fileno(), at, SEEK_SET)
    if size - at > UNREAD:
        raise StoppedError(f"{(size - at) / size:.0%} of its bytes were not read")


class _Decoder(soundfile.SoundFile):  # type: ignore[misc]  # it is untyped
    """Reads MP3 straight on, where `SoundFile.read` would seek after every chunk.

    A frame of MP3 keeps part of its data in frames before it: many, where they are small. After a
    seek libmpg123 goes back to too few of them, and spoils the frames that follow.
    """

    def seekable(self) -> bool:
        return self.format != "MP3" and bool(super().seekable())
