"""`fingerprint explain`: show why a snippet matches a track, or none."""

from pathlib import Path

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.inputs import recording, spoken
from fingerprint.cli.opening import open_any
from fingerprint.cli.options import (
    FILE,
    device_option,
    library_or_server_option,
    min_confidence_option,
    model_option,
)
from fingerprint.milvus.address import Address


@click.command("explain")
@click.argument("query")
@library_or_server_option
@model_option
@device_option
@min_confidence_option
@click.option(
    "--output",
    type=FILE,
    metavar="FILE",
    default=Path("explanation.html"),
    show_default=True,
    help="A page (.html) or the picture alone (.png).",
)
def explain_command(
    query: str,
    library: Path | Address | str,
    model: Path | None,
    device: str,
    min_confidence: float,
    output: Path,
) -> None:
    """Show the evidence for an answer.

    QUERY is an audio or video file, or - for standard input.

    Draws the spectrograms of QUERY and of the best candidate, the similarity of each moment of the
    one to each moment of the other, the evidence over time, and the other candidates.
    """
    opened = open_any(library, model, device)
    from fingerprint.audio.confined import load_clip
    from fingerprint.explaining import explain, write_page
    from fingerprint.explaining.page import verdict

    clip = load_clip(recording(query), opened.model.sample_rate, name=spoken(query))
    explanation = explain(clip, opened)
    name = display_name(Path(spoken(query)).name)
    write_page(explanation, output, name=name, min_confidence=min_confidence)
    click.echo(f"{spoken(query)}: {verdict(explanation, min_confidence)}")
    click.echo(f"Page: {display_name(output)}")
