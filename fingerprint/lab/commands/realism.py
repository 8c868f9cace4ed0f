"""Compare how much of the music degradations and real recordings leave, by frequency band.

python -m fingerprint.lab realism --real my-set                                # the recipe's stages
python -m fingerprint.lab realism --real my-set --stage second
python -m fingerprint.lab realism --real my-set other.yaml
"""

from pathlib import Path

import click
import torch

from fingerprint.cli.options import FOLDER, corpus_option
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.real.folder import RealSet
from fingerprint.lab.real.realism import LAYOUT, of_degradations, of_real, table
from fingerprint.lab.training.batches import load_material
from fingerprint.lab.training.config import load_recipe
from fingerprint.lab.training.pairs import Studio
from fingerprint.lab.training.recipe import RECIPE


@click.command()
@click.argument("recipe", default=RECIPE, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--stage", "stages", multiple=True, metavar="NAME", help="Only this one; repeatable.")
@click.option("--real", type=FOLDER, required=True, metavar="DIR", help="Made by `cut-recording`.")
@corpus_option
@click.option("--clips", type=click.IntRange(min=1), default=160, show_default=True)
def main(recipe: Path, stages: tuple[str, ...], real: Path, corpus: Path, clips: int) -> None:
    """Print how much music is left by band, in real recordings and in the stages of RECIPE."""
    recorded = of_real(RealSet.open(real), "tune")
    material = load_material(Corpus.open(corpus), LAYOUT.sample_rate, "validation")
    studio = Studio.of(material, torch.device("cpu"))
    made = [
        of_degradations(name, studio, settings.degrade, clips)
        for name, settings in load_recipe(recipe).stages.items()
        if not stages or name in stages
    ]
    click.echo(table([recorded, *made]))
