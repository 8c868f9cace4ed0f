"""HTTP for a bounded number of connections, in all and from one address.

A connection on which the head of a request does not come in time, or grows without end, is closed,
and so is one whose client takes nothing of what it is sent. Bodies are timed and measured by those
who read them (`bodies`).
"""

import asyncio
import json
import socket
import struct
import sys
from collections import Counter
from http import HTTPStatus
from typing import ClassVar

from httptools import HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from fingerprint.serving.problems import MEDIA_TYPE, Problem
from fingerprint.serving.settings import Limits

RESET = socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)  # at close, with what waits


def limited(limits: Limits) -> type[HttpToolsProtocol]:
    """The protocol with these limits, and with a count of its own."""
    return type("Limited", (_Limited,), {"limits": limits, "count": Counter()})


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket that refuses what is no handshake, and answers pings only as they are taken."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated:  # the whole head has come, and could not be read
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()


class _Limited(HttpToolsProtocol):
    limits: ClassVar[Limits]
    count: ClassVar[Counter[str]]  # of connections by address
    _client = ""
    _timer: asyncio.TimerHandle | None = None
    _data = b""  # that came last
    _overhead = 0  # bytes since the last head or piece of a body: the parser may be keeping them

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
        self._watch(0)

    def _watch(self, before: int) -> None:
        """Give up a client that has taken nothing of what it is sent since the last look."""
        left = self.transport.get_write_buffer_size()
        if left and left == before:
            self.transport.get_extra_info("socket").setsockopt(*RESET)
            self.transport.abort()
        elif left or not self.transport.is_closing():
            self.loop.call_later(self.limits.stalled, self._watch, left)

    def connection_lost(self, exc: Exception | None) -> None:
        self._release()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._timer is None and not self._is_answering():
            self._expect_head()

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def handle_websocket_upgrade(self) -> None:
        if self._is_answering():
            self.transport.abort()  # of two that write to one connection, none would hear its end
            return
        self._release()  # WebSockets are counted where they are answered
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        self._data = data
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > self.limits.head and not self.transport.is_closing():
            self._refuse(Problem("head-too-large", f"a head may have {self.limits.head >> 10} KiB"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_has_come()
        self._overhead = 0
        if not self._is_offered_another():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_offered_another():
            super().on_message_complete()

    def _is_offered_another(self) -> bool:
        """Whether the client would go on in another protocol, and not by a WebSocket."""
        return bool(self.parser.should_upgrade()) and not self._should_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        """Decline HTTP/2, which Java and curl offer: read the request again without the offer.

        Called where the parser has stopped behind the head.
        """
        if self.parser.get_method() == b"CONNECT":  # which makes it one of a proxy
            self.send_400_response("")
            return
        stopped = sys.exc_info()[1]
        assert stopped is not None  # noqa: S101 - it is called where that is handled
        rest = self._data[stopped.args[0] :]
        lines = [b" ".join((self.parser.get_method(), self.url, b"HTTP/1.1"))]
        lines += [b": ".join(one) for one in self.headers if one[0] != b"upgrade"]
        self.parser = HttpRequestParser(self)
        super().data_received(b"\r\n".join([*lines, b"", rest]))

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - ours says it in its own words
        self._refuse(Problem("bad-request", "it is not HTTP/1.1"))

    def _refuse(self, problem: Problem) -> None:
        """Answer and close, where there is no request yet that could be answered."""
        content = json.dumps(problem.document()).encode()
        head = (
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(content)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + content)
        self.transport.close()

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
