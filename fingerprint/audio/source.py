"""Open a source of audio: a file, a named pipe, an object in storage, or a stream.

This is all that a process needs that leaves decoding to another one (`worker`).
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from multiprocessing.connection import wait
from pathlib import Path
from typing import BinaryIO

from fingerprint.audio.files import reason
from fingerprint.audio.objects import address_of, fetched
from fingerprint.errors import AudioError

LARGEST_STREAM = 1 << 30  # bytes; a pipe is held in memory
SILENT_PIPE = 20.0  # s without a byte after which a named pipe is given up
LONGEST_CLIP = 4 * 3600.0  # s in memory at once: 460 MB at 8 kHz
LONGEST_STREAM = 24 * 3600.0  # s; more is a mistake, or a decompression bomb


@contextmanager
def opened(source: Path | BinaryIO, name: str, *, pipes: bool = True) -> Iterator[BinaryIO]:
    """The source as a seekable binary file; a pipe is first read into memory, or refused.

    Raises:
        AudioError: it cannot be read, is a device, or a pipe into which nothing is written.
    """
    try:
        if isinstance(source, Path) and address_of(source):
            with fetched(source) as file:
                yield file
        elif isinstance(source, Path):
            with open_recording(source) as file:
                if not pipes and not file.seekable():
                    raise OSError("it is a pipe, not a file")
                yield file if file.seekable() else _slurped(file, name, patience=SILENT_PIPE)
        else:
            yield source if _is_file(source) else _slurped(source, name)
    except OSError as error:
        raise AudioError(f"cannot read {name}: {reason(error)}") from error


def open_recording(path: Path) -> BinaryIO:
    """Open a file or a named pipe, without waiting until a program writes into the pipe.

    Raises:
        OSError: it cannot be opened, or is a folder or a device.
    """
    try:
        return path.open("rb", buffering=0) if os.name == "nt" else _opened_at_once(path)
    except ValueError as error:  # a null character
        raise OSError(str(error)) from error


def _opened_at_once(path: Path) -> BinaryIO:
    def opener(_path: str, flags: int) -> int:
        number = os.open(path, flags | os.O_NONBLOCK)
        os.set_blocking(number, True)
        return number

    file = open(path, "rb", buffering=0, opener=opener)  # noqa: SIM115 - it is returned
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        file.close()
        raise OSError("it is a device, not a recording")
    return file


def _is_file(stream: BinaryIO) -> bool:
    """Whether a stream can be read again from its beginning, as standard input from a file."""
    if isinstance(stream, BytesIO):
        return True
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode) and stream.tell() == 0
    except (OSError, ValueError):
        return False


def _slurped(stream: BinaryIO, name: str, *, patience: float | None = None) -> BytesIO:
    """Read a whole pipe; bytes must come within `patience` (s), if given."""
    buffer = BytesIO()
    while True:
        if patience and not wait([stream.fileno()], patience):
            raise AudioError(f"cannot read {name}: a pipe into which nothing is written")
        if not (data := stream.read(1 << 20)):
            return buffer
        buffer.write(data)
        if buffer.tell() > LARGEST_STREAM:
            raise AudioError(f"cannot read {name}: a stream over 1 GiB; save it as a file first")
