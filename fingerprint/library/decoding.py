"""Decoding many recordings at once, in processes that may die, hang or swell without harm.

The processes import this module, hence nothing heavier than the decoders. Each has a pipe of its
own, unlike those of `concurrent.futures`: so the end of a pipe says which file killed its decoder,
and a process killed in the middle of an answer leaves nobody waiting for the rest of it.
"""

import signal
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic

import numpy as np

from fingerprint.audio.decode import announced_duration, stream_clip
from fingerprint.audio.files import display_name
from fingerprint.audio.tags import read_tags
from fingerprint.errors import AudioError
from fingerprint.types import Clip, Tags

STARTS = 3  # of a process that dies before it is ready; then something is wrong with all of them
LONGEST = 20 * 60.0  # s that are decoded at once: 38 MB at 8 kHz
PATIENCE = 300.0  # s a process may take for so much, or a part; a healthy one takes a few
MEMORY = 4 << 30  # bytes a process may map, its libraries included


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A whole recording."""

    tags: Tags
    clip: Clip


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The next block of a recording that lasts more than `LONGEST`."""

    clip: Clip


@dataclass(frozen=True, slots=True)
class Ended:
    """There are no more parts."""

    tags: Tags


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A file that gives no recording, nor any more parts of one: a sentence that names it."""

    reason: str


Outcome = Decoded | Part | Ended | Undecodable


def decode_all(
    paths: Iterable[Path], sample_rate: int, *, jobs: int
) -> Generator[tuple[Path, Outcome], None, None]:
    """Decode files in `jobs` processes, in the order in which they get done.

    Each file gives one outcome, a long one its parts and an end; those of several long files come
    interleaved. With 0 jobs they are decoded in this process, which a decoder that crashes takes
    along. At most one outcome a process waits, however slowly they are taken.

    Raises:
        RuntimeError: the processes cannot start.
    """
    if not jobs:
        yield from ((path, outcome) for path in paths for outcome in decode(path, sample_rate))
        return
    waiting = deque(paths)
    workers = [_Worker(sample_rate) for _ in range(min(jobs, len(waiting)))]
    try:
        while waiting or any(worker.path is not None for worker in workers):
            for worker in _ready(workers, PATIENCE):
                answer = worker.answer()
                if waiting and worker.ready and worker.path is None:
                    worker.ask(waiting.popleft())
                if answer:
                    yield answer
    finally:
        for worker in workers:
            worker.stop()


def decode(path: Path, sample_rate: int) -> Iterator[Outcome]:
    """What a process does for one file."""
    held: list[Clip] = []
    duration = 0.0
    long = announced_duration(path) > LONGEST
    try:
        for block in stream_clip(path, sample_rate):
            held.append(block)
            duration += block.duration
            if long := long or duration > LONGEST:
                yield from map(Part, held)
                held = []
        yield Ended(read_tags(path)) if long else Decoded(read_tags(path), _joined(held))
    except AudioError as error:
        yield Undecodable(str(error))
    except MemoryError:
        yield Undecodable(f"cannot read {display_name(path)}: not enough memory")


def _joined(blocks: list[Clip]) -> Clip:
    return Clip(np.concatenate([block.samples for block in blocks]), blocks[0].sample_rate)


class _Worker:
    """A process that decodes one file at a time, and is replaced when it dies.

    `path` is the file in its hands, of which it last spoke at `since`; it is `ready` for its first
    one once it has said so.
    """

    pipe: Connection

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self.path: Path | None = None
        self.since = monotonic()  # or when it was started, or asked
        self._failed_starts = 0  # in a row
        self._start()

    def ask(self, path: Path) -> None:
        self.path = path
        self.since = monotonic()
        with suppress(OSError):  # it has died; `answer` will find out
            self.pipe.send(path)

    def answer(self) -> tuple[Path, Outcome] | None:
        """What came of `path`; None if there was none, and it has only started or died."""
        path, self.path = self.path, None
        why = "the decoder crashed on it"
        try:
            if path is not None and not self.pipe.poll():
                why = _LATE
                raise EOFError
            outcome = self.pipe.recv()
            self.ready, self._failed_starts = True, 0
            if isinstance(outcome, Part):
                self.path, self.since = path, monotonic()
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
        return path, outcome or Undecodable(f"cannot read {display_name(path)}: {why}")

    def stop(self) -> None:
        self.pipe.close()
        self._process.kill()  # a decoder that hangs may not hear anything else
        self._process.join()  # not closed: another thread may have reaped it, which close refuses

    def _start(self) -> None:
        # Spawned, not forked: this process runs torch's threads.
        context = get_context("spawn")
        self.ready = False
        self.since = monotonic()
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._sample_rate), daemon=True
        )
        self._process.start()
        theirs.close()  # so that its death ends the pipe


_LATE = f"it takes over {PATIENCE:.0f} s to decode"


def _ready(workers: list[_Worker], patience: float) -> list[_Worker]:
    """Those that have something to say, or have had a file for too long, once there are any."""
    while True:
        busy = [worker.since + patience for worker in workers if worker.path is not None]
        left = max(0.0, min(busy) - monotonic()) if busy else None
        talking = wait([worker.pipe for worker in workers], left)
        now = monotonic()
        ready = [
            worker
            for worker in workers
            if worker.pipe in talking or (worker.path is not None and now > worker.since + patience)
        ]
        if ready:
            return ready


def _serve(pipe: Connection, sample_rate: int) -> None:
    """A worker's life; it ends with its parent's."""
    _restrain()
    with suppress(EOFError, OSError):
        pipe.send(None)
        while True:
            for outcome in decode(pipe.recv(), sample_rate):
                pipe.send(outcome)


def _restrain() -> None:
    """Take less than the machine has, and leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limits
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        limit = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))
