"""`fingerprint publish`: point an alias to a library in Milvus."""

from pathlib import Path

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.options import library_or_milvus_option
from fingerprint.milvus.address import Address


@click.command("publish")
@click.argument("name")
@library_or_milvus_option
def publish_command(name: str, library: Path | Address) -> None:
    """Point the alias NAME to this library in Milvus.

    NAME becomes an alias of the collection, or is moved to it: readers of milvus://host/NAME change
    over within seconds. So music can be indexed anew into another collection while the old one
    answers.
    """
    if not isinstance(library, Address):
        raise click.UsageError("--library must be in Milvus, as milvus://host:19530/music_2.")
    from fingerprint.milvus.library import publish

    publish(library, name)
    click.echo(f"{display_name(str(library.named(name)))} now is {display_name(str(library))}")
