"""`fingerprint list` and `fingerprint info`: what is in a library, and what made it."""

from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from fingerprint.answers import json_line, track_record
from fingerprint.cli.opening import open_model, require_library
from fingerprint.cli.options import json_option, library_option, model_option
from fingerprint.cli.progress import note
from fingerprint.cli.text import clock, printable, track_name


@click.command("list")
@library_option
@click.option("--damaged", is_flag=True, help="Only those of which something was lost, and what.")
@json_option
def list_command(library: Path, damaged: bool, as_json: bool) -> None:
    """List the tracks of the library.

    They come in the order of their paths, each with its number and its length.
    """
    require_library(library)
    from fingerprint.library.store import Catalog

    with closing(Catalog(library)) as catalog:  # no model needed
        listed, damage = catalog.listed(), catalog.damage()
    if damaged:
        listed = [one for one in listed if one.id in damage]
    for one in listed:
        track = one.track
        if as_json:
            click.echo(json_line(track_record(one, damage.get(one.id, ()))).encode("utf-8"))
        else:
            click.echo(f"{one.id:>6}  {clock(track.duration):>8}  {track_name(track)}")
            for found in damage[one.id] if damaged else ():
                click.echo(printable(f"{'':18}{found.message}"))
    if not listed and not as_json:
        note("No track is damaged." if damaged else "The library is empty.")


@click.command("info")
@click.argument("what", type=click.Choice(["library", "model"]), default="library")
@library_option
@model_option
@json_option
def info_command(what: str, library: Path, model: Path | None, as_json: bool) -> None:
    """Describe the library or the model.

    Of the library: tracks, hours, bytes, the model it is made with, format. Of the model: its card.
    """
    record = _model_record(model) if what == "model" else _library_record(library)
    if as_json:
        click.echo(json_line(record).encode("utf-8"))
        return
    card = record.pop("card", None)
    width = max(map(len, record))
    for name, value in record.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {printable(_shown(value))}")
    if card:
        click.echo()
        click.echo("\n".join(map(printable, str(card).splitlines())))


@click.command("stats")
@library_option
@json_option
def stats_command(library: Path, as_json: bool) -> None:
    """Count what the library holds, and what it costs.

    Kinds of files, artists, segments, bytes an hour of audio, and how much of what is stored
    belongs to tracks that were removed.
    """
    require_library(library)
    from fingerprint.library.stats import count

    record = asdict(count(library))
    if as_json:
        click.echo(json_line(record).encode("utf-8"))
        return
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in record["kinds"].items())
    record["kinds"] = kinds or "none"
    width = max(map(len, record))
    for name, value in record.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {printable(_shown(value))}")


def _library_record(folder: Path) -> dict[str, object]:
    require_library(folder)
    from fingerprint.audio.worker import confinement
    from fingerprint.library.library import library_info

    info = asdict(library_info(folder))
    info["hours"] = round(info["hours"], 4)
    return {"path": str(folder), **info, "decoders": confinement()}


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


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)
