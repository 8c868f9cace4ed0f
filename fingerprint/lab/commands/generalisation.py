"""Would more music or more noise help? What a model does on what it has and has not heard.

python -m fingerprint.lab generalisation

The validation hit rate of a model, measured four times: with music it was trained on and with
validation music, each with the sounds and rooms of training and with those of the test split. Of
the training tracks as many are drawn as there are validation tracks, several times. Where the
figures agree the model has not learnt its training data by heart, and more of it is of no use.
"""

from dataclasses import replace
from pathlib import Path
from statistics import mean

import click
import numpy as np

from fingerprint.cli.options import corpus_option
from fingerprint.lab.corpus import Corpus, Recordings
from fingerprint.lab.training.batches import load_material
from fingerprint.lab.training.pairs import Material
from fingerprint.lab.training.validation import Validation
from fingerprint.model.fingerprinter import DEFAULT_WEIGHTS
from fingerprint.model.torch_network import TorchNetwork


@click.command()
@corpus_option
@click.option("--model", "weights", type=click.Path(path_type=Path), default=DEFAULT_WEIGHTS)
@click.option("--draws", type=click.IntRange(min=1), default=5, show_default=True)
def main(corpus: Path, weights: Path, draws: int) -> None:
    """Measure the gap between what was trained on and what was not."""
    model = TorchNetwork.load(weights)
    opened = Corpus.open(corpus)
    trained, unheard = (
        load_material(opened, model.about.config.frontend.sample_rate, role)
        for role in ("train", "validation")
    )
    count = len(unheard.music)
    samples = [draw(trained.music, count, np.random.default_rng(seed)) for seed in range(draws)]
    click.echo("| music | sounds and rooms | hit rate % | draws of tracks |")
    click.echo("|---|---|---:|---|")
    for music, tracks in (("training", samples), ("validation", [unheard.music])):
        for sounds, material in (("training", trained), ("test", unheard)):
            rates = [100 * hit_rate(model, replace(material, music=some)) for some in tracks]
            each = ", ".join(f"{rate:.1f}" for rate in rates)
            click.echo(f"| {music} | {sounds} | {mean(rates):.1f} | {each} |")


def draw(music: Recordings, count: int, rng: np.random.Generator) -> Recordings:
    """So many of the recordings."""
    chosen = rng.choice(len(music), size=count, replace=False)
    return music.some(chosen.tolist())


def hit_rate(model: TorchNetwork, material: Material) -> float:
    """The validation hit rate on some material."""
    validation = Validation.make(material, model.frontend, model.embedder)
    return validation.hit_rate(model.embedder)
