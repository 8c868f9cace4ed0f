"""Batches on the training device, made ahead by worker processes.

On the CPU the workers do all of it, down to the spectrograms; for a GPU they only read and cut,
and the GPU degrades and transforms.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from fingerprint.config import TrainConfig
from fingerprint.corpus import Corpus, load_recordings, load_responses
from fingerprint.corpus.config import Role
from fingerprint.errors import ConfigError
from fingerprint.model.embedder import create_embedder
from fingerprint.model.frontend import Frontend
from fingerprint.training.distributed import World
from fingerprint.training.pairs import Batch, Draw, Material, draw, draw_tracks, finish, geometry

AHEAD = 4  # batches a worker prepares in advance


class Batches:
    """The batches from a step to the run's end, for one process of the world.

    Raises:
        ConfigError: the batch has more tracks than the corpus.
    """

    def __init__(
        self, config: TrainConfig, corpus: Corpus, device: torch.device, here: World, first: int
    ) -> None:
        self.frontend = Frontend(config.model.frontend)
        window = create_embedder(config.model, config.seed).window_frames
        self.geometry = geometry(self.frontend, window, config.degrade)
        self._config = config
        self._device = device
        self._here = here
        self._first = first
        load_responses(corpus, "train", self.frontend.config.sample_rate)  # once, not per worker
        music = load_recordings(corpus, "train", self.frontend.config.sample_rate)
        load_recordings(corpus, "sounds-train", self.frontend.config.sample_rate)
        if config.batch * here.size > len(music):
            raise ConfigError(
                f"a batch of {config.batch} tracks on {here.size} processes needs as many "
                f"different tracks; the corpus has {len(music)} to train on"
            )
        self._pairs = _Pairs(self, corpus)

    def __iter__(self) -> Iterator[Batch]:
        config = self._config
        loader: DataLoader[Draw | Batch] = DataLoader(
            self._pairs,
            batch_size=None,
            sampler=range(self._first, config.steps),
            num_workers=config.workers,
            prefetch_factor=AHEAD if config.workers else None,
            multiprocessing_context="forkserver" if config.workers else None,
            pin_memory=self._device.type == "cuda",
        )
        for step, item in enumerate(loader, start=self._first):
            yield item if isinstance(item, Batch) else self.finish(item, step)

    def draw(self, material: Material, step: int) -> Draw:
        """This process's share of the step's tracks, all different in the whole world."""
        config, here = self._config, self._here
        tracks = draw_tracks(
            material.music, config.batch * here.size, np.random.default_rng((config.seed, step))
        )
        own = tracks[here.rank * config.batch : (here.rank + 1) * config.batch]
        rng = np.random.default_rng((config.seed, step, here.rank))
        length = self.frontend.samples(self.geometry.frames)
        return draw(material, own, length, config.degrade.time_offset, rng)

    def finish(self, drawn: Draw, step: int) -> Batch:
        """Degrade and transform where the front-end is."""
        config = self._config
        seed = np.random.SeedSequence((config.seed, step, self._here.rank, 1)).generate_state(1)
        device = self._device
        rng = torch.Generator(device).manual_seed(int(seed[0]))
        return finish(drawn.to(device), self.frontend, self.geometry, config.degrade, rng)

    @property
    def finished_by_workers(self) -> bool:
        """Whether the workers make spectrograms too."""
        return self._device.type == "cpu"


class _Pairs(Dataset[Draw | Batch]):
    """Item i is the batch of step i; the corpus is opened by the process that reads it."""

    def __init__(self, batches: Batches, corpus: Corpus) -> None:
        self._batches = batches
        self._corpus = corpus
        self._material: Material | None = None

    def __getitem__(self, step: int) -> Draw | Batch:
        batches = self._batches
        if self._material is None:
            rate = batches.frontend.config.sample_rate
            self._material = load_material(self._corpus, rate, "train")
        drawn = batches.draw(self._material, step)
        return batches.finish(drawn, step) if batches.finished_by_workers else drawn


def load_material(corpus: Corpus, sample_rate: int, role: Role) -> Material:
    """Music of a role; sounds and responses of the training split, or of the test split's."""
    split: Literal["train", "test"] = "train" if role == "train" else "test"
    return Material(
        music=load_recordings(corpus, role, sample_rate),
        sounds=load_recordings(
            corpus, "sounds-train" if split == "train" else "sounds-test", sample_rate
        ),
        responses=load_responses(corpus, split, sample_rate),
        sample_rate=sample_rate,
    )
