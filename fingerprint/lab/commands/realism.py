"""Do the degradations of training leave as much of the music as real places do?

python -m fingerprint.lab realism --real my-set
python -m fingerprint.lab realism --real my-set configs/default.yaml other.yaml
"""

from pathlib import Path

import click
import torch

from fingerprint.cli.options import FOLDER, corpus_option
from fingerprint.config import TrainConfig, load_config
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.real.folder import RealSet
from fingerprint.lab.real.realism import LAYOUT, of_degradations, of_real, table
from fingerprint.lab.training.batches import load_material
from fingerprint.lab.training.pairs import Studio


@click.command()
@click.argument("configs", nargs=-1, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--real", type=FOLDER, required=True, metavar="DIR", help="See docs/evaluation.md.")
@corpus_option
@click.option("--clips", type=click.IntRange(min=1), default=160, show_default=True)
def main(configs: tuple[Path, ...], real: Path, corpus: Path, clips: int) -> None:
    """Print how much music is left by band, in real recordings and by CONFIGS."""
    recorded = of_real(RealSet.open(real), "tune")
    material = load_material(Corpus.open(corpus), LAYOUT.sample_rate, "validation")
    studio = Studio.of(material, torch.device("cpu"))
    made = [
        of_degradations(path.name, studio, load_config(path, TrainConfig).degrade, clips)
        for path in configs or (Path("configs/default.yaml"),)
    ]
    click.echo(table([recorded, *made]))
