"""Room and accuracy of each profile, on validation queries.

    python -m fingerprint.lab profiles

A reference library is made of the corpus's tracks, once, which keeps every row with
four bits a number and compares every sign. The profiles' libraries are derived from it. Then the
same degraded passages of validation tracks are searched in each, and the whole answer counts: a
query in doubt is also searched at other speeds, and so on.
"""

import shutil
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from fingerprint.cli.options import corpus_option, jobs_option
from fingerprint.cli.progress import ProgressLine
from fingerprint.lab.benchmark.conditions import CONDITIONS
from fingerprint.lab.benchmark.metrics import Outcome
from fingerprint.lab.benchmark.run import KNOWN_ROLES, evaluate, index_corpus
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.options import output_option
from fingerprint.lab.report_format import markdown_head, markdown_row
from fingerprint.library.library import Library, library_info
from fingerprint.library.merge import merge_library
from fingerprint.library.profiles import PROFILES, REFERENCE
from fingerprint.model.fingerprinter import Fingerprinter

NAMES = ("noise 2 s", "noise 5 s", "phone 2 s", "phone 5 s")
COLUMNS = (
    "profile",
    "kB an hour",
    "top-1 %",
    "against the reference",
    "accepted and right %",
    "against the reference",
    "accepted and wrong %",
    "median time",
)


@click.command()
@corpus_option
@output_option("runs/profiles")
@click.option("--queries", type=click.IntRange(min=1), default=200, help="Of each condition.")
@jobs_option
def main(corpus: Path, output: Path, queries: int, jobs: int) -> None:
    """Bytes and accuracy of each profile, on validation queries."""
    opened, model = Corpus.open(corpus), Fingerprinter.default("cpu")
    rights: dict[str, list[Outcome]] = {}
    rows = []
    for profile in (REFERENCE, *PROFILES.values()):
        folder = output / profile.name
        with ProgressLine() as line:
            if profile is REFERENCE:
                Library.create_or_open(folder, model, profile=profile.name).close()
                index_corpus(opened, KNOWN_ROLES, model, folder, jobs, line.stage)
            else:
                _derive(folder, output / REFERENCE.name, model, profile.name)
            results = evaluate(
                opened,
                model,
                library=folder,
                split="validation",
                queries=queries,
                jobs=jobs,
                conditions=[one for one in CONDITIONS if one.name in NAMES],
                on_progress=line.stage,
            )
        rights[profile.name] = list(results.outcomes)
        info = library_info(folder)
        rows.append(
            _row(profile.name, info.bytes / info.hours / 1000, rights, results.min_confidence)
        )
    count = len(rights[REFERENCE.name])
    text = "\n".join([markdown_head(COLUMNS), *rows])
    note = (
        f"{count} validation queries ({', '.join(NAMES)}), the same for each profile, against "
        f"{info.tracks} tracks ({info.hours:.1f} hours)."
    )
    click.echo(f"{note}\n\n{text}")


def _derive(folder: Path, reference: Path, model: Fingerprinter, profile: str) -> None:
    """A library of another profile out of the embeddings of the reference."""
    shutil.rmtree(folder, ignore_errors=True)
    with Library.create_or_open(folder, model, profile=profile) as library:
        merge_library(library, reference)
        with library.writing() as writer:
            writer.compact()


def _row(name: str, room: float, rights: dict[str, list[Outcome]], min_confidence: float) -> str:
    """The profile's line."""
    outcomes, reference = rights[name], rights[REFERENCE.name]
    right, right_there = (np.array([one.right for one in some]) for some in (outcomes, reference))
    sure, sure_there = (
        np.array([one.confidence >= min_confidence for one in some])
        for some in (outcomes, reference)
    )
    seconds = np.median([one.seconds for one in outcomes])
    compared = name != REFERENCE.name
    return markdown_row(
        (
            name,
            f"{room:,.0f}",
            f"{100 * right.mean():.1f}",
            change(right, right_there) if compared else "",
            f"{100 * np.mean(sure & right):.1f}",
            change(sure & right, sure_there & right_there) if compared else "",
            f"{100 * np.mean(sure & ~right):.1f}",
            f"{1000 * seconds:.0f} ms",
        )
    )


def change(here: NDArray[np.bool_], there: NDArray[np.bool_]) -> str:
    """By how many points more of the same queries (N,) succeed here, with a 95 % interval."""
    differences = here.astype(float) - there
    half = 196 * differences.std() / np.sqrt(len(differences))
    return f"{100 * differences.mean():+.1f} ± {half:.1f}"
