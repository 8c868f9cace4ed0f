"""Shared by the benchmarks: made-up tracks that resemble real ones, queries, memory."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fingerprint.lab.benchmark.conditions import select
from fingerprint.lab.benchmark.material import Material
from fingerprint.lab.benchmark.queries import make_query
from fingerprint.lab.corpus import Corpus
from fingerprint.library.library import Library
from fingerprint.types import Clip, Floats

CACHE = Path("runs/benchmarks")


def made_up(tracks: Sequence[Floats], count: int, seed: int) -> Iterator[Floats]:
    """Rows of tracks that do not exist, as long as real ones.

    Each is the sum of stretches of two real tracks, one of them played backwards, in a proportion
    that it keeps throughout: as smooth in time, as unevenly spread over the sphere and as like its
    neighbours as real rows are, but like no real row.
    """
    rng = np.random.default_rng(seed)
    long = [track for track in tracks if len(track) >= 100]
    for _ in range(count):
        one, other = (long[i] for i in rng.integers(len(long), size=2))
        length = min(len(one), len(other))
        a = rng.integers(len(one) - length + 1)
        b = rng.integers(len(other) - length + 1)
        share = rng.uniform(0.4, 0.6)
        mixed = share * one[a : a + length] + (1 - share) * other[b : b + length][::-1]
        norm = np.linalg.norm(mixed, axis=1, keepdims=True)
        yield (mixed / np.maximum(norm, 1e-6)).astype(np.float32)


def queries(
    corpus: Corpus, names: Sequence[str], count: int, sample_rate: int
) -> Iterator[tuple[str, Clip, Path, float]]:
    """Validation queries: condition, snippet, and the path and offset (s) that are right."""
    material = Material.load(corpus, "validation")
    for condition in select(names):
        for i in range(count):
            query = make_query(material, condition, seed=3, number=i, sample_rate=sample_rate)
            yield condition.name, query.clip, query.truth.path, query.truth.offset


def top_1(
    library: Library, queries: Sequence[tuple[str, Clip, Path, float]]
) -> dict[str, tuple[float, float]]:
    """Of each condition: the share of queries whose first answer is right, and mean processor s."""
    found: dict[str, list[tuple[bool, float]]] = {}
    for name, clip, path, _ in queries:
        begin = time.process_time()
        matches = library.recognise(clip, top=1).matches
        spent = time.process_time() - begin
        found.setdefault(name, []).append((bool(matches) and matches[0].track.path == path, spent))
    return {name: tuple(np.mean(one, axis=0).tolist()) for name, one in found.items()}


def private() -> float:
    """MB of this process's own memory, without pages of files, which the system can drop."""
    return _resident("RssAnon")


def mapped() -> float:
    """MB of mapped files that are in memory; the system may drop them."""
    return _resident("RssFile")


def _resident(kind: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) / 1e3 for line in status.splitlines() if kind in line)
