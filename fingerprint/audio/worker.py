"""Decoding in a process of its own, which may die, hang or swell without harm, and opens nothing.

The process imports the decoders, gives up the right to open files (`sandbox`), and then decodes
what it is handed: open descriptors. It answers in plain bytes, a line of JSON and samples, because
whoever takes over a decoder must not be able to choose what its parent unpickles.
"""

import json
import os
import signal
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

from fingerprint.audio import ffmpeg, sandbox
from fingerprint.audio.decode import LONGEST_STREAM, opened, resampled, stream_clip
from fingerprint.audio.ffmpeg import scratch
from fingerprint.audio.files import display_name, without_password
from fingerprint.audio.report import Damage, DecodeReport
from fingerprint.audio.tags import read_tags
from fingerprint.errors import AudioError
from fingerprint.types import Clip, Tags

MEMORY = 4 << 30  # bytes a process may map, its libraries included
PATIENCE = 300.0  # s a process may take for 20 minutes of sound, or a part; healthy ones take a few
LONGEST = 20 * 60.0  # s of sound in one answer: 38 MB at 8 kHz
STARTS = 3  # of a process that dies before it is ready; then something is wrong with all of them
LARGEST_ANSWER = 1 << 28  # bytes
EVERYWHERE = Path("/")  # may be read where the ffmpeg program decodes: it opens its input by name
STALLED = 60.0  # s without sound after which a stream has broken off; FFmpeg gives up before
# What is read to find a host and to check its certificate.
NAMES = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf"),
    *("/etc/services", "/etc/protocols", "/etc/ssl", "/etc/pki", "/usr/share/ca-certificates"),
    *("/usr/lib", "/usr/lib64"),
)


@dataclass(frozen=True, slots=True)
class Request:
    """What to decode: the rate (Hz), the length of an answer (s), the part and the audio track."""

    sample_rate: int
    block: float = 60.0
    longest: float = LONGEST  # what is shorter comes in one answer
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
    """The process, as its parent sees it. It is replaced when it dies.

    `since` is when it was started, or asked, or has last answered. With `network` it may connect.
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
        """Hand it a recording; `answer` gets what becomes of it.

        Raises:
            AudioError: the source cannot be opened.
        """
        with opened(source, name, pipes=pipes) as file, _on_disk(file) as number:
            self.since = monotonic()
            hint = Path(str(getattr(file, "name", ""))).suffix
            with suppress(OSError):  # it has died; `answer` will find out
                self.pipe.send_bytes(json.dumps([name, hint, asdict(request)]).encode())
                socket.send_fds(self._socket, [b"\0"], [number])

    def ask_for_stream(self, url: str, sample_rate: int) -> None:
        """Let it open an address; answers come for as long as there is sound."""
        self.since = monotonic()
        request = Request(sample_rate, url=url)
        with suppress(OSError):  # as above
            self.pipe.send_bytes(json.dumps([url, "", asdict(request)]).encode())

    def is_late(self, patience: float) -> bool:
        """Whether it has been silent for longer than `patience` (s)."""
        return monotonic() > self.since + patience

    def answer(self, patience: float = PATIENCE) -> Answer | None:
        """The next answer, once `pipe` is ready; None for the word that it is ready itself.

        Raises:
            EOFError: it has died, or what it says makes no sense, or it has stopped for `patience`
                (s) in the midst of it, when `BlockingIOError` is the cause; it was replaced.
            AudioError: none of several could start.
        """
        try:
            self._wait_at_most(patience)
            message = self.pipe.recv_bytes(LARGEST_ANSWER)
            self.since = monotonic()
            self.ready, self._failed_starts = True, 0
            return _parsed(message) if message else None
        except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
            self._failed_starts += not self.ready
            if self._failed_starts == STARTS:
                raise AudioError("the decoding processes cannot start") from error
            self.restart()
            raise EOFError from error

    def _wait_at_most(self, seconds: float) -> None:
        """What is read from the socket from now on may be waited for no longer than that."""
        if hasattr(socket, "SO_RCVTIMEO"):
            whole, part = divmod(seconds, 1)
            timeval = struct.pack("@ll", int(whole), int(part * 1e6))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)

    def restart(self) -> None:
        """End the process, whatever it does, and begin another one."""
        self.stop()
        self._start()

    def stop(self) -> None:
        self.pipe.close()
        self._socket.close()
        self._process.kill()  # a decoder that hangs may not hear anything else
        self._process.wait()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        boot = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            f"from fingerprint.audio.worker import serve; "
            f"serve({theirs.fileno()}, network={self._network})"
        )
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", boot],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if _is_open(2) else subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        self.ready = False
        self.since = monotonic()
        self.pipe = Connection(os.dup(ours.fileno()))
        self._socket = ours


def _is_open(number: int) -> bool:
    """Whether a program that is started gets this descriptor."""
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
    """What an address plays, for as long as it does, from a process that may connect.

    Raises:
        AudioError: as `network_chunks`; or the decoder crashes on it, or stands still.
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
    """Everything that a process answers to a request."""
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
    """Why a recording got no answer: the process died, or stopped in the midst of one."""
    return late(patience) if isinstance(error.__cause__, BlockingIOError) else CRASHED


def late(patience: float) -> str:
    """Why a recording is given up that takes too long."""
    return f"it takes over {patience:.0f} s to decode"


def confinement() -> str:
    """How strangers' recordings are confined here, for `info`."""
    if not sandbox.abi():
        return "processes of their own; this system has no Landlock to keep them from opening files"
    if _needs_program():
        return "processes of their own that write nothing and open no connection (Landlock)"
    return "processes of their own that open no files (Landlock)"


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


# In the process


def serve(number: int, *, network: bool = False) -> None:
    """A worker's life; it ends with its parent's."""
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
    """The sound of an address as it comes."""
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
    """Import and open whatever a decoder does lazily, while it may."""
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
    """Load what finds hosts, while it may."""
    with suppress(OSError):
        socket.getaddrinfo("localhost", 80)


def _limit() -> None:
    """Take less than the machine has."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _stderr_caught() -> BinaryIO:
    """A file that takes the place of stderr: libraries complain there by themselves."""
    words = scratch()
    os.dup2(words.fileno(), 2)
    return words


def _said(words: BinaryIO) -> str:
    words.seek(0)
    said = words.read(1_000).decode(errors="replace").split("\n")
    words.seek(0)
    words.truncate()
    return next((" ".join(line.split()) for line in said if line.strip()), "")
