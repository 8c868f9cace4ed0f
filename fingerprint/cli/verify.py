"""`fingerprint verify`: check every byte of a library, and repair it."""

from contextlib import closing
from pathlib import Path

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.opening import open_model, require_library
from fingerprint.cli.options import device_option, jobs_option, library_option, model_option
from fingerprint.cli.progress import ProgressLine, note
from fingerprint.cli.text import counted, one_line
from fingerprint.errors import LibraryError


@click.command("verify")
@click.option("--repair", is_flag=True, help="Rebuild damaged files, from the music if need be.")
@library_option
@model_option
@jobs_option
@device_option
@click.pass_context
def verify_command(
    ctx: click.Context, repair: bool, library: Path, model: Path | None, jobs: int, device: str
) -> None:
    """Check every byte of the library.

    Names each damaged file and the tracks that are lost with it; the exit status is 1 if there are
    any. --repair rebuilds indices from the embeddings, and embeddings from the music; tracks whose
    music is gone too are removed and listed.
    """
    require_library(library)
    from fingerprint.library.store import Catalog
    from fingerprint.library.verify import check

    with closing(Catalog(library)) as catalog, ProgressLine() as line:
        faults = check(catalog, lambda n, of: line.show(n, of, f"{n:,}/{of:,} segments"))
        damaged = {} if faults else catalog.damage()
    for fault in faults:
        note(f"damaged: {display_name(fault.path)} {one_line(fault.reason)}")
        for one in fault.tracks:
            note(f"  with it: {display_name(one.track.path)}")
    if not faults:
        click.echo(f"{display_name(library)} is sound.")
        if damaged:
            lost = counted(len(damaged), "recording")
            click.echo(f"{lost} lost something when decoded: see list --damaged.", err=True)
    elif repair:
        _repair(library, model, jobs, device)
    else:
        ctx.exit(1)


def _repair(library: Path, model: Path | None, jobs: int, device: str) -> None:
    from fingerprint.library.verify import repair

    done = repair(library, open_model(model, device), jobs=jobs)
    again = len(done.embedded)
    click.echo(
        f"Repaired: {counted(again, 'track')} embedded again, {counted(done.rebuilt, 'track')} "
        f"indexed again, {len(done.lost):,} lost."
    )
    for _, why in done.lost:
        note(f"lost: {one_line(why)}")
    for _, why in done.waiting:
        note(f"still damaged: {one_line(why)}")
    if done.waiting:
        raise LibraryError("some music is out of reach: repair again when it is there")
    if done.lost:
        raise LibraryError("some tracks are lost; index their music again")
