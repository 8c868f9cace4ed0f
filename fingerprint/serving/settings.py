"""What a server is told when it starts, and what it allows a client."""

from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, one client and all of them together may take."""

    body: int = 64 * MIB  # bytes of a query
    long_body: int = 1024 * MIB  # bytes of a recording to scan or to upload
    seconds: float = 900.0  # s of sound of a query
    long_seconds: float = 6 * 3600.0  # s of sound of a recording to scan
    decoding: float = 30.0  # s that decoding a query may take
    long_decoding: float = 900.0  # s that decoding a recording to scan may take
    head: int = 64 << 10  # bytes of the head of a request, or between the pieces of a body
    idle: float = 15.0  # s without a byte after which a client is given up
    stalled: float = 60.0  # s after which a client that takes nothing of an answer is given up
    slowest: int = 4096  # bytes a second that a body must come at, after `grace`
    grace: float = 10.0  # s
    waiting: int = 32  # queries that may wait for a free worker
    bodies: int = 128  # requests whose bodies are being received at once
    client_bodies: int = 96  # of them from one address
    long_bodies: int = 4  # recordings to scan or to upload that are being received at once
    client_long_bodies: int = 3  # of them from one address
    sockets: int = 512  # connections in all
    client_sockets: int = 128  # connections from one address
    listeners: int = 64  # open WebSockets and event streams
    client_listeners: int = 16  # of them from one address
    silent: float = 30.0  # s without sound after which a WebSocket is closed
    longest_listening: float = 6 * 3600.0  # s after which a WebSocket is closed
    drain: float = 10.0  # s that what is in flight has when the server is stopped


@dataclass(frozen=True, slots=True)
class Settings:
    """How to serve one library.

    `names` are host names, beside addresses, localhost and the machine's own, by which it may be
    asked. Without a `token`, changes are allowed only where `open_writes` says so. `journal` is the
    file that keeps what was recognised; None keeps it in memory.
    """

    limits: Limits = field(default_factory=Limits)
    workers: int = 1
    names: tuple[str, ...] = ()
    token: str | None = None
    open_writes: bool = False
    uploads: Path | None = None
    journal: Path | None = None
    keep_days: float = 30.0
    webhook: str | None = None
    webhook_secret: str = ""
