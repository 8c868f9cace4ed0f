"""Annoy against exact search, faiss, usearch and hnswlib on real embeddings.

    pip install faiss-cpu hnswlib usearch
    python -m fingerprint.lab bench-engines --rows 250000 --queries 60

The rows are those of the training and validation tracks, then of made-up tracks
(`world.made_up`). The queries are windows of validation snippets through a room and a phone. A
window hits if the row found first is of its track; recall is the share of windows for which the row
found first is the nearest of all. One thread; an engine that is not installed is left out.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from fingerprint.cli.options import corpus_option
from fingerprint.index.annoy_index import VectorIndex
from fingerprint.index.ivf_pq import InvertedLists
from fingerprint.index.neighbours import best_per_query, index_part
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.tables.world import made_up, queries, real_tracks
from fingerprint.library.profiles import LARGE
from fingerprint.model.fingerprinter import QUERY_SHIFTS, Fingerprinter
from fingerprint.types import Floats, Hits, Ints

CONDITION = "phone 5 s"
REPEATS = 3
SEARCH_K = (500, 1_000, 3_000, 10_000)
EFFORTS = (16, 64, 256)  # candidates that a graph keeps
Search = Callable[[Floats], Ints]  # windows (M, key) to the row found first (M,), -1 for none


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """A built index: how long that took, its size, and its settings from fast to thorough."""

    name: str
    seconds: float
    megabytes: float
    settings: Mapping[str, Search]


@click.command()
@corpus_option
@click.option("--rows", type=click.IntRange(min=1_000), default=250_000, show_default=True)
@click.option("--queries", "count", type=click.IntRange(min=1), default=60, show_default=True)
@click.option("--plot", type=click.Path(path_type=Path), help="Draw recall over time into a file.")
def main(corpus: Path, rows: int, count: int, plot: Path | None) -> None:
    """Tabulate recall, time and size of each engine."""
    model = Fingerprinter.default("cpu", threads=1)
    opened = Corpus.open(corpus)
    library, owner, names = world(opened, model, rows)
    windows, truth = [], []
    for _, clip, path, _ in queries(opened, (CONDITION,), count, model.sample_rate):
        vectors = model.embed_query(clip).vectors[:: QUERY_SHIFTS // 2]
        windows.append(vectors)
        truth += [names[path]] * len(vectors)
    asked, right = index_part(np.concatenate(windows)), np.array(truth)
    exact = Engine("exact", 0.0, library.nbytes / 1e6, {"": partial(exactly, library)})
    nearest = exactly(library, asked)
    click.echo(f"{len(library):,} rows, {len(asked):,} windows of {CONDITION}\n")
    click.echo("| index | setting | recall % | hits % | ms a window | build s | MB |")
    click.echo("|---|---|---:|---:|---:|---:|---:|")
    curves: dict[str, list[tuple[float, float]]] = {}
    for engine in (exact, *engines(library)):
        for setting, search in engine.settings.items():
            found, spent = measured(search, asked)
            recall = 100 * float(np.mean(found == nearest))
            hits = 100 * float(np.mean((owner[found] == right) & (found >= 0)))
            curves.setdefault(engine.name, []).append((1e3 * spent, recall))
            click.echo(
                f"| {engine.name} | {setting} | {recall:.1f} | {hits:.1f} | {1e3 * spent:.3f} | "
                f"{engine.seconds:.0f} | {engine.megabytes:.0f} |"
            )
    if plot:
        draw(curves, plot)


def world(corpus: Corpus, model: Fingerprinter, rows: int) -> tuple[Floats, Ints, dict[Path, int]]:
    """What an index has of rows (R, key), the track of each (R,), the numbers of real tracks."""
    real = real_tracks(corpus, model, "validation") | real_tracks(corpus, model, "train")
    parts = list(real.values())
    more = made_up(parts[:], 10**9, seed=0)
    while sum(map(len, parts)) < rows:
        parts.append(next(more))
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return (
        index_part(np.concatenate(parts)[:rows]),
        owner[:rows],
        {path: i for i, path in enumerate(real)},
    )


def measured(search: Search, windows: Floats) -> tuple[Ints, float]:
    """What is found, and the processor seconds a window: the least of some repeats."""
    spent = []
    for _ in range(REPEATS):
        begin = time.process_time()
        found = search(windows)
        spent.append((time.process_time() - begin) / len(windows))
    return found, min(spent)


def exactly(library: Floats, windows: Floats) -> Ints:
    """By comparing each with each, a million products at a time."""
    step = max(1, 2**25 // len(library))
    parts = [
        (windows[i : i + step] @ library.T).argmax(axis=1) for i in range(0, len(windows), step)
    ]
    return np.concatenate(parts)


def engines(library: Floats) -> Iterator[Engine]:
    """Those that are installed, built one after the other."""
    for make in (annoy, lists, faiss_flat, faiss_lists, hnsw, usearch):
        try:
            yield from make(library)
        except ImportError as error:
            click.echo(f"| {error.name} | not installed | | | | | |")


def annoy(library: Floats) -> Iterator[Engine]:
    """The index of this project."""
    for trees in (5, 20):
        with TemporaryDirectory(prefix="fingerprint-") as folder:
            begin = time.process_time()
            path = Path(folder) / "annoy"
            index = VectorIndex.build(lambda n: library[n], len(library), path, trees=trees)
            spent = time.process_time() - begin
            size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6
            yield Engine(
                f"Annoy, {trees} trees",
                spent,
                size,
                {f"search_k {k:,}": partial(_first, index, k) for k in SEARCH_K},
            )


def lists(library: Floats) -> Iterator[Engine]:
    """The index of the profile `large`, its finds compared again by the rows."""
    with TemporaryDirectory(prefix="fingerprint-") as folder:
        path, begin = Path(folder) / "lists", time.process_time()
        InvertedLists.build(lambda rows: library[rows], len(library), path)
        spent = time.process_time() - begin
        size = sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6
        index = InvertedLists.open(path, library.shape[1], len(library))
        settings = {
            f"search_k {k:,}": partial(_best_of, LARGE.widening, library, index, k)
            for k in SEARCH_K
        }
        yield Engine("inverted lists, faiss", spent, size, settings)


def _best_of(
    count: int, library: Floats, index: InvertedLists, search_k: int, windows: Floats
) -> Ints:
    hits = index.query(windows, count, search_k)
    cosine = np.sum(windows[hits.query] * library[hits.row], axis=1)
    best = best_per_query(Hits(hits.query, hits.row, cosine), 1)
    found = np.full(len(windows), -1)
    found[best.query] = best.row
    return found


def _first(index: VectorIndex, search_k: int, windows: Floats) -> Ints:
    hits = index.query(windows, 1, search_k)
    found = np.full(len(windows), -1)
    found[hits.query] = hits.row
    return found


def faiss_flat(library: Floats) -> Iterator[Engine]:
    """Exact in eight bits."""
    import faiss

    yield _faiss(faiss, library, "SQ8", {"": None})


def faiss_lists(library: Floats) -> Iterator[Engine]:
    """Inverted lists of eight-bit rows."""
    import faiss

    lists = 2 ** round(np.log2(4 * len(library) ** 0.5))
    yield _faiss(faiss, library, f"IVF{lists},SQ8", {f"nprobe {n}": n for n in (4, 16, 64)})


def _faiss(faiss: Any, library: Floats, kind: str, probes: dict[str, int | None]) -> Engine:
    faiss.omp_set_num_threads(1)
    begin = time.process_time()
    index = faiss.index_factory(library.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    index.train(library[:: max(1, len(library) // 100_000)])
    index.add(library)
    spent = time.process_time() - begin

    def search(probe: int | None, windows: Floats) -> Ints:
        if probe is not None:
            index.nprobe = probe
        found: NDArray[np.int64] = index.search(windows, 1)[1][:, 0]
        return found

    settings = {name: partial(search, probe) for name, probe in probes.items()}
    return Engine(f"faiss {kind}", spent, len(faiss.serialize_index(index)) / 1e6, settings)


def hnsw(library: Floats) -> Iterator[Engine]:
    """Navigable small worlds."""
    import hnswlib

    begin = time.process_time()
    index = hnswlib.Index("ip", library.shape[1])
    index.init_index(len(library), M=16, ef_construction=100)
    index.add_items(library, num_threads=1)
    spent = time.process_time() - begin

    def search(effort: int, windows: Floats) -> Ints:
        index.set_ef(effort)
        found: Ints = index.knn_query(windows, 1, num_threads=1)[0][:, 0].astype(np.int64)
        return found

    settings = {f"ef {effort}": partial(search, effort) for effort in EFFORTS}
    yield Engine("hnswlib M16", spent, index.index_file_size() / 1e6, settings)


def usearch(library: Floats) -> Iterator[Engine]:
    """The same idea, with eight-bit rows."""
    from usearch.index import Index

    begin = time.process_time()
    index = Index(ndim=library.shape[1], metric="ip", dtype="i8", connectivity=16)
    index.add(np.arange(len(library)), library, threads=1)
    spent, saved = time.process_time() - begin, bytes(index.save() or b"")

    def search(effort: int, windows: Floats) -> Ints:
        again = Index(
            ndim=library.shape[1], metric="ip", dtype="i8", connectivity=16, expansion_search=effort
        )
        again.load(saved)
        found: Ints = again.search(windows, 1, threads=1).keys[:, 0].astype(np.int64)
        return found

    settings = {f"ef {effort}": partial(search, effort) for effort in EFFORTS}
    yield Engine("usearch i8", spent, len(saved) / 1e6, settings)


def draw(curves: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Recall over time a window."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set(xscale="log", xlabel="ms a window, one core", ylabel="recall of the nearest row, %")
    axes.legend()
    axes.grid(visible=True, alpha=0.3)
    figure.savefig(path, dpi=120)
