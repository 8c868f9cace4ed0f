"""The confined process that decodes (`worker` is its parent's side).

It imports the decoders, gives up the right to open files (`sandbox`), and then decodes open file
descriptors that it receives.
"""

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fingerprint.audio import ffmpeg, sandbox
from fingerprint.audio.decode import resampled, stream_clip
from fingerprint.audio.ffmpeg import scratch
from fingerprint.audio.files import without_password
from fingerprint.audio.report import DecodeReport
from fingerprint.audio.tags import read_tags
from fingerprint.audio.worker import Request
from fingerprint.errors import AudioError
from fingerprint.types import Clip, Tags

MEMORY = 4 << 30  # bytes a process may map, its libraries included
EVERYWHERE = Path("/")  # readable if the ffmpeg program decodes, which opens its input by name
# Files that are read to resolve a host name and to check a certificate.
NAMES = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf"),
    *("/etc/services", "/etc/protocols", "/etc/ssl", "/etc/pki", "/usr/share/ca-certificates"),
    *("/usr/lib", "/usr/lib64"),
)


def confinement() -> str:
    """How decoding is confined on this system, for `info`."""
    if not sandbox.abi():
        return "processes of their own; this system has no Landlock to keep them from opening files"
    if _needs_program():
        return "processes of their own that write nothing and open no connection (Landlock)"
    return "processes of their own that open no files (Landlock)"


def serve(number: int, *, network: bool = False) -> None:
    """Answer requests until the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    connection, ours = Connection(os.dup(number)), socket.socket(fileno=number)
    words = _stderr_caught()
    _warm_up()
    _limit()
    if network:
        _warm_up_names()
        sandbox.confine(readable=list(map(Path, NAMES)), network=True)
    else:
        sandbox.confine([EVERYWHERE] if _needs_program() else [])
    with suppress(EOFError, OSError):
        connection.send_bytes(b"")
        while True:
            name, hint, options = json.loads(connection.recv_bytes())
            request = Request(**options)
            if request.url:
                messages = _streamed(request)
            else:
                _, numbers, _, _ = socket.recv_fds(ours, 1, 1)
                messages = _answers(numbers[0], name, hint, request, words)
            for message in messages:
                connection.send_bytes(message)


def _answers(
    number: int, name: str, hint: str, request: Request, words: BinaryIO
) -> Iterator[bytes]:
    report, tags, held = DecodeReport(), Tags(), list[Clip]()
    duration, long = 0.0, not request.longest
    rate, error = 0, ""
    # Its name is only for its suffix, from which FFmpeg guesses where the content says nothing.
    with open(f"x{hint}", "rb", buffering=0, opener=lambda *_: number) as file:
        try:
            blocks = stream_clip(
                file,
                request.sample_rate,
                block=request.block,
                start=request.start,
                seconds=request.seconds,
                longest=request.most,
                name=name,
                stream=request.stream,
                report=report,
            )
            for clip in blocks:
                held.append(clip)
                duration += clip.duration
                long = long or max(duration, report.announced) > request.longest
                if long:
                    yield from (_message(one, request.sample_rate) for one in held)
                    held = []
            tags = read_tags(file, report.metadata)
            rate = request.sample_rate if held else 0
        except AudioError as failure:
            error = str(failure)
        except MemoryError:
            held, error = [], f"cannot read {name}: not enough memory"
        said = _said(words)
        if said and not report.damage:
            report.add("decoder", f"damaged ({said})")
        header = {
            "rate": rate,
            "ended": True,
            "tags": asdict(tags),
            "damage": [one.as_record() for one in report.damage],
            "error": error,
        }
        pieces = [clip.samples.tobytes() for clip in held] if not error else []
        yield b"".join([json.dumps(header).encode(), b"\n", *pieces])


def _streamed(request: Request) -> Iterator[bytes]:
    """The answers for a network stream, as its sound comes."""
    name, error = without_password(request.url), ""
    try:
        for clip in resampled(ffmpeg.network_chunks(request.url), request.sample_rate, name):
            yield _message(clip, request.sample_rate)
    except AudioError as failure:
        error = str(failure)
    except MemoryError:
        error = f"cannot read {name}: not enough memory"
    header = {"rate": 0, "ended": True, "tags": {}, "damage": [], "error": error}
    yield json.dumps(header).encode() + b"\n"


def _message(clip: Clip, rate: int) -> bytes:
    header = {"rate": rate, "ended": False, "tags": {}, "damage": [], "error": ""}
    return b"".join([json.dumps(header).encode(), b"\n", clip.samples.tobytes()])


def _needs_program() -> bool:
    return not ffmpeg.pyav_installed() and ffmpeg.program_installed()


def _warm_up() -> None:
    """Import and open everything that a decoder loads lazily, before files are forbidden."""
    import encodings.cp1252
    import encodings.idna
    import encodings.latin_1
    import encodings.utf_16
    import encodings.utf_16_be
    import encodings.utf_16_le  # noqa: F401

    import soundfile

    if ffmpeg.pyav_installed():
        ffmpeg.import_all()
    tone = BytesIO()
    soundfile.write(tone, np.zeros(4_000), 16_000, format="WAV")
    for _ in stream_clip(tone, 8_000):
        pass
    read_tags(tone, {})
    with suppress(AudioError):
        list(stream_clip(BytesIO(b"not audio"), 8_000))


def _warm_up_names() -> None:
    """Load the name resolver, before files are forbidden."""
    with suppress(OSError):
        socket.getaddrinfo("localhost", 80)


def _limit() -> None:
    """Limit this process's memory; write no core dumps."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _stderr_caught() -> BinaryIO:
    """A temporary file in place of stderr, to which decoding libraries write messages."""
    words = scratch()
    os.dup2(words.fileno(), 2)
    return words


def _said(words: BinaryIO) -> str:
    words.seek(0)
    said = words.read(1_000).decode(errors="replace").split("\n")
    words.seek(0)
    words.truncate()
    return next((" ".join(line.split()) for line in said if line.strip()), "")
