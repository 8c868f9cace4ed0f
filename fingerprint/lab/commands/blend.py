"""Blend the weights with which a training run began and ended.

python -m fingerprint.lab blend old.pt runs/default/last.pt --output new.pt

The recipe does this at its end by itself; see configs/recipe.yaml.
"""

from pathlib import Path

import click

from fingerprint.cli.options import FILE, corpus_option
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.training.config import load_recipe
from fingerprint.lab.training.recipe import RECIPE, blend, normalisation_batches
from fingerprint.model.checkpoint import read_checkpoint, write_checkpoint


@click.command()
@click.argument("start", type=FILE)
@click.argument("end", type=FILE)
@click.option("--config", type=FILE, default=RECIPE, show_default="the recipe of the package")
@click.option("--share", type=click.FloatRange(0, 1), default=0.85, show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
@corpus_option
def main(start: Path, end: Path, config: Path, share: float, output: Path, corpus: Path) -> None:
    """Write the model between START and END, with --share of END.

    Batch normalisation is measured on batches of the last stage of --config.
    """
    settings = list(load_recipe(config).stages.values())[-1]
    batches = normalisation_batches(settings, Corpus.open(corpus))
    made = blend(read_checkpoint(start), read_checkpoint(end), share, batches)
    write_checkpoint(made, output)
    click.echo(f"{output}: model {made.id[:12]}")
