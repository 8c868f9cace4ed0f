"""Songs, a small honest embedder and library helpers for the tests of the library.

The embedder's vectors are a fixed random projection of patches of a log-spectrogram: no network,
no torch, and yet an excerpt looks like the place it is from.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from fingerprint.config import INDEXED_DIMS
from fingerprint.library import indexing
from fingerprint.library.library import Library
from fingerprint.library.records import Stamp
from fingerprint.library.writer import Entry
from fingerprint.recognition.confidence import Calibration
from fingerprint.types import Background, Clip, Fingerprint, Floats, Match, Track

RATE = 8_000
HOP = 512  # samples between frames
SIZE = 1_024  # samples in a frame
FRAMES = 16  # in a window
BANDS = 32
STRIDE = 4  # frames between library rows


@dataclass(frozen=True)
class Toy:
    """Meets `Embedder`. `delay` (s) makes a run slow enough to be interrupted."""

    id: str = "toy-1"
    dim: int = 48
    delay: float = 0.0
    sample_rate: int = RATE
    hop: float = STRIDE * HOP / RATE
    query_hop: float = HOP / RATE
    window: float = ((FRAMES - 1) * HOP + SIZE) / RATE
    background: Background | None = None
    matryoshka: int = INDEXED_DIMS

    @property
    def indexed_dims(self) -> int:
        return min(self.dim, self.matryoshka)

    @property
    def calibration(self) -> Calibration:
        return Calibration()

    def embed(self, clip: Clip) -> Fingerprint:
        time.sleep(self.delay)
        return Fingerprint(self._vectors(clip.samples, STRIDE), self.hop)

    def begin(self) -> "ToyEmbedding":
        return ToyEmbedding(self)

    def embed_query(self, clip: Clip) -> Fingerprint:
        time.sleep(self.delay)
        return Fingerprint(self._vectors(clip.samples, 1), self.query_hop)

    def _vectors(self, samples: Floats, step: int) -> Floats:
        whole = SIZE + (FRAMES - 1) * HOP
        samples = np.pad(samples, (0, max(0, whole - len(samples))))
        frames = np.lib.stride_tricks.sliding_window_view(samples, SIZE)[::HOP]
        power = np.abs(np.fft.rfft(frames * np.hanning(SIZE), axis=1)) ** 2  # (F, bins)
        edges = np.geomspace(32, SIZE // 2, BANDS + 1).astype(int)
        bands = np.add.reduceat(power, edges[:-1], axis=1)  # (F, BANDS)
        level = np.log(bands + 1e-2 * bands.mean() + 1e-12)
        patches = np.lib.stride_tricks.sliding_window_view(level, FRAMES, axis=0)[::step]
        flat = patches.reshape(len(patches), -1)
        flat = flat - flat.mean(axis=1, keepdims=True)
        projection = np.random.default_rng(1).standard_normal((flat.shape[1], self.dim))
        vectors = flat @ projection
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.where(length > 1e-6, vectors / np.maximum(length, 1e-6), 0).astype(np.float32)


class ToyEmbedding:
    """Keeps the blocks until the end."""

    def __init__(self, model: Toy) -> None:
        self._model = model
        self._blocks: list[Floats] = []

    def take(self, block: Clip) -> None:
        self._blocks.append(block.samples)

    def end(self) -> Fingerprint:
        return self._model.embed(Clip(np.concatenate(self._blocks), RATE))


def song(seed: int, seconds: float = 20.0) -> Floats:
    """Half-second chords of three tones."""
    return _song(seed, seconds).copy()


@lru_cache(maxsize=64)
def _song(seed: int, seconds: float) -> Floats:
    random = np.random.default_rng(seed)
    time_of = np.arange(round(seconds * RATE)) / RATE
    chords = random.uniform(300, 3_500, (int(seconds * 2) + 1, 3))
    tones = chords[(time_of * 2).astype(int)]
    return (0.2 * np.sin(2 * np.pi * tones * time_of[:, None]).sum(axis=1)).astype(np.float32)


def busy_song(seed: int, seconds: float = 20.0) -> Floats:
    """Ten notes a second, each of three fading tones, over a little noise."""
    return _busy_song(seed, seconds).copy()


@lru_cache(maxsize=64)
def _busy_song(seed: int, seconds: float) -> Floats:
    random = np.random.default_rng(seed)
    count, length = round(seconds * 10), round(0.1 * RATE)
    time_of = np.arange(length) / RATE
    hertz = random.uniform(200, 3_700, (count, 3, 1))
    tones = np.sin(2 * np.pi * hertz * time_of).sum(axis=1) * np.exp(-time_of / 0.06)
    notes = 0.2 * tones.ravel() + 0.003 * random.standard_normal(count * length)
    return notes.astype(np.float32)


def excerpt(
    samples: Floats, start: float, seconds: float, *, snr_db: float = 60.0, seed: int = 7
) -> Clip:
    """A noisy cut."""
    cut = samples[round(start * RATE) : round((start + seconds) * RATE)]
    noise = np.random.default_rng(seed).standard_normal(len(cut))
    level = np.sqrt(np.mean(cut**2)) * 10 ** (-snr_db / 20)
    return Clip((cut + level * noise).astype(np.float32), RATE)


def write_song(path: Path, seed: int, seconds: float = 20.0) -> Path:
    soundfile.write(path, song(seed, seconds), RATE, subtype="PCM_16")
    return path


def entry(seed: int, *, model: Toy | None = None, seconds: float = 20.0) -> Entry:
    """A song that needs no file."""
    vectors = (model or Toy()).embed(Clip(song(seed, seconds), RATE)).vectors
    return Entry(Track(Path(f"/music/{seed:04d}.wav"), seconds), Stamp(seed, seed), vectors)


def add(library: Library, *seeds: int) -> None:
    with library.writing() as writer:
        writer.add([entry(seed) for seed in seeds])


@contextmanager
def stocked(folder: Path, seeds: Iterable[int], *, seconds: float) -> Iterator[Library]:
    """A library of songs of one length, in one segment."""
    with Library.create_or_open(folder, Toy()) as library:
        with library.writing() as writer:
            writer.add([entry(seed, seconds=seconds) for seed in seeds])
        yield library


def three_songs(folder: Path) -> Path:
    """A new folder with songs 1 to 3, 0001.wav to 0003.wav."""
    folder.mkdir()
    for seed in (1, 2, 3):
        write_song(folder / f"{seed:04d}.wav", seed)
    return folder


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def names_in(library: Library) -> list[str]:
    return [track.path.name for track in library.tracks()]


def best(library: Library, clip: Clip, *, top: int = 5) -> list[Match]:
    """The best candidates, whatever their confidence."""
    return library.identify(clip, top=top, min_confidence=0)


def place_of(library: Library, seed: int, start: float = 7.3) -> tuple[str, float]:
    """Name and offset of the best match for an excerpt of a song, played at its own speed.

    Entries without peaks are never sure, so to try other speeds would take most of the time.
    """
    clip = excerpt(song(seed), start, 4.0, snr_db=10)
    match = library.recognise(clip, top=1, speeds="as it is").matches[0]
    return match.track.path.name, match.offset


def slow_run(folder: str, music: str, jobs: str) -> None:
    """Index slowly with many commits, telling each; for tests that kill it."""
    indexing.BATCH_ROWS = 100
    library = Library.create_or_open(Path(folder), Toy(delay=0.1))
    indexing.index_files(
        library,
        sorted(Path(music).iterdir()),
        jobs=int(jobs),
        on_progress=lambda now: print(now.done, flush=True),  # noqa: T201
    )


if __name__ == "__main__":
    slow_run(*sys.argv[1:])
