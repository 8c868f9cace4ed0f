"""Measure the confidence on tracks that were used for nothing else.

    python -m fingerprint.lab trust                # 4,000 unknown queries; 10 minutes on two cores

Known and unknown queries of every kind and length, cut from the test split, are searched in a
library of every track of the corpus; the unknown ones also among 100,000 simulated tracks, and some
of them in libraries of 100 and of one to ten tracks.
"""

import json
from pathlib import Path

import click

from fingerprint.cli.opening import open_model
from fingerprint.cli.options import (
    FOLDER,
    corpus_option,
    jobs_option,
    min_confidence_option,
    model_option,
)
from fingerprint.cli.progress import ProgressLine
from fingerprint.lab.calibration import trust_report
from fingerprint.lab.calibration.trust import measure
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.options import output_option


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@corpus_option
@model_option
@output_option("runs/trust")
@click.option("--library", type=FOLDER, help="Library of `fingerprint evaluate`, if made.")
@click.option("--known", type=click.IntRange(min=1), default=800, help="Known queries.")
@click.option("--whole", type=int, default=400, help="Of noise 5 s and of phone 10 s each.")
@click.option("--unknown", type=click.IntRange(min=1), default=4_000, help="Unknown queries.")
@click.option(
    "--few", type=int, default=1_000, help="Of the unknown, also searched in fewer tracks."
)
@min_confidence_option
@jobs_option
def main(
    corpus: Path,
    model: Path | None,
    output: Path,
    library: Path | None,
    known: int,
    whole: int,
    unknown: int,
    few: int,
    min_confidence: float,
    jobs: int,
) -> None:
    """Measure the confidence on tracks that were used for nothing else."""
    opened = open_model(model, "cpu")
    with ProgressLine() as line:
        trust = measure(
            Corpus.open(corpus),
            opened,
            library=library or output / f"library-{opened.id[:12]}",
            known=known,
            whole=whole,
            unknown=unknown,
            few=few,
            min_confidence=min_confidence,
            jobs=jobs,
            on_progress=line.stage,
        )
    click.echo(trust_report.text(trust))
    output.mkdir(parents=True, exist_ok=True)
    (output / "trust.json").write_text(json.dumps(trust.as_json(), indent=1) + "\n")
    trust_report.draw(trust, output / "confidence.png")
