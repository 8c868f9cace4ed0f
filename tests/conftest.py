"""Shared fixtures: music that is made up, seeded and distinct for every seed, in every format."""

import os
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

# Before NumPy: on arrays as small as these, threads spend their time waiting for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import soundfile
from hypothesis import settings
from library_world import Toy, three_songs

from fingerprint.types import Floats

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("repeatable")

SUBTYPES = {".ogg": "VORBIS", ".opus": "OPUS", ".mp3": "MPEG_LAYER_III"}
FORMATS = {".opus": "OGG"}


def make_song(seed: int, seconds: float = 10.0, sample_rate: int = 8_000) -> Floats:
    """Quarter-second chords of decaying harmonics over a beat, peak 0.5: (seconds * rate,).

    The same seed gives the same music, whatever the length; at another rate it is the same music.
    """
    return _song(seed, seconds, sample_rate).copy()


@lru_cache(maxsize=64)
def _song(seed: int, seconds: float, sample_rate: int) -> Floats:
    rng = np.random.default_rng(seed)
    step = sample_rate // 4  # samples of a chord
    time = np.arange(step) / sample_rate
    music = np.zeros(round(seconds * sample_rate) + step)
    key = rng.integers(45, 57)  # MIDI note
    for begin in range(0, round(seconds * sample_rate), step):
        pitches = 440 * 2 ** ((key + rng.choice(24, size=3, replace=False) - 69) / 12)  # Hz
        decay = np.exp(-time * rng.uniform(4, 12, size=(3, 1)))
        loudness, drum = rng.uniform(0.3, 1, size=3), rng.uniform(0, 0.5)
        for pitch, envelope, gain in zip(pitches, decay, loudness, strict=True):
            for harmonic in range(1, 9):
                wave = np.sin(2 * np.pi * pitch * harmonic * time)
                music[begin : begin + step] += gain / harmonic * envelope * wave
        knock = rng.uniform(60, 200)  # Hz
        music[begin : begin + step] += drum * np.exp(-time * 40) * np.sin(2 * np.pi * knock * time)
    music = music[: round(seconds * sample_rate)]
    return (0.5 * music / np.abs(music).max()).astype(np.float32)


def save_audio(path: Path, samples: Floats, sample_rate: int, **options: str) -> Path:
    """Encode samples (T,) or (T, channels) in the format that the suffix names."""
    suffix = path.suffix
    chosen = {"subtype": SUBTYPES.get(suffix), "format": FORMATS.get(suffix), **options}
    soundfile.write(path, samples, sample_rate, **chosen)
    return path


@pytest.fixture(autouse=True)
def _torch_on_one_thread() -> None:
    """Loading a checkpoint gives torch all cores, for the rest of the process."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def song() -> Callable[..., Floats]:
    return make_song


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a user's commands keep in a cache is not kept in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def write_audio() -> Callable[..., Path]:
    """`write_audio(path, samples, sample_rate)`: wav, flac, ogg, opus or mp3 by the suffix."""
    return save_audio


@pytest.fixture(scope="session")
def music_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six songs of 20 s in four formats: song0.wav, song1.flac, … Read only."""
    folder = tmp_path_factory.mktemp("music")
    for seed, suffix in enumerate([".wav", ".flac", ".ogg", ".mp3", ".flac", ".ogg"]):
        save_audio(folder / f"song{seed}{suffix}", make_song(seed, 20, 22_050), 22_050)
    return folder


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """A folder with three songs that `library_world` makes."""
    return three_songs(tmp_path / "music")


@pytest.fixture
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands open `Toy` in place of a model."""
    from fingerprint.cli import opening, verify

    for module in (opening, verify):
        monkeypatch.setattr(module, "open_model", lambda _file, _device: Toy())
