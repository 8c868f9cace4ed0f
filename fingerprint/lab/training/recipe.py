"""Run a recipe: train its stages one after the other, then blend the last two.

    fingerprint train --corpus data/corpus --output runs/default

Each stage has a folder of its own in the folder of the run, and starts from a model of an earlier
one. `configs/recipe.yaml` is the recipe of the weights that ship with the package.

A stage on other degradations learns them and forgets some of what its start knew. A weighted mean
of both keeps most of either (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
Such a mean has activations of other levels than either network, so the statistics of its batch
normalisation are measured again (Izmailov et al., "Averaging weights leads to wider optima", 2018).
"""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from fingerprint.config import ModelConfig
from fingerprint.errors import ConfigError, ModelError
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.corpus.packs import Packs
from fingerprint.lab.training.batches import Batches, load_material
from fingerprint.lab.training.config import Recipe, TrainConfig
from fingerprint.lab.training.distributed import World
from fingerprint.lab.training.loop import TrainProgress, train
from fingerprint.lab.training.state import is_finished
from fingerprint.model.checkpoint import Checkpoint, half, read_checkpoint, write_checkpoint
from fingerprint.model.embedder import ConvEmbedder, create_embedder, load_weights
from fingerprint.recognition.confidence import Calibration

RECIPE = Path(__file__).parent / "configs" / "recipe.yaml"  # configs: a link to the top level
MODEL = "model.pt"  # the blend, in the folder of the run
NORMALISATION_STEPS = 16  # batches on which a blend's normalisation is measured
NORMALISATION_BATCH = 48  # tracks of each


def train_recipe(
    recipe: Recipe,
    corpus: Corpus | Packs,
    run: Path,
    *,
    stage: str | None = None,
    device: str = "auto",
    minutes: float | None = None,
    on_progress: Callable[[TrainProgress], None] = lambda _: None,
) -> Path:
    """Train the stages that are not finished, or only the one called `stage`, then blend.

    After `minutes` it stops; called again, it resumes.

    Returns:
        The model file: the blend, or the best model of the last stage that was trained.

    Raises:
        ConfigError: there is no such stage; or as `train`.
        CorpusError: as `train`.
    """
    if stage not in (None, *recipe.stages):
        raise ConfigError(f"no stage {stage!r} in the recipe: it has {', '.join(recipe.stages)}")
    end = None if minutes is None else time.monotonic() + 60 * minutes
    model = run / MODEL
    for name, settings in recipe.stages.items():
        if stage not in (None, name):
            continue
        folder, config = run, settings
        if len(recipe.stages) > 1:
            folder = run / name
            start = str(run / settings.start) if settings.start else ""
            config = settings.model_copy(update={"start": start})
        model = folder / "best.pt"
        if is_finished(folder, config):
            continue
        left = None if end is None else max(0.0, end - time.monotonic()) / 60
        train(config, corpus, folder, device=device, minutes=left, on_progress=on_progress)
        if end is not None and not is_finished(folder, config):
            return model
    return model if recipe.blend is None or stage else _blended(recipe, corpus, run)


def _blended(recipe: Recipe, corpus: Corpus | Packs, run: Path) -> Path:
    """Write the blend, unless it is there and newer than the stages that it is made of."""
    assert recipe.blend is not None  # noqa: S101  # the caller's condition
    first, second = (run / name / "last.pt" for name in recipe.blend.stages)
    model = run / MODEL
    newest = max(first.stat().st_mtime, second.stat().st_mtime)
    if os.environ.get("RANK", "0") != "0" or (model.exists() and model.stat().st_mtime > newest):
        return model
    config = recipe.stages[recipe.blend.stages[1]]
    batches = normalisation_batches(config, corpus)
    write_checkpoint(
        blend(read_checkpoint(first), read_checkpoint(second), recipe.blend.share, batches), model
    )
    return model


def normalisation_batches(config: TrainConfig, corpus: Corpus | Packs) -> Iterable[Tensor]:
    """Spectrograms of some batches of a training run, on which `blend` measures normalisation."""
    material = load_material(corpus, config.model.frontend.sample_rate, "train")
    batch = min(NORMALISATION_BATCH, len(material.music))
    few = config.model_copy(update={"steps": NORMALISATION_STEPS, "batch": batch})
    batches = Batches(few, material, torch.device("cpu"), World(), 0)
    return (batch.spectrograms for batch in batches)


def blend(
    start: Checkpoint, end: Checkpoint, share: float, batches: Iterable[Tensor]
) -> Checkpoint:
    """The weighted mean of two models, with `share` of the second.

    Args:
        start: the weights that a stage began with.
        end: the weights that it ended with.
        share: 0..1.
        batches: spectrograms (C, bands, F) as in training, to measure the normalisation on.

    Raises:
        ModelError: the models are of other sizes.
    """
    if start.config != end.config:
        raise ModelError("models of other sizes or front-ends cannot be blended")
    mixed = {
        name: torch.lerp(start.weights[name].float(), end.weights[name].float(), share)
        for name in start.weights
    }
    embedder = _embedder(start.config, mixed)
    _normalise(embedder, batches)
    return Checkpoint(start.config, half(embedder.state_dict()), Calibration())


def _embedder(config: ModelConfig, weights: dict[str, Tensor]) -> ConvEmbedder:
    embedder = create_embedder(config, 0)
    load_weights(embedder, weights)
    return embedder


@torch.no_grad()
def _normalise(embedder: ConvEmbedder, batches: Iterable[Tensor]) -> None:
    for module in embedder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain mean over the batches
    embedder.train()
    for spectrograms in batches:
        embedder(spectrograms)
    embedder.eval()
