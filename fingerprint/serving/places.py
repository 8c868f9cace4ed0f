"""Places for what is done at once: so many in all, and of one client no more than its share."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address
from typing import Protocol

from fingerprint.serving.problems import Problem


class Places:
    """A number of places.

    Args:
        most: how many there are.
        share: how many of them one client may take.
        detail: of the problem, where all are taken.
        on_change: called with how many are taken.
    """

    def __init__(
        self, most: int, share: int, detail: str, on_change: Callable[[int], None] | None = None
    ) -> None:
        self._most, self._share, self._detail, self._on_change = most, share, detail, on_change
        self._taken: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """How many are taken."""
        return self._taken.total()

    def check(self, client: str) -> None:
        """Raises Problem if there is no place now."""
        if self.total >= self._most:
            raise Problem("busy", self._detail)
        if self._taken[client] >= self._share:
            raise Problem("busy", f"{self._detail}, all from this address")

    def take(self, client: str) -> None:
        """Raises Problem if there is no place."""
        self.check(client)
        self._taken[client] += 1
        self._changed()

    def leave(self, client: str) -> None:
        self._taken[client] -= 1
        self._taken += Counter()  # forgets those that have none
        self._changed()

    @contextmanager
    def taken(self, client: str) -> Iterator[None]:
        """Raises Problem if there is no place."""
        self.take(client)
        try:
            yield
        finally:
            self.leave(client)

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change(self.total)


class _Connected(Protocol):
    """A request, or a WebSocket."""

    @property
    def client(self) -> tuple[str, int] | None: ...


def client_of(request: _Connected) -> str:
    """Whom a request is from."""
    return named(request.client[0] if request.client else "")


def named(address: str) -> str:
    """A client by its address; of IPv6 by its network, for anybody has 2**64 addresses there."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or IPv6Address(int(found) >> 64 << 64))
    return address
