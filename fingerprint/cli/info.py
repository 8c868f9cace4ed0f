"""`fingerprint info`: describe the library or the model."""

from dataclasses import asdict
from pathlib import Path

import click

from fingerprint.answers import json_line
from fingerprint.cli.opening import catalog_at, open_model, require_library
from fingerprint.cli.options import json_option, library_or_milvus_option, model_option
from fingerprint.cli.text import printable, show_record
from fingerprint.milvus.address import Address


@click.command("info")
@click.argument("what", type=click.Choice(["library", "model"]), default="library")
@library_or_milvus_option
@model_option
@json_option
def info_command(what: str, library: Path | Address, model: Path | None, as_json: bool) -> None:
    """Describe the library or the model.

    Of the library: tracks, hours, bytes, the model it is made with, format. Of the model: its card.
    """
    record = _model_record(model) if what == "model" else _library_record(library)
    if as_json:
        click.echo(json_line(record).encode("utf-8"))
        return
    card = record.pop("card", None)
    show_record(record)
    if card:
        click.echo()
        click.echo("\n".join(map(printable, str(card).splitlines())))


def _library_record(place: Path | Address) -> dict[str, object]:
    require_library(place)
    from fingerprint.audio.decoding_process import confinement

    with catalog_at(place) as catalog:
        info = asdict(catalog.info())
    info["hours"] = round(info["hours"], 4)
    return {"path": str(place), **info, "decoders": confinement()}


def _model_record(file: Path | None) -> dict[str, object]:
    model = open_model(file, "cpu")
    return {
        "model_id": model.id,
        "sample_rate": model.sample_rate,
        "dim": model.dim,
        "window": model.window,
        "hop": model.hop,
        "card": model.card,
    }
