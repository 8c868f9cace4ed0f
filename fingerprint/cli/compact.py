"""`fingerprint compact`: drop removed tracks' rows, and merge small segments."""

from pathlib import Path

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.opening import require_library, writing_at
from fingerprint.cli.options import library_or_milvus_option
from fingerprint.cli.progress import ProgressLine
from fingerprint.cli.text import counted
from fingerprint.milvus.address import Address


@click.command("compact")
@library_or_milvus_option
def compact_command(library: Path | Address) -> None:
    """Drop removed tracks' rows, and merge small segments.

    Afterwards queries take less time, and the library takes less space. Indexing merges segments by
    itself, as far as queries need it. Other processes can read the library meanwhile. A library in
    Milvus gets the index that suits its size; until it is built, queries fail.
    """
    require_library(library)
    if isinstance(library, Address):
        with writing_at(library) as writer:
            writer.compact()
        click.echo(f"{display_name(str(library))} is compact.")
        return
    from fingerprint.library.library import library_info
    from fingerprint.library.writer import writing

    before = library_info(library)
    with writing(library) as writer, ProgressLine() as line:
        writer.compact(lambda done, of: line.show(done, of, f"{done:,}/{of:,} rows"))
    after = library_info(library)
    click.echo(
        f"{counted(before.segments, 'segment')}, {before.bytes / 1e6:,.1f} MB before; "
        f"{counted(after.segments, 'segment')}, {after.bytes / 1e6:,.1f} MB after"
    )
