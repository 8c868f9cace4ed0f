"""`fingerprint list`, `info` and `stats`: the tracks and the properties of a library."""

import os
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from fingerprint.answers import json_line, track_record
from fingerprint.audio.objects import path_of
from fingerprint.cli.opening import catalog_at, open_model, require_library
from fingerprint.cli.options import (
    json_option,
    library_or_milvus_option,
    library_or_server_option,
    model_option,
)
from fingerprint.cli.progress import note
from fingerprint.cli.text import clock, printable, track_name
from fingerprint.milvus.address import Address


@click.command("list")
@library_or_server_option
@click.option("--damaged", is_flag=True, help="Only tracks of which sound was lost, and what.")
@json_option
def list_command(library: Path | Address | str, damaged: bool, as_json: bool) -> None:
    """List the tracks of the library.

    In the order of their paths, each with its number and its length.
    """
    from fingerprint.types import Tags, Track

    listed = [one for one in _listed(library) if one["warnings"] or not damaged]
    width = max((len(str(one["id"])) for one in listed), default=0)
    for one in listed:
        if as_json:
            click.echo(json_line(one).encode("utf-8"))
        else:
            track = Track(path_of(one["path"]), one["duration"], Tags(one["title"], one["artist"]))
            click.echo(
                f"{one['id']:>{max(6, width)}}  {clock(track.duration):>8}  {track_name(track)}"
            )
            for found in one["warnings"] if damaged else ():
                click.echo(printable(f"{'':18}{found['message']}"))
    if not listed and not as_json:
        note("No track is damaged." if damaged else "The library is empty.")


def _listed(place: Path | Address | str) -> list[dict[str, Any]]:
    """The records of all tracks, in the order of their paths."""
    if isinstance(place, str):
        from fingerprint.serving.remote import Connection, tracks

        with closing(Connection(place)) as server:
            return sorted(tracks(server), key=lambda one: os.fsencode(one["path"]))
    require_library(place)
    with catalog_at(place) as catalog:
        damage = catalog.damage()
        return [track_record(one, damage.get(one.id, ())) for one in catalog.listed()]


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
    width = max(map(len, record))
    for name, value in record.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {printable(_shown(value))}")
    if card:
        click.echo()
        click.echo("\n".join(map(printable, str(card).splitlines())))


@click.command("stats")
@library_or_server_option
@json_option
def stats_command(library: Path | Address | str, as_json: bool) -> None:
    """Count the tracks, files and bytes of the library.

    Kinds of files, artists, segments, bytes per hour of audio, and the share of stored rows that
    belongs to removed tracks.
    """
    record = _stats(library)
    if as_json:
        click.echo(json_line(record).encode("utf-8"))
        return
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in record["kinds"].items())
    record["kinds"] = kinds or "none"
    width = max(map(len, record))
    for name, value in record.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {printable(_shown(value))}")


def _stats(place: Path | Address | str) -> dict[str, Any]:
    if isinstance(place, str):
        from fingerprint.serving.remote import Connection

        with closing(Connection(place)) as server:
            return dict(server.json("/v1/stats"))
    if isinstance(place, Address):
        from fingerprint.milvus.library import opened

        with opened(place) as catalog:
            return asdict(catalog.counts())
    require_library(place)
    from fingerprint.library.stats import count

    return asdict(count(place))


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


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)
