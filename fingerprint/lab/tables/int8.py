"""The cost of int8: hit rates of validation queries with torch's embeddings and the export's.

    python -m fingerprint.lab bench-int8 --queries 200

The library is every row of the validation tracks, searched exactly. A window hits if the nearest
row is of the right track; a query hits if the track with the best mean cosine along a line at rate
1 is the right one.
"""

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from fingerprint.cli.options import corpus_option
from fingerprint.lab.benchmark.conditions import Condition, select
from fingerprint.lab.benchmark.material import Material
from fingerprint.lab.benchmark.queries import make_query
from fingerprint.lab.corpus import Corpus, load_recordings
from fingerprint.lab.corpus.probe import FULL_SCALE
from fingerprint.lab.report_format import markdown_head, markdown_row
from fingerprint.model.fingerprinter import DEFAULT_WEIGHTS, QUERY_SHIFTS, Fingerprinter
from fingerprint.model.onnx_network import OnnxNetwork
from fingerprint.model.torch_network import TorchNetwork
from fingerprint.types import Clip, Floats, Ints

HARD = ("noise 1 s", "noise 2 s", "phone 2 s", "phone 5 s", "phone at -5 dB 5 s", "speed 5 s")
HEAD = ("query", "torch: windows %", "queries %", "export: windows %", "queries %")


@click.command()
@corpus_option
@click.option("--model", type=click.Path(path_type=Path), default=DEFAULT_WEIGHTS)
@click.option("--export", type=click.Path(path_type=Path), help="[default: the model's twin]")
@click.option("--queries", type=click.IntRange(min=1), default=200, show_default=True)
def main(corpus: Path, model: Path, export: Path | None, queries: int) -> None:
    """Compare the hit rates of a checkpoint and its export."""
    opened = Corpus.open(corpus)
    exported = OnnxNetwork.load(export or model.with_suffix(".onnx"), threads=1)
    models = [Fingerprinter(TorchNetwork.load(model)), Fingerprinter(exported)]
    libraries = [rows_of(opened, one) for one in models]
    cosines = np.sum(libraries[0][0] * libraries[1][0], axis=1)
    click.echo(
        f"Cosine of {len(cosines):,} library rows: median {np.median(cosines):.4f}, "
        f"1st percentile {np.quantile(cosines, 0.01):.4f}\n"
    )
    click.echo(markdown_head(HEAD))
    material = Material.load(opened, "validation")
    for condition in select(HARD):
        drawn = list(draw(material, condition, queries, models[0].sample_rate))
        cells = [
            f"{100 * rate:.1f}"
            for one, library in zip(models, libraries, strict=True)
            for rate in hit_rates(one, *library, drawn)
        ]
        click.echo(markdown_row([condition.name, *cells]))


def rows_of(corpus: Corpus, model: Fingerprinter) -> tuple[Floats, Ints]:
    """Every row (R, dim) of the validation tracks, and its track (R,)."""
    tracks = load_recordings(corpus, "validation", model.sample_rate)
    rows = [
        model.embed(
            Clip(tracks.recording(i).astype(np.float32) / np.float32(FULL_SCALE), model.sample_rate)
        ).vectors
        for i in range(len(tracks))
    ]
    return np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(part) for part in rows])


def draw(
    material: Material, condition: Condition, count: int, sample_rate: int
) -> Iterator[tuple[Clip, int]]:
    """Queries with the numbers of their tracks."""
    number = {file.path: i for i, file in enumerate(material.known.files)}
    for i in range(count):
        query = make_query(material, condition, seed=0, number=i, sample_rate=sample_rate)
        yield query.clip, number[query.truth.path]


def hit_rates(
    model: Fingerprinter, library: Floats, owner: Ints, drawn: list[tuple[Clip, int]]
) -> tuple[float, float]:
    """Share of windows, and of queries, whose best place is in the right track."""
    windows, found = [], []
    for clip, track in drawn:
        cosine = model.embed_query(clip).vectors @ library.T  # (N, R)
        windows.append(np.mean(owner[cosine.argmax(axis=1)] == track))
        found.append(owner[_best_line(cosine)] == track)
    return float(np.mean(windows)), float(np.mean(found))


def _best_line(cosine: Floats) -> int:
    """The row at which the best line begins."""
    best = [0.0, 0.0]
    for shift in range(QUERY_SHIFTS):
        part = cosine[shift::QUERY_SHIFTS]
        last = part.shape[1] - len(part) + 1
        scores = np.mean([row[i : i + last] for i, row in enumerate(part)], axis=0)
        if scores.max() > best[1]:
            best = [float(scores.argmax()), float(scores.max())]
    return int(best[0])
