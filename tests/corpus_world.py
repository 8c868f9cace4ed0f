"""A small corpus of made-up sounds, to train and to evaluate on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from conftest import save_audio

from fingerprint.lab.benchmark.material import WORKING_RATE
from fingerprint.lab.corpus import Corpus, CorpusFile
from fingerprint.lab.corpus.config import RoomsConfig
from fingerprint.lab.corpus.manifest import write_manifest
from fingerprint.types import Floats


def chords(seed: int, seconds: float = 28.0) -> Floats:
    """Chords of three tones that change at odd times, at `WORKING_RATE`."""
    rng = np.random.default_rng(seed)
    pieces = []
    while sum(map(len, pieces)) < seconds * WORKING_RATE:
        time = np.arange(rng.integers(3_000, 12_000)) / WORKING_RATE
        tones = np.sin(2 * np.pi * rng.uniform(300, 3_500, (3, 1)) * time)
        pieces.append(tones.sum(axis=0) * np.exp(-2 * time))
    samples = np.concatenate(pieces)[: round(seconds * WORKING_RATE)]
    return (0.25 * samples).astype(np.float32)


def one_room(**changes: Any) -> RoomsConfig:
    """One small room."""
    room: dict[str, Any] = {
        "count": 1,
        "seed": 1,
        "length": (4.0, 4.1),
        "width": (3.0, 3.1),
        "height": (2.5, 2.6),
        "reverberation": (0.2, 0.3),
        "distance": (1.0, 1.1),
    }
    return RoomsConfig(**room | changes)


def make_corpus(
    root: Path,
    sounds: Mapping[str, tuple[str, str, Floats]],
    sample_rate: int = WORKING_RATE,
    *,
    train: RoomsConfig | None = None,
    test: RoomsConfig | None = None,
) -> Corpus:
    """Write `sounds`, a role, a kind and samples by name, and their manifest.

    The rooms to train and to test in are `one_room()`, unless others are given.
    """
    files = []
    for name, (role, kind, samples) in sounds.items():
        path = save_audio(root / f"{name}.wav", samples, sample_rate)
        seconds = len(samples) / sample_rate
        files.append(
            CorpusFile(path, "made", role, kind, seconds, sample_rate, name, name)  # type: ignore[arg-type]
        )
    rooms = {"train": train or one_room(), "test": test or one_room()}
    made = Corpus(root, tuple(files), rooms)  # type: ignore[arg-type]
    write_manifest(made)
    return made
