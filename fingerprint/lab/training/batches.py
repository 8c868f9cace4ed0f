"""The batches of a run: functions of configuration, seed and step."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from fingerprint.errors import ConfigError
from fingerprint.lab.corpus import Corpus, load_recordings, load_responses, load_sounds
from fingerprint.lab.corpus.config import SOUND_ROLES, Role
from fingerprint.lab.corpus.packs import Packs, split_of
from fingerprint.lab.training.config import TrainConfig
from fingerprint.lab.training.distributed import World
from fingerprint.lab.training.pairs import (
    Batch,
    Draw,
    Geometry,
    Material,
    Studio,
    draw,
    finish,
    geometry,
    split,
)
from fingerprint.lab.training.sounds import draw_tracks
from fingerprint.model.embedder import create_embedder
from fingerprint.model.frontend import Frontend

MAKERS = 2  # threads that make batches on a GPU
TOGETHER = 4  # batches that each of them makes at once


@dataclass(frozen=True, slots=True)
class Plan:
    """How one process of the world makes its batches."""

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

    def draw(self, studio: Studio, steps: range) -> Draw:
        """This process's share of the tracks of some steps; of a step, all are different."""
        config, here = self.config, self.here
        device = studio.music.samples.device
        mine = slice(here.rank * config.batch, (here.rank + 1) * config.batch)
        own = [
            draw_tracks(studio.music, config.batch * here.size, self._rng(device, step))[mine]
            for step in steps
        ]
        return draw(
            studio,
            torch.cat(own),
            self.length,
            config.degrade,
            self._rng(device, steps[0], here.rank),
            positives=config.positives,
            virtual=config.virtual,
        )

    def finish(self, drawn: Draw, frontend: Frontend, steps: range) -> list[Batch]:
        """Degrade and transform: a batch a step."""
        rng = self._rng(drawn.anchor.device, steps[0], self.here.rank, 1)
        whole = finish(drawn, frontend, self.geometry, self.config.degrade, rng)
        return split(whole, 1 + self.config.positives, len(steps))

    def _rng(self, device: torch.device, *key: int) -> torch.Generator:
        sequence = np.random.SeedSequence((self.config.seed, *key))
        return torch.Generator(device).manual_seed(int(sequence.generate_state(1)[0]))


class Batches:
    """The batches from a step to the run's end, for one process of the world.

    Raises:
        ConfigError: the batch has more tracks than there are.
    """

    def __init__(
        self, config: TrainConfig, material: Material, device: torch.device, here: World, first: int
    ) -> None:
        if config.batch * here.size > len(material.music):
            raise ConfigError(
                f"a batch of {config.batch} tracks on {here.size} processes needs as many "
                f"different tracks; the corpus has {len(material.music)} to train on"
            )
        frontend = Frontend(config.model.frontend)
        self.plan = Plan.of(config, here, frontend)
        self._first = first
        self._frontend = frontend.to(device)
        self._studio = Studio.of(material, device)

    def __iter__(self) -> Iterator[Batch]:
        cuda = self._studio.rooms.device.type == "cuda"
        together = TOGETHER if cuda else 1
        skipped = self._first % together
        end = self.plan.config.steps
        groups = [
            range(first, min(first + together, end))
            for first in range(self._first - skipped, end, together)
        ]
        made = self._ahead(groups) if cuda else map(self._make, groups)
        for number, batches in enumerate(made):
            yield from batches[skipped:] if number == 0 else batches

    @torch.no_grad()
    def _make(self, steps: range) -> list[Batch]:
        drawn = self.plan.draw(self._studio, steps)
        return self.plan.finish(drawn, self._frontend, steps)

    def _ahead(self, groups: Iterable[range]) -> Iterator[list[Batch]]:
        """Batches made while the network learns from those before.

        Making a batch takes a thousand small kernels, and launching them takes time. So `TOGETHER`
        batches share the kernels, and `MAKERS` threads launch them, each in a CUDA stream of its
        own.
        """

        def make(number: int, steps: range) -> list[Batch]:
            with torch.cuda.stream(streams[number % MAKERS]):
                batches = self._make(steps)
                torch.cuda.current_stream().synchronize()
            return batches

        torch.cuda.synchronize()  # the material has arrived
        streams = [torch.cuda.Stream() for _ in range(MAKERS)]  # type: ignore[no-untyped-call]
        coming = deque[Future[list[Batch]]]()
        with ThreadPoolExecutor(MAKERS) as pool:
            for number, steps in enumerate(groups):
                coming.append(pool.submit(make, number, steps))
                if len(coming) > MAKERS:
                    yield _handed_over(coming.popleft().result())
            while coming:
                yield _handed_over(coming.popleft().result())


def _handed_over(batches: list[Batch]) -> list[Batch]:
    """Batches whose memory is not used again before the current stream is done with them."""
    for batch in batches:
        for tensor in (batch.spectrograms, batch.tracks):
            tensor.record_stream(torch.cuda.current_stream())
    return batches


def load_material(
    corpus: Corpus | Packs, sample_rate: int, roles: Role | Sequence[Role], *, songs: int = 0
) -> Material:
    """Music of one or more roles; sounds and responses of the training split, or the test split.

    With packs, `songs` songs by formula are made here.
    """
    named = (roles,) if isinstance(roles, str) else tuple(roles)
    split = split_of(named)
    if isinstance(corpus, Corpus):
        return Material(
            music=load_recordings(corpus, roles, sample_rate),
            sounds=load_sounds(corpus, split, sample_rate),
            responses=load_responses(corpus, split, sample_rate),
            sample_rate=sample_rate,
        )
    return Material(
        music=corpus.recordings(named, songs=songs),
        sounds=corpus.recordings((SOUND_ROLES[split],)),
        responses=corpus.responses(split),
        sample_rate=corpus.sample_rate,
    )
