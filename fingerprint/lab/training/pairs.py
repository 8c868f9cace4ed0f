"""Pairs for the triplet loss: a clean anchor and a degraded positive of the same place.

A batch is a pure function of the seed, the step and the rank: any process can make it, in any
order, and a resumed run sees what the interrupted one would have seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from fingerprint.config import DegradeConfig
from fingerprint.lab.corpus import Recordings, Responses
from fingerprint.lab.training.clips import Source, chain, draw_place, draw_source, loop
from fingerprint.lab.training.degrade import Scene, cut_out, degrade
from fingerprint.model.embedder import ConvEmbedder
from fingerprint.model.frontend import Frontend
from fingerprint.types import Floats, Ints

VOICES = 6  # at most, in a babble
CPU_ROWS = 8  # clips degraded at a time on a CPU: few enough for its cache, three times as fast


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What batches are made of, all at `sample_rate` (Hz)."""

    music: Recordings
    sounds: Recordings
    responses: Responses
    sample_rate: int

    def sounds_of(self, kind: str) -> list[NDArray[np.int16]]:
        """The sounds of a kind; all of them where none is."""
        chosen = [i for i, file in enumerate(self.sounds.files) if file.kind == kind]
        return [self.sounds.recording(i) for i in chosen or range(len(self.sounds))]


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """A batch before anything is computed on it: waveforms with context."""

    anchor: Tensor  # (B, T) clean
    scene: Scene  # of the positives, (P B, T); its clips lie up to the time offset away
    tracks: Tensor  # (B,) number of the track; all different

    def pin_memory(self) -> "Draw":
        """The same in pinned memory, from where a device copies it asynchronously."""
        scene = Scene(*(getattr(self.scene, part).pin_memory() for part in Scene.__slots__))
        return Draw(self.anchor.pin_memory(), scene, self.tracks.pin_memory())

    def to(self, device: torch.device) -> "Draw":
        """The same on a device."""
        return Draw(
            self.anchor.to(device, non_blocking=True),
            self.scene.to(device),
            self.tracks.to(device, non_blocking=True),
        )


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
        """Of the whole clip."""
        return self.past + self.windows + self.future


def geometry(
    frontend: Frontend, embedder: ConvEmbedder, windows: int, config: DegradeConfig
) -> Geometry:
    """Windows between a past for the room and half the future that the front-end looks at."""
    past = round(config.past * frontend.config.frame_rate)
    window = embedder.window_frames
    return Geometry(past, window, window + (windows - 1) * embedder.stride, frontend.reach // 2)


def draw_tracks(music: Recordings, count: int, rng: np.random.Generator) -> Ints:
    """Numbers of `count` different tracks, (count,).

    Drawn with the square root of their length, so that long ones count for more but do not crowd
    out the short.
    """
    weight = np.sqrt(np.diff(music.starts))
    return rng.choice(len(music), size=count, replace=False, p=weight / weight.sum())


def draw(
    material: Material,
    tracks: Ints,
    length: int,
    config: DegradeConfig,
    rng: np.random.Generator,
    *,
    positives: int = 1,
    virtual: float = 0.0,
) -> Draw:
    """Draw one place in each of the tracks (B,), with noise, a room and a device a positive.

    Args:
        material: music, sounds and responses.
        tracks: numbers of different tracks.
        length: samples of each clip.
        config: how far a positive's place may differ, and how often its noise is music.
        rng: all randomness.
        positives: P, degraded clips a track; those of one track are B rows apart.
        virtual: the share of tracks in whose place there is another one, made of them.
    """
    offset = round(config.time_offset * material.sample_rate)
    sources = [draw_source(material.music, int(track), virtual, rng) for track in tracks]
    starts = [draw_place(source.sound, length, rng) for source in sources]
    moved = [
        int(np.clip(start + rng.integers(-offset, offset + 1), 0, source.last(length)))
        for _ in range(positives)
        for source, start in zip(sources, starts, strict=True)
    ]
    n = len(moved)
    rooms, devices = material.responses.rooms, material.responses.devices
    scene = Scene(
        clean=_cuts(sources * positives, moved, length),
        noise=torch.from_numpy(_noises(material, tracks, n, length, config.music, rng)),
        rooms=torch.from_numpy(
            scale_rooms(rooms[rng.integers(len(rooms), size=n)], config.room_scale, rng)
        ),
        devices=torch.from_numpy(devices[rng.integers(len(devices), size=n)]),
    )
    return Draw(_cuts(sources, starts, length), scene, torch.from_numpy(tracks))


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


def _noises(
    material: Material,
    tracks: Ints,
    n: int,
    length: int,
    music: float,
    rng: np.random.Generator,
) -> Floats:
    """Half the rows effects, half a babble of up to `VOICES` voices: (n, T).

    Both are chains of sounds. A share `music` of the rows has music instead, from tracks that are
    not among `tracks`.
    """
    speech, effects = material.sounds_of("speech"), material.sounds_of("effect")
    others = np.setdiff1d(np.arange(len(material.music)), tracks)

    noises = np.zeros((n, length), np.float32)
    for i in range(n):
        if len(others) and rng.random() < music:
            noises[i] = loop(material.music.recording(int(rng.choice(others))), length, rng)
            continue
        babble = rng.random() < 0.5
        for _ in range(rng.integers(1, VOICES + 1) if babble else 1):
            noises[i] += chain(speech if babble else effects, length, rng)
    return noises


def scale_rooms(rooms: Floats, span: tuple[float, float], rng: np.random.Generator) -> Floats:
    """Rooms of the same shape and other sizes: impulse responses (n, L) -> (n, L).

    In a room `scale` times as large every echo comes `scale` times as late, and it rings as much
    longer.
    """
    if span == (1.0, 1.0):
        return rooms
    low, high = np.log(span)
    scales = np.exp(rng.uniform(low, high, size=len(rooms)))
    time = np.arange(rooms.shape[1])
    scaled: Floats = np.stack(
        [
            np.interp(time / scale, time, room, right=0.0).astype(np.float32)
            for room, scale in zip(rooms, scales, strict=True)
        ]
    )
    return scaled


def _cuts(sources: Sequence[Source], starts: Sequence[int], length: int) -> Tensor:
    clips = [source.cut(start, length) for source, start in zip(sources, starts, strict=True)]
    return torch.from_numpy(np.stack(clips))


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
