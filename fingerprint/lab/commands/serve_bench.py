"""A server under load: right answers, overhead, throughput and memory.

    python -m fingerprint.lab serve-bench data/demo/library
    python -m fingerprint.lab serve-bench data/demo/library --clients 50 --requests 2000

Snippets of five seconds with noise 15 dB below them are cut from the library's own files.

1. One query after the other, decoded and identified in this process and then by the server, with
   as many threads: what the server adds, in the median.
2. Many clients at once: every answer is 200, and right, or 429; requests a second, against as many
   threads of this process that identify without a server; the server's memory on the way.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from io import BytesIO
from itertools import cycle, islice
from json import loads
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from subprocess import PIPE, Popen
from threading import Lock
from time import perf_counter, sleep

import click
import numpy as np
import soundfile

from fingerprint.audio.decode import load_clip
from fingerprint.audio.worker import ConfinedDecoder
from fingerprint.errors import AudioError
from fingerprint.library.library import Library
from fingerprint.machine import available_cores
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.types import Track

SECONDS = 5.0
NOISE_DB = -15.0
SNIPPETS = 40
WARM_UP, ALONE = 10, 60
TIMEOUT = 120.0  # s
KEPT = 10.0  # s that a connection is used again


@dataclass(frozen=True, slots=True)
class Snippet:
    """A WAV file, and the file of the track that it is from."""

    content: bytes
    path: str


@click.command()
@click.argument("library", type=click.Path(path_type=Path))
@click.option("--clients", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--requests", type=click.IntRange(min=1), default=2_000, show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=available_cores)
def main(library: Path, clients: int, requests: int, workers: int) -> None:
    """Ask a server from many clients. Exit status 1 if an answer was wrong."""
    threads = max(1, available_cores() // workers)
    with Library.open(library, Fingerprinter.default("cpu", threads=threads)) as opened:
        snippets = _snippets(opened)
        click.echo(f"{opened.info().tracks:,} tracks, {len(snippets)} snippets of {SECONDS:g} s")
        with closing(Local(opened, workers)) as local, Served(library, workers) as server:
            here, served, overhead = _paired(local.ask, server.ask, snippets)
            click.echo(f"one query at a time: {here:.1f} ms here, {served:.1f} ms served")
            click.echo(f"overhead, median of pairs: {overhead:.1f} ms")
            rate = _rate(local.ask, snippets, workers, min(requests, 400))
            click.echo(f"here alone: {rate:.1f} queries a second on {workers} threads")
            right = _storm(server, snippets, clients, requests, rate)
    sys.exit(0 if right else 1)


def _snippets(library: Library) -> list[Snippet]:
    random = np.random.default_rng(0)
    found: list[Snippet] = []
    long = [track for track in library.tracks() if track.duration > 2 * SECONDS]
    for number in random.permutation(len(long))[:SNIPPETS]:
        found += _cut(long[number], random, library.model.sample_rate)
    if not found:
        raise AudioError("none of the library's files can be read")
    return [one for one in found if _is_known(library, one)]


def _cut(track: Track, random: np.random.Generator, rate: int) -> list[Snippet]:
    start = random.uniform(0, track.duration - SECONDS)
    try:
        clip = load_clip(track.path, rate, start=start, seconds=SECONDS)
    except AudioError:
        return []
    level = float(np.sqrt(np.mean(clip.samples**2))) * 10 ** (NOISE_DB / 20)
    file = BytesIO()
    noisy = clip.samples + level * random.standard_normal(len(clip.samples))
    soundfile.write(file, noisy, rate, format="WAV", subtype="PCM_16")
    return [Snippet(file.getvalue(), str(track.path))]


def _is_known(library: Library, snippet: Snippet) -> bool:
    """Whether the library itself names it: a server can do no better."""
    found = library.identify(load_clip(BytesIO(snippet.content), library.model.sample_rate), top=1)
    return bool(found) and str(found[0].track.path) == snippet.path


class Local:
    """Decoding and identifying without a server."""

    def __init__(self, library: Library, workers: int) -> None:
        self._library = library
        self._free: SimpleQueue[ConfinedDecoder] = SimpleQueue()
        self._all = [ConfinedDecoder() for _ in range(workers)]
        for decoder in self._all:
            self._free.put(decoder)

    def ask(self, snippet: Snippet) -> tuple[int, bool]:
        """The status that a server would give, and whether the answer is right."""
        decoder = self._free.get()
        try:
            rate = self._library.model.sample_rate
            clip = decoder.load(BytesIO(snippet.content), rate, longest=60)
            found = self._library.identify(clip, top=1)
        finally:
            self._free.put(decoder)
        return 200, bool(found) and str(found[0].track.path) == snippet.path

    def close(self) -> None:
        for decoder in self._all:
            decoder.close()


class Served:
    """`fingerprint serve` in a process of its own; connections are kept."""

    def __init__(self, library: Path, workers: int) -> None:
        command = [sys.executable, "-m", "fingerprint", "serve", "--library", str(library)]
        command += ["--port", "0", "--workers", str(workers), "--quiet", "--log-days", "0"]
        self._process = Popen(command, stdout=PIPE, text=True)
        self._free: SimpleQueue[tuple[HTTPConnection, float]] = SimpleQueue()

    def __enter__(self) -> "Served":
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        self._port = int(self._process.stdout.readline().rpartition(":")[2])
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.terminate()
        click.echo(f"the server ends with status {self._process.wait(30)}")

    def ask(self, snippet: Snippet) -> tuple[int, bool]:
        """The status, and whether the answer is right."""
        connection = self._connection()
        connection.request("POST", "/v1/identify?top=1", snippet.content)
        answer = connection.getresponse()
        content = answer.read()
        self._free.put((connection, perf_counter()))
        if answer.status != 200:
            return answer.status, True
        found = loads(content)["matches"]
        return 200, bool(found) and found[0]["path"] == snippet.path

    def _connection(self) -> HTTPConnection:
        """One that is free; not one of which the server may just now have had enough."""
        while not self._free.empty():
            connection, used = self._free.get()
            if perf_counter() - used < KEPT:
                return connection
            connection.close()
        return HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)

    @property
    def memory(self) -> float:
        """Resident MB."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 1e6


Ask = Callable[[Snippet], tuple[int, bool]]


def _paired(here: Ask, served: Ask, snippets: list[Snippet]) -> tuple[float, float, float]:
    """Medians in ms: here, served, and of what the same query took longer when it was served.

    In turn, so that what else the machine does hits both alike.
    """
    times = []
    for number, snippet in enumerate(islice(cycle(snippets), WARM_UP + ALONE)):
        begin = perf_counter()
        here(snippet)
        middle = perf_counter()
        served(snippet)
        if number >= WARM_UP:
            times.append((1e3 * (middle - begin), 1e3 * (perf_counter() - middle)))
    ours, theirs = zip(*times, strict=True)
    return median(ours), median(theirs), median(two - one for one, two in times)


def _rate(ask: Ask, snippets: list[Snippet], threads: int, count: int) -> float:
    """Queries a second."""
    begin = perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(ask, islice(cycle(snippets), count)))
    return count / (perf_counter() - begin)


def _storm(
    server: Served, snippets: list[Snippet], clients: int, requests: int, rate: float
) -> bool:
    """Whether every answer was right; clients that are sent away come back a little later."""
    statuses: Counter[int] = Counter()
    wrong, lock, memory = 0, Lock(), [server.memory]

    def ask(snippet: Snippet) -> None:
        nonlocal wrong
        status, right = server.ask(snippet)
        with lock:
            statuses[status] += 1
            wrong += not right
            if statuses.total() % max(1, requests // 4) == 0:
                memory.append(server.memory)
        if status == 429:
            sleep(1.0)  # as Retry-After asks

    begin = perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, islice(cycle(snippets), requests)))
    seconds = perf_counter() - begin
    answered = statuses[200] / seconds
    shown = ", ".join(f"{count:,} x {status}" for status, count in sorted(statuses.items()))
    click.echo(f"{clients} clients, {requests:,} requests: {shown}; {wrong} wrong")
    click.echo(f"{answered:.1f} answers a second, {answered / rate:.0%} of what is done here alone")
    click.echo("memory on the way: " + ", ".join(f"{one:.0f}" for one in memory) + " MB")
    return not wrong and set(statuses) <= {200, 429}
