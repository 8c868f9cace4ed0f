"""A server under load: right answers, overhead, throughput and memory; and computed queries.

    python -m fingerprint.lab bench-serving data/demo/library
    python -m fingerprint.lab bench-serving data/demo/library --clients 50 --requests 2000

Snippets of five seconds with noise 15 dB below them are cut from the library's own files.

1. One query after the other, decoded and identified in this process and then by the server, with
   as many threads: what the server adds, in the median.
2. Many clients at once: every answer is 200, and right, or 429; answers a second, against as many
   threads of this process that identify without a server; the server's memory on the way. In turns
   of a few seconds, of which the median counts, for other work on the machine comes and goes.
   What an answer costs in processor time, everything that is refused included, says the same
   whatever else the machine does.
3. Queries that the client computes, which send no sound: how their answers differ from those of the
   library itself, at the track's own speed and at others.
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
from time import perf_counter, process_time, sleep

import click
import numpy as np
import soundfile

from fingerprint.audio.decode import load_clip
from fingerprint.audio.worker import ConfinedDecoder
from fingerprint.errors import AudioError
from fingerprint.library.library import Library
from fingerprint.machine import available_cores
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.recognition.query import at_speed
from fingerprint.serving.remote import RemoteLibrary
from fingerprint.types import Match, Track

SECONDS = 5.0
NOISE_DB = -15.0
SNIPPETS = 40
WARM_UP, ALONE = 10, 60
TURNS = 8
TIMEOUT = 120.0  # s
KEPT = 10.0  # s that a connection is used again
SPEEDS = (1.0, 0.97, 1.02)  # playback rates at which computed queries are compared


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
    """Query a server from many clients. Exit status 1 if an answer was wrong."""
    threads = max(1, available_cores() // workers)
    with Library.open(library, Fingerprinter.default("cpu", threads=threads)) as opened:
        snippets = _snippets(opened)
        click.echo(f"{opened.info().tracks:,} tracks, {len(snippets)} snippets of {SECONDS:g} s")
        with closing(Local(opened, workers)) as local, Served(library, workers) as server:
            here, served, overhead = _paired(local.ask, server.ask, snippets)
            click.echo(f"one query at a time: {here:.1f} ms here, {served:.1f} ms served")
            click.echo(f"overhead, median of pairs: {overhead:.1f} ms")
            storm = Storm(server, snippets, clients)
            turns = [_turn(local, storm, workers, -(-requests // TURNS)) for _ in range(TURNS)]
            _report(turns, storm)
            with RemoteLibrary(server.url, opened.model) as remote:
                for speed in SPEEDS:
                    _compare(opened, remote, snippets, speed)
    sys.exit(0 if storm.right else 1)


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
    """Whether the library itself recognises the snippet; a server can do no better."""
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
        """A free connection, but none that the server may be about to close."""
        while not self._free.empty():
            connection, used = self._free.get()
            if perf_counter() - used < KEPT:
                return connection
            connection.close()
        return HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def memory(self) -> float:
        """Resident MB."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 1e6


Ask = Callable[[Snippet], tuple[int, bool]]


def _paired(here: Ask, served: Ask, snippets: list[Snippet]) -> tuple[float, float, float]:
    """Medians in ms: here, served, and of what the same query took longer when it was served.

    Alternately, so that other work on the machine affects both alike.
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


@dataclass(frozen=True, slots=True)
class Turn:
    """Some seconds of queries here, and then from the server; `cost` is processor time a query."""

    here: float  # queries a second
    here_cost: float  # s
    served: float  # answers a second
    served_cost: float  # s
    clients_cost: float  # s of a second that the clients themselves take


class Storm:
    """Clients that query at once; those that are refused try again a little later."""

    def __init__(self, server: Served, snippets: list[Snippet], clients: int) -> None:
        self.server, self.clients = server, clients
        self.snippets = cycle(snippets)
        self.statuses: Counter[int] = Counter()
        self.memory = [server.memory]
        self.wrong = 0
        self._lock = Lock()

    @property
    def right(self) -> bool:
        return not self.wrong and set(self.statuses) <= {200, 429}

    def rage(self, requests: int) -> None:
        with ThreadPoolExecutor(self.clients) as pool:
            list(pool.map(self._ask, islice(self.snippets, requests)))
        self.memory.append(self.server.memory)

    def _ask(self, snippet: Snippet) -> None:
        status, right = self.server.ask(snippet)
        with self._lock:
            self.statuses[status] += 1
            self.wrong += not right
        if status == 429:
            sleep(1.0)  # as Retry-After asks


def _turn(local: Local, storm: Storm, threads: int, requests: int) -> Turn:
    mine = os.getpid()
    count = requests // 4
    begin, spent = perf_counter(), _spent(mine)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(local.ask, islice(storm.snippets, count)))
    here, here_cost = count / (perf_counter() - begin), (_spent(mine) - spent) / count
    answered, spent, own = storm.statuses[200], _spent(storm.server.pid), process_time()
    begin = perf_counter()
    storm.rage(requests)
    seconds, answered = perf_counter() - begin, storm.statuses[200] - answered
    served_cost = (_spent(storm.server.pid) - spent) / answered
    return Turn(here, here_cost, answered / seconds, served_cost, (process_time() - own) / seconds)


def _compare(here: Library, remote: RemoteLibrary, snippets: list[Snippet], speed: float) -> None:
    """The answers to computed queries against those of the library itself."""
    pairs: list[tuple[Match, Match]] = []
    for snippet in snippets:
        clip = load_clip(BytesIO(snippet.content), here.model.sample_rate)
        near, far = (of.identify(at_speed(clip, speed), top=1) for of in (here, remote))
        if near and far and near[0].track.path == far[0].track.path:
            pairs.append((near[0], far[0]))
        elif near or far:
            click.echo(f"computed and not computed differ: {Path(snippet.path).name}")
    differences = [
        (abs(a.offset - b.offset), abs(a.rate - b.rate), abs(a.confidence - b.confidence))
        for a, b in pairs
    ]
    offset, rate, confidence = map(sorted, zip(*differences, strict=True))
    click.echo(
        f"computed queries at speed {speed:g}: {len(pairs)} of {len(snippets)} answered, with the "
        f"same track; offsets differ by {1e3 * median(offset):.0f} ms, {1e3 * offset[-1]:.0f} at "
        f"most, rates by {median(rate):.2%}, {rate[-1]:.2%} at most, confidences by at most "
        f"{confidence[-1]:.4f}"
    )


def _spent(process: int) -> float:
    """Seconds of processor time of a process and of those that it has started and still has."""
    stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    spent = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    children = {int(child) for task in tasks for child in task.read_text().split()}
    return spent + sum(map(_spent, children))


def _report(turns: list[Turn], storm: Storm) -> None:
    shown = ", ".join(f"{count:,} x {status}" for status, count in sorted(storm.statuses.items()))
    total = storm.statuses.total()
    click.echo(f"{storm.clients} clients, {total:,} requests: {shown}; {storm.wrong} wrong")
    rates = [turn.served / turn.here for turn in turns]
    click.echo(
        f"{median(turn.served for turn in turns):.1f} answers a second, "
        f"{median(turn.here for turn in turns):.1f} here alone; median of {len(turns)} turns: "
        f"{median(rates):.0%} ({min(rates):.0%} to {max(rates):.0%})"
    )
    costs = median(turn.here_cost / turn.served_cost for turn in turns)
    click.echo(
        f"processor time: {1e3 * median(turn.here_cost for turn in turns):.1f} ms a query here, "
        f"{1e3 * median(turn.served_cost for turn in turns):.1f} ms an answer, with what was "
        f"refused: {costs:.0%}; the clients take {median(turn.clients_cost for turn in turns):.0%} "
        "of a core beside it"
    )
    click.echo("memory on the way: " + ", ".join(f"{one:.0f}" for one in storm.memory) + " MB")
