"""False accepts of sounds that are no music, and of other music, in libraries of few tracks.

    python -m fingerprint.lab made-up-sounds                # 2,000 sounds, 2,000 passages
    python -m fingerprint.lab made-up-sounds --passages 0   # the sounds alone

Clicks, bursts, sirens, telephone keys, hum, drums, modems, noise and a voice by formula, speech and
effects of the corpus, and passages of tracks that are in no library, searched in random tracks of
the corpus: one, two, three, ten, every other library's cut to a few seconds, and all. Then sounds
of 0.6 to 5 s, each searched in a library that holds it.
"""

from collections import defaultdict
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
from fingerprint.cli.text import counted
from fingerprint.lab.benchmark.metrics import Share
from fingerprint.lab.benchmark.run import KNOWN_ROLES, index_corpus
from fingerprint.lab.calibration.small_libraries import (
    MUSIC,
    ShortSoundAnswer,
    UnknownAnswer,
    search_short_sounds,
    search_unknown,
)
from fingerprint.lab.calibration.trust_report import percent
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.options import output_option
from fingerprint.lab.report_format import markdown_head, markdown_row, markdown_table

WINDOW = 2.0  # s; about what a row describes
SHOWN = 10  # of the surest false accepts


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@corpus_option
@model_option
@output_option("runs/made-up-sounds")
@click.option("--library", type=FOLDER, help="Library of `fingerprint evaluate`, if made.")
@click.option("--library-sizes", type=int, multiple=True, default=(1, 2, 3, 10, 1_000_000),
              help="Tracks; more than there are: all.")  # fmt: skip
@click.option("--count", type=click.IntRange(min=1), default=2_000, help="Sounds.")
@click.option("--passages", type=click.IntRange(min=0), default=2_000, help="Of other music.")
@click.option("--short", type=click.IntRange(min=0), default=300, help="Short sounds.")
@click.option("--seed", type=int, default=0, help="Decides all of it.")
@min_confidence_option
@jobs_option
def main(
    corpus: Path,
    model: Path | None,
    output: Path,
    library: Path | None,
    library_sizes: tuple[int, ...],
    count: int,
    passages: int,
    short: int,
    seed: int,
    min_confidence: float,
    jobs: int,
) -> None:
    """False accepts of made-up sounds and of other music in libraries of few tracks."""
    opened, fingerprinter = Corpus.open(corpus), open_model(model, "cpu")
    folder = library or output / f"library-{fingerprinter.id[:12]}"
    with ProgressLine() as line:
        index_corpus(opened, KNOWN_ROLES, fingerprinter, folder, jobs, line.stage)
        unknown = search_unknown(
            opened,
            fingerprinter,
            library=folder,
            sizes=library_sizes,
            count=count,
            passages=passages,
            seed=seed,
            jobs=jobs,
            on_progress=line.stage,
        )
        short_sounds = (
            search_short_sounds(
                fingerprinter,
                sizes=library_sizes,
                count=short,
                seed=seed,
                on_progress=line.stage,
            )
            if short
            else []
        )
    click.echo(_unknown_table(unknown, min_confidence))
    if short_sounds:
        click.echo(_short_table(short_sounds, min_confidence))


def _unknown_table(answers: list[UnknownAnswer], least: float) -> str:
    rows: dict[tuple[int, bool], list[UnknownAnswer]] = defaultdict(list)
    for one in answers:
        rows[one.tracks, one.short].append(one)
    lines = [markdown_head(("library", "made-up sounds, %", "other music, %"))]
    for (tracks, short), here in sorted(rows.items()):
        shares = []
        for music in (False, True):
            kind = [one for one in here if (one.kind == MUSIC) == music]
            shares.append(percent(Share(sum(a.confidence >= least for a in kind), len(kind))))
        what = counted(tracks, "short track" if short else "track")
        lines.append(markdown_row([what, *shares]))
    surest = sorted(answers, key=lambda a: -a.confidence)[:SHOWN]
    lines += ["", "The surest of them:"]
    lines += [
        f"- {a.confidence:.4f}: {a.kind} {a.number}, {a.tracks:,} {'short' if a.short else 'whole'}"
        for a in surest
    ]
    return "\n".join(lines) + "\n"


def _short_table(answers: list[ShortSoundAnswer], least: float) -> str:
    head = ("short sounds", "length", "right", "refused", "another one")
    rows = []
    for tracks in sorted({one.tracks for one in answers}):
        for below in (True, False):
            here = [a for a in answers if a.tracks == tracks and (a.seconds < WINDOW) == below]
            given = [a for a in here if a.confidence >= least]
            right = sum(a.right for a in given)
            length = f"{'below' if below else 'from'} {WINDOW:g} s"
            figures = (right, len(here) - len(given), len(given) - right)
            rows.append((f"{tracks:,}", length, *map(str, figures)))
    return markdown_table(head, rows, left=2)
