"""`fingerprint train`: train a model from one configuration file."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.options import FOLDER, corpus_option, device_option
from fingerprint.cli.progress import ProgressLine

if TYPE_CHECKING:
    from fingerprint.lab.training.loop import TrainProgress


@click.command("train")
@click.argument("config", type=click.Path(dir_okay=False, path_type=Path))
@corpus_option
@click.option(
    "--packs",
    type=FOLDER,
    metavar="DIR",
    help="Train from packs (`python -m fingerprint.lab pack`) instead of the corpus.",
)
@click.option("--steps", type=click.IntRange(min=1), help="Instead of the configuration's.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop after so long; the same command goes on from there.",
)
@click.option(
    "--output",
    type=FOLDER,
    metavar="DIR",
    show_default="runs/ and the configuration's name",
    help="Folder of the run; a run that is already there goes on where it stopped.",
)
@device_option
def train_command(
    config: Path,
    corpus: Path,
    packs: Path | None,
    steps: int | None,
    minutes: float | None,
    output: Path | None,
    device: str,
) -> None:
    """Train a model from a recipe.

    CONFIG is a file such as configs/default.yaml.

    A run that was stopped resumes when the same command is given again. Under torchrun each
    process takes its share of every batch.
    """
    from fingerprint.config import TrainConfig, load_config

    settings = load_config(config, TrainConfig)  # wrong ones show before the slow imports
    if steps is not None:
        settings = settings.model_copy(update={"steps": steps})
    run = Path("runs") / config.stem if output is None else output
    from fingerprint.lab.corpus import Corpus
    from fingerprint.lab.corpus.packs import Packs
    from fingerprint.lab.training.loop import train

    first = os.environ.get("RANK", "0") == "0"  # torchrun's other processes keep quiet
    with ProgressLine(quiet=not first) as line:
        checkpoint = train(
            settings,
            Corpus.open(corpus) if packs is None else Packs.open(packs),
            run,
            device=device,
            minutes=minutes,
            on_progress=lambda progress: _show(line, progress),
        )
    if first:
        click.echo(f"Trained model: {display_name(checkpoint)}")


def _show(line: ProgressLine, now: "TrainProgress") -> None:
    text = (
        f"step {now.step:,}/{now.steps:,}  loss {now.loss:.3f}  active {now.active:.0%}  "
        f"spread {now.spread:.2f}  {now.segments_per_second:,.0f} segments/s"
    )
    if now.collapsed:
        text += "  WARNING: the embeddings have collapsed"
    measured = now.validation is not None
    if measured:
        text += f"  validation {now.validation:.1%}"
    line.show(now.step, now.steps, text, keep=measured)
