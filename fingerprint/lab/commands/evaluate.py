"""`fingerprint evaluate`: measure recognition on degraded or real queries."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fingerprint.answers import json_line
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
from fingerprint.lab.options import output_option

if TYPE_CHECKING:
    from fingerprint.lab.real.folder import Role

SIMULATED = ("queries", "seed", "split", "conditions")  # parameters that --real does not use
REAL, NOT_REAL = "real recordings; name some with --real", "simulated queries, not for --real"


@click.command("evaluate")
@corpus_option
@model_option
@output_option("runs/evaluation")
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
@click.option(
    "--real",
    type=FOLDER,
    metavar="DIR",
    help="Use as queries the recordings of this folder, made by "
    "`python -m fingerprint.lab cut-recording`.",
)
@click.option(
    "--role",
    type=click.Choice(["tune", "report", "all"]),
    default="all",
    show_default=True,
    help="With --real: only the queries of this role.",
)
@click.option(
    "--lengths",
    metavar="LIST",
    default="whole,5,3,2",
    show_default=True,
    help="With --real: 'whole', or seconds to cut out of the middle.",
)
@jobs_option
@device_option
@json_option
@click.pass_context
def evaluate_command(
    ctx: click.Context,
    corpus: Path,
    model: Path | None,
    output: Path,
    queries: int,
    seed: int,
    split: str,
    conditions: tuple[str, ...],
    real: Path | None,
    role: str,
    lengths: str,
    jobs: int,
    device: str,
    as_json: bool,
) -> None:
    """Measure recognition on degraded or real snippets.

    Queries are cut from tracks that were not trained on, degraded in named ways and searched in
    a library of every track of the corpus. A corpus of your own music, made by `python -m
    fingerprint.lab corpus --music DIR`, will do; noise is then synthesised. With --real, queries
    are recordings from loudspeakers, and the library holds the tracks that were played, too. A
    table is printed; a report is saved.
    """
    for name in ("role", "lengths") if real is None else SIMULATED:
        if _is_given(ctx, name):
            option = "--condition" if name == "conditions" else f"--{name}"
            raise click.UsageError(f"{option} is for {REAL if real is None else NOT_REAL}.")
    run = _Run(model, output, jobs, device)
    if real is None:
        shown = _simulated(run, corpus, queries, seed, split, conditions)
    else:
        there = corpus.exists() or _is_given(ctx, "corpus")
        wanted: Role | None = None if role == "all" else role  # type: ignore[assignment]
        shown = _real(run, real, corpus if there else None, wanted, lengths)
    if as_json:
        click.echo(json_line(shown.figures).encode("utf-8"))
        return
    click.echo(f"{shown.text}\n")
    click.echo(f"Report: {display_name(shown.page)}")


@dataclass(frozen=True, slots=True)
class _Run:
    """What an evaluation needs, of whatever queries."""

    model: Path | None
    output: Path
    jobs: int
    device: str


@dataclass(frozen=True, slots=True)
class _Shown:
    """What an evaluation gives: for programs, for people, and the report."""

    figures: Mapping[str, object]
    text: str
    page: Path


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def _simulated(
    run: _Run, corpus: Path, queries: int, seed: int, split: str, conditions: tuple[str, ...]
) -> _Shown:
    from fingerprint.lab.corpus import Corpus

    opened = Corpus.open(corpus)  # a missing corpus is reported before the slow imports
    from fingerprint.lab.benchmark import report
    from fingerprint.lab.benchmark.conditions import CONDITIONS, select
    from fingerprint.lab.benchmark.run import evaluate

    chosen = select(conditions) if conditions else CONDITIONS
    fingerprinter = open_model(run.model, run.device)
    with ProgressLine() as line:
        results = evaluate(
            opened,
            fingerprinter,
            library=run.output / f"library-{fingerprinter.id[:12]}",
            split=split,
            queries=queries,
            seed=seed,
            jobs=run.jobs,
            conditions=chosen,
            on_progress=line.stage,
        )
    text = f"{report.headline(results)}\n\n{report.table(results)}"
    return _Shown(report.as_json(results), text, report.save(results, run.output))


def _real(
    run: _Run, folder: Path, corpus: Path | None, role: "Role | None", lengths: str
) -> _Shown:
    from fingerprint.lab.corpus import Corpus
    from fingerprint.lab.real.folder import RealSet

    real = RealSet.open(folder)  # a mistake in it is reported before the slow imports
    opened = Corpus.open(corpus) if corpus else None
    from fingerprint.lab.real import report
    from fingerprint.lab.real.measure import lengths_of, measure

    chosen = lengths_of(lengths)
    if opened is None:
        click.echo(
            "There is no corpus: the library will hold the folder's references alone, "
            "and the figures will be better than among many tracks.",
            err=True,
        )
    fingerprinter = open_model(run.model, run.device)
    with ProgressLine() as line:
        measured = measure(
            real,
            opened,
            fingerprinter,
            library=run.output / f"library-real-{fingerprinter.id[:12]}",
            role=role,
            lengths=chosen,
            jobs=run.jobs,
            on_progress=line.stage,
        )
    page = report.save(measured, run.output)
    return _Shown(report.as_json(measured), report.text(measured), page)
