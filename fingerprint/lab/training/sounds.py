"""Clips cut from recordings that lie on the training device, a batch at a time.

Samples are 16-bit where they lie and floats in [-1, 1] from here on. All randomness is a
`torch.Generator` on the same device.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from fingerprint.lab.corpus import Recordings
from fingerprint.lab.training.degrade import change_speed

QUIET_RMS = 10 ** (-50 / 20)  # of full scale; quieter places are drawn again
DRAWS = 8  # tries for a place that is not quiet
VIRTUAL_RATES = (0.8, 1.25)  # playback speeds of virtual tracks
SOUND_RATES = (0.7, 1.4)  # playback speeds of recorded sounds
CHAIN = 8  # recorded sounds in a chain, which begins again after the last
BLOCK = 256  # samples whose energy is known
FULL_SCALE = 32_768


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """n recordings end to end on a device."""

    samples: Tensor  # (T,) 16-bit
    starts: Tensor  # (n,)
    lengths: Tensor  # (n,) samples
    rms: Tensor  # (n,) of full scale
    energy: Tensor  # (T / BLOCK + 1,) of all samples before each block

    @classmethod
    def of(cls, recordings: Recordings, device: torch.device) -> "Bank":
        """Copy recordings to a device."""
        samples = np.array(recordings.samples)
        whole = np.pad(samples, (0, -len(samples) % BLOCK)).reshape(-1, BLOCK)
        blocks = np.square(whole.astype(np.float32) / FULL_SCALE).sum(axis=1, dtype=np.float64)
        energy = np.concatenate([[0.0], np.cumsum(blocks)])
        starts, lengths = recordings.starts[:-1], np.diff(recordings.starts)
        level = [
            math.sqrt(float(np.square(sound.astype(np.float32) / FULL_SCALE).mean()))
            for sound in map(recordings.recording, range(len(recordings)))
        ]
        rms = np.array(level, np.float32)

        def place(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(np.array(array)).to(device)

        return cls(place(samples), place(starts), place(lengths), place(rms), place(energy))

    def __len__(self) -> int:
        return len(self.starts)

    def cut(self, recording: Tensor, start: Tensor, length: int) -> Tensor:
        """Samples from `start` (B,) on, zeros beyond the ends of the recordings: (B, T)."""
        place = start[:, None] + torch.arange(length, device=start.device)
        last = self.lengths[recording][:, None] - 1
        inside = (place >= 0) & (place <= last)
        index = self.starts[recording][:, None] + place.clamp(min=0).minimum(last)
        return self.samples[index] * (inside / FULL_SCALE)

    def draw_places(self, recording: Tensor, length: int, rng: Generator) -> Tensor:
        """Where clips begin that are not quiet, as far as a few draws find such places: (B,)."""
        spare = (self.lengths[recording] - length).clamp(min=0)[:, None]
        chance = torch.rand(len(recording), DRAWS, generator=rng, device=rng.device)
        start = (chance * (spare + 1)).long().minimum(spare)  # (B, DRAWS)
        first = (self.starts[recording][:, None] + start) // BLOCK
        last = (first + math.ceil(length / BLOCK)).clamp(max=len(self.energy) - 1)
        loud = self.energy[last] - self.energy[first] > length * QUIET_RMS**2
        chosen = loud.long().argmax(dim=1, keepdim=True)  # the first that is loud, else the first
        return start.gather(1, chosen)[:, 0]


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """What clips are cut from, B of them: recordings, or virtual ones.

    A virtual one plays `rate` times as fast about the middle of the clip, so that tempo and pitch
    are others, with `gain` times the other recording, wrapped around, mixed in. For the rest `gain`
    is 0 and `rate` 1.
    """

    music: Bank
    recording: Tensor  # (B,)
    rate: Tensor  # (B,)
    other: Tensor  # (B,)
    other_from: Tensor  # (B,)
    gain: Tensor  # (B,)

    @classmethod
    def draw(cls, music: Bank, recording: Tensor, virtual: float, rng: Generator) -> "Sources":
        """Each recording, or with the chance `virtual` one made of it and of a second one."""
        n, device = len(recording), rng.device

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(n, generator=rng, device=device)

        chosen = uniform(0, 1) < virtual
        rate = uniform(*(math.log(rate) for rate in VIRTUAL_RATES)).exp()
        other = torch.randint(len(music), (n,), generator=rng, device=device)
        return cls(
            music,
            recording,
            rate=torch.where(chosen, rate, 1.0),
            other=other,
            other_from=(uniform(0, 1) * music.lengths[other]).long(),
            gain=torch.where(chosen, uniform(0, 1), 0.0),
        )

    def last(self, length: int) -> Tensor:
        """The last places at which clips may begin: (B,)."""
        return (self.music.lengths[self.recording] - length).clamp(min=0)

    def cut(self, start: Tensor, length: int) -> Tensor:
        """Clips (B, T)."""
        clips = self.music.cut(self.recording, start, length)
        (rows,) = torch.nonzero(self.gain > 0, as_tuple=True)
        if len(rows):
            spare = math.ceil(length * (max(VIRTUAL_RATES) - 1) / 2)
            first, long = start[rows] - spare, length + 2 * spare
            mixed = self.music.cut(self.recording[rows], first, long)
            mixed += self.gain[rows, None] * self._other(rows, first, long)
            clips[rows] = change_speed(mixed, self.rate[rows])[:, spare : spare + length]
        return clips

    def _other(self, rows: Tensor, first: Tensor, length: int) -> Tensor:
        bank, other = self.music, self.other[rows]
        place = (self.other_from[rows] + first)[:, None]
        place = (place + torch.arange(length, device=first.device)) % bank.lengths[other][:, None]
        return bank.samples[bank.starts[other][:, None] + place] / FULL_SCALE


def chains(bank: Bank, kinds: Tensor, n: int, length: int, rng: Generator) -> Tensor:
    """Recorded sounds one after another, all as loud and each at a speed of its own: (n, T).

    The first begins at a random place. Other speeds make other sounds of the few there are.

    Args:
        bank: of sounds.
        kinds: numbers of those to choose from.
        n: chains.
        length: samples.
        rng: all randomness.
    """
    device = rng.device
    which = kinds[torch.randint(len(kinds), (n, CHAIN), generator=rng, device=device)]
    low, high = (math.log(rate) for rate in SOUND_RATES)
    rate = (low + (high - low) * torch.rand(n, CHAIN, generator=rng, device=device)).exp()
    lengths = bank.lengths[which]
    begin = torch.zeros(n, CHAIN, device=device)
    begin[:, 0] = torch.rand(n, generator=rng, device=device) * lengths[:, 0]
    span = ((lengths - begin) / rate).clamp(min=1)  # samples of the chain
    ends = span.cumsum(dim=1)
    time = torch.arange(length, device=device) % ends[:, -1:]  # (n, T)
    piece = torch.searchsorted(ends, time, right=True).clamp(max=CHAIN - 1)
    place = begin.gather(1, piece) + (time - (ends - span).gather(1, piece)) * rate.gather(1, piece)
    whole = place.long().clamp(min=0)
    fraction = place - whole
    start, last = bank.starts[which].gather(1, piece), lengths.gather(1, piece) - 1
    before = bank.samples[start + whole.minimum(last)]
    after = bank.samples[start + (whole + 1).minimum(last)]
    sound = torch.lerp(before.float(), after.float(), fraction) / FULL_SCALE
    return sound / bank.rms[which].clamp(min=1 / FULL_SCALE).gather(1, piece)


def numbers_of(sounds: Recordings, kind: str, device: torch.device) -> Tensor:
    """The recordings of a kind; all of them where none is."""
    chosen = [i for i, file in enumerate(sounds.files) if file.kind == kind]
    return torch.tensor(chosen or list(range(len(sounds))), device=device)


def draw_tracks(music: Bank, count: int, rng: Generator) -> Tensor:
    """Numbers of `count` different recordings, (count,).

    Drawn with the square root of their length, so that long ones count for more but do not crowd
    out the short.
    """
    weight = music.lengths.float().sqrt()
    return torch.multinomial(weight, count, replacement=False, generator=rng)
