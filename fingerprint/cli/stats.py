"""`fingerprint stats`: count the tracks, files and bytes of a library."""

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from fingerprint.answers import json_line
from fingerprint.cli.opening import require_library
from fingerprint.cli.options import json_option, library_or_server_option
from fingerprint.cli.text import show_record
from fingerprint.milvus.address import Address


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
    show_record(record)


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
