"""uvicorn's HTTP protocol with limits on connections, on header time and on header size.

The number of connections is limited in all and per client address. A connection is closed if a
request's headers do not arrive in time or are too large, or if the client does not read what is
sent. Bodies are limited by `bodies`.
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

# Option of a socket: closing discards unsent data and resets the connection.
RESET = socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)


def limited(limits: Limits) -> type[HttpToolsProtocol]:
    """A protocol class with these limits, and with a counter of its own."""
    return type("Limited", (_Limited,), {"limits": limits, "count": Counter()})


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket that answers a bad handshake with 400, and has back-pressure on pongs.

    While the client does not read, nothing is read from it, so pings cannot fill the write buffer.
    The content of text messages is ignored, so it need not be valid UTF-8.
    """

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated:  # the headers are complete, but not a valid handshake
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            self.transport.close()

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text":
            self.frames = [b"".join(self.frames).decode(errors="replace").encode()]
        super().send_receive_event_to_app()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()


class _Limited(HttpToolsProtocol):
    limits: ClassVar[Limits]
    count: ClassVar[Counter[str]]  # connections by client address
    _client = ""
    _timer: asyncio.TimerHandle | None = None  # closes the connection if no headers arrive
    _watch: asyncio.TimerHandle | None = None  # closes the connection if the client does not read
    _data = b""  # the piece that is being parsed
    _overhead = 0  # bytes since the last headers or body data, which the parser may be buffering

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        client = str((transport.get_extra_info("peername") or ("?",))[0])
        most = self.limits
        if self.count.total() >= most.sockets or self.count[client] >= most.client_sockets:
            transport.abort()
            return
        self._client = client
        self.count[client] += 1
        self._start_timer()
        self._watch_writing(0)

    def _watch_writing(self, before: int) -> None:
        """Reset the connection if the client has read nothing since the last call."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent == before:
            self.transport.get_extra_info("socket").setsockopt(*RESET)
            self.transport.abort()
        elif unsent or not self.transport.is_closing():
            self._watch = self.loop.call_later(self.limits.stalled, self._watch_writing, unsent)

    def connection_lost(self, exc: Exception | None) -> None:
        self._release()
        if self._watch is not None:  # it would keep this object alive
            self._watch.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._timer is None and not self._is_answering():
            self._start_timer()

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def handle_websocket_upgrade(self) -> None:
        if self._is_answering():  # a pipelined upgrade: two protocols would write to one connection
            self.transport.abort()
            return
        self._release()  # WebSockets have a limit of their own (`listen`)
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        self._data = data
        self._overhead += len(data)
        super().data_received(data)
        self._data = b""
        if self._overhead > self.limits.head and not self.transport.is_closing():
            self._refuse(Problem("head-too-large", f"a head may have {self.limits.head >> 10} KiB"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._start_timer()

    def on_headers_complete(self) -> None:
        self._stop_timer()
        self._overhead = 0
        if not self._offers_http2():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._offers_http2():
            super().on_message_complete()

    def _offers_http2(self) -> bool:
        """Whether the request has an Upgrade header for something other than a WebSocket."""
        return bool(self.parser.should_upgrade()) and not self._should_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        """Decline an upgrade to HTTP/2, as Java's client and curl offer it.

        The parser has stopped after the headers with an exception, in whose handler uvicorn calls
        this. The request is parsed again, without its Upgrade header.
        """
        if self.parser.get_method() == b"CONNECT":  # for proxies only
            self.send_400_response("")
            return
        stopped = sys.exc_info()[1]
        assert stopped is not None  # noqa: S101 - see above
        rest = self._data[stopped.args[0] :]
        lines = [b" ".join((self.parser.get_method(), self.url, b"HTTP/1.1"))]
        lines += [b": ".join(one) for one in self.headers if one[0] != b"upgrade"]
        self.parser = HttpRequestParser(self)
        super().data_received(b"\r\n".join([*lines, b"", rest]))

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - replaced by a problem document
        self._refuse(Problem("bad-request", "it is not HTTP/1.1"))

    def _refuse(self, problem: Problem) -> None:
        """Send a problem document and close, before there is a request for the application."""
        content = json.dumps(problem.document()).encode()
        head = (
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(content)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + content)
        self.transport.close()

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(self.limits.idle, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _release(self) -> None:
        """Stop counting this connection."""
        self._stop_timer()
        if self._client:
            self.count[self._client] -= 1
            if not self.count[self._client]:
                del self.count[self._client]
            self._client = ""
