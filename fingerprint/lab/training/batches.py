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
)
from fingerprint.lab.training.sounds import draw_tracks
from fingerprint.model.embedder import create_embedder
from fingerprint.model.frontend import Frontend

MAKERS = 2  # threads that make batches on a GPU


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

    def draw(self, studio: Studio, step: int) -> Draw:
        """This process's share of the step's tracks, all different in the whole world."""
        config, here = self.config, self.here
        device = studio.music.samples.device
        tracks = draw_tracks(studio.music, config.batch * here.size, self._rng(device, step))
        own = tracks[here.rank * config.batch : (here.rank + 1) * config.batch]
        return draw(
            studio,
            own,
            self.length,
            config.degrade,
            self._rng(device, step, here.rank),
            positives=config.positives,
            virtual=config.virtual,
        )

    def finish(self, drawn: Draw, frontend: Frontend, step: int) -> Batch:
        """Degrade and transform."""
        rng = self._rng(drawn.anchor.device, step, self.here.rank, 1)
        return finish(drawn, frontend, self.geometry, self.config.degrade, rng)

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
        steps = range(self._first, self.plan.config.steps)
        if self._studio.rooms.device.type == "cuda":
            yield from self._ahead(steps)
        else:
            yield from map(self._make, steps)

    @torch.no_grad()
    def _make(self, step: int) -> Batch:
        drawn = self.plan.draw(self._studio, step)
        return self.plan.finish(drawn, self._frontend, step)

    def _ahead(self, steps: Iterable[int]) -> Iterator[Batch]:
        """Batches made while the network learns from those before.

        A batch is a thousand small kernels: launching them takes longer than running them. So
        `MAKERS` threads launch them, each into a CUDA stream of its own.
        """

        def make(step: int) -> Batch:
            with torch.cuda.stream(streams[step % MAKERS]):
                batch = self._make(step)
                torch.cuda.current_stream().synchronize()
            return batch

        torch.cuda.synchronize()  # the material has arrived
        streams = [torch.cuda.Stream() for _ in range(MAKERS)]  # type: ignore[no-untyped-call]
        coming = deque[Future[Batch]]()
        with ThreadPoolExecutor(MAKERS) as pool:
            for step in steps:
                coming.append(pool.submit(make, step))
                if len(coming) > MAKERS:
                    yield _handed_over(coming.popleft().result())
            while coming:
                yield _handed_over(coming.popleft().result())


def _handed_over(batch: Batch) -> Batch:
    """The batch, of which the current stream now has to be done before its memory is used again."""
    for tensor in (batch.spectrograms, batch.tracks):
        tensor.record_stream(torch.cuda.current_stream())
    return batch


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
