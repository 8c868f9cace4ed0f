"""Indexing against decoding alone, FFmpeg and `fpcalc`, on the same files and cores.

    python -m fingerprint.lab bench-indexing --files 40 --jobs 2

Each round decodes, indexes and runs fpcalc over all files, one after the other; the ratios are of
one round, and their medians are printed. Processor time counts what all processes used: on a busy
machine its ratios still hold, those of the wall do not. Memory is the highest sum over the process
and its children, sampled while it indexes (proportional set size: shared pages count once).
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Event, Thread

import click

from fingerprint.cli.options import corpus_option
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.report_format import markdown_head, markdown_row
from fingerprint.machine import available_cores

DECODING = "decode and resample"
HEAD = ("", "s", "x real time", "ratio to decoding", "processor s", "ratio to decoding")
DECODE = """
import sys
from pathlib import Path
from fingerprint.library.decoding import Decoded, Part, decode_all
def main():
    rate, jobs = map(int, sys.argv[1:])
    files = [Path(line) for line in sys.stdin.read().splitlines()]
    seconds = 0
    for _, one in decode_all(files, rate, jobs=jobs):
        if isinstance(one, Decoded | Part):
            seconds += one.clip.duration
    print(seconds)
if __name__ == "__main__":
    main()
"""
RATE = 8_000  # Hz; what the shipped model takes


@click.command()
@corpus_option
@click.option("--files", "count", type=click.IntRange(min=1), default=40, show_default=True)
@click.option("--long", "longest", type=click.IntRange(min=0), default=0, help="Add the N longest.")
@click.option("--jobs", type=click.IntRange(min=1), default=available_cores, show_default="cores")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
def main(corpus: Path, count: int, longest: int, jobs: int, rounds: int) -> None:
    """Time indexing against decoding and fpcalc."""
    every = Corpus.open(corpus).role("train")
    by_length = sorted(every, key=lambda file: -file.seconds)
    chosen = [*every[:: max(1, len(every) // count)][:count], *by_length[:longest]]
    files = list(dict.fromkeys(file.path for file in chosen))
    works: dict[str, Callable[[], object]] = {
        DECODING: lambda: decoded(files, jobs),
        "index": lambda: indexed(files, jobs),
    }
    if shutil.which("ffmpeg"):
        works["FFmpeg decodes and resamples"] = lambda: ffmpeg(files, jobs)
    if shutil.which("fpcalc"):
        works["fpcalc -length 0"] = lambda: fpcalc(files, jobs)
    seconds = decoded(files, jobs)  # warms the disk cache
    times: dict[str, list[float]] = {name: [] for name in works}
    spent: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            begin, ticks = time.perf_counter(), processor_seconds()
            work()
            times[name].append(time.perf_counter() - begin)
            spent[name].append(processor_seconds() - ticks)
    click.echo(f"{len(files)} files, {seconds / 3600:.2f} h, {jobs} jobs, {rounds} rounds\n")
    click.echo(markdown_head(HEAD))
    for name in works:
        wall, busy = median(times[name]), median(spent[name])
        cells = (
            name,
            f"{wall:.1f}",
            f"{seconds / wall:,.0f}",
            f"{_ratio(times, name):.2f}",
            f"{busy:.1f}",
            f"{_ratio(spent, name):.2f}",
        )
        click.echo(markdown_row(cells))
    click.echo(f"\nPeak memory while indexing: {peak(lambda: indexed(files, jobs)):,.0f} MB")


def processor_seconds() -> float:
    """Of this process and of its children that have ended, and theirs."""
    return sum(os.times()[:4])


def _ratio(times: dict[str, list[float]], name: str) -> float:
    return median(a / b for a, b in zip(times[name], times[DECODING], strict=True))


def decoded(files: list[Path], jobs: int) -> float:
    """Decode as `index` does, in a process of its own; returns the seconds of audio."""
    command = [sys.executable, "-c", DECODE, str(RATE), str(jobs)]
    listed = "\n".join(map(str, files))
    done = subprocess.run(command, capture_output=True, input=listed, text=True, check=True)
    return float(done.stdout)


def indexed(files: list[Path], jobs: int) -> None:
    """The command, into a new library."""
    with TemporaryDirectory(prefix="fingerprint-") as folder:
        names = Path(folder) / "files.txt"
        names.write_text("\n".join(map(str, files)), encoding="utf-8")
        command = [sys.executable, "-m", "fingerprint", "index", "--files-from", str(names)]
        command += ["--library", str(Path(folder) / "library"), "--jobs", str(jobs)]
        subprocess.run(command, capture_output=True, check=False)


def fpcalc(files: list[Path], jobs: int) -> None:
    """Chromaprint's program, `jobs` at a time."""

    def run(path: Path) -> None:
        subprocess.run(["fpcalc", "-length", "0", path], capture_output=True, check=False)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, files))


def ffmpeg(files: list[Path], jobs: int) -> None:
    """FFmpeg's program to mono at the model's rate, `jobs` at a time, one thread each."""

    def run(path: Path) -> None:
        command = ["ffmpeg", "-nostdin", "-v", "error", "-threads", "1", "-i", str(path)]
        command += ["-ac", "1", "-ar", str(RATE), "-f", "f32le", "-y", os.devnull]
        subprocess.run(command, capture_output=True, check=False)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, files))


def peak(work: Callable[[], object]) -> float:
    """The highest memory (MB) of this process's children and theirs while it works."""
    done, highest = Event(), [0.0]

    def watch() -> None:
        while not done.wait(0.1):
            highest[0] = max(highest[0], sum(map(_megabytes, descendants())))

    watcher = Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return highest[0]


def descendants() -> list[str]:
    """The processes that this one has started, and that those have."""
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    parent = dict(line.split() for line in listed.splitlines())
    found, edge = list[str](), {str(os.getpid())}
    while edge:
        edge = {pid for pid, of in parent.items() if of in edge}
        found += edge
    return found


def _megabytes(pid: str) -> float:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:  # it has ended
        return 0.0
    return next(float(line.split()[1]) for line in rollup.splitlines() if line[:4] == "Pss:") / 1e3
