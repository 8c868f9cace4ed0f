"""The same queries of a library in a folder and of the same library in Milvus: do they agree?

    python -m fingerprint.lab bench-milvus runs/library milvus://localhost:19530/music --queries 50

The tracks of the folder are merged into Milvus unless they are there already. Then each query is
searched in both, one after the other in one process on one thread. Both name the same track if
their best candidates are of one file, at any confidence; answers are those at the default one.
"""

import time
from pathlib import Path
from statistics import median

import click
import numpy as np

from fingerprint.cli.options import corpus_option
from fingerprint.cli.progress import ProgressLine
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.report_format import markdown_head, markdown_row
from fingerprint.lab.tables.world import queries
from fingerprint.library.library import Library
from fingerprint.library.merge import merge_library
from fingerprint.milvus.address import Address
from fingerprint.milvus.library import MilvusLibrary
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.types import Clip, Match

CONDITIONS = ("clean 5 s", "noise 5 s", "phone 5 s", "phone 2 s")
WARM_UP = 5  # queries
HEAD = (
    "queries",
    "same best %",
    "same answer %",
    "top-1 %",
    "ms (95 %)",
    "top-1 in Milvus %",
    "ms (95 %)",
)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("address")
@corpus_option
@click.option("--queries", "count", type=click.IntRange(min=1), default=50, help="Of a condition.")
def main(folder: Path, address: str, corpus: Path, count: int) -> None:
    """The same queries of a folder and of Milvus."""
    model = Fingerprinter.default("cpu", threads=1)
    drawn = list(queries(Corpus.open(corpus), CONDITIONS, count, model.sample_rate))
    begin = time.perf_counter()
    with (
        Library.open(folder, model) as here,
        MilvusLibrary.create_or_open_at(
            Address.parse(address), model, profile=here.meta.profile.name
        ) as there,
    ):
        click.echo(f"opened in {time.perf_counter() - begin:.1f} s")
        begin = time.perf_counter()
        with ProgressLine() as line:
            done = merge_library(
                there, folder, lambda n, of: line.show(n, of, f"{n:,}/{of:,} tracks merged")
            )
        elapsed = time.perf_counter() - begin
        if done.added:
            rows = int(there.snapshot().rows.starts[-1])
            click.echo(
                f"merged {done.added} tracks in {elapsed:.0f} s, {rows / elapsed:,.0f} rows/s"
            )
        begin = time.perf_counter()
        there.recognise(drawn[0][1])
        click.echo(f"first query in Milvus: {time.perf_counter() - begin:.2f} s")
        for _, clip, _, _ in drawn[:WARM_UP]:
            here.recognise(clip)
            there.recognise(clip)
        _compare(here, there, drawn)


def _compare(here: Library, there: Library, drawn: list[tuple[str, Clip, Path, float]]) -> None:
    click.echo(f"\n{markdown_head(HEAD)}")
    every = [(name, *_both(here, there, clip, path)) for name, clip, path, _ in drawn]
    for name in (*CONDITIONS, "all"):
        some = [one[1:] for one in every if name in (one[0], "all")]
        best, answer, right, first, right_there, second = map(np.array, zip(*some, strict=True))
        cells = (
            f"{name}, {len(some)}",
            f"{100 * best.mean():.1f}",
            f"{100 * answer.mean():.1f}",
            f"{100 * right.mean():.1f}",
            _times(first),
            f"{100 * right_there.mean():.1f}",
            _times(second),
        )
        click.echo(markdown_row(cells))


def _both(
    here: Library, there: Library, clip: Clip, path: Path
) -> tuple[bool, bool, bool, float, bool, float]:
    one, first = _timed(here, clip)
    other, second = _timed(there, clip)
    least = here.config.min_confidence
    names = [[match.track.path for match in found[:1]] for found in (one, other)]
    sure = [[m.track.path for m in found[:1] if m.confidence >= least] for found in (one, other)]
    if names[0] != names[1] or sure[0] != sure[1]:
        click.echo(f"differ: {_shown(one)} here, {_shown(other)} in Milvus, right: {path.name}")
    return (
        names[0] == names[1],
        sure[0] == sure[1],
        names[0] == [path],
        first,
        names[1] == [path],
        second,
    )


def _timed(library: Library, clip: Clip) -> tuple[tuple[Match, ...], float]:
    begin = time.perf_counter()
    matches = library.recognise(clip).matches
    return matches, time.perf_counter() - begin


def _shown(found: tuple[Match, ...]) -> str:
    return f"{found[0].track.path.name} {found[0].confidence:.3f}" if found else "nothing"


def _times(seconds: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> str:
    return f"{1e3 * median(seconds):.0f} ({1e3 * float(np.quantile(seconds, 0.95)):.0f})"
