"""The training loop, top to bottom.

    fingerprint train --corpus data/corpus --output runs/default
    torchrun --nproc-per-node 8 -m fingerprint train   # data-parallel

A run, or a stage of a recipe (`recipe`), is a folder: `checkpoint.pt` (everything needed to
resume), `model.pt` (the model, with averaged weights, as last validated), `metrics.jsonl` and
TensorBoard events. A run that was stopped and resumed ends with the same weights as one that was
not.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TextIO

import torch

from fingerprint.lab.corpus import Corpus
from fingerprint.lab.corpus.packs import Packs
from fingerprint.lab.training.batches import Batches, load_material
from fingerprint.lab.training.config import TrainConfig
from fingerprint.lab.training.distributed import local_device, world
from fingerprint.lab.training.state import State
from fingerprint.lab.training.validation import Validation
from fingerprint.machine import pick_device
from fingerprint.model.frontend import Frontend

MODEL = "model.pt"
COLLAPSED = 0.3  # spread below which embeddings crowd together; unit vectors spread evenly have 1


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """One step's figures.

    `active` is the share of mined triplets that violate the margin; `spread` the embeddings'
    standard deviation against that of evenly spread unit vectors (0: collapsed to a point, 1:
    even); `validation` the hit rate where it was measured at this step.
    """

    step: int
    steps: int
    loss: float
    active: float
    spread: float
    windows_per_second: float
    validation: float | None = None

    @property
    def collapsed(self) -> bool:
        """Whether the embeddings crowd together: the run has failed unless they recover."""
        return self.spread < COLLAPSED


def train(
    config: TrainConfig,
    corpus: Corpus | Packs,
    run: Path,
    *,
    device: str = "auto",
    minutes: float | None = None,
    on_progress: Callable[[TrainProgress], None] = lambda _: None,
) -> Path:
    """Train a model, or resume the run in the folder `run`.

    After `minutes` the run stops; called again, it resumes from there.

    Returns:
        The model file, `run/model.pt`: with averaged weights, as last validated.

    Raises:
        CorpusError: the corpus lacks the music that the configuration names.
        ConfigError: the batch has more tracks than the corpus, or the folder holds a run with
            another configuration.
    """
    target = local_device(torch.device(pick_device(device)))
    rate = config.model.frontend.sample_rate
    started = time.monotonic()
    run.mkdir(parents=True, exist_ok=True)
    with world(target) as here:
        state = State(config, target, here)
        state.resume(run)
        music = load_material(corpus, rate, config.music, songs=config.songs)
        batches = Batches(config, music, target, here, state.step)
        first = here.rank == 0  # the one process that validates, saves and reports
        if first:
            validation = Validation.make(
                load_material(corpus, rate, "validation"),
                Frontend(config.model.frontend),
                state.averaged,
            )
        saved = began = time.monotonic()
        with Metrics.open(run, state.step) if first else nullcontext() as metrics:
            for batch in batches:
                loss = state.update(batch)
                if metrics is None:
                    continue
                due = state.step % config.validate_every == 0 or state.step == config.steps
                hit_rate = validation.hit_rate(state.averaged) if due else None
                now = time.monotonic()
                over = minutes is not None and now - started > 60 * minutes
                if due or over:
                    state.export(run / MODEL)
                if due or over or now - saved > 60 * config.checkpoint_minutes:
                    state.save(run)
                    saved = time.monotonic()
                progress = TrainProgress(
                    step=state.step,
                    steps=config.steps,
                    loss=float(loss.value.detach()),
                    active=loss.active,
                    spread=loss.spread,
                    windows_per_second=config.windows
                    * len(batch.tracks)
                    * here.size
                    / (now - began),
                    validation=hit_rate,
                )
                metrics.write(progress)
                on_progress(progress)
                if over:
                    break
                began = time.monotonic()
    return run / MODEL


class Metrics:
    """The run's figures, as JSON lines and, where it is installed, for TensorBoard."""

    def __init__(self, lines: TextIO, board: Any) -> None:
        self._lines = lines
        self._board = board

    @classmethod
    @contextmanager
    def open(cls, run: Path, step: int) -> Iterator[Self]:
        """Append to the run's figures, dropping those after the step from which it resumes."""
        path = run / "metrics.jsonl"
        old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in old if json.loads(line)["step"] <= step]
        path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        board = _tensorboard(run, step)
        with path.open("a", encoding="utf-8") as lines:
            yield cls(lines, board)
        if board is not None:
            board.close()

    def write(self, progress: TrainProgress) -> None:
        """Log one step."""
        figures = {name: value for name, value in asdict(progress).items() if value is not None}
        self._lines.write(json.dumps(figures) + "\n")
        self._lines.flush()
        if self._board is not None:
            for name in figures.keys() - {"step", "steps"}:
                self._board.add_scalar(name, figures[name], progress.step)


def _tensorboard(run: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(run, purge_step=step + 1)
