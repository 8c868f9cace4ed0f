"""Cold and warm queries against a library: time, processor time and memory.

    python -m fingerprint.lab bench-queries runs/benchmarks/library-standard --queries 100

A cold query is the command `fingerprint identify`, from its start to its exit; its ratio is to a
Python that imports NumPy and does nothing. Warm ones are run one after the other in one process
on one thread; their ratio is to the median time of embedding the query. Unknown ones are cut from
tracks that are in no library. The last row are the queries of all conditions that the first search
is sure of. Memory is what the process holds after them: private memory, and with the pages of the
library that it has touched, which the system takes back when it needs them.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from subprocess import run
from tempfile import TemporaryDirectory

import click
import numpy as np
import soundfile

from fingerprint.cli.options import corpus_option
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.tables.growth import queries as cut_queries
from fingerprint.lab.tables.world import queries
from fingerprint.library.library import Library
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.types import Clip

CONDITIONS = ("clean 5 s", "noise 5 s", "phone 5 s")
UNKNOWN = "unknown phone 5 s"
COLD = 9  # runs
WARM_UP = 5  # queries


@click.command()
@click.argument("library", type=click.Path(path_type=Path))
@corpus_option
@click.option("--queries", "count", type=click.IntRange(min=1), default=100, show_default=True)
def main(library: Path, corpus: Path, count: int) -> None:
    """Time cold and warm queries."""
    model = Fingerprinter.default("cpu", threads=1)
    known = list(queries(Corpus.open(corpus), CONDITIONS, count, model.sample_rate))
    clips: list[tuple[str, Clip, Path | None]] = [one[:3] for one in known]
    unknown = cut_queries(corpus, UNKNOWN, count, model.sample_rate)
    clips += [(UNKNOWN, query.clip, None) for query in unknown]
    with Library.open(library, model) as opened:
        info = opened.info()
        megabytes = info.bytes / 1e6
        click.echo(f"- {info.tracks:,} tracks, {info.segments} segments, {megabytes:,.0f} MB")
        cold(library, clips[0][1])
        for _, clip, _ in clips[:WARM_UP]:
            opened.recognise(clip)
        embedding = median(embedding_time(model, clip) for _, clip, _ in clips[:COLD])
        timed = [timed_query(opened, *one) for one in clips]
        click.echo("\n| warm | queries | top-1 % | median ms | 95 % ms | x embedding |")
        click.echo("|---|---:|---:|---:|---:|---:|")
        for name in (*CONDITIONS, UNKNOWN):
            click.echo(row(name, [one for one in timed if one.condition == name], embedding))
        sure = [one for one in timed if one.searches == 1]
        click.echo(row("sure after the first search", sure, embedding))
        memory()


@dataclass(frozen=True, slots=True)
class Timed:
    """A warm query: how long it took (s), after how many searches, and whether it was right."""

    condition: str
    seconds: float
    searches: int
    right: bool | None  # None: there is no right answer


def timed_query(library: Library, condition: str, clip: Clip, path: Path | None) -> Timed:
    """Recognise a clip of the track at `path`, None if that is in no library."""
    begin = time.perf_counter()
    result = library.recognise(clip)
    seconds = time.perf_counter() - begin
    first = result.matches[0].track.path if result.matches else None
    return Timed(condition, seconds, result.searches, None if path is None else first == path)


def row(name: str, timed: list[Timed], embedding: float) -> str:
    """A row of the table; the ratio is to `embedding` (s)."""
    seconds = [one.seconds for one in timed]
    right = [one.right for one in timed if one.right is not None]
    return (
        f"| {name} | {len(timed)} | {f'{100 * np.mean(right):.1f}' if right else '-'} | "
        f"{1e3 * median(seconds):.1f} | {1e3 * np.quantile(seconds, 0.95):.1f} | "
        f"{median(seconds) / embedding:.1f} |"
    )


def cold(library: Path, clip: Clip) -> None:
    """Start the command once for every query."""
    with TemporaryDirectory(prefix="fingerprint-") as folder:
        snippet = Path(folder) / "snippet.wav"
        soundfile.write(snippet, clip.samples, clip.sample_rate)
        command = [sys.executable, "-m", "fingerprint", "identify", "--library", str(library)]
        command.append(str(snippet))
        nothing = [sys.executable, "-c", "import numpy"]
        whole, idle = list[float](), list[float]()
        for _ in range(COLD):
            for words, times in ((command, whole), (nothing, idle)):
                begin = time.perf_counter()
                run(words, capture_output=True, check=False)
                times.append(time.perf_counter() - begin)
    click.echo(
        f"- cold: median {median(whole):.2f} s, fastest {min(whole):.2f} s, "
        f"{median(a / b for a, b in zip(whole, idle, strict=True)):.1f} x importing NumPy"
    )


def embedding_time(model: Fingerprinter, clip: Clip) -> float:
    """Seconds to embed a query."""
    begin = time.perf_counter()
    model.embed_query(clip)
    return time.perf_counter() - begin


def memory() -> None:
    """What this process holds, as Linux counts it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    kilobytes = {
        line.split(":")[0]: int(line.split()[1]) for line in status.splitlines() if "kB" in line
    }
    click.echo(
        f"\n- memory: {kilobytes['RssAnon'] / 1e3:,.0f} MB of its own, "
        f"{kilobytes['VmRSS'] / 1e3:,.0f} MB resident with pages of files"
    )
