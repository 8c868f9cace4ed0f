"""`fingerprint merge`: add the tracks of other libraries."""

from pathlib import Path

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.opening import open_or_create
from fingerprint.cli.options import library_or_milvus_option, model_option, profile_option
from fingerprint.cli.progress import ProgressLine
from fingerprint.cli.text import counted
from fingerprint.milvus.address import Address


@click.command("merge")
@click.argument(
    "libraries", nargs=-1, required=True, metavar="LIBRARY...", type=click.Path(path_type=Path)
)
@library_or_milvus_option
@model_option
@profile_option
def merge_command(
    libraries: tuple[Path, ...], library: Path | Address, model: Path | None, profile: str | None
) -> None:
    """Add the tracks of other libraries.

    LIBRARY is the folder of a library that was made with the same model. Its music is not needed. A
    track is left out if its file or its recording is in the library already. A new library gets the
    profile of the first one, unless --profile says otherwise; in Milvus it is standard.
    """
    from fingerprint.library.library import library_info
    from fingerprint.library.merge import merge_library

    if profile is None and isinstance(library, Path) and not library.exists():
        profile = library_info(libraries[0]).profile
    with open_or_create(library, model, "cpu", profile) as opened:
        for source in libraries:
            with ProgressLine() as line:
                done = merge_library(
                    opened, source, lambda n, of: line.show(n, of, f"{n:,}/{of:,} tracks")
                )
            click.echo(
                f"Took {counted(done.added, 'track')} from {display_name(source)}; "
                f"{done.known:,} known already"
            )
