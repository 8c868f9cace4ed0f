"""`fingerprint calibrate`: fit a model's confidence."""

from dataclasses import replace
from pathlib import Path

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.options import FOLDER, corpus_option, device_option, jobs_option
from fingerprint.cli.progress import ProgressLine


@click.command("calibrate")
@click.argument("model", type=click.Path(dir_okay=False, path_type=Path))
@corpus_option
@click.option(
    "--output",
    type=FOLDER,
    metavar="DIR",
    default=Path("runs/calibration"),
    show_default=True,
    help="Folder for the library that is queried.",
)
@click.option(
    "--queries",
    type=click.IntRange(min=10),
    metavar="N",
    default=100,
    show_default=True,
    help="Queries in each condition.",
)
@jobs_option
@device_option
def calibrate_command(
    model: Path, corpus: Path, output: Path, queries: int, jobs: int, device: str
) -> None:
    """Fit the confidence of a trained model.

    MODEL is a file that `fingerprint train` made; what is fitted is written there.

    The model's id, and with it every library made with the model, stays as it is.
    """
    from fingerprint.corpus import Corpus

    opened = Corpus.open(corpus)
    from fingerprint.cli.opening import open_model
    from fingerprint.evaluation.calibrate import calibrate
    from fingerprint.model.checkpoint import read_checkpoint, write_checkpoint

    fingerprinter = open_model(model, device)
    with ProgressLine() as line:
        calibration = calibrate(
            opened,
            fingerprinter,
            library=output / f"library-{fingerprinter.id[:12]}",
            queries=queries,
            jobs=jobs,
            on_progress=lambda now: line.show(
                now.done, now.total, f"{now.stage} {now.done:,}/{now.total:,}"
            ),
        )
    write_checkpoint(replace(read_checkpoint(model), calibration=calibration), model)
    click.echo(f"Calibrated {display_name(model)}: {calibration.model_dump_json()}")
