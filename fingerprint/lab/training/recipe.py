"""Run a recipe: train its stages one after the other.

    fingerprint train --corpus data/corpus --output runs/default

Each stage has a folder of its own in the folder of the run, and starts from a model of an earlier
one. `configs/recipe.yaml` is the recipe of the weights that ship with the package.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from fingerprint.errors import ConfigError
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.corpus.packs import Packs
from fingerprint.lab.corpus.recordings import files_of
from fingerprint.lab.training.config import Recipe, TrainConfig
from fingerprint.lab.training.loop import MODEL, TrainProgress, train
from fingerprint.lab.training.state import is_finished

RECIPE = Path(__file__).parent / "configs" / "recipe.yaml"  # configs: a link to the top level


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
    """Train the stages that are not finished, or only the one called `stage`.

    After `minutes` it stops; called again, it resumes.

    Returns:
        The model file of the last stage that was trained.

    Raises:
        ConfigError: there is no such stage; or as `train`.
        CorpusError: as `train`.
    """
    if stage not in (None, *recipe.stages):
        raise ConfigError(f"no stage {stage!r} in the recipe: it has {', '.join(recipe.stages)}")
    stages = {n: one for n, one in recipe.stages.items() if stage in (None, n)}
    if isinstance(corpus, Corpus):  # what a later stage lacks is better missed now
        _require_music(corpus, stages.values())
    end = None if minutes is None else time.monotonic() + 60 * minutes
    model = run / MODEL
    for name, settings in stages.items():
        folder, config = run, settings
        if len(recipe.stages) > 1:
            folder = run / name
            start = str(run / settings.start) if settings.start else ""
            config = settings.model_copy(update={"start": start})
        model = folder / MODEL
        if is_finished(folder, config):
            continue
        left = None if end is None else max(0.0, end - time.monotonic()) / 60
        train(config, corpus, folder, device=device, minutes=left, on_progress=on_progress)
        if end is not None and not is_finished(folder, config):
            break
    return model


def _require_music(corpus: Corpus, stages: Iterable[TrainConfig]) -> None:
    for role in dict.fromkeys(role for one in stages for role in one.music):
        files_of(corpus, role)
