"""Clips cut from recordings: at places that are not quiet, of virtual tracks, of looped sounds.

Samples are 16-bit in the corpus and floats in [-1, 1] from here on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fingerprint.lab.corpus import Recordings
from fingerprint.lab.training.degrade import change_speed
from fingerprint.types import Floats

QUIET_RMS = 10 ** (-50 / 20)  # of full scale; quieter places are drawn again
DRAWS = 8  # tries for a place that is not quiet
VIRTUAL_RATES = (0.8, 1.25)  # playback speeds of virtual tracks
SOUND_RATES = (0.7, 1.4)  # playback speeds of recorded sounds
FULL_SCALE = 32_768


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What clips are cut from: a recording, or a virtual one.

    A virtual one plays `rate` times as fast about the middle of the clip, so that tempo and pitch
    are others, with `other_gain` times the other recording, wrapped around, mixed in.
    """

    sound: NDArray[np.int16]
    rate: float = 1.0
    other: NDArray[np.int16] | None = None
    other_from: int = 0
    other_gain: float = 0.0

    def last(self, length: int) -> int:
        """The last place at which a clip may begin."""
        return max(0, len(self.sound) - length)

    def cut(self, start: int, length: int) -> Floats:
        """A clip (T,)."""
        if self.other is None:
            return cut(self.sound, start, length)
        spare = math.ceil(length * (max(VIRTUAL_RATES) - 1) / 2)
        first, long = start - spare, length + 2 * spare
        place = (self.other_from + first + np.arange(long)) % len(self.other)
        mixed = cut(self.sound, first, long) + self.other_gain / FULL_SCALE * self.other[place]
        fast = change_speed(
            torch.from_numpy(mixed.astype(np.float32))[None], torch.tensor([self.rate])
        )
        clip: Floats = fast[0, spare : spare + length].numpy()
        return clip


def draw_source(music: Recordings, track: int, virtual: float, rng: np.random.Generator) -> Source:
    """The track, or with the chance `virtual` another one made of it and of a second track."""
    sound = music.recording(track)
    if not virtual or rng.random() >= virtual:
        return Source(sound)
    other = music.recording(int(rng.integers(len(music))))
    return Source(
        sound,
        rate=float(np.exp(rng.uniform(*np.log(VIRTUAL_RATES)))),
        other=other,
        other_from=int(rng.integers(len(other))),
        other_gain=float(rng.uniform(0, 1)),
    )


def draw_place(recording: NDArray[np.int16], length: int, rng: np.random.Generator) -> int:
    """Where a clip begins that is not quiet."""
    start = 0
    for _ in range(DRAWS):
        start = int(rng.integers(max(0, len(recording) - length) + 1))
        clip = cut(recording, start, length)
        if np.sqrt(np.mean(np.square(clip))) > QUIET_RMS:
            break
    return start


def loop(recording: NDArray[np.int16], length: int, rng: np.random.Generator) -> Floats:
    """A recorded sound from a random place on, repeated to fill: (T,), unit RMS."""
    if len(recording) < length:
        recording = np.tile(recording, -(-2 * length // max(1, len(recording))))
    clip = cut(recording, int(rng.integers(max(1, len(recording) - length))), length)
    scale: Floats = clip / max(1e-6, float(np.sqrt(np.mean(np.square(clip)))))
    return scale


def chain(recordings: Sequence[NDArray[np.int16]], length: int, rng: np.random.Generator) -> Floats:
    """Recorded sounds one after another, all as loud and each at a speed of its own: (T,).

    The first begins at a random place. Other speeds make other sounds of the few there are.
    """
    clip = np.zeros(length, np.float32)
    filled = 0
    while filled < length:
        sound = recordings[int(rng.integers(len(recordings)))]
        begin = int(rng.integers(max(1, len(sound)))) if filled == 0 else 0
        rate = float(np.exp(rng.uniform(*np.log(SOUND_RATES))))
        heard = sound[begin : begin + math.ceil((length - filled) * rate) + 1].astype(np.float32)
        place = np.arange(0, len(heard), rate)[: length - filled]
        piece = np.interp(place, np.arange(len(heard)), heard).astype(np.float32)
        level = float(np.sqrt(np.mean(np.square(piece))))
        clip[filled : filled + len(piece)] = piece / max(1.0, level)
        filled += max(1, len(piece))
    return clip


def cut(recording: NDArray[np.int16], start: int, length: int) -> Floats:
    """Samples from `start` on as floats (T,), zeros beyond the ends of the recording."""
    clip = recording[max(0, start) : start + length].astype(np.float32) / FULL_SCALE
    before = max(0, -start)
    return np.pad(clip, (before, length - before - len(clip)))
