"""What every request passes first: host, origin, headers of the answer, the log line, the count.

A page of another site could have a browser ask a server on the loopback address or in the local
network: by a name of its own that leads here (DNS rebinding), or across origins. Both are refused.
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
PIECE = 1 << 16  # bytes of an answer that are sent at once: so much is kept for a slow client
log = logging.getLogger("fingerprint.requests")


class Guard:
    """Wraps an application that is served by these settings."""

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
        await self._answered(scope, receive, send, problem)

    async def _answered(
        self, scope: Scope, receive: Receive, send: Send, problem: Problem | None
    ) -> None:
        begin, method = perf_counter(), scope["method"]
        answer = _Answer(scope, receive, send)
        app = self._app if problem is None else problem.response()
        if method == "HEAD":
            app, scope = _bodiless(app), {**scope, "method": "GET"}
        try:
            await app(scope, answer.receive, answer.send)
        except asyncio.CancelledError:  # the server is being stopped, and has waited for it
            answer.unread = False
            if not answer.status:
                await Problem("stopping").response()(scope, receive, answer.send)
        finally:
            seconds = perf_counter() - begin
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(answer.status)).inc()
            self._metrics.latency.labels(route).observe(seconds)
            client = (scope.get("client") or ("",))[0]
            fields = _fields(client, method, scope["path"], answer.status, seconds)
            log.info("request", extra={"fields": fields})
        await answer.finish(self._limits)

    def _problem(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) > 1 or (not hosts and scope["http_version"] != "1.0"):
            return Problem("bad-request", "a request has one Host header")
        host = hosts[0] if hosts else ""
        # Browsers name a host; monitors that speak HTTP/1.0 may not.
        if hosts and not self._is_ours(host):
            return Problem("wrong-host", f"it was asked as {host[:200]!r}")
        if scope["type"] == "http" and scope["method"] in SAFE:
            return None
        origin = headers.get("origin")
        if origin is not None and origin.split("://")[-1].lower() != host.lower():
            return Problem("cross-origin", f"the page is of {origin[:200]!r}")
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return Problem("cross-origin", "the page is of another site")
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header is an address, which no name can be made to lead to, or ours."""
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


class _Answer:
    """Sends an answer: with our headers, in pieces that a client must take one after the other.

    `unread` says whether the body of the request has not been read to its end. A connection that
    is closed before that is reset, and the client loses the answer: hence the rest is read and
    discarded before the answer ends.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "0").strip("0") != ""
        self.unread = announced or "transfer-encoding" in headers
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
        for piece in _pieces(message):
            await self._send(piece)

    async def finish(self, limits: Limits) -> None:
        """Discard the rest of the request, within the limits of a body, and end the answer."""
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
    """A message, or the pieces of a long one, each of which waits until the client takes it."""
    body = message.get("body", b"")
    starts = range(0, len(body) - PIECE, PIECE)
    for at in starts:
        yield {**message, "body": body[at : at + PIECE], "more_body": True}
    yield {**message, "body": body[len(starts) * PIECE :]} if starts else message


def _bodiless(app: ASGIApp) -> ASGIApp:
    """What answers HEAD as `app` answers GET: as to a client that leaves before the body."""

    async def answered(scope: Scope, _receive: Receive, send: Send) -> None:
        started, complete = asyncio.Event(), False

        async def gone() -> Message:
            await started.wait()
            return {"type": "http.disconnect"}

        async def sent(message: Message) -> None:
            nonlocal complete
            complete = message["type"] == "http.response.body" and not message.get("more_body")
            started.set()
            await send(message)

        await app(scope, gone, sent)
        if not complete:  # it was an answer without end
            await send({"type": "http.response.body"})

    return answered


def _fields(client: str, method: str, path: str, status: int, seconds: float) -> dict[str, object]:
    """What the log says of a request: never its query string, which may hold what is private."""
    found = {"client": client, "method": method, "path": display_name(path)[:200]}
    return {**found, "status": status, "seconds": round(seconds, 4)}
