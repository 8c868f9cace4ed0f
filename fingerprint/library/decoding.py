"""Decode many recordings in parallel, in confined processes (`audio.worker`)."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from time import monotonic

import numpy as np

from fingerprint.audio.decode import stream_clip
from fingerprint.audio.files import display_name
from fingerprint.audio.report import Damage, DecodeReport
from fingerprint.audio.source import opened
from fingerprint.audio.tags import read_tags
from fingerprint.audio.worker import LONGEST, PATIENCE, Answer, Request, Worker, why_ended
from fingerprint.errors import AudioError
from fingerprint.types import Clip, Tags


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A whole recording."""

    tags: Tags
    clip: Clip
    damage: tuple[Damage, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The next block of a recording that lasts more than `LONGEST`."""

    clip: Clip


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a long recording, after its last part."""

    tags: Tags
    damage: tuple[Damage, ...] = ()


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A file that cannot be decoded, or whose rest cannot; `reason` is a sentence with its name."""

    reason: str


Outcome = Decoded | Part | Ended | Undecodable


def decode_all(
    paths: Iterable[Path], sample_rate: int, *, jobs: int, stream: int | None = None
) -> Generator[tuple[Path, Outcome], None, None]:
    """Decode files in `jobs` processes; yields an outcome as soon as there is one.

    A file gives one outcome; a long one gives its parts and then an end, and the parts of several
    long files come interleaved. With 0 jobs files are decoded in this process, which ends if a
    decoder crashes. At most one outcome per process waits to be taken.

    Raises:
        AudioError: the processes cannot start.
    """
    if not jobs:
        for path in paths:
            yield from ((path, outcome) for outcome in decode(path, sample_rate, stream))
        return
    waiting = deque(paths)
    request = Request(sample_rate, stream=stream)
    workers = [_Busy(request) for _ in range(min(jobs, len(waiting)))]
    try:
        while waiting or any(worker.path is not None for worker in workers):
            for worker in _ready(workers):
                answer = worker.outcome()
                yield from worker.ask_for(waiting)
                if answer:
                    yield answer
    finally:
        for worker in workers:
            worker.stop()


def decode(path: Path, sample_rate: int, stream: int | None = None) -> Iterator[Outcome]:
    """The outcomes of one file, decoded in this process."""
    held: list[Clip] = []
    duration = 0.0
    report = DecodeReport()
    long = False
    name = display_name(path)
    try:
        with opened(path, name, pipes=False) as file:
            for block in stream_clip(file, sample_rate, name=name, stream=stream, report=report):
                held.append(block)
                duration += block.duration
                if long := long or max(duration, report.announced) > LONGEST:
                    yield from map(Part, held)
                    held = []
            tags, damage = read_tags(file, report.metadata), tuple(report.damage)
            yield Ended(tags, damage) if long else Decoded(tags, _joined(held), damage)
    except AudioError as error:
        yield Undecodable(str(error))
    except MemoryError:
        yield Undecodable(f"cannot read {name}: not enough memory")


def _joined(blocks: list[Clip]) -> Clip:
    return Clip(np.concatenate([block.samples for block in blocks]), blocks[0].sample_rate)


class _Busy(Worker):
    """A worker process and the file that it decodes."""

    def __init__(self, request: Request) -> None:
        self.path: Path | None = None
        self._request = request
        self._begun = False  # whether a part of the file has been received
        super().__init__()

    def ask_for(self, waiting: deque[Path]) -> Iterator[tuple[Path, Outcome]]:
        """Send the worker the next file if it has none; yields files that cannot be opened."""
        while waiting and self.ready and self.path is None:
            path = waiting.popleft()
            try:
                self.ask(path, display_name(path), self._request, pipes=False)
            except AudioError as error:
                yield path, Undecodable(str(error))
            else:
                self.path, self._begun = path, False

    def outcome(self) -> tuple[Path, Outcome] | None:
        """The outcome of `path`; None without a file: the process has just started, or died."""
        path, self.path = self.path, None
        try:
            if path is not None and not self.pipe.poll():
                self.restart()
                raise EOFError from BlockingIOError()
            answer = self.answer(PATIENCE)
        except EOFError as error:
            name, why = display_name(path) if path else "", why_ended(error, PATIENCE)
            return (path, Undecodable(f"cannot read {name}: {why}")) if path else None
        if path is None or answer is None:
            return None
        if not answer.ended:
            self.path, self._begun = path, True
        return path, self._of(answer)

    def _of(self, answer: Answer) -> Outcome:
        if answer.error:
            return Undecodable(answer.error)
        if answer.ended and (self._begun or answer.clip is None):
            return Ended(answer.tags, answer.damage)
        assert answer.clip is not None  # noqa: S101 - `_begun` without a clip is the case above
        return (
            Decoded(answer.tags, answer.clip, answer.damage) if answer.ended else Part(answer.clip)
        )


def _ready(workers: list[_Busy]) -> list[_Busy]:
    """Wait until workers have an outcome or have exceeded their time; returns these workers."""
    while True:
        busy = [worker.since + PATIENCE for worker in workers if worker.path is not None]
        left = max(0.0, min(busy) - monotonic()) if busy else None
        talking = wait([worker.pipe for worker in workers], left)
        ready = [
            worker
            for worker in workers
            if worker.pipe in talking or (worker.path is not None and worker.is_late(PATIENCE))
        ]
        if ready:
            return ready
