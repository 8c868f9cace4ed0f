"""Queries against a library that grows: time, memory, disk and top-1 by the number of tracks.

    python -m fingerprint.lab bench-growth --tracks 1000 --tracks 10000

The library holds every training and validation track and, up to each number, made-up ones
(`world.made_up`); it is kept and grows from run to run. The queries are validation snippets.
"""

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import click
import numpy as np

from fingerprint.cli.options import corpus_option
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.tables.world import CACHE, fill, private, queries, real_tracks
from fingerprint.library.library import Library
from fingerprint.library.profiles import PROFILES
from fingerprint.model.fingerprinter import Fingerprinter

CONDITION = "phone 5 s"


@click.command()
@corpus_option
@click.option("--tracks", type=click.IntRange(min=600), multiple=True, default=(1_000, 10_000))
@click.option("--queries", "count", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--profile", type=click.Choice(list(PROFILES)), default="standard", show_default=True)
def main(corpus: Path, tracks: tuple[int, ...], count: int, profile: str) -> None:
    """Tabulate what a query costs as the library grows."""
    model = Fingerprinter.default("cpu", threads=1)
    opened = Corpus.open(corpus)
    real = real_tracks(opened, model, "validation") | real_tracks(opened, model, "train")
    folder = CACHE / f"library-{profile}"
    click.echo(
        "| tracks | rows | segments | MB | fill s | top-1 % | median ms | processor ms | own MB |"
    )
    click.echo("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for total in sorted(tracks):
        with Library.create_or_open(folder, model, profile=profile) as library:
            begin = time.perf_counter()
            fill(library, real, total)
            filled = time.perf_counter() - begin
            info, hop = library.info(), library.meta.row_hop
        # In a process of its own, so that its memory is that of queries alone.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
            asked = apart.submit(ask, folder, corpus, count).result()
        click.echo(
            f"| {info.tracks:,} | {info.hours * 3600 / hop:,.0f} | {info.segments} | "
            f"{info.bytes / 1e6:,.0f} | {filled:.0f} | {100 * asked.right:.1f} | "
            f"{1e3 * asked.wall:.0f} | {1e3 * asked.spent:.0f} | {asked.memory:,.0f} |"
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """What queries came to: medians of seconds, and MB that the process holds of its own."""

    right: float
    wall: float
    spent: float
    memory: float


def ask(folder: Path, corpus: Path, count: int) -> Asked:
    """Ask a library in this process."""
    model = Fingerprinter.default("cpu", threads=1)
    wall, spent, right = [], [], []
    with Library.open(folder, model) as library:
        for _, clip, path, _ in queries(
            Corpus.open(corpus), (CONDITION,), count, model.sample_rate
        ):
            begin, ticks = time.perf_counter(), time.process_time()
            matches = library.recognise(clip).matches
            wall.append(time.perf_counter() - begin)
            spent.append(time.process_time() - ticks)
            right.append(bool(matches) and matches[0].track.path == path)
    return Asked(float(np.mean(right)), median(wall), median(spent), private())
