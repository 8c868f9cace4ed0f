"""Servers in processes of their own, on the loopback address, for tests; bounded in time."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any

import soundfile
from library_world import RATE, Toy, excerpt, song, three_songs

from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library

PATIENCE = 120.0  # s for a server to start, or to answer
TOKEN = "a-token-of-enough-letters"  # noqa: S105 - for tests
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        """Of a problem document."""
        assert self.headers["content-type"] == "application/problem+json"
        return str(self.json["type"]).rpartition(":")[2]


@dataclass
class Running:
    """A server and its address."""

    process: subprocess.Popen[str]
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = HTTPConnection(self.host, self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, named)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """The status it ends with."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    @property
    def memory(self) -> int:
        """Resident bytes."""
        text = Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(text.split()[1]) * os.sysconf("SC_PAGESIZE")


@contextmanager
def started(command: list[str], **environment: str) -> Iterator[Running]:
    """A server that prints its address, until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        line = process.stdout.readline() if ready else ""
        found = re.search(r"https?://([\d.]+):(\d+)", line)
        assert found, f"it said {line!r}"
        yield Running(process, found[1], int(found[2]))
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE)
        process.stdout.close()


def cli_server(library: Path, *options: str, **environment: str) -> Any:
    """`fingerprint serve`, with the shipped model."""
    command = ["-m", "fingerprint", "serve", "--library", str(library), "--port", "0", "--quiet"]
    return started([*command, *options], **environment)


def toy_server(library: Path, *, limits: dict[str, Any] | None = None, **settings: Any) -> Any:
    """A server of a library of the toy model, with limits of its own."""
    chosen = json.dumps({"library": str(library), "limits": limits or {}, **settings})
    return started([__file__, chosen], PYTHONPATH=os.pathsep.join(sys.path))


class Line:
    """A connection to a server that breaks and comes back; as a proxy, at `/prefix/` if given."""

    def __init__(self, running: Running, prefix: str = "") -> None:
        self._running, self._prefix = running, prefix
        self._up, self._open = True, list[socket.socket]()
        self._lock = threading.Lock()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}{prefix}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.cut()
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()

    def cut(self) -> None:
        """Nothing gets through any more."""
        with self._lock:
            self._up = False
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self._open.clear()

    def mend(self) -> None:
        self._up = True

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            with self._lock:
                if not self._up:
                    client.close()
                    continue
                server = socket.create_connection((self._running.host, self._running.port))
                self._open += [client, server]
            for ends in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, asking: bool) -> None:
        with source:
            with suppress(OSError):
                while data := source.recv(1 << 16):
                    if asking and self._prefix:
                        data = data.replace(f" {self._prefix}/".encode(), b" /", 1)
                    sink.sendall(data)
            with suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)


def toy_library(folder: Path) -> Path:
    """A new library of songs 1 to 3."""
    music = three_songs(folder / "music")
    with Library.create_or_open(folder / "library", Toy()) as library:
        index_files(library, sorted(music.iterdir()))
    return folder / "library"


def snippet(seed: int, start: float = 7.3, seconds: float = 4.0) -> bytes:
    """A WAV file cut from one of the toy library's songs."""
    return wav(excerpt(song(seed), start, seconds, snr_db=10).samples)


def first_lines(running: Running, path: str, count: int, **headers: str) -> list[str]:
    """The first lines of a response; fewer if one of them holds the data of an event."""
    connection = HTTPConnection(running.host, running.port, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", path, headers=named)
    response = connection.getresponse()
    lines = []
    while len(lines) < count and not any(line.startswith("data:") for line in lines):
        lines.append(response.readline().decode().strip())
    connection.close()
    return lines


def wav(samples: Any, rate: int = RATE) -> bytes:
    file = BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def main(chosen: str) -> None:
    from fingerprint.serving.server import listening_socket, log_to_stderr, run
    from fingerprint.serving.settings import Limits, Settings

    given = json.loads(chosen)
    library = Library.open(Path(given.pop("library")), Toy(delay=given.pop("delay", 0.0)))
    limits = Limits(**given.pop("limits"))
    for name in ("journal", "uploads"):
        if given.get(name):
            given[name] = Path(given[name])
    listener = listening_socket("127.0.0.1", 0)
    log_to_stderr(as_json=True, quiet=True)
    port = listener.getsockname()[1]
    run(
        library,
        Settings(**{"limits": limits, "workers": 2, **given}),
        listener,
        on_ready=lambda: print(f"Serving on http://127.0.0.1:{port}", flush=True),  # noqa: T201
    )


if __name__ == "__main__":
    main(sys.argv[1])
