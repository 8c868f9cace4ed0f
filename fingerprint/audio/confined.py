"""`load_clip` and `stream_clip` in confined processes, which are started on demand and kept.

These are the functions that callers outside of `audio` use. `decode` has the same ones without the
process.
"""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fingerprint.audio.report import DecodeReport
from fingerprint.audio.source import LONGEST_CLIP
from fingerprint.audio.worker import ConfinedDecoder
from fingerprint.types import Clip

_idle: list[ConfinedDecoder] = []


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
    """Decode a recording to mono at `sample_rate` (Hz), in a process that can open no files.

    Channels are averaged; the level is unchanged. `start` and `seconds` (s) cut a part exactly, at
    the file's own sample rate, before resampling. Of a damaged file the decodable part is returned,
    and `report` lists the damage. A stream, such as standard input, is read to its end. `name`
    stands for the source in error messages; `stream` is the number of an audio track, from 1 on.

    Raises:
        AudioError: the source is missing, unreadable, not audio, holds no samples, or more than
            `LONGEST_CLIP`.
    """
    with _decoder() as decoder:
        return decoder.load(
            source,
            sample_rate,
            start=start,
            seconds=seconds,
            longest=LONGEST_CLIP,
            name=name,
            stream=stream,
            report=report,
        )


def stream_clip(
    source: Path | BinaryIO, sample_rate: int, *, block: float, name: str | None = None
) -> Iterator[Clip]:
    """Decode a recording in consecutive blocks of `block` seconds; the last is shorter.

    Raises:
        AudioError: as `load_clip`, possibly after some blocks.
    """
    with _decoder() as decoder:
        yield from decoder.blocks(source, sample_rate, block=block, name=name)


@contextmanager
def _decoder() -> Iterator[ConfinedDecoder]:
    """An idle decoder, or a new one; it is idle again afterwards."""
    try:
        decoder = _idle.pop()
    except IndexError:
        decoder = ConfinedDecoder()
    try:
        yield decoder
    finally:
        _idle.append(decoder)


def _close() -> None:
    while _idle:
        _idle.pop().close()


atexit.register(_close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # the processes belong to the parent
