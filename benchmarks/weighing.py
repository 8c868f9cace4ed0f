"""How much clear windows should count: top-1 over the power of their clearness.

    python benchmarks/weighing.py runs/evaluation/library-* --queries 150

The queries are of validation tracks, against any library that holds those.
"""

import sys
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.world import PROJECT, queries, top_1
from fingerprint.corpus import Corpus
from fingerprint.library.library import Library
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.search import alignment

ASKED = (
    "phone 2 s",
    "phone 3 s",
    "phone 5 s",
    "phone at -5 dB 5 s",
    "phone at -5 dB 10 s",
    "phone at -10 dB 10 s",
)
POWERS = (0, 1, 2, 3, 4, 6, 8)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("library", type=click.Path(path_type=Path))
@click.option("--corpus", type=click.Path(path_type=Path), default=PROJECT / "data" / "corpus")
@click.option("--queries", "count", type=click.IntRange(min=1), default=150, show_default=True)
@click.option("--power", "powers", type=float, multiple=True, default=POWERS, show_default=True)
def main(library: Path, corpus: Path, count: int, powers: tuple[float, ...]) -> None:
    """Tabulate top-1 by the power."""
    model = Fingerprinter.default("cpu", threads=1)
    asked = list(queries(Corpus.open(corpus), ASKED, count, model.sample_rate))
    click.echo(f"| power | {' | '.join(ASKED)} | mean |")
    click.echo("|---:|" + "---:|" * (len(ASKED) + 1))
    for power in powers:
        alignment.POWER = power
        with Library.open(library, model) as opened:
            found = [100 * right for right, _ in top_1(opened, asked).values()]
        cells = " | ".join(f"{figure:.1f}" for figure in [*found, sum(found) / len(found)])
        click.echo(f"| {power:g} | {cells} |")


if __name__ == "__main__":
    main()
