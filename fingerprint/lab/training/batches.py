"""Batches on the training device, made ahead by worker processes.

On the CPU the workers do all of it, down to the spectrograms; for a GPU they only read and cut,
and the GPU degrades and transforms.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from fingerprint.config import TrainConfig
from fingerprint.errors import ConfigError
from fingerprint.lab.corpus import Corpus, load_recordings, load_responses
from fingerprint.lab.corpus.config import ADDITIONS, Role
from fingerprint.lab.training.distributed import World
from fingerprint.lab.training.pairs import (
    Batch,
    Draw,
    Geometry,
    Material,
    draw,
    draw_tracks,
    finish,
    geometry,
)
from fingerprint.model.embedder import create_embedder
from fingerprint.model.frontend import Frontend

AHEAD = 4  # batches a worker prepares in advance


@dataclass(frozen=True, slots=True)
class Plan:
    """What the batch of a step is, for one process of the world."""

    config: TrainConfig
    here: World
    geometry: Geometry
    length: int  # samples of a clip

    @staticmethod
    def of(config: TrainConfig, here: World, frontend: Frontend) -> "Plan":
        """Derive where the windows lie from the model."""
        embedder = create_embedder(config.model, config.seed)
        where = geometry(frontend, embedder, config.windows, config.degrade)
        return Plan(config, here, where, frontend.samples(where.frames))

    def draw(self, material: Material, step: int) -> Draw:
        """This process's share of the step's tracks, all different in the whole world."""
        config, here = self.config, self.here
        tracks = draw_tracks(
            material.music, config.batch * here.size, np.random.default_rng((config.seed, step))
        )
        own = tracks[here.rank * config.batch : (here.rank + 1) * config.batch]
        rng = np.random.default_rng((config.seed, step, here.rank))
        return draw(
            material,
            own,
            self.length,
            config.degrade,
            rng,
            positives=config.positives,
            virtual=config.virtual,
        )

    def finish(self, drawn: Draw, frontend: Frontend, step: int) -> Batch:
        """Degrade and transform, on the device that the draw and the front-end are on."""
        key = (self.config.seed, step, self.here.rank, 1)
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        rng = torch.Generator(drawn.anchor.device).manual_seed(seed)
        return finish(drawn, frontend, self.geometry, self.config.degrade, rng)


class Batches:
    """The batches from a step to the run's end, for one process of the world.

    Raises:
        ConfigError: the batch has more tracks than the corpus.
    """

    def __init__(
        self, config: TrainConfig, corpus: Corpus, device: torch.device, here: World, first: int
    ) -> None:
        frontend = Frontend(config.model.frontend)
        rate = config.model.frontend.sample_rate
        # Decoded once, here, not per worker.
        music = load_material(corpus, rate, config.music).music
        if config.batch * here.size > len(music):
            raise ConfigError(
                f"a batch of {config.batch} tracks on {here.size} processes needs as many "
                f"different tracks; the corpus has {len(music)} to train on"
            )
        self.plan = Plan.of(config, here, frontend)
        self._device = device
        self._first = first
        on_cpu = device.type == "cpu"
        self._pairs = _Pairs(self.plan, corpus, frontend if on_cpu else None)
        self._frontend = frontend.to(device)

    def __iter__(self) -> Iterator[Batch]:
        config = self.plan.config
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
            if isinstance(item, Batch):
                yield item
            else:
                yield self.plan.finish(item.to(self._device), self._frontend, step)


class _Pairs(Dataset[Draw | Batch]):
    """Item i is the batch of step i, finished if there is a front-end to finish it with.

    Workers get a copy of this, and open the corpus themselves.
    """

    def __init__(self, plan: Plan, corpus: Corpus, frontend: Frontend | None) -> None:
        self._plan = plan
        self._corpus = corpus
        self._frontend = frontend
        self._material: Material | None = None

    def __getitem__(self, step: int) -> Draw | Batch:
        if self._material is None:
            rate = self._plan.config.model.frontend.sample_rate
            self._material = load_material(self._corpus, rate, self._plan.config.music)
        drawn = self._plan.draw(self._material, step)
        return drawn if self._frontend is None else self._plan.finish(drawn, self._frontend, step)


def load_material(corpus: Corpus, sample_rate: int, roles: Role | Sequence[Role]) -> Material:
    """Music of one or more roles; sounds and responses of the training split, or the test split."""
    named = {roles} if isinstance(roles, str) else set(roles)
    split: Literal["train", "test"] = "train" if named <= {"train", *ADDITIONS} else "test"
    return Material(
        music=load_recordings(corpus, roles, sample_rate),
        sounds=load_recordings(
            corpus, "sounds-train" if split == "train" else "sounds-test", sample_rate
        ),
        responses=load_responses(corpus, split, sample_rate),
        sample_rate=sample_rate,
    )
