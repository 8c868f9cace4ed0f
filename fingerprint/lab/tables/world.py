"""Shared by the benchmarks: real embeddings, made-up tracks that resemble them, queries."""

import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from fingerprint.lab.benchmark.conditions import select
from fingerprint.lab.benchmark.material import Material
from fingerprint.lab.benchmark.queries import make_query
from fingerprint.lab.corpus import Corpus, load_recordings
from fingerprint.library.library import Library
from fingerprint.library.records import Stamp
from fingerprint.library.writer import Entry
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.types import Clip, Floats, Track

CACHE = Path("runs/benchmarks")
FULL_SCALE = np.float32(32_768)


def real_tracks(corpus: Corpus, model: Fingerprinter, role: str) -> dict[Path, Floats]:
    """The rows (N, dim) of every track of a role, embedded once and kept."""
    kept = CACHE / f"{role}-{model.id[:12]}.npz"
    recordings = load_recordings(corpus, role, model.sample_rate)  # type: ignore[arg-type]
    if not kept.exists():
        rows = [
            model.embed(
                Clip(recordings.recording(i).astype(np.float32) / FULL_SCALE, model.sample_rate)
            ).vectors
            for i in range(len(recordings))
        ]
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, lengths=[len(r) for r in rows], rows=np.concatenate(rows))
    with np.load(kept) as file:
        parts = np.split(file["rows"], np.cumsum(file["lengths"])[:-1])
    return {file.path: part for file, part in zip(recordings.files, parts, strict=True)}


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


def fill(library: Library, real: dict[Path, Floats], total: int, seed: int = 0) -> None:
    """Add real tracks and made-up ones up to `total`, in segments as large as they may be."""
    step = library.meta.profile.step
    kept = {path: rows[::step] for path, rows in real.items()}
    have = {track.path for track in library.tracks()}
    missing = [(path, rows) for path, rows in kept.items() if path not in have]
    first = len(have) + len(missing)
    more = made_up(list(kept.values()), max(0, total - first), seed + len(have))
    names = (Path(f"/made-up/{i:07d}") for i in range(first, max(total, first)))
    batch: list[Entry] = []
    held = 0  # rows
    with library.writing() as writer:
        for path, rows in chain(missing, zip(names, more, strict=True)):
            track = Track(path, len(rows) * library.meta.row_hop)
            batch.append(Entry(track, Stamp(0, 0), rows, step=step))
            held += len(rows)
            if held >= library.meta.full_rows:
                writer.add(batch)
                batch, held = [], 0
        writer.add(batch)


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
    library: Library, asked: Sequence[tuple[str, Clip, Path, float]]
) -> dict[str, tuple[float, float]]:
    """Of each condition: the share of queries whose first answer is right, and mean processor s."""
    found: dict[str, list[tuple[bool, float]]] = {}
    for name, clip, path, _ in asked:
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
