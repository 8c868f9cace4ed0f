"""Compare degradations with real recordings: the music they leave, and a classifier's opinion.

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
from fingerprint.lab.real.realism import (
    LAYOUT,
    degraded,
    measure,
    real_passages,
    table_of_areas,
    table_of_music_left,
)
from fingerprint.lab.training.batches import load_material
from fingerprint.lab.training.config import load_recipe
from fingerprint.lab.training.pairs import Studio
from fingerprint.lab.training.recipe import RECIPE


@click.command()
@click.argument("recipe", default=RECIPE, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--stage", "stages", multiple=True, metavar="NAME", help="Only this one; repeatable.")
@click.option("--real", type=FOLDER, required=True, metavar="DIR", help="Made by `cut-recording`.")
@corpus_option
@click.option(
    "--clips",
    type=click.IntRange(min=1),
    default=160,
    show_default=True,
    help="Degraded clips of each stage, at least: every passage is degraded equally often.",
)
def main(recipe: Path, stages: tuple[str, ...], real: Path, corpus: Path, clips: int) -> None:
    """Compare the degradations of RECIPE's stages with real recordings of role tune.

    The first table shows how much of the music is left by frequency; the second, how well a
    classifier tells real recordings from degraded passages of the same tracks (0.5: not at all).
    """
    passages = real_passages(RealSet.open(real), "tune")
    recorded = measure(passages)
    material = load_material(Corpus.open(corpus), LAYOUT.sample_rate, "validation")
    studio = Studio.of(material, torch.device("cpu"))
    wanted = {
        name: settings.degrade
        for name, settings in load_recipe(recipe).stages.items()
        if not stages or name in stages
    }
    made = {}
    for config in dict.fromkeys(wanted.values()):
        names = ", ".join(name for name, other in wanted.items() if other == config)
        made[names] = measure(degraded(passages, studio, config, clips))
    click.echo(table_of_music_left({"real recordings, role tune": recorded, **made}))
    click.echo()
    click.echo(table_of_areas(recorded, made))
