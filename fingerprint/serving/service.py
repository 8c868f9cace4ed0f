"""One library being served: what all routes share."""

import asyncio
import hmac
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Address

from fingerprint.library.library import Library
from fingerprint.serving.journal import Journal
from fingerprint.serving.metrics import Metrics
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
    bodies: Counter[str] = field(default_factory=Counter)  # that are being received, by kind
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._listening: Counter[str] = Counter()
        workers, limits = self.settings.workers, self.settings.limits
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

    def close(self) -> None:
        for desk in (self.queries, self.scans, self.changes, self.pictures):
            desk.close()
        self.decoders.close()
        self.journal.close()
        self.library.close()

    def listener(self, client: Address | None) -> ExitStack:
        """A place for an answer without end; it is free again when the stack is closed.

        Raises:
            Problem: all places are taken, or all that one client may have.
        """
        limits, host = self.settings.limits, client.host if client else "?"
        if self.stopping.is_set():
            raise Problem("stopping")
        full = self._listening.total() >= limits.listeners
        if full or self._listening[host] >= limits.client_listeners:
            self.metrics.refused.labels("busy").inc()
            raise Problem("busy", "too many listen at once")
        stack = ExitStack()
        stack.enter_context(self._counted(host))
        return stack

    @contextmanager
    def _counted(self, host: str) -> Iterator[None]:
        self._listening[host] += 1
        self.metrics.listeners.set(self._listening.total())
        try:
            yield
        finally:
            self._listening[host] -= 1
            self._listening += Counter()  # forgets those that have none
            self.metrics.listeners.set(self._listening.total())

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
            self.metrics.refused.labels("token-needed").inc()
            raise Problem("token-needed")


def _service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


Served = Annotated[Service, Depends(_service)]
