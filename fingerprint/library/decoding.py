"""Decoding many recordings at once, in processes that may die without harm.

The processes import this module, hence nothing heavier than the decoders. Each has a pipe of its
own, unlike those of `concurrent.futures`: so the end of a pipe says which file killed its decoder,
and a process killed in the middle of an answer leaves nobody waiting for the rest of it.
"""

import signal
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np

from fingerprint.audio.decode import stream_clip
from fingerprint.audio.files import display_name
from fingerprint.audio.tags import read_tags
from fingerprint.errors import AudioError
from fingerprint.types import Clip, Tags

STARTS = 3  # of a process that dies before it is ready; then something is wrong with all of them
LONGEST = 20 * 60.0  # s that are decoded at once: 38 MB at 8 kHz


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A recording; `clip` is None if it is over `LONGEST` and must be streamed."""

    tags: Tags
    clip: Clip | None


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A file that gives no recording, and why: a sentence that names it."""

    reason: str


Outcome = Decoded | Undecodable


def decode_all(
    paths: Iterable[Path], sample_rate: int, *, jobs: int
) -> Generator[tuple[Path, Outcome], None, None]:
    """Decode files in `jobs` processes, in the order in which they get done.

    With 0 jobs they are decoded in this process, which a decoder that crashes takes along. At
    most one recording a process waits, however slowly they are taken.

    Raises:
        RuntimeError: the processes cannot start.
    """
    if not jobs:
        yield from ((path, decode(path, sample_rate)) for path in paths)
        return
    waiting = deque(paths)
    workers = [_Worker(sample_rate) for _ in range(min(jobs, len(waiting)))]
    try:
        while waiting or any(worker.path is not None for worker in workers):
            for worker in _ready(workers):
                answer = worker.answer()
                if waiting and worker.ready:
                    worker.ask(waiting.popleft())
                if answer:
                    yield answer
    finally:
        for worker in workers:
            worker.stop()


def decode(path: Path, sample_rate: int) -> Outcome:
    """What a process does for one file."""
    blocks: list[Clip] = []
    duration = 0.0
    try:
        for block in stream_clip(path, sample_rate):
            blocks.append(block)
            duration += block.duration
            if duration > LONGEST:
                return Decoded(read_tags(path), None)
    except AudioError as error:
        return Undecodable(str(error))
    except MemoryError:
        return Undecodable(f"cannot read {display_name(path)}: not enough memory")
    samples = np.concatenate([block.samples for block in blocks])
    return Decoded(read_tags(path), Clip(samples, sample_rate))


class _Worker:
    """A process that decodes one file at a time, and is replaced when it dies.

    `path` is the file in its hands; it is `ready` for its first one once it has said so.
    """

    pipe: Connection

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self.path: Path | None = None
        self._failed_starts = 0  # in a row
        self._start()

    def ask(self, path: Path) -> None:
        self.path = path
        with suppress(OSError):  # it has died; `answer` will find out
            self.pipe.send(path)

    def answer(self) -> tuple[Path, Outcome] | None:
        """What became of `path`; None if there was none, and it has only started or died."""
        path, self.path = self.path, None
        try:
            outcome = self.pipe.recv()
            self.ready, self._failed_starts = True, 0
        except (EOFError, OSError) as error:
            self._failed_starts += not self.ready
            if self._failed_starts == STARTS:
                raise RuntimeError(
                    "the decoding processes cannot start; a script must begin its work under "
                    '`if __name__ == "__main__":`, or index with jobs=0'
                ) from error
            self.stop()
            self._start()
            outcome = None
        if path is None:
            return None
        crashed = Undecodable(f"cannot read {display_name(path)}: the decoder crashed on it")
        return path, outcome or crashed

    def stop(self) -> None:
        self.pipe.close()
        self._process.terminate()
        self._process.join()  # not closed: another thread may have reaped it, which close refuses

    def _start(self) -> None:
        # Spawned, not forked: this process runs torch's threads.
        context = get_context("spawn")
        self.ready = False
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._sample_rate), daemon=True
        )
        self._process.start()
        theirs.close()  # so that its death ends the pipe


def _ready(workers: list[_Worker]) -> list[_Worker]:
    """Those that have something to say, once there are any."""
    talking = wait([worker.pipe for worker in workers])
    return [worker for worker in workers if worker.pipe in talking]


def _serve(pipe: Connection, sample_rate: int) -> None:
    """A worker's life; it ends with its parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    with suppress(EOFError, OSError):
        pipe.send(None)
        while True:
            pipe.send(decode(pipe.recv(), sample_rate))
