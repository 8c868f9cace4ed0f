"""Queries against a library that grows: time, memory, disk and top-1 by the number of tracks.

    python benchmarks/growth.py --tracks 1000 --tracks 10000

The library holds every training and validation track and, up to each number, made-up ones
(`world.made_up`); it is kept and grows from run to run. The queries are validation snippets.
"""

import sys
import time
from pathlib import Path
from statistics import median

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.world import CACHE, PROJECT, fill, private, queries, real_tracks
from fingerprint.corpus import Corpus
from fingerprint.library.library import Library
from fingerprint.library.profiles import PROFILES
from fingerprint.model.fingerprinter import Fingerprinter

CONDITION = "phone 5 s"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--corpus", type=click.Path(path_type=Path), default=PROJECT / "data" / "corpus")
@click.option("--tracks", type=click.IntRange(min=600), multiple=True, default=(1_000, 10_000))
@click.option("--queries", "count", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--profile", type=click.Choice(list(PROFILES)), default="precise", show_default=True)
def main(corpus: Path, tracks: tuple[int, ...], count: int, profile: str) -> None:
    """Tabulate what a query costs as the library grows."""
    model = Fingerprinter.default("cpu", threads=1)
    opened = Corpus.open(corpus)
    real = real_tracks(opened, model, "validation") | real_tracks(opened, model, "train")
    asked = list(queries(opened, (CONDITION,), count, model.sample_rate))
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
        with Library.open(folder, model) as library:
            info, meta = library.info(), library.meta
            wall, spent, right = [], [], []
            for _, clip, path, _ in asked:
                begin, ticks = time.perf_counter(), time.process_time()
                matches = library.identify(clip)
                wall.append(time.perf_counter() - begin)
                spent.append(time.process_time() - ticks)
                right.append(bool(matches) and matches[0].track.path == path)
            memory = private()
        rows = info.hours * 3600 / meta.row_hop
        click.echo(
            f"| {info.tracks:,} | {rows:,.0f} | {info.segments} | {info.bytes / 1e6:,.0f} | "
            f"{filled:.0f} | {100 * np.mean(right):.1f} | {1e3 * median(wall):.0f} | "
            f"{1e3 * median(spent):.0f} | {memory:,.0f} |"
        )


if __name__ == "__main__":
    main()
