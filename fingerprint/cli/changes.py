"""Commands that change a library: remove, sync, merge, compact."""

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.index import show_damage, show_duplicates, show_progress, summary
from fingerprint.cli.opening import open_model, open_or_create, require_library
from fingerprint.cli.options import (
    device_option,
    duplicate_option,
    jobs_option,
    library_option,
    model_option,
    profile_option,
)
from fingerprint.cli.progress import ProgressLine
from fingerprint.cli.text import counted, one_line, reason
from fingerprint.errors import FingerprintError, LibraryError

if TYPE_CHECKING:
    from fingerprint.library.indexing import OnDuplicate
    from fingerprint.library.library import Library


@click.command("remove")
@click.argument("what", nargs=-1, metavar="WHAT...")
@click.option(
    "--id", "ids", type=int, multiple=True, metavar="N", help="The track of this number; see list."
)
@click.option("--missing", is_flag=True, help="The tracks whose files are gone.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@library_option
def remove_command(
    what: tuple[str, ...], ids: tuple[int, ...], missing: bool, dry_run: bool, library: Path
) -> None:
    """Forget tracks; their files are left alone.

    WHAT is a file, a folder with all that lies in it, or a pattern such as '*/live/*.mp3', in which
    * stands for any letters, slashes too. The files need not exist any more.
    """
    if not (what or ids or missing):
        raise click.UsageError("Say what to remove: WHAT, --id or --missing.")
    require_library(library)
    from fingerprint.library.selecting import select
    from fingerprint.library.writer import Changes, writing

    with writing(library) as writer:
        chosen, unknown = select(writer.catalog.listed(), what, ids=ids, missing=missing)
        if not dry_run:
            writer.apply(Changes(removed=[one.id for one in chosen]))
    for one in chosen:
        click.echo(f"{'would remove' if dry_run else 'removed'} {display_name(one.track.path)}")
    if unknown:
        raise LibraryError(f"there is no track for {', '.join(map(display_name, unknown))}")


@click.command("sync")
@click.argument(
    "folders", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path)
)
@click.option("--watch", is_flag=True, help="Go on for as long as the folders change.")
@library_option
@model_option
@jobs_option
@device_option
@profile_option
@duplicate_option
@click.pass_context
def sync_command(
    ctx: click.Context,
    folders: tuple[Path, ...],
    watch: bool,
    library: Path,
    model: Path | None,
    jobs: int,
    device: str,
    profile: str | None,
    on_duplicate: "OnDuplicate",
) -> None:
    """Make the library equal to folders.

    Adds what is new in each DIR, updates what has changed, and removes the tracks of files that are
    gone from it. Tracks from elsewhere stay. A DIR without any audio is an error: its drive may
    just not be there.
    """
    with open_or_create(library, model, device, profile) as opened:
        failed = _sync(opened, folders, jobs, on_duplicate)
        if watch:
            from fingerprint.library import syncing

            def again() -> None:
                try:
                    _sync(opened, folders, jobs, on_duplicate)
                except (FingerprintError, OSError) as error:  # such as: another run is writing
                    click.echo(f"Error: {reason(error)}", err=True)

            click.echo("Watching; end with Ctrl-C.", err=True)
            syncing.watch(folders, again)
    ctx.exit(1 if failed else 0)


def _sync(
    library: "Library", folders: tuple[Path, ...], jobs: int, on_duplicate: "OnDuplicate"
) -> int:
    """Sync and say what was done; returns how many files failed."""
    from fingerprint.library.syncing import sync

    begin = perf_counter()
    with ProgressLine() as line:
        done = sync(
            library,
            folders,
            jobs=jobs,
            on_duplicate=on_duplicate,
            on_progress=lambda now: show_progress(line, now),
        )
    failed = len(done.report.failed)
    click.echo(summary(done.report, failed, library.folder, perf_counter() - begin))
    for path in done.removed:
        click.echo(f"removed {display_name(path)}")
    for _, why in done.report.failed:
        click.echo(f"failed: {one_line(why)}", err=True)
    show_duplicates(done.report)
    show_damage(done.report)
    return failed


@click.command("merge")
@click.argument(
    "libraries", nargs=-1, required=True, metavar="LIBRARY...", type=click.Path(path_type=Path)
)
@library_option
@model_option
@profile_option
def merge_command(
    libraries: tuple[Path, ...], library: Path, model: Path | None, profile: str | None
) -> None:
    """Take over the tracks of other libraries.

    LIBRARY is a library's folder, made with the same model. Its music is not needed. Tracks whose
    file or whose recording is in the library already are left out. A new library gets the profile
    of the first one, unless --profile says otherwise.
    """
    from fingerprint.library.library import library_info
    from fingerprint.library.merging import merge_library

    if profile is None and not library.exists():
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


@click.command("compact")
@library_option
def compact_command(library: Path) -> None:
    """Drop what was removed, and join small segments.

    Queries take less time afterwards, and the library less room. Indexing does as much of it by
    itself as keeps queries fast; readers are not disturbed.
    """
    require_library(library)
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


@click.command("import")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@library_option
def import_command(file: Path, library: Path) -> None:
    """Make a library from a file that `export` wrote.

    The library's folder must be new or empty: `merge` joins libraries. Indices are built anew.
    """
    from fingerprint.library.library import library_info
    from fingerprint.library.portable import import_library

    with ProgressLine() as line:
        import_library(file, library, lambda n, of: line.show(n, of, f"{n:,}/{of:,} segments"))
    info = library_info(library)
    click.echo(f"Imported {counted(info.tracks, 'track')}. Library: {display_name(library)}")


@click.command("verify")
@click.option("--repair", is_flag=True, help="Make anew what is damaged, from the music.")
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
    any. --repair makes indices anew from the embeddings, and embeddings from the music; tracks
    whose music is gone too are removed and named.
    """
    require_library(library)
    from fingerprint.library.checking import check
    from fingerprint.library.store import Catalog

    catalog = Catalog(library)
    with ProgressLine() as line:
        faults = check(catalog, lambda n, of: line.show(n, of, f"{n:,}/{of:,} segments"))
    damaged = {} if faults else catalog.damage()
    catalog.close()
    for fault in faults:
        click.echo(f"damaged: {display_name(fault.path)} {one_line(fault.reason)}", err=True)
        for one in fault.tracks:
            click.echo(f"  with it: {display_name(one.track.path)}", err=True)
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
    from fingerprint.library.checking import repair

    done = repair(library, open_model(model, device), jobs=jobs)
    again = len(done.embedded)
    click.echo(
        f"Repaired: {counted(again, 'track')} embedded again, {counted(done.rebuilt, 'track')} "
        f"indexed again, {len(done.lost):,} lost."
    )
    for _, why in done.lost:
        click.echo(f"lost: {one_line(why)}", err=True)
    if done.lost:
        raise LibraryError("some tracks are lost; index their music again")
