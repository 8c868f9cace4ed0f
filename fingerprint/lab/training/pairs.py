"""Pairs for the triplet loss: a clean anchor and a degraded positive of the same place.

Everything after decoding happens on the training device. A batch is a pure function of the seed,
the step and the rank: any process can make it, in any order, and a resumed run sees what the
interrupted one would have seen.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from fingerprint.lab.corpus import Recordings, Responses
from fingerprint.lab.training.config import DegradeConfig
from fingerprint.lab.training.degrade import Scene, cut_out, degrade, scale_rooms
from fingerprint.lab.training.sounds import Bank, Sources, chains, numbers_of
from fingerprint.model.embedder import ConvEmbedder
from fingerprint.model.frontend import Frontend

VOICES = 12  # at most, in a babble
CPU_ROWS = 8  # clips degraded at a time on a CPU: few enough for its cache, three times as fast


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What batches are made of, all at `sample_rate` (Hz)."""

    music: Recordings
    sounds: Recordings
    responses: Responses
    sample_rate: int


@dataclass(frozen=True, slots=True, eq=False)
class Studio:
    """The material on a device, ready to be cut."""

    music: Bank
    sounds: Bank
    speech: Tensor  # numbers of the sounds that are
    effects: Tensor
    rooms: Tensor  # (R, L)
    devices: Tensor  # (D, L')
    sample_rate: int

    @classmethod
    def of(cls, material: Material, device: torch.device) -> "Studio":
        """Copy the material to a device."""
        return cls(
            music=Bank.of(material.music, device),
            sounds=Bank.of(material.sounds, device),
            speech=numbers_of(material.sounds, "speech", device),
            effects=numbers_of(material.sounds, "effect", device),
            rooms=torch.from_numpy(material.responses.rooms).to(device),
            devices=torch.from_numpy(material.responses.devices).to(device),
            sample_rate=material.sample_rate,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """A batch before anything is degraded: waveforms with context."""

    anchor: Tensor  # (B, T) clean
    scene: Scene  # of the positives, (P B, T); its clips lie up to the time offset away
    tracks: Tensor  # (B,) number of the track; all different


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What the network sees: anchors, then positives."""

    spectrograms: Tensor  # (C, bands, F), C = (1 + P) B
    tracks: Tensor  # (C,)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the windows lie in a drawn clip, in frames; derived from the model."""

    past: int
    window: int  # one of them
    windows: int  # all of them, overlapping
    future: int

    @property
    def frames(self) -> int:
        """Frames of the whole clip."""
        return self.past + self.windows + self.future


def geometry(
    frontend: Frontend, embedder: ConvEmbedder, windows: int, config: DegradeConfig
) -> Geometry:
    """Windows between a past for the room and half the future that the front-end looks at."""
    past = round(config.past * frontend.config.frame_rate)
    window = embedder.window_frames
    return Geometry(past, window, window + (windows - 1) * embedder.stride, frontend.reach // 2)


def draw(
    studio: Studio,
    tracks: Tensor,
    length: int,
    config: DegradeConfig,
    rng: Generator,
    *,
    positives: int = 1,
    virtual: float = 0.0,
) -> Draw:
    """Draw one place in each of the tracks (B,), with noise, a room and a device a positive.

    Args:
        studio: music, sounds and responses.
        tracks: numbers of different tracks.
        length: samples of each clip.
        config: how far a positive's place may differ, and how often its noise is music.
        rng: all randomness.
        positives: P, degraded clips a track; those of one track are B rows apart.
        virtual: the share of tracks in whose place there is another one, made of them.
    """
    offset = round(config.time_offset * studio.sample_rate)
    sources = Sources.draw(studio.music, tracks, virtual, rng)
    starts = studio.music.draw_places(tracks, length, rng)

    def moved() -> Tensor:
        by = torch.randint(-offset, offset + 1, (len(tracks),), generator=rng, device=rng.device)
        return (starts + by).clamp(min=0).minimum(sources.last(length))

    n = positives * len(tracks)

    def choose(responses: Tensor) -> Tensor:
        which = torch.randint(len(responses), (n,), generator=rng, device=rng.device)
        return responses[which]

    scene = Scene(
        clean=torch.cat([sources.cut(moved(), length) for _ in range(positives)]),
        noise=_noises(studio, tracks.repeat(positives), length, config.music, rng),
        rooms=scale_rooms(choose(studio.rooms), config.room_scale, rng),
        devices=choose(studio.devices),
    )
    return Draw(sources.cut(starts, length), scene, tracks)


def finish(
    drawn: Draw, frontend: Frontend, where: Geometry, config: DegradeConfig, rng: Generator
) -> Batch:
    """Degrade the positives and compute all spectrograms, on the device the draw is on."""
    windows = slice(where.past, where.past + where.windows)
    rows = CPU_ROWS if rng.device.type == "cpu" else len(drawn.scene)

    def heard(scene: Scene) -> Tensor:
        noisy = degrade(scene, config, frontend.config.sample_rate, rng)
        valid = _valid_frames(len(noisy), where, config, rng)
        return cut_out(frontend(noisy, valid)[..., windows], config, rng)

    clean = [frontend(part)[..., windows] for part in torch.split(drawn.anchor, rows)]
    clips = torch.cat([*clean, *(heard(part) for part in drawn.scene.split(rows))])
    return Batch(clips, drawn.tracks.repeat(len(clips) // len(drawn.tracks)))


def split(batch: Batch, clips: int, count: int) -> list[Batch]:
    """`count` batches, each of as many tracks, from one of all their tracks, `clips` clips each."""
    spectrograms = torch.unflatten(batch.spectrograms, 0, (clips, count, -1))
    tracks = torch.unflatten(batch.tracks, 0, (clips, count, -1))
    return [Batch(spectrograms[:, i].flatten(0, 1), tracks[:, i].flatten()) for i in range(count)]


def _noises(studio: Studio, tracks: Tensor, length: int, music: float, rng: Generator) -> Tensor:
    """Half the rows effects, half a babble of up to `VOICES` voices: (n, T) for n tracks.

    Both are chains of recorded sounds; zeros if there are none. A babble is made of the voices of
    other rows, each row's moved in time. A share `music` of the rows has other music instead.
    """
    n = len(tracks)

    def uniform(count: int = n) -> Tensor:
        return torch.rand(count, generator=rng, device=rng.device)

    babble = uniform() < 0.5
    noises = torch.zeros(n, length, device=rng.device)
    (rows,) = torch.nonzero(babble, as_tuple=True)
    if len(rows) and len(studio.speech):
        alone = chains(studio.sounds, studio.speech, len(rows), length, rng)
        voices = (VOICES ** uniform(len(rows))).long().clamp(1, VOICES)
        for voice in range(VOICES):
            (more,) = torch.nonzero(voices > voice, as_tuple=True)
            if len(more):
                shift = voice * length // VOICES
                noises[rows[more]] += alone.roll((voice, shift), (0, 1))[more]
    (rows,) = torch.nonzero(~babble, as_tuple=True)
    if len(rows) and len(studio.effects):
        noises[rows] = chains(studio.sounds, studio.effects, len(rows), length, rng)
    (rows,) = torch.nonzero(uniform() < music, as_tuple=True)
    if len(rows) and len(studio.music) > 1:
        step = torch.randint(1, len(studio.music), (n,), generator=rng, device=rng.device)
        other = ((tracks + step) % len(studio.music))[rows]
        noises[rows] = studio.music.cut(other, studio.music.draw_places(other, length, rng), length)
    return noises


def _valid_frames(n: int, where: Geometry, config: DegradeConfig, rng: Generator) -> Tensor:
    """Which frames of the positives exist, (B, F) of ones and zeros.

    A snippet has little or no audio around its windows, so half of the rows lose a random part of
    their surroundings. Some stand for snippets shorter than a window: of these only a stretch in
    the middle is left, which every window sees if there are few of them.
    """

    def uniform() -> Tensor:
        return torch.rand(n, 1, generator=rng, device=rng.device)

    bare = uniform() < 0.5
    first = torch.where(bare, uniform() * where.past, 0.0)
    last = where.frames - torch.where(bare, uniform() * where.future, 0.0)
    short = uniform() < config.short
    lost = uniform() * where.window / 2
    begin = where.past + (where.windows - where.window) / 2 + lost * uniform()
    first = torch.where(short, begin, first)
    last = torch.where(short, begin + where.window - lost, last)
    frame = torch.arange(where.frames, device=rng.device)
    return ((frame >= first) & (frame < last)).float()
