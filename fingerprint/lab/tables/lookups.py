"""How much of the index a query needs: top-1 and time over the nodes that are inspected.

    python -m fingerprint.lab bench-lookups runs/benchmarks/library-standard --queries 200

Windows and nodes are those of a query, at first and in doubt. The queries are of validation
tracks, against a library that `bench-growth` has filled. Times are processor time of one
core, so that a busy machine matters less.
"""

from dataclasses import replace
from pathlib import Path

import click

from fingerprint.cli.options import corpus_option
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.report_format import markdown_head, markdown_row
from fingerprint.lab.tables.world import queries, top_1
from fingerprint.library.library import Library
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.search import Effort, SearchConfig

CONDITIONS = ("clean 5 s", "noise 5 s", "phone 2 s", "phone at -5 dB 5 s", "phone at -10 dB 10 s")
GRID = (
    (Effort(windows=32, nodes=100_000, candidates=50), 100_000),
    (Effort(windows=32, nodes=100_000, candidates=50), 600_000),
    (Effort(windows=8, nodes=30_000, candidates=20), 600_000),
    (Effort(windows=4, nodes=12_000, candidates=10), 600_000),
    (Effort(windows=8, nodes=30_000, candidates=20), 2_000_000),
)  # at first, and nodes in doubt


@click.command()
@click.argument("library", type=click.Path(path_type=Path))
@corpus_option
@click.option("--queries", "count", type=click.IntRange(min=1), default=60, show_default=True)
def main(library: Path, corpus: Path, count: int) -> None:
    """Tabulate top-1 and mean time by the nodes inspected."""
    model = Fingerprinter.default("cpu", threads=1)
    drawn = list(queries(Corpus.open(corpus), CONDITIONS, count, model.sample_rate))
    shown = [title for name in CONDITIONS for title in (f"{name}: top-1 %", "ms")]
    click.echo(markdown_head(["windows", "nodes", "in doubt", *shown], left=0))
    usual = SearchConfig().in_doubt
    for first, nodes in GRID:
        in_doubt = replace(usual, nodes=nodes)
        config = SearchConfig(at_first=first, in_doubt=in_doubt)
        with Library.open(library, model, config=config) as opened:
            found = top_1(opened, drawn)
        cells = [str(first.windows), f"{first.nodes:,}", f"{nodes:,}"]
        for right, spent in found.values():
            cells += [f"{100 * right:.1f}", f"{1000 * spent:.0f}"]
        click.echo(markdown_row(cells))
