"""Concurrency limits: a number of slots in all, of which one client may hold a share."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address
from typing import Protocol

from fingerprint.serving.problems import Problem


class Slots:
    """A semaphore with a limit per client, which refuses instead of waiting.

    Args:
        limit: how many slots there are.
        share: how many of them one client may hold.
        detail: of the problem that is raised when none is free.
        on_change: called with the number of slots in use.
    """

    def __init__(
        self, limit: int, share: int, detail: str, on_change: Callable[[int], None] | None = None
    ) -> None:
        self._limit, self._share, self._detail, self._on_change = limit, share, detail, on_change
        self._held: Counter[str] = Counter()  # by client

    @property
    def in_use(self) -> int:
        return self._held.total()

    def check(self, client: str) -> None:
        """Raises Problem if no slot is free for this client."""
        if self.in_use >= self._limit:
            raise Problem("busy", self._detail)
        if self._held[client] >= self._share:
            raise Problem("busy", f"{self._detail}, all from this address")

    def acquire(self, client: str) -> None:
        """Raises Problem if no slot is free for this client."""
        self.check(client)
        self._held[client] += 1
        self._changed()

    def release(self, client: str) -> None:
        self._held[client] -= 1
        self._held += Counter()  # drops clients with a count of 0
        self._changed()

    @contextmanager
    def held(self, client: str) -> Iterator[None]:
        """Raises Problem if no slot is free for this client."""
        self.acquire(client)
        try:
            yield
        finally:
            self.release(client)

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change(self.in_use)


class _HasClient(Protocol):
    """A request or a WebSocket."""

    @property
    def client(self) -> tuple[str, int] | None: ...


def client_of(request: _HasClient) -> str:
    """The key under which a request's client is counted."""
    return client_key(request.client[0] if request.client else "")


def client_key(address: str) -> str:
    """An IPv4 address itself; of an IPv6 address its /64 network, which one client has whole."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or IPv6Address(int(found) >> 64 << 64))
    return address
