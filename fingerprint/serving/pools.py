"""Thread pools with bounded queues for work off the event loop, and a pool of decoders.

Decoding and recognition run in a `WorkerPool`. A request that finds its queue full is refused at
once (429). Recordings are decoded by confined processes, which the threads take from a
`DecoderPool`.
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
from fingerprint.serving.problems import Problem
from fingerprint.serving.slots import Slots
from fingerprint.types import Clip

T = TypeVar("T")
BLOCK = 10.0  # s of audio that are decoded at a time


class WorkerPool:
    """A thread pool with a bounded queue.

    Args:
        name: of the pool, in the metrics.
        workers: jobs that run at once.
        waiting: further jobs that may wait.
        metrics: to which the pool reports its queue.
    """

    def __init__(self, name: str, workers: int, waiting: int, metrics: Metrics) -> None:
        self.name, self._metrics = name, metrics
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
        limit = workers + waiting
        share = max(1, limit * 3 // 4)  # one client cannot fill the queue
        detail = f"{limit} requests are being worked on or wait"
        self._slots = Slots(limit, share, detail, metrics.queue.labels(name).set)

    def check(self, client: str) -> None:
        """Raises Problem if a client's job would be refused now."""
        self._slots.check(client)

    async def run(self, client: str, job: Callable[[], T]) -> T:
        """Run a client's job in a thread; it runs to its end even if the client disconnects.

        Raises:
            Problem: the queue is full.
        """
        self._slots.acquire(client)
        begin = perf_counter()

        def work() -> T:
            self._metrics.phase.labels("queue").observe(perf_counter() - begin)
            return job()

        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        future.add_done_callback(lambda _: self._slots.release(client))
        return await asyncio.shield(future)

    @property
    def busy(self) -> bool:
        return self._slots.in_use > 0

    def close(self) -> None:
        """Accept no more jobs, and cancel those that wait."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class DecoderPool:
    """Confined decoding processes, one for each thread that may need one.

    `timeout` is how long (s) one may take for a block.
    """

    def __init__(self, count: int, timeout: float) -> None:
        self._all = [ConfinedDecoder(timeout) for _ in range(count)]
        self._free: SimpleQueue[ConfinedDecoder] = SimpleQueue()
        for decoder in self._all:
            self._free.put(decoder)

    @contextmanager
    def lease(self) -> Iterator[ConfinedDecoder]:
        decoder = self._free.get()
        try:
            yield decoder
        finally:
            self._free.put(decoder)

    def close(self) -> None:
        """End the processes; decoding in progress fails."""
        for decoder in self._all:
            decoder.close()


@dataclass(slots=True)
class DecodeLimits:
    """How long a recording may be, and how long decoding it may take from now on."""

    seconds: float  # of audio
    timeout: float  # s
    deadline: float = field(init=False)

    def __post_init__(self) -> None:
        self.deadline = monotonic() + self.timeout


def decode_blocks(
    decoders: DecoderPool,
    file: BinaryIO,
    rate: int,
    name: str,
    limits: DecodeLimits,
    report: DecodeReport,
) -> Iterator[Clip]:
    """An uploaded recording in consecutive blocks of `BLOCK` seconds.

    Raises:
        Problem: it cannot be decoded, is too long, or takes too long.
    """
    decoded = 0.0  # s
    try:
        with decoders.lease() as decoder:
            for clip in decoder.blocks(file, rate, block=BLOCK, name=name, report=report):
                decoded += clip.duration
                if decoded > limits.seconds:
                    raise Problem("too-long", f"at most {limits.seconds:g} s of sound are taken")
                if monotonic() > limits.deadline:
                    raise Problem("unreadable", f"it takes over {limits.timeout:g} s to decode")
                yield clip
    except AudioError as error:
        raise Problem("unreadable", str(error)) from error


def decode_whole(
    decoders: DecoderPool, file: BinaryIO, rate: int, name: str, limits: DecodeLimits
) -> tuple[Clip, list[Damage]]:
    """A whole uploaded recording, and its damage.

    Raises:
        Problem: as `decode_blocks`.
    """
    report = DecodeReport()
    pieces = [clip.samples for clip in decode_blocks(decoders, file, rate, name, limits, report)]
    return Clip(np.concatenate(pieces), rate), report.damage
