"""`fingerprint evaluate`: measure recognition on degraded queries from the corpus."""

from pathlib import Path

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.opening import open_model
from fingerprint.cli.options import (
    FOLDER,
    corpus_option,
    device_option,
    jobs_option,
    json_option,
    model_option,
)
from fingerprint.cli.progress import ProgressLine
from fingerprint.cli.text import json_line


@click.command("evaluate")
@corpus_option
@model_option
@click.option(
    "--output",
    type=FOLDER,
    metavar="DIR",
    default=Path("runs/evaluation"),
    show_default=True,
    help="Folder for the library that is queried, the figures and the report.",
)
@click.option(
    "--queries",
    type=click.IntRange(min=1),
    metavar="N",
    default=500,
    show_default=True,
    help="Queries in each condition.",
)
@click.option(
    "--seed", type=int, metavar="N", default=0, show_default=True, help="Decides every query."
)
@click.option(
    "--split",
    type=click.Choice(["test", "validation"]),
    default="test",
    show_default=True,
    help="Which tracks, noises and rooms the queries are made of.",
)
@click.option(
    "--condition",
    "conditions",
    multiple=True,
    metavar="NAME",
    help="Only this condition, or this family of them; may be repeated.  [default: all]",
)
@jobs_option
@device_option
@json_option
def evaluate_command(
    corpus: Path,
    model: Path | None,
    output: Path,
    queries: int,
    seed: int,
    split: str,
    conditions: tuple[str, ...],
    jobs: int,
    device: str,
    as_json: bool,
) -> None:
    """Measure recognition on degraded snippets.

    Queries are cut from tracks that were not trained on, degraded in named ways and looked up in
    a library of every track of the corpus. A table is printed; a report with plots is saved.
    """
    from fingerprint.lab.corpus import Corpus

    opened = Corpus.open(corpus)  # a missing corpus shows before the slow imports
    from fingerprint.lab.benchmark import report
    from fingerprint.lab.benchmark.conditions import CONDITIONS, select
    from fingerprint.lab.benchmark.run import evaluate

    chosen = select(conditions) if conditions else CONDITIONS

    fingerprinter = open_model(model, device)
    with ProgressLine() as line:
        results = evaluate(
            opened,
            fingerprinter,
            library=output / f"library-{fingerprinter.id[:12]}",
            split=split,
            queries=queries,
            seed=seed,
            jobs=jobs,
            conditions=chosen,
            on_progress=line.stage,
        )
    page = report.save(results, output)
    if as_json:
        click.echo(json_line(report.as_json(results)).encode("utf-8"))
        return
    click.echo(f"{report.headline(results)}\n\n{report.table(results)}\n")
    click.echo(f"Report: {display_name(page)}")
