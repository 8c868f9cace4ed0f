"""HTTP for a bounded number of connections, in all and from one address.

A connection on which the head of a request does not come in time is closed. Bodies are timed by
those who read them (`bodies`).
"""

import asyncio
from collections import Counter
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fingerprint.serving.settings import Limits


def limited(limits: Limits) -> type[HttpToolsProtocol]:
    """The protocol with these limits, and with a count of its own."""
    return type("Limited", (_Limited,), {"limits": limits, "count": Counter()})


class _Limited(HttpToolsProtocol):
    limits: ClassVar[Limits]
    count: ClassVar[Counter[str]]  # of connections by address
    _client = ""
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        client = str((transport.get_extra_info("peername") or ("?",))[0])
        most = self.limits
        if self.count.total() >= most.sockets or self.count[client] >= most.client_sockets:
            transport.abort()
            return
        self._client = client
        self.count[client] += 1
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._release()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._release()  # WebSockets are counted where they are answered
        super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_has_come()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._head_has_come()
        self._timer = self.loop.call_later(self.limits.idle, self.transport.abort)

    def _head_has_come(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _release(self) -> None:
        self._head_has_come()
        if self._client:
            self.count[self._client] -= 1
            if not self.count[self._client]:
                del self.count[self._client]
            self._client = ""
