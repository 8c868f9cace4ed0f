"""`fingerprint list`: the tracks of a library."""

import os
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from fingerprint.answers import json_line, track_record
from fingerprint.audio.objects import path_of
from fingerprint.cli.opening import catalog_at, require_library
from fingerprint.cli.options import json_option, library_or_server_option
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
