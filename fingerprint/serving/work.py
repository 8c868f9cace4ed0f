"""The work behind a request: decoding and recognition, off the event loop, and only so much of it.

A desk has a number of threads and a queue of bounded length. Who comes when it is full is sent
away at once. Recordings are decoded by a number of confined processes, which threads borrow.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from time import monotonic, perf_counter
from typing import BinaryIO, TypeVar

import numpy as np

from fingerprint.audio.report import Damage, DecodeReport
from fingerprint.audio.worker import ConfinedDecoder
from fingerprint.errors import AudioError
from fingerprint.serving.metrics import Metrics
from fingerprint.serving.places import Places
from fingerprint.serving.problems import Problem
from fingerprint.types import Clip

T = TypeVar("T")
BLOCK = 10.0  # s of sound that are decoded at a time


class Desk:
    """Threads that work.

    Args:
        name: of the desk, in the metrics.
        workers: how many jobs are done at once.
        waiting: how many more may wait.
    """

    def __init__(self, name: str, workers: int, waiting: int, metrics: Metrics) -> None:
        self.name, self._metrics = name, metrics
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
        most = workers + waiting
        share = max(1, most * 3 // 4)  # of one client, so that it keeps nobody else waiting
        detail = f"{most} requests are being worked on or wait"
        self._places = Places(most, share, detail, metrics.queue.labels(name).set)

    def check(self, client: str) -> None:
        """Raises Problem if a client's job would be refused now."""
        self._places.check(client)

    async def run(self, client: str, job: Callable[[], T]) -> T:
        """Do a client's job in a thread. It goes on where the client has left meanwhile.

        Raises:
            Problem: there is too much to do.
        """
        self._places.take(client)
        begin = perf_counter()

        def work() -> T:
            self._metrics.phase.labels("queue").observe(perf_counter() - begin)
            return job()

        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        future.add_done_callback(lambda _: self._places.leave(client))
        return await asyncio.shield(future)

    @property
    def working(self) -> bool:
        return self._places.total > 0

    def close(self) -> None:
        """Take no more jobs, and drop those that wait."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Decoders:
    """Confined processes that decode, one for each thread that may ask.

    `patience` is how long (s) one may take for a block.
    """

    def __init__(self, count: int, patience: float) -> None:
        self._all = [ConfinedDecoder(patience) for _ in range(count)]
        self._free: SimpleQueue[ConfinedDecoder] = SimpleQueue()
        for decoder in self._all:
            self._free.put(decoder)

    @contextmanager
    def lend(self) -> Iterator[ConfinedDecoder]:
        decoder = self._free.get()
        try:
            yield decoder
        finally:
            self._free.put(decoder)

    def close(self) -> None:
        """End the processes; what a thread is decoding fails."""
        for decoder in self._all:
            decoder.close()


@dataclass(slots=True)
class Bounds:
    """How long a recording may be, and how long decoding it may take."""

    seconds: float  # of sound
    within: float  # s
    end: float = field(init=False)

    def __post_init__(self) -> None:
        self.end = monotonic() + self.within


def blocks(
    decoders: Decoders, file: BinaryIO, rate: int, name: str, bounds: Bounds, report: DecodeReport
) -> Iterator[Clip]:
    """A recording that a client has sent, block by block.

    Raises:
        Problem: it cannot be read, or is too long, or takes too long.
    """
    got = 0.0
    try:
        with decoders.lend() as decoder:
            for clip in decoder.blocks(file, rate, block=BLOCK, name=name, report=report):
                got += clip.duration
                if got > bounds.seconds:
                    raise Problem("too-long", f"at most {bounds.seconds:g} s of sound are taken")
                if monotonic() > bounds.end:
                    raise Problem("unreadable", f"it takes over {bounds.within:g} s to decode")
                yield clip
    except AudioError as error:
        raise Problem("unreadable", str(error)) from error


def whole(
    decoders: Decoders, file: BinaryIO, rate: int, name: str, bounds: Bounds
) -> tuple[Clip, list[Damage]]:
    """A whole recording that a client has sent, and what of it is lost.

    Raises:
        Problem: as `blocks`.
    """
    report = DecodeReport()
    pieces = [clip.samples for clip in blocks(decoders, file, rate, name, bounds, report)]
    return Clip(np.concatenate(pieces), rate), report.damage
