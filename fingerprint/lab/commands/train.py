"""`fingerprint train`: train a model from a recipe."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.options import FOLDER, corpus_option, device_option
from fingerprint.cli.progress import ProgressLine

if TYPE_CHECKING:
    from fingerprint.lab.training.loop import TrainProgress

PACKAGED = Path(__file__).resolve().parents[1] / "training" / "configs" / "recipe.yaml"


@click.command("train")
@click.argument("recipe", required=False, type=click.Path(dir_okay=False, path_type=Path))
@corpus_option
@click.option(
    "--packs",
    type=FOLDER,
    metavar="DIR",
    help="Train from packs (`python -m fingerprint.lab pack`) instead of the corpus.",
)
@click.option("--stage", metavar="NAME", help="Train only this stage; those before it are done.")
@click.option("--steps", type=click.IntRange(min=1), help="Of each stage, instead of the recipe's.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop after this time; the same command resumes.",
)
@click.option(
    "--output",
    type=FOLDER,
    metavar="DIR",
    show_default="runs/ and the recipe's name",
    help="Folder of the run; a run that was stopped there resumes.",
)
@device_option
def train_command(
    recipe: Path | None,
    corpus: Path,
    packs: Path | None,
    stage: str | None,
    steps: int | None,
    minutes: float | None,
    output: Path | None,
    device: str,
) -> None:
    """Train a model from a recipe.

    RECIPE is a YAML file: one training run, or several stages, of which each lists what differs
    from the one before; its keys are explained in fingerprint/lab/training/config.py. Without it,
    the recipe of the weights that ship with the package is trained.

    A run that was stopped resumes when the same command is given again. Under torchrun each
    process takes its share of every batch.
    """
    from fingerprint.lab.training.config import load_recipe

    path = recipe or PACKAGED
    wanted = load_recipe(path)  # mistakes show before the slow imports
    if steps is not None:
        stages = {n: s.model_copy(update={"steps": steps}) for n, s in wanted.stages.items()}
        wanted = wanted.model_copy(update={"stages": stages})
    from fingerprint.lab.corpus import Corpus
    from fingerprint.lab.corpus.packs import Packs
    from fingerprint.lab.training.recipe import train_recipe

    first = os.environ.get("RANK", "0") == "0"  # torchrun's other processes print nothing
    with ProgressLine(quiet=not first) as line:
        model = train_recipe(
            wanted,
            Corpus.open(corpus) if packs is None else Packs.open(packs),
            Path("runs") / path.stem if output is None else output,
            stage=stage,
            device=device,
            minutes=minutes,
            on_progress=lambda progress: _show(line, progress),
        )
    if first:
        click.echo(f"Trained model: {display_name(model)}")


def _show(line: ProgressLine, now: "TrainProgress") -> None:
    text = (
        f"step {now.step:,}/{now.steps:,}  loss {now.loss:.3f}  active {now.active:.0%}  "
        f"spread {now.spread:.2f}  {now.windows_per_second:,.0f} windows/s"
    )
    if now.collapsed:
        text += "  WARNING: the embeddings have collapsed"
    measured = now.validation is not None
    if measured:
        text += f"  validation {now.validation:.1%}"
    line.show(now.step, now.steps, text, keep=measured)
