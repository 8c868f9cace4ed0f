"""What makes phone queries hard: the condition with one part after another left out.

python -m fingerprint.lab dissect                        # 300 queries each of the validation split

Asks for 5 s snippets of validation tracks against a library of every training, validation and test
track, as `fingerprint evaluate` does, and prints a table. What the figure gains when a part is left
out is what that part costs.
"""

from dataclasses import replace
from pathlib import Path

import click

from fingerprint.cli.options import corpus_option
from fingerprint.lab.benchmark.conditions import SNR_DB, Condition, Phone
from fingerprint.lab.benchmark.run import evaluate
from fingerprint.lab.corpus import Corpus
from fingerprint.model.fingerprinter import DEFAULT_WEIGHTS, Fingerprinter

PHONE = Phone()
PARTS: dict[str, Phone | None] = {
    "phone": PHONE,
    "no loudspeaker": replace(PHONE, loudspeaker=0.0),
    "no room": replace(PHONE, room=False),
    "no loudspeaker, no room": replace(PHONE, loudspeaker=0.0, room=False),
    "flat microphone": replace(PHONE, low_cut=(20.0, 20.0), high_cut=(7e3, 7e3), eq_db=0.0),
    "no overload": replace(PHONE, overload_db=None),
    "no codec": replace(PHONE, opus_level=None),
    "noise alone": None,
}


@click.command()
@corpus_option
@click.option("--model", "weights", type=click.Path(path_type=Path), default=DEFAULT_WEIGHTS)
@click.option(
    "--library",
    type=click.Path(path_type=Path),
    help="Where the library is kept.  [default: runs/dissect, a folder a model]",
)
@click.option("--queries", type=click.IntRange(min=1), default=300, show_default=True)
@click.option("--jobs", type=click.IntRange(min=1), default=2, show_default=True)
def main(corpus: Path, weights: Path, library: Path | None, queries: int, jobs: int) -> None:
    """Measure the phone condition with parts left out."""
    model = Fingerprinter.load(weights)
    results = evaluate(
        Corpus.open(corpus),
        model,
        library=library or Path("runs/dissect") / model.id[:12],
        split="validation",
        queries=queries,
        jobs=jobs,
        conditions=[
            *(Condition(name, 5.0, SNR_DB, phone) for name, phone in PARTS.items()),
            Condition("phone without noise", 5.0, None, PHONE),
        ],
    )
    click.echo("| 5 s queries | top-1 % (95 % interval) |\n|---|---:|")
    for row in results.summaries:
        low, high = row.top1.interval
        name = row.condition.removesuffix(" 5 s")
        click.echo(f"| {name} | {100 * row.top1.value:.1f} ({100 * low:.1f} to {100 * high:.1f}) |")
