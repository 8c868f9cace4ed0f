"""`fingerprint calibrate`: fit a model's confidence."""

from dataclasses import replace
from pathlib import Path

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.options import FOLDER, corpus_option, device_option, jobs_option
from fingerprint.cli.progress import ProgressLine
from fingerprint.lab.options import output_option


@click.command("calibrate")
@click.argument("model", type=click.Path(dir_okay=False, path_type=Path))
@corpus_option
@output_option("runs/calibration")
@click.option(
    "--passages",
    type=click.IntRange(min=1),
    metavar="N",
    default=30,
    show_default=True,
    help="Passages of each family, of four queries each.",
)
@click.option(
    "--real",
    type=FOLDER,
    metavar="DIR",
    help="Also fit on the recordings of role 'tune' in this folder, made by "
    "`python -m fingerprint.lab cut-recording`.",
)
@click.option("--refit", is_flag=True, help="Refit on the evidence saved by the previous run.")
@jobs_option
@device_option
def calibrate_command(
    model: Path,
    corpus: Path,
    output: Path,
    passages: int,
    real: Path | None,
    refit: bool,
    jobs: int,
    device: str,
) -> None:
    """Fit the confidence of a trained model.

    MODEL is a file that `fingerprint train` made; the fit is written into it. If it has no
    background yet (passages of training music, together with which small libraries are searched),
    that is made first. Afterwards, export the model (.onnx) again.

    The model's id, and with it every library made with the model, stays as it is.
    """
    from fingerprint.lab.corpus import Corpus

    opened = Corpus.open(corpus)
    from fingerprint.cli.opening import open_model
    from fingerprint.lab.calibration import cases
    from fingerprint.lab.calibration.fit import background_of, fit, gather_for_fit
    from fingerprint.lab.real.evidence import gather_real
    from fingerprint.lab.real.folder import RealSet
    from fingerprint.model.checkpoint import read_checkpoint, write_checkpoint
    from fingerprint.model.network import pack_background

    if not read_checkpoint(model).background:
        made = pack_background(background_of(opened, open_model(model, device, warn=False)))
        write_checkpoint(replace(read_checkpoint(model), background=made), model)
    fingerprinter = open_model(model, device, warn=False)
    evidence = output / f"cases-{fingerprinter.id[:12]}.jsonl"
    if not refit:
        recorded = RealSet.open(real) if real else None
        library = output / f"library-{fingerprinter.id[:12]}{'-real' if real else ''}"
        with ProgressLine() as line:
            found = gather_for_fit(
                opened,
                fingerprinter,
                library=library,
                more=recorded.references if recorded else (),
                passages=passages,
                jobs=jobs,
                on_progress=line.stage,
            )
            if recorded:
                found += gather_real(
                    recorded, fingerprinter, library=library, jobs=jobs, on_progress=line.stage
                )
        cases.save(found, evidence)
    calibration = fit(cases.load(evidence))
    write_checkpoint(replace(read_checkpoint(model), calibration=calibration), model)
    click.echo(f"Calibrated {display_name(model)}: {calibration.model_dump_json()}")
