"""The outermost middleware: checks Host and Origin, sets security headers, logs and counts.

A page of another site can make a browser send requests to a server on the loopback address or in
the local network: by a host name that resolves to that address (DNS rebinding), or across origins.
Both kinds of request are refused.
"""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Iterator
from contextlib import suppress
from time import perf_counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fingerprint.audio.files import display_name
from fingerprint.serving.metrics import Metrics
from fingerprint.serving.problems import Problem
from fingerprint.serving.settings import Limits, Settings

SAFE = {"GET", "HEAD", "OPTIONS"}
CONTENT_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "worker-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
PIECE = 1 << 16  # bytes of a response that are sent at once, and so buffered for a slow client
log = logging.getLogger("fingerprint.requests")


class Guard:
    """Middleware around an application that is served with these settings."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app, self._metrics, self._limits = app, metrics, settings.limits
        here = socket.gethostname().lower()
        self._names = {
            "localhost",
            here,
            f"{here}.local",
            *(name.lower() for name in settings.names),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        problem = self._problem(scope)
        if problem is not None:
            self._metrics.refused.labels(problem.kind).inc()
        if scope["type"] == "websocket":
            if problem is None:
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008, "reason": problem.kind})
            return
        await self._answer(scope, receive, send, problem)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, problem: Problem | None
    ) -> None:
        begin, method = perf_counter(), scope["method"]
        response = _Response(scope, receive, send)
        app = self._app if problem is None else problem.response()
        if method == "HEAD":
            app, scope = _without_body(app), {**scope, "method": "GET"}
        try:
            await app(scope, response.receive, response.send)
        except asyncio.CancelledError:  # shutdown, after the drain time has passed
            response.unread = False
            if not response.status:
                await Problem("stopping").response()(scope, receive, response.send)
        finally:
            seconds = perf_counter() - begin
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(response.status)).inc()
            self._metrics.latency.labels(route).observe(seconds)
            client = (scope.get("client") or ("",))[0]
            fields = _log_fields(client, method, scope["path"], response.status, seconds)
            log.info("request", extra={"fields": fields})
        await response.finish(self._limits)

    def _problem(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) > 1 or (not hosts and scope["http_version"] != "1.0"):
            return Problem("bad-request", "a request has one Host header")
        host = hosts[0] if hosts else ""
        # Browsers always send a Host; monitors that speak HTTP/1.0 may not.
        if hosts and not self._is_allowed(host):
            return Problem("wrong-host", f"the request is for {host[:200]!r}")
        if scope["type"] == "http" and scope["method"] in SAFE:
            return None
        origin = headers.get("origin")
        if origin is not None and origin.split("://")[-1].lower() != host.lower():
            return Problem("cross-origin", f"the page is from {origin[:200]!r}")
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return Problem("cross-origin", "the page is from another site")
        return None

    def _is_allowed(self, host: str) -> bool:
        """Whether a Host header holds one of our host names, or an IP address.

        An address is safe: DNS rebinding needs a host name.
        """
        name = host.lower()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        if name.rstrip(".") in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class _Response:
    """Sends a response with the security headers, in pieces of bounded size.

    `unread` is true while the request's body has not been read to its end. Closing a connection
    with unread data resets it, and the client loses the response. Therefore the rest of the body is
    read and discarded before the response ends.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        headers = Headers(scope=scope)
        has_length = headers.get("content-length", "0").strip("0") != ""
        self.unread = has_length or "transfer-encoding" in headers
        self.status, self._ended = 0, True

    async def receive(self) -> Message:
        message = await self._receive()
        self.unread = self.unread and bool(message.get("more_body"))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
            if self.unread:
                headers["Connection"] = "close"
        elif self.unread and not message.get("more_body"):
            message, self._ended = {**message, "more_body": True}, False
        for number, piece in enumerate(_pieces(message)):
            if number:
                await asyncio.sleep(0)  # let uvicorn notice that the client has left
            await self._send(piece)

    async def finish(self, limits: Limits) -> None:
        """Discard the rest of the request's body, within a body's limits, and end the response."""
        if self._ended:
            return
        left = limits.body
        with suppress(TimeoutError):
            async with asyncio.timeout(limits.stalled):
                while self.unread and left > 0:
                    async with asyncio.timeout(limits.idle):
                        message = await self.receive()
                    left -= len(message.get("body", b""))
        await self._send({"type": "http.response.body"})


def _pieces(message: Message) -> Iterator[Message]:
    """Split a long body, so that each piece is sent when the client has read the one before."""
    body = message.get("body", b"")
    starts = range(0, len(body) - PIECE, PIECE)
    for at in starts:
        yield {**message, "body": body[at : at + PIECE], "more_body": True}
    yield {**message, "body": body[len(starts) * PIECE :]} if starts else message


def _without_body(app: ASGIApp) -> ASGIApp:
    """An application that answers HEAD: it runs `app` as for GET, and reports a disconnect.

    The disconnect comes once the response has started, so endless responses stop, too.
    """

    async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
        started, complete = asyncio.Event(), False

        async def disconnect() -> Message:
            await started.wait()
            return {"type": "http.disconnect"}

        async def watch(message: Message) -> None:
            nonlocal complete
            complete = message["type"] == "http.response.body" and not message.get("more_body")
            started.set()
            await send(message)

        await app(scope, disconnect, watch)
        if not complete:  # an endless response was cut off by the disconnect
            await send({"type": "http.response.body"})

    return answer


def _log_fields(
    client: str, method: str, path: str, status: int, seconds: float
) -> dict[str, object]:
    """The fields of a request's log line, without its query string, which may be private."""
    fields = {"client": client, "method": method, "path": display_name(path)[:200]}
    return {**fields, "status": status, "seconds": round(seconds, 4)}
