"""Blend the weights that a run began with and those that it ended with.

python -m fingerprint.lab blend configs/default.yaml old.pt runs/default/last.pt --output new.pt
"""

from pathlib import Path

import click
import torch

from fingerprint.cli.options import FILE, corpus_option
from fingerprint.config import TrainConfig, load_config
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.training.batches import Batches, load_material
from fingerprint.lab.training.blend import blend
from fingerprint.lab.training.distributed import World
from fingerprint.model.checkpoint import read_checkpoint, write_checkpoint

STEPS = 16  # batches on which the normalisation is measured
BATCH = 48  # tracks of each


@click.command()
@click.argument("config", type=FILE)
@click.argument("start", type=FILE)
@click.argument("end", type=FILE)
@click.option("--share", type=click.FloatRange(0, 1), default=0.85, show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
@corpus_option
def main(config: Path, start: Path, end: Path, share: float, output: Path, corpus: Path) -> None:
    """Write the model between START and END, with --share of END, as CONFIG makes batches."""
    settings = load_config(config, TrainConfig).model_copy(
        update={"steps": STEPS, "batch": BATCH, "music": ("train",)}
    )
    rate = settings.model.frontend.sample_rate
    material = load_material(Corpus.open(corpus), rate, settings.music)
    batches = Batches(settings, material, torch.device("cpu"), World(), 0)
    spectrograms = (batch.spectrograms for batch in batches)
    made = blend(read_checkpoint(start), read_checkpoint(end), share, spectrograms)
    write_checkpoint(made, output)
    click.echo(f"{output}: model {made.id[:12]}")
