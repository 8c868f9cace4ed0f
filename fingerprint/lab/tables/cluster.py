"""Indexing on Ray: what a killed worker and a killed driver cost, and how fast one worker is.

    python -m fingerprint.lab bench-ray --corpus data/corpus --tracks 80 --rounds 3
    python -m fingerprint.lab bench-ray --corpus data/corpus --tracks 1000 --rounds 0

Every run is the command itself, into a new library. In each round the plain `index --jobs 1` and
`index --ray --jobs 1` take turns; the ratio is of one round, with and without what starting and
stopping a cluster takes, measured on a single file. Then two workers index the same files, and one
of them is killed when half of the tracks are in the library; and once more, when the driver is
killed and run again. In the end each library must have the tracks of the plain one, by digest, each
once.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click

from fingerprint.cli.options import corpus_option
from fingerprint.errors import LibraryError
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.corpus.config import Role
from fingerprint.lab.tables.indexing import descendants
from fingerprint.library.store import Catalog

ROLES: tuple[Role, ...] = ("train", "validation", "test")  # whose files are indexed
Contents = list[tuple[Path, bytes, float]]  # path, digest of the content and length of each track


@click.command()
@corpus_option
@click.option("--tracks", type=click.IntRange(min=8), default=80, show_default=True)
@click.option("--rounds", type=click.IntRange(min=0), default=3, show_default=True)
def main(corpus: Path, tracks: int, rounds: int) -> None:
    """Index on Ray, kill a worker, kill the driver, and time one worker."""
    opened = Corpus.open(corpus)
    every = [file.path for role in ROLES for file in opened.role(role)]
    files = every[:: max(1, len(every) // tracks)][:tracks]
    with TemporaryDirectory(prefix="fingerprint-") as folder:
        bench = _Bench(Path(folder), files)
        expected = bench.indexed("plain", "--jobs", "1")
        click.echo(f"{len(files)} files, {len(expected)} tracks")
        _compare_speed(bench, rounds)
        for name, kill in (("worker", kill_a_worker), ("driver", None)):
            found = bench.interrupted(name, len(expected) // 2, kill)
            click.echo(f"{name} killed: {_verdict(found, expected)}")
            if found != expected:
                raise SystemExit(1)


class _Bench:
    """Runs the command on the same files, into libraries in a folder."""

    def __init__(self, folder: Path, files: list[Path]) -> None:
        self._folder, self.files = folder, files
        self._listed = self.list_of(files)

    def list_of(self, files: list[Path]) -> Path:
        """A file that names files."""
        listed = self._folder / f"{len(files)}.txt"
        listed.write_text("\n".join(map(str, files)), encoding="utf-8")
        return listed

    def indexed(self, name: str, *options: str, listed: Path | None = None) -> Contents:
        """The contents of the library after a complete run."""
        self._start(name, *options, listed=listed).wait()
        return contents(self._folder / name)

    def timed(self, *options: str, listed: Path | None = None) -> float:
        """The time (s) of a run."""
        name = f"timed-{time.monotonic_ns()}"
        begin = time.perf_counter()
        self.indexed(name, *options, listed=listed)
        return time.perf_counter() - begin

    def interrupted(self, name: str, half: int, kill: Callable[[], int] | None) -> Contents:
        """As `indexed`, with two workers; `kill` is called when half of the tracks are done.

        Without `kill`, the driver is killed and run again.
        """
        run = self._start(name, "--ray", "--jobs", "2")
        while len(contents(self._folder / name)) < half and run.poll() is None:
            time.sleep(0.1)
        done = len(contents(self._folder / name))
        click.echo(f"killing the {name} when {done} tracks are in the library")
        if kill is not None:
            kill()
            run.wait()
            return contents(self._folder / name)
        run.kill()
        run.wait()
        return self.indexed(name, "--ray", "--jobs", "2")

    def _start(
        self, name: str, *options: str, listed: Path | None = None
    ) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "fingerprint", "index"]
        command += ["--files-from", str(listed or self._listed)]
        command += ["--library", str(self._folder / name), *options]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


def _compare_speed(bench: _Bench, rounds: int) -> None:
    if not rounds:
        return
    one = bench.list_of(bench.files[:1])
    ratios, without = [], []
    for number in range(rounds):
        plain, ray = bench.timed("--jobs", "1"), bench.timed("--ray", "--jobs", "1")
        first, second = (
            bench.timed("--jobs", "1", listed=one),
            bench.timed("--ray", "--jobs", "1", listed=one),
        )
        ratios.append(plain / ray)
        without.append((plain - first) / (ray - second))
        click.echo(
            f"round {number + 1}: plain {plain:.1f} s, Ray {ray:.1f} s; of one file {first:.1f} s "
            f"and {second:.1f} s"
        )
    click.echo(
        f"one worker is {median(ratios):.2f} times as fast as the plain index; "
        f"{median(without):.2f} times without start and stop (medians of {rounds})"
    )


def contents(folder: Path) -> Contents:
    """The contents of a library; empty if there is none yet."""
    try:
        with closing(Catalog(folder)) as catalog:
            listed = catalog.listed()
    except LibraryError:
        return []
    return [(one.track.path, one.content, one.track.duration) for one in listed]


def kill_a_worker() -> int:
    """Kill one of the workers that this process and its children have started."""
    workers = [pid for pid in descendants() if "ray::_Worker" in _command(pid)]
    os.kill(int(workers[0]), signal.SIGKILL)
    return int(workers[0])


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended
        return ""


def _verdict(found: Contents, expected: Contents) -> str:
    missing, doubled = len(set(expected) - set(found)), len(found) - len(set(found))
    other = len(set(found) - set(expected))
    return f"{len(found)} tracks, {missing} missing, {doubled} doubled, {other} unexpected"
