"""Run the application in a uvicorn server: listening socket, limits, signals, logging."""

import asyncio
import json
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from time import gmtime, strftime
from typing import Any

import uvicorn

from fingerprint.audio.files import display_name
from fingerprint.errors import FingerprintError
from fingerprint.library.library import Library
from fingerprint.serving.app import create_app
from fingerprint.serving.service import Service
from fingerprint.serving.settings import Settings
from fingerprint.serving.sockets import WebSocketProtocol, limited

KEEP_ALIVE = 15  # s after which an idle connection is closed
MAX_MESSAGE = 1 << 20  # bytes of a WebSocket message


class ServingError(FingerprintError):
    """The server cannot be started."""


def listening_socket(host: str, port: int) -> socket.socket:
    """A TCP socket that listens on an address.

    Raises:
        ServingError: the address is not this machine's, or the port is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise ServingError(
            f"cannot listen on {host}, port {port}: {error.strerror}; "
            "choose another --host or --port"
        ) from error
    return listener


def check_certificate(certificate: Path, key: Path) -> None:
    """Check that https can be served with these files.

    Raises:
        ServingError: one of them cannot be used, or they do not belong together.
        OSError: one of them cannot be read.
    """
    for file in (certificate, key):
        file.read_bytes()
    try:
        # The password is given, since OpenSSL would ask for it on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        names = display_name(certificate), display_name(key)
        if "KEY_VALUES_MISMATCH" in str(error):
            raise ServingError(f"{names[1]} is not the key of {names[0]}") from error
        raise ServingError(
            f"{' and '.join(names)} cannot be used: they must be a certificate and its private "
            "key without a password, in PEM format"
        ) from error


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run(
    library: Library,
    settings: Settings,
    listener: socket.socket,
    *,
    certificate: tuple[Path, Path] | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight then have `limits.drain` seconds to finish.

    `certificate` holds the files of a certificate and of its key.
    """
    service = Service(library, settings)
    config = uvicorn.Config(
        create_app(service),
        http=limited(settings.limits),
        ws=WebSocketProtocol,
        ws_max_size=MAX_MESSAGE,
        ws_per_message_deflate=False,  # no decompression bombs
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        lifespan="on",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, int(settings.limits.drain) - 2),
        h11_max_incomplete_event_size=1 << 16,
        ssl_certfile=certificate[0] if certificate else None,
        ssl_keyfile=certificate[1] if certificate else None,
    )
    server = _Server(config, service, on_ready)
    asyncio.run(server.serve([listener]))
    if service.busy:  # a normal exit would wait for the worker threads, which cannot be killed
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class _Server(uvicorn.Server):
    """A uvicorn server that ends with status 0 on a signal, and ends endless responses then.

    `service.stopping` tells WebSockets and event streams to end.
    """

    def __init__(
        self, config: uvicorn.Config, service: Service, on_ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._service, self._on_ready = service, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _stop(self, number: signal.Signals) -> None:
        """Begin to shut down; a second Ctrl-C ends the process without waiting for requests."""
        self._service.stopping.set()
        self.force_exit = self.should_exit and number == signal.SIGINT
        self.should_exit = True
        # uvicorn logs every task that it cancels after the drain time as an error.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)


class JsonLines(logging.Formatter):
    """A log line as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        time = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(record.created))
        found: dict[str, Any] = {"time": time, "level": record.levelname.lower()}
        fields = getattr(record, "fields", None)
        found |= fields if fields else {"message": record.getMessage()}
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)
        return json.dumps(found)


class Lines(logging.Formatter):
    """A log line as plain text."""

    def format(self, record: logging.LogRecord) -> str:
        time = strftime("%H:%M:%S", gmtime(record.created))
        fields = getattr(record, "fields", None)
        text = " ".join(map(str, fields.values())) if fields else record.getMessage()
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{time} {text}{trace}"


def log_to_stderr(*, as_json: bool, quiet: bool) -> None:
    """Log requests and errors to stderr, one line each; only errors if `quiet`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else Lines())
    for name, level in (
        ("fingerprint", logging.WARNING if quiet else logging.INFO),
        ("uvicorn", logging.ERROR),
        ("asyncio", logging.ERROR),
    ):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
