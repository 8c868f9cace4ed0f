"""One library being served: what all routes share."""

import asyncio
import hmac
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from fingerprint.library.library import Library
from fingerprint.serving.journal import Journal
from fingerprint.serving.metrics import Metrics
from fingerprint.serving.places import Places
from fingerprint.serving.problems import Problem
from fingerprint.serving.settings import Settings
from fingerprint.serving.work import Decoders, Desk

SCANS, WAITING_SCANS = 1, 2
WAITING_CHANGES = 8
PICTURES, WAITING_PICTURES = 1, 64


@dataclass(eq=False)
class Service:
    """A library, the desks where work is done for its clients, and what is counted.

    `queries` answers snippets; `scans` reads long recordings, which would keep snippets waiting;
    `changes` writes to the library, one change after the other.
    """

    library: Library
    settings: Settings
    metrics: Metrics = field(default_factory=Metrics)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        workers, limits = self.settings.workers, self.settings.limits
        receiving = "too many requests are being received"
        self.bodies = Places(limits.bodies, limits.client_bodies, receiving)
        self.long_bodies = Places(limits.long_bodies, limits.client_long_bodies, receiving)
        self.listeners = Places(
            limits.listeners,
            limits.client_listeners,
            "too many listen at once",
            self.metrics.listeners.set,
        )
        self.queries = Desk("queries", workers, limits.waiting, self.metrics)
        self.scans = Desk("scans", SCANS, WAITING_SCANS, self.metrics)
        self.changes = Desk("changes", 1, WAITING_CHANGES, self.metrics)
        self.pictures = Desk("covers", PICTURES, WAITING_PICTURES, self.metrics)
        self.uploads = self.settings.uploads or self.library.folder.absolute() / "uploads"
        self.journal = Journal(
            self.settings.journal,
            keep_days=self.settings.keep_days,
            webhook=self.settings.webhook is not None,
        )
        self.decoders = Decoders(workers + SCANS, limits.decoding)

    @property
    def desks(self) -> tuple[Desk, ...]:
        return self.queries, self.scans, self.changes, self.pictures

    @property
    def working(self) -> bool:
        return any(desk.working for desk in self.desks)

    def close(self) -> None:
        for desk in self.desks:
            desk.close()
        self.decoders.close()
        self.journal.close()
        if not self.working:  # a thread may be in the middle of it
            self.library.close()

    def authorise(self, request: Request) -> None:
        """Raises Problem if a request may change nothing."""
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
    """Asynchronous, for FastAPI would call another function in a thread."""
    found: Service = request.app.state.service
    return found


Served = Annotated[Service, Depends(_service)]
