"""Decoding in a confined process, which may crash, hang or use much memory without harm.

This is the parent's side, which needs no decoder itself; what the process does is in
`decoding_process`. The answers are plain bytes, a line of JSON and samples: with pickle, an
attacker who controls a decoder could run code in the parent.
"""

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic
from typing import Any, BinaryIO, Self

import numpy as np

from fingerprint.audio.files import display_name, without_password
from fingerprint.audio.formats import suffix_of
from fingerprint.audio.report import Damage, DecodeReport
from fingerprint.audio.source import LONGEST_STREAM, opened
from fingerprint.errors import AudioError
from fingerprint.types import Clip, Tags

PATIENCE = 300.0  # s for 20 minutes of sound or a part of a long one; normally it takes a few
LONGEST = 20 * 60.0  # s of sound in one answer: 38 MB at 8 kHz
STARTS = 3  # failed starts in a row, after which no further one is tried
LARGEST_ANSWER = 1 << 28  # bytes
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}  # a decoder needs no more, and to start them takes time
STALLED = 60.0  # s without sound after which a stream has broken off; FFmpeg's own limit is shorter


@dataclass(frozen=True, slots=True)
class Request:
    """What to decode: sample rate (Hz), length of an answer (s), part and audio track."""

    sample_rate: int
    block: float = 60.0
    longest: float = LONGEST  # a shorter recording comes in one answer
    stream: int | None = None
    start: float = 0.0  # s
    seconds: float | None = None
    most: float = LONGEST_STREAM  # s; a recording that is longer is refused
    url: str = ""  # in place of a recording


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The next samples of a recording; of the last answer `ended` is true, and the rest known."""

    clip: Clip | None
    ended: bool
    tags: Tags
    damage: tuple[Damage, ...]
    error: str = ""


class Worker:
    """The parent's side of a decoding process, which is replaced when it dies.

    `since` is the time of its start, its last request or its last answer. With `network` it may
    open connections.
    """

    pipe: Connection
    _socket: socket.socket

    def __init__(self, *, network: bool = False) -> None:
        self._network = network
        self._failed_starts = 0  # in a row
        self._start()

    def ask(
        self, source: Path | BinaryIO, name: str, request: Request, *, pipes: bool = True
    ) -> None:
        """Send it a recording to decode; `answer` receives the answers.

        Raises:
            AudioError: the source cannot be opened.
        """
        with opened(source, name, pipes=pipes) as file, _on_disk(file) as number:
            self.since = monotonic()
            hint = suffix_of(Path(str(getattr(file, "name", ""))))
            with suppress(OSError):  # it has died, which `answer` detects
                self.pipe.send_bytes(json.dumps([name, hint, asdict(request)]).encode())
                socket.send_fds(self._socket, [b"\0"], [number])

    def ask_for_stream(self, url: str, sample_rate: int) -> None:
        """Let it open an address; it answers as long as the stream has sound."""
        self.since = monotonic()
        request = Request(sample_rate, url=url)
        with suppress(OSError):  # as above
            self.pipe.send_bytes(json.dumps([url, "", asdict(request)]).encode())

    def is_late(self, patience: float) -> bool:
        """Whether its last sign of life is more than `patience` (s) ago."""
        return monotonic() > self.since + patience

    def answer(self, patience: float = PATIENCE) -> Answer | None:
        """The next answer, once `pipe` is readable; None for the message that the process is ready.

        Raises:
            EOFError: it has died, its answer is malformed, or it has stopped for `patience` (s)
                within an answer (the cause is a `BlockingIOError`); it was replaced.
            AudioError: `STARTS` processes in a row have failed to start.
        """
        try:
            self._wait_at_most(patience)
            message = self.pipe.recv_bytes(LARGEST_ANSWER)
            self.since = monotonic()
            self.ready, self._failed_starts = True, 0
            return _parsed(message) if message else None
        except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
            self._failed_starts += not self.ready
            if self._failed_starts >= STARTS:
                raise AudioError("the decoding processes cannot start") from error
            self.restart()
            raise EOFError from error

    def _wait_at_most(self, seconds: float) -> None:
        """Limit the time that each later read from the socket waits."""
        if hasattr(socket, "SO_RCVTIMEO"):
            whole, part = divmod(seconds, 1)
            timeval = struct.pack("@ll", int(whole), int(part * 1e6))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)

    def restart(self) -> None:
        """Kill the process and start another one."""
        self.stop()
        self._start()

    def stop(self) -> None:
        self.pipe.close()
        self._socket.close()
        self._process.kill()  # a decoder that hangs may ignore other signals
        self._process.wait()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        boot = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            f"from fingerprint.audio.decoding_process import serve; "
            f"serve({theirs.fileno()}, network={self._network})"
        )
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", boot],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if _is_open(2) else subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, **ONE_THREAD},
            )
        self.ready = False
        self.since = monotonic()
        self.pipe = Connection(os.dup(ours.fileno()))
        self._socket = ours


def _is_open(number: int) -> bool:
    """Whether a child process inherits this descriptor."""
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


class ConfinedDecoder:
    """Decodes recordings one after the other in a confined process, which is started at once.

    `patience` is how long (s) it may take for the next block.

    >>> with ConfinedDecoder() as decoder:
    ...     blocks = list(decoder.blocks(Path("song.mp3"), 8_000))
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._worker, self._patience = Worker(), patience

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._worker.stop()

    def load(
        self,
        source: Path | BinaryIO,
        sample_rate: int,
        *,
        start: float = 0.0,
        seconds: float | None = None,
        longest: float,
        name: str | None = None,
        stream: int | None = None,
        report: DecodeReport | None = None,
    ) -> Clip:
        """A whole recording of at most `longest` seconds, or a part of one.

        Raises:
            AudioError: as `load_clip`; or the decoder crashes on it, or takes too long.
        """
        blocks = self.blocks(
            source,
            sample_rate,
            start=start,
            seconds=seconds,
            longest=longest,
            name=name,
            stream=stream,
            report=report,
        )
        return Clip(np.concatenate([clip.samples for clip in blocks]), sample_rate)

    def blocks(
        self,
        source: Path | BinaryIO,
        sample_rate: int,
        *,
        block: float = 60.0,
        start: float = 0.0,
        seconds: float | None = None,
        longest: float = LONGEST_STREAM,
        name: str | None = None,
        stream: int | None = None,
        report: DecodeReport | None = None,
    ) -> Iterator[Clip]:
        """A recording of any length in consecutive blocks, as `stream_clip` gives them."""
        name = name or display_name(source if isinstance(source, Path) else "the audio stream")
        request = Request(
            sample_rate, block, 0.0, stream, start=start, seconds=seconds, most=longest
        )
        _until_ready(self._worker)
        self._worker.ask(source, name, request)
        ended = False
        try:
            for answer in _answers_of(self._worker, name, self._patience):
                ended = answer.ended
                if answer.error:
                    raise AudioError(answer.error)
                if report is not None:
                    report.damage.extend(answer.damage)
                if answer.clip is not None:
                    yield answer.clip
        finally:
            if not ended:
                self._worker.restart()


def stream_confined(url: str, sample_rate: int) -> Iterator[Clip]:
    """The sound of a network stream until it ends, from a process that may open connections.

    Raises:
        AudioError: as `network_chunks`; or the decoder crashes or hangs.
    """
    worker = Worker(network=True)
    try:
        _until_ready(worker)
        worker.ask_for_stream(url, sample_rate)
        for answer in _answers_of(worker, without_password(url), STALLED):
            if answer.error:
                raise AudioError(answer.error)
            if answer.clip is not None:
                yield answer.clip
    finally:
        worker.stop()


def _until_ready(worker: Worker) -> None:
    while not worker.ready:
        with suppress(EOFError):
            worker.answer()


def _answers_of(worker: Worker, name: str, patience: float) -> Iterator[Answer]:
    """All answers of a process to one request."""
    ended = False
    while not ended:
        if not worker.pipe.poll(patience):
            raise AudioError(f"cannot read {name}: {late(patience)}")
        try:
            answer = worker.answer(patience)
        except EOFError as error:
            raise AudioError(f"cannot read {name}: {why_ended(error, patience)}") from None
        if answer is not None:
            ended = answer.ended
            yield answer


CRASHED = "the decoder crashed on it"


def why_ended(error: EOFError, patience: float) -> str:
    """Why a recording got no answer: the process died, or stopped within an answer."""
    return late(patience) if isinstance(error.__cause__, BlockingIOError) else CRASHED


def late(patience: float) -> str:
    """The message for a recording that takes too long to decode."""
    return f"it takes over {patience:.0f} s to decode"


def _parsed(message: bytes) -> Answer:
    line, _, samples = message.partition(b"\n")
    found: dict[str, Any] = json.loads(line)
    clip = None
    if found["rate"]:
        clip = Clip(np.frombuffer(samples, np.float32), int(found["rate"]))
        if not np.isfinite(clip.samples).all():
            raise ValueError("samples that are not numbers")
    return Answer(
        clip,
        bool(found["ended"]),
        Tags(**{name: str(text) for name, text in found["tags"].items()}),
        tuple(map(Damage.of_record, found["damage"])),
        str(found["error"]),
    )


@contextmanager
def _on_disk(file: BinaryIO) -> Iterator[int]:
    if not isinstance(file, BytesIO):
        yield file.fileno()
        return
    with TemporaryFile() as copy:
        copy.write(file.getbuffer())
        copy.seek(0)
        yield copy.fileno()
