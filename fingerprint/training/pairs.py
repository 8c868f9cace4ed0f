"""Pairs for the triplet loss: a clean anchor and a degraded positive of the same place.

A batch is a pure function of the seed, the step and the rank: any process can make it, in any
order, and a resumed run sees what the interrupted one would have seen.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from fingerprint.config import DegradeConfig
from fingerprint.corpus import Recordings, Responses
from fingerprint.model.frontend import Frontend
from fingerprint.training.degrade import Scene, cut_out, degrade
from fingerprint.types import Floats, Ints

QUIET_RMS = 10 ** (-50 / 20)  # of full scale; quieter places are drawn again
DRAWS = 8  # tries for a place that is not quiet
VOICES = 4  # at most, in a babble


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What batches are made of, all at `sample_rate` (Hz)."""

    music: Recordings
    sounds: Recordings
    responses: Responses
    sample_rate: int

    def numbers(self, kind: str) -> list[int]:
        """Which sounds are of a kind; all of them where none is."""
        chosen = [i for i, file in enumerate(self.sounds.files) if file.kind == kind]
        return chosen or list(range(len(self.sounds)))


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """A batch before anything is computed on it: B rows of waveforms with context."""

    anchor: Tensor  # (B, T) clean
    scene: Scene  # of the positive, (B, T); its clips lie up to the time offset away
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

    spectrograms: Tensor  # (2 B, bands, F)
    tracks: Tensor  # (2 B,)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the window lies in a drawn clip, in frames; derived from the model."""

    past: int
    window: int
    future: int

    @property
    def frames(self) -> int:
        """Of the whole clip."""
        return self.past + self.window + self.future


def geometry(frontend: Frontend, window_frames: int, config: DegradeConfig) -> Geometry:
    """The window between a past for the room and half the future that the front-end looks at."""
    past = round(config.past * frontend.config.frame_rate)
    return Geometry(past, window_frames, frontend.reach // 2)


def draw_tracks(music: Recordings, count: int, rng: np.random.Generator) -> Ints:
    """Numbers of `count` different tracks, (count,).

    Drawn with the square root of their length, so that long ones count for more but do not crowd
    out the short.
    """
    weight = np.sqrt(np.diff(music.starts))
    return rng.choice(len(music), size=count, replace=False, p=weight / weight.sum())


def draw(
    material: Material, tracks: Ints, length: int, time_offset: float, rng: np.random.Generator
) -> Draw:
    """Draw one place in each of the tracks (B,), with noise, a room and a device.

    Args:
        material: music, sounds and responses.
        tracks: numbers of different tracks.
        length: samples of each clip.
        time_offset: seconds by which the positive's place may differ, either way.
        rng: all randomness.
    """
    offset = round(time_offset * material.sample_rate)
    pairs = [_places(material.music.recording(int(t)), length, offset, rng) for t in tracks]
    noises = _noises(material, len(tracks), length, rng)
    rooms, devices = material.responses.rooms, material.responses.devices
    scene = Scene(
        clean=torch.from_numpy(np.stack([positive for _, positive in pairs])),
        noise=torch.from_numpy(noises),
        rooms=torch.from_numpy(rooms[rng.integers(len(rooms), size=len(tracks))]),
        devices=torch.from_numpy(devices[rng.integers(len(devices), size=len(tracks))]),
    )
    anchor = torch.from_numpy(np.stack([anchor for anchor, _ in pairs]))
    return Draw(anchor, scene, torch.from_numpy(tracks))


def finish(
    drawn: Draw, frontend: Frontend, where: Geometry, config: DegradeConfig, rng: Generator
) -> Batch:
    """Degrade the positives and compute both spectrograms, on the device the draw is on."""
    noisy = degrade(drawn.scene, config, frontend.config.sample_rate, rng)
    window = slice(where.past, where.past + where.window)
    clean = frontend(drawn.anchor)[..., window]  # (B, bands, F)
    valid = _valid_frames(len(noisy), where, config, rng)
    positive = cut_out(frontend(noisy, valid)[..., window], config, rng)
    return Batch(torch.cat([clean, positive]), torch.cat([drawn.tracks, drawn.tracks]))


def _places(
    recording: NDArray[np.int16], length: int, offset: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """A clip (T,) that is not quiet, and another that begins at most `offset` samples away."""
    last = max(0, len(recording) - length)
    start = 0
    for _ in range(DRAWS):
        start = int(rng.integers(last + 1))
        clip = _cut(recording, start, length)
        if np.sqrt(np.mean(np.square(clip))) > QUIET_RMS:
            break
    moved = int(np.clip(start + rng.integers(-offset, offset + 1), 0, last))
    return clip, _cut(recording, moved, length)


def _noises(material: Material, n: int, length: int, rng: np.random.Generator) -> Floats:
    """Half the rows an effect, half a babble of up to `VOICES` voices: (n, T)."""
    sounds, speech, effects = (
        material.sounds,
        material.numbers("speech"),
        material.numbers("effect"),
    )

    def sound(numbers: list[int]) -> Floats:
        return _loop(sounds.recording(int(rng.choice(numbers))), length, rng)

    noises = np.zeros((n, length), np.float32)
    for i in range(n):
        babble = rng.random() < 0.5
        for _ in range(rng.integers(1, VOICES + 1) if babble else 1):
            noises[i] += sound(speech if babble else effects)
    return noises


def _loop(recording: NDArray[np.int16], length: int, rng: np.random.Generator) -> Floats:
    """A recorded sound from a random place on, repeated to fill: (T,), unit RMS."""
    if len(recording) < length:
        recording = np.tile(recording, -(-2 * length // max(1, len(recording))))
    clip = _cut(recording, int(rng.integers(max(1, len(recording) - length))), length)
    scale: Floats = clip / max(1e-6, float(np.sqrt(np.mean(np.square(clip)))))
    return scale


def _cut(recording: NDArray[np.int16], start: int, length: int) -> Floats:
    clip = recording[start : start + length].astype(np.float32) / 32_768
    return np.pad(clip, (0, length - len(clip)))


def _valid_frames(n: int, where: Geometry, config: DegradeConfig, rng: Generator) -> Tensor:
    """Which frames of the positives exist, (B, F) of ones and zeros.

    A snippet has little or no audio around the window, so half of the rows lose a random part of
    their surroundings; some, standing for snippets shorter than a window, lose part of the window.
    """

    def uniform() -> Tensor:
        return torch.rand(n, 1, generator=rng, device=rng.device)

    bare = uniform() < 0.5
    first = torch.where(bare, uniform() * where.past, 0.0)
    last = where.frames - torch.where(bare, uniform() * where.future, 0.0)
    short = uniform() < config.short
    lost = uniform() * where.window / 2
    share = uniform()
    first = torch.where(short, where.past + lost * share, first)
    last = torch.where(short, where.past + where.window - lost * (1 - share), last)
    frame = torch.arange(where.frames, device=rng.device)
    return ((frame >= first) & (frame < last)).float()
