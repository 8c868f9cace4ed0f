"""Scan a made-up broadcast and compare with what was on air.

    python -m fingerprint.lab broadcast               # two hours, 40 known and 20 unknown tracks
    python -m fingerprint.lab broadcast --minutes 20  # a shorter one,
    # with as many tracks a minute

Talk, jingles, cross-fades, hard cuts, music under speech; the tracks are those of the test split,
the library is that of `fingerprint evaluate`, which holds every known track of the corpus.
"""

import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from fingerprint.cli.opening import open_model
from fingerprint.cli.options import FOLDER, corpus_option, jobs_option, model_option
from fingerprint.cli.progress import ProgressLine
from fingerprint.lab.benchmark.broadcast import Aired, Score, make_broadcast, score
from fingerprint.lab.benchmark.material import WORKING_RATE, Material, Split
from fingerprint.lab.benchmark.run import KNOWN_ROLES, index_corpus
from fingerprint.lab.corpus import Corpus, load_recordings
from fingerprint.lab.options import output_option
from fingerprint.library.library import Library
from fingerprint.scanning import Span, scan

FULL = 120.0  # minutes of the whole broadcast
HIDDEN = "plee-the-bear-data"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@corpus_option
@model_option
@output_option("runs/broadcast")
@click.option("--library", type=FOLDER, help="Library of `fingerprint evaluate`, if made.")
@click.option("--minutes", type=click.FloatRange(min=1), default=FULL, help="Its length.")
@click.option("--seed", type=int, default=0, help="Decides all of it.")
@click.option("--split", type=click.Choice(["test", "validation"]), default="test")
@click.option("--hidden", default=HIDDEN, help="Package of the validation split that is unknown.")
@jobs_option
@click.option("--verbose", is_flag=True, help="List every item and span.")
def main(
    corpus: Path,
    model: Path | None,
    output: Path,
    library: Path | None,
    minutes: float,
    seed: int,
    split: Split,
    hidden: str,
    jobs: int,
    verbose: bool,
) -> None:
    """Make a broadcast, scan it, and compare."""
    opened = Corpus.open(corpus)
    fingerprinter = open_model(model, "cpu")
    folder = library or output / f"library-{fingerprinter.id[:12]}"
    material = Material.load(opened, split)
    roles, stocked = KNOWN_ROLES, opened
    if split == "validation":  # it has no unknown tracks: one package stands for them
        roles = ("train", "validation")
        material = _without(material, opened, hidden)
        kept = tuple(file for file in opened.files if file.package != hidden)
        stocked = replace(opened, files=kept)
    with ProgressLine() as line:
        index_corpus(stocked, roles, fingerprinter, folder, jobs, line.stage)
        output.mkdir(parents=True, exist_ok=True)
        recording = output / f"broadcast-{split}-{seed}-{minutes:g}.ogg"
        aired = make_broadcast(
            material,
            recording,
            seconds=60 * minutes,
            scale=minutes / FULL,
            rng=np.random.default_rng(seed),
        )
        begin = time.process_time()
        with Library.open(folder, fingerprinter) as searched:
            spans = list(
                scan(
                    recording,
                    searched,
                    on_progress=lambda at: line.show(
                        at, 60 * minutes, f"scanned {at / 60:.0f} minutes"
                    ),
                )
            )
    taken = time.process_time() - begin
    _print(score(spans, aired), taken, 60 * minutes)
    if verbose:
        _list(spans, aired)


def _without(material: Material, corpus: Corpus, package: str) -> Material:
    """The material with the tracks of one package as the unknown ones."""
    every = load_recordings(corpus, "validation", WORKING_RATE)
    unknown = [i for i, file in enumerate(every.files) if file.package == package]
    known = [i for i in range(len(every)) if i not in unknown]
    return replace(material, known=every.some(known), unknown=every.some(unknown))


def _print(result: Score, taken: float, seconds: float) -> None:
    click.echo(
        f"- second by second: F1 {result.f1:.4f}, precision {result.precision:.4f}, "
        f"recall {result.recall:.4f}; {result.found} of {result.known} known items found\n"
        f"- boundaries: median {result.boundary_median:.2f} s, "
        f"95 % within {result.boundary_95:.2f} s\n"
        f"- scanned in {taken:.0f} s of one core, {seconds / taken:.0f} x real time"
    )


def _list(spans: list[Span], aired: list[Aired]) -> None:
    for item in sorted(aired, key=lambda item: item.start):
        known = "known  " if item.known else "unknown"
        click.echo(f"on air {item.start:8.1f} {item.end:8.1f} {known} {item.path.name}")
    for span in spans:
        if span.match is not None:
            match = span.match
            click.echo(
                f"named  {span.start:8.1f} {span.end:8.1f} {match.confidence:.3f} "
                f"{match.rate:.3f} {match.track.path.name}"
            )
