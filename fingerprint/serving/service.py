"""The state that all routes share: the library, worker pools, limits, log and metrics."""

import asyncio
import hmac
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from fingerprint.library.library import Library
from fingerprint.serving.journal import Journal
from fingerprint.serving.metrics import Metrics
from fingerprint.serving.pools import DecoderPool, WorkerPool
from fingerprint.serving.problems import Problem
from fingerprint.serving.settings import Settings
from fingerprint.serving.slots import Slots

SCANS, WAITING_SCANS = 1, 2
WAITING_CHANGES = 8
PICTURES, WAITING_PICTURES = 1, 64


@dataclass(eq=False)
class Service:
    """A library that is served, with its worker pools, limits, log and metrics.

    `queries` answers snippets; `scans` reads long recordings, behind which snippets would have to
    wait; `changes` writes to the library, one change at a time; `pictures` makes covers and plots.
    """

    library: Library
    settings: Settings
    metrics: Metrics = field(default_factory=Metrics)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        workers, limits = self.settings.workers, self.settings.limits
        receiving = "too many requests are being received"
        self.bodies = Slots(limits.bodies, limits.client_bodies, receiving)
        self.long_bodies = Slots(limits.long_bodies, limits.client_long_bodies, receiving)
        self.listeners = Slots(
            limits.listeners,
            limits.client_listeners,
            "too many listen at once",
            self.metrics.listeners.set,
        )
        self.queries = WorkerPool("queries", workers, limits.waiting, self.metrics)
        self.scans = WorkerPool("scans", SCANS, WAITING_SCANS, self.metrics)
        self.changes = WorkerPool("changes", 1, WAITING_CHANGES, self.metrics)
        self.pictures = WorkerPool("covers", PICTURES, WAITING_PICTURES, self.metrics)
        self.uploads = self.settings.uploads or self.library.folder.absolute() / "uploads"
        self.journal = Journal(
            self.settings.journal,
            keep_days=self.settings.keep_days,
            webhook=self.settings.webhook is not None,
        )
        self.decoders = DecoderPool(workers + SCANS, limits.decoding)

    @property
    def pools(self) -> tuple[WorkerPool, ...]:
        return self.queries, self.scans, self.changes, self.pictures

    @property
    def busy(self) -> bool:
        return any(pool.busy for pool in self.pools)

    def close(self) -> None:
        for pool in self.pools:
            pool.close()
        self.decoders.close()
        self.journal.close()
        if not self.busy:  # else a thread is still using it
            self.library.close()

    def authorise(self, request: Request) -> None:
        """Raises Problem if a request may not change the library."""
        token = self.settings.token
        if token is None:
            if not self.settings.open_writes:
                raise Problem("changes-off")
            return
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), token.encode())
        if kind.lower() != "bearer" or not right:
            raise Problem("token-needed")


async def _service(request: Request) -> Service:
    """The service; asynchronous, since FastAPI runs other functions in a thread."""
    found: Service = request.app.state.service
    return found


Served = Annotated[Service, Depends(_service)]
