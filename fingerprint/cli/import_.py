"""`fingerprint import`: make a library from a file that `export` wrote."""

from pathlib import Path

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.options import library_option
from fingerprint.cli.progress import ProgressLine
from fingerprint.cli.text import counted


@click.command("import")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@library_option
def import_command(file: Path, library: Path) -> None:
    """Make a library from a file that `export` wrote.

    The library's folder must be new or empty; to add to a library, use `merge`. Indices are built
    anew.
    """
    from fingerprint.library.exchange import import_library
    from fingerprint.library.library import library_info

    with ProgressLine() as line:
        import_library(file, library, lambda n, of: line.show(n, of, f"{n:,}/{of:,} segments"))
    info = library_info(library)
    click.echo(f"Imported {counted(info.tracks, 'track')}. Library: {display_name(library)}")
