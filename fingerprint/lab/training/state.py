"""Everything that changes while training, and the checkpoint that holds all of it.

There is no random state to keep: batches are functions of the seed and the step.
"""

import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from fingerprint.disk import atomic_write
from fingerprint.errors import ConfigError, ModelError
from fingerprint.lab.training.config import TrainConfig
from fingerprint.lab.training.distributed import World, gather
from fingerprint.lab.training.mining import Loss, triplet_loss
from fingerprint.lab.training.pairs import Batch
from fingerprint.model.checkpoint import Checkpoint, half, read_checkpoint, write_checkpoint
from fingerprint.model.embedder import ConvEmbedder, create_embedder, load_weights
from fingerprint.recognition.confidence import Calibration

CHECKPOINT = "checkpoint.pt"


class State:
    """Embedder, moving average, optimiser and step of a run."""

    def __init__(self, config: TrainConfig, device: torch.device, here: World) -> None:
        self.config = config
        self.here = here
        self.device = device
        self.step = 0
        self.embedder = _first_embedder(config)
        self.embedder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(
            self.embedder,
            multi_avg_fn=partial(_average, config.average_decay),
            use_buffers=True,
        )
        self.optimizer = torch.optim.AdamW(
            self.embedder.parameters(), config.learning_rate, weight_decay=config.weight_decay
        )
        self.bfloat16 = config.precision == "bfloat16" or (
            config.precision == "auto" and _bfloat16_pays(config, device)
        )
        self._network: nn.Module = (
            nn.parallel.DistributedDataParallel(self.embedder) if here.size > 1 else self.embedder
        )

    @property
    def averaged(self) -> ConvEmbedder:
        """The embedder with averaged weights, the result of a run."""
        module = self.average.module.eval()
        assert isinstance(module, ConvEmbedder)  # noqa: S101  # what it was made of
        return module

    def update(self, batch: Batch) -> Loss:
        """One step of gradient descent."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step)
        self._network.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            embeddings = self._network(batch.spectrograms)  # (C, W, dim)
        everyone, tracks = gather(embeddings, batch.tracks, self.here)
        loss = triplet_loss(
            everyone,
            tracks,
            config.mining,
            self.step / config.steps,
            config.model.embedder.indexed_dims,
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.value.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.average.update_parameters(self.embedder)
        self.step += 1
        return loss

    def export(self, path: Path) -> None:
        """Write the averaged embedder as a model file."""
        weights = half(self.averaged.state_dict())
        write_checkpoint(Checkpoint(self.config.model, weights, Calibration()), path)

    def save(self, run: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        document = {
            "config": self.config.model_dump_json(),
            "step": self.step,
            "bfloat16": self.bfloat16,
            "embedder": self.embedder.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_write(run / CHECKPOINT) as draft:
            torch.save(document, draft)

    def resume(self, run: Path) -> None:
        """Resume from the run's checkpoint, if it has one.

        Raises:
            ConfigError: the checkpoint is of another configuration.
            ModelError: it is damaged.
        """
        document = _read(run, self.config, self.device)
        if document is None:
            return
        self.step = document["step"]
        self.bfloat16 = document["bfloat16"]
        self.embedder.load_state_dict(document["embedder"])
        self.average.load_state_dict(document["average"])
        self.optimizer.load_state_dict(document["optimizer"])


def is_finished(run: Path, config: TrainConfig) -> bool:
    """Whether a run has taken all its steps.

    Raises:
        ConfigError, ModelError: as `State.resume`.
    """
    document = _read(run, config, torch.device("cpu"))
    return document is not None and int(document["step"]) >= config.steps


def _read(run: Path, config: TrainConfig, device: torch.device) -> dict[str, Any] | None:
    path = run / CHECKPOINT
    if not path.exists():
        return None
    try:
        document: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise ModelError(f"{path} is damaged; delete it to start the run again") from error
    if document["config"] != config.model_dump_json():
        raise ConfigError(f"{run} holds a run with another configuration; choose another --output")
    return document


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then half a cosine to zero at the run's end."""
    warm_up = min(1.0, (step + 1) / config.learning_rate_warm_up)
    return config.learning_rate * warm_up * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def _first_embedder(config: TrainConfig) -> ConvEmbedder:
    """Untrained, or with the weights of the model file that the run starts from.

    Its embeddings may be shorter than the run's: their numbers then come first.

    Raises:
        ModelError: the file is missing or damaged.
        ConfigError: it holds a model of another configuration.
    """
    embedder = create_embedder(config.model, config.seed)
    if config.start:
        checkpoint = read_checkpoint(Path(config.start))
        theirs, ours = checkpoint.config, config.model
        free = {name: getattr(ours.embedder, name) for name in ("dim", "indexed_dims")}
        as_wide = theirs.embedder.model_copy(update=free)
        if (
            as_wide != ours.embedder
            or theirs.embedder.dim > ours.embedder.dim
            or theirs.frontend.n_bands != ours.frontend.n_bands
        ):
            raise ConfigError(
                f"{config.start}, from which the run is to start, is a model of other sizes; copy "
                "its `embedder` section (`dim` may be greater, `indexed_dims` another) and "
                "`n_bands`, or start untrained"
            )
        load_weights(embedder, _widened(checkpoint.weights, embedder))
    return embedder


def _widened(weights: dict[str, Tensor], embedder: ConvEmbedder) -> dict[str, Tensor]:
    """Weights whose head has as many outputs as the embedder's; further ones are the embedder's."""
    own = embedder.state_dict()
    grown = {
        name: torch.cat([tensor, own[name][len(tensor) :].to(tensor.dtype)])
        for name, tensor in weights.items()
        if name.startswith("head.")
    }
    return weights | grown


@torch.no_grad()
def _average(decay: float, average: list[Tensor], now: list[Tensor], updates: Tensor | int) -> None:
    """Exponential moving average whose memory grows with the run, up to `decay`.

    After n updates it reaches back over about n / 9 steps: so early averages do not remember the
    weights the run began with.
    """
    n = int(updates)
    memory = min(decay, (1 + n) / (10 + n))
    if average[0].is_floating_point():
        torch._foreach_lerp_(average, now, 1 - memory)
    else:
        torch._foreach_copy_(average, now)


def _bfloat16_pays(config: TrainConfig, device: torch.device) -> bool:
    """Whether bfloat16 is faster: always on CUDA, measured where the CPU computes with it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if not torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported():
        return False
    embedder = create_embedder(config.model, config.seed)
    x = torch.zeros(16, config.model.frontend.n_bands, embedder.window_frames)

    def seconds(*, bfloat16: bool) -> float:
        def once() -> float:
            began = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                embedder(x).sum().backward()
            return time.perf_counter() - began

        return min(once() for _ in range(4))

    return seconds(bfloat16=True) < seconds(bfloat16=False)
