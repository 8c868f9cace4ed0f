"""How much clear windows should count: top-1 over the power of their clearness.

    python -m fingerprint.lab bench-clearness runs/evaluation/library-* --queries 150

The queries are of validation tracks, against any library that holds those.
"""

from pathlib import Path

import click

from fingerprint.cli.options import corpus_option
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.report_format import markdown_head, markdown_row
from fingerprint.lab.tables.world import queries, top_1
from fingerprint.library.library import Library
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.recognition import alignment

CONDITIONS = (
    "phone 2 s",
    "phone 3 s",
    "phone 5 s",
    "phone at -5 dB 5 s",
    "phone at -5 dB 10 s",
    "phone at -10 dB 10 s",
)
POWERS = (0, 1, 2, 3, 4, 6, 8)


@click.command()
@click.argument("library", type=click.Path(path_type=Path))
@corpus_option
@click.option("--queries", "count", type=click.IntRange(min=1), default=150, show_default=True)
@click.option("--power", "powers", type=float, multiple=True, default=POWERS, show_default=True)
def main(library: Path, corpus: Path, count: int, powers: tuple[float, ...]) -> None:
    """Tabulate top-1 by the power."""
    model = Fingerprinter.default("cpu", threads=1)
    drawn = list(queries(Corpus.open(corpus), CONDITIONS, count, model.sample_rate))
    click.echo(markdown_head(("power", *CONDITIONS, "mean"), left=0))
    for power in powers:
        alignment.POWER = power
        with Library.open(library, model) as opened:
            found = [100 * right for right, _ in top_1(opened, drawn).values()]
        figures = [*found, sum(found) / len(found)]
        click.echo(markdown_row([f"{power:g}", *(f"{figure:.1f}" for figure in figures)]))
