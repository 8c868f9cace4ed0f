"""The settings of a server, and its limits on clients."""

from dataclasses import dataclass, field
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on one request, on one client address, and on all clients together."""

    body: int = 64 * MIB  # bytes of a query
    long_body: int = 1024 * MIB  # bytes of a recording to scan or upload
    seconds: float = 900.0  # s of audio of a query
    long_seconds: float = 6 * 3600.0  # s of audio of a recording to scan
    decoding: float = 30.0  # s of decoding time of a query
    long_decoding: float = 900.0  # s of decoding time of a recording to scan
    head: int = 64 << 10  # bytes of a request's headers, or of framing between pieces of a body
    idle: float = 15.0  # s without a byte after which a connection is closed
    stalled: float = 60.0  # s after which a client that reads nothing of a response is cut off
    slowest: int = 4096  # bytes a second, the least average rate of a body after `grace`
    grace: float = 10.0  # s
    waiting: int = 32  # queries that may wait for a worker thread
    bodies: int = 128  # queries that are being received at once
    client_bodies: int = 96  # of them from one address
    long_bodies: int = 4  # recordings to scan or upload that are being received at once
    client_long_bodies: int = 3  # of them from one address
    sockets: int = 512  # connections in all
    client_sockets: int = 128  # of them from one address
    listeners: int = 64  # open WebSockets and event streams
    client_listeners: int = 16  # of them from one address
    silent: float = 30.0  # s without a message after which a WebSocket is closed
    longest_listening: float = 6 * 3600.0  # s after which a WebSocket is closed
    drain: float = 10.0  # s that requests in flight have to finish at shutdown


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one server.

    `names` are host names that requests may use, beside IP addresses, localhost and the machine's
    own name. Without a `token`, changes are allowed only if `open_writes` is true. `journal` is the
    file of the log; None keeps it in memory.
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
