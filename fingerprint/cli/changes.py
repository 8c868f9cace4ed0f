"""Commands that change a library: remove, sync, merge, compact."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing, nullcontext
from functools import partial
from math import inf
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NoReturn

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.index import show_damage, show_duplicates, show_progress, summary
from fingerprint.cli.inputs import local
from fingerprint.cli.opening import open_model, open_or_create, require_library, writing_at
from fingerprint.cli.options import (
    device_option,
    duplicate_option,
    jobs_option,
    library_option,
    library_or_milvus_option,
    library_or_server_option,
    model_option,
    profile_option,
)
from fingerprint.cli.progress import ProgressLine, note
from fingerprint.cli.text import counted, one_line, reason
from fingerprint.cli.there import remove_there
from fingerprint.errors import FingerprintError, LibraryError
from fingerprint.milvus.address import Address

if TYPE_CHECKING:
    from fingerprint.library.indexing import OnDuplicate
    from fingerprint.library.library import Library
    from fingerprint.library.records import Listed
    from fingerprint.library.sync import Kept, Watch

FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0  # s before a failed sync is tried again


@click.command("remove")
@click.argument("what", nargs=-1, metavar="WHAT...")
@click.option(
    "--id", "ids", type=int, multiple=True, metavar="N", help="The track of this number; see list."
)
@click.option("--missing", is_flag=True, help="The tracks whose files are gone.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@library_or_server_option
def remove_command(
    what: tuple[str, ...],
    ids: tuple[int, ...],
    missing: bool,
    dry_run: bool,
    library: Path | Address | str,
) -> None:
    """Forget tracks; their files are left alone.

    WHAT is a file, a folder with everything in it, or a pattern such as '*/live/*.mp3', in which *
    stands for any characters, slashes too. The files need not exist any more. The name of a file or
    of a folder is never taken for a pattern. --missing keeps tracks whose files may only be out of
    reach, as on a drive that is not mounted.
    """
    if not any((what, ids, missing)):
        raise click.UsageError("Say what to remove: WHAT, --id or --missing.")
    if isinstance(library, str):
        remove_there(library, what, ids, missing=missing, dry_run=dry_run)
        return
    require_library(library)
    from fingerprint.library.selecting import select_all
    from fingerprint.library.writer import Changes

    with writing_at(library) as writer:
        listed, copies = writer.catalog.listed(), writer.catalog.copies()
        gone = _gone_copies(copies) if missing else []
        found = select_all(listed, copies, what, ids=ids, missing=missing)
        if not dry_run:
            forgotten = sorted({*found.copies, *gone})
            writer.apply(Changes(removed=[one.id for one in found.tracks], forgotten=forgotten))
    done = "would remove" if dry_run else "removed"
    for name, number in found.patterns.items():
        note(f"the pattern {display_name(name)} means {counted(number, 'file')}")
    for path in sorted({*(one.track.path for one in found.tracks), *found.copies}):
        click.echo(f"{done} {display_name(path)}")
    if missing:
        _tell_unreachable(listed)
    if found.unknown:
        raise LibraryError(f"there is no track for {', '.join(map(display_name, found.unknown))}")


def _gone_copies(copies: Iterable[Path]) -> list[Path]:
    from fingerprint.audio.files import Presence, presence

    return [path for path in copies if presence(path) is Presence.GONE]


def _tell_unreachable(listed: "Iterable[Listed]") -> None:
    """List the folders whose files are out of reach, so that their tracks are kept."""
    from fingerprint.audio.files import Presence, presence
    from fingerprint.library.sync import Kept

    states = ((one.track.path, presence(one.track.path)) for one in listed)
    out_of_reach = (Presence.EMPTIED, Presence.UNREACHABLE)
    kept = [Kept(path, state) for path, state in states if state in out_of_reach]
    _tell_kept(kept, "remove the folder, if that is so")


def _paths(
    _context: click.Context, _parameter: click.Parameter, names: tuple[str, ...]
) -> tuple[Path, ...]:
    return tuple(map(local, names))


@click.command("sync")
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", callback=_paths)
@click.option("--watch", is_flag=True, help="Go on for as long as the folders change.")
@click.option(
    "--yes", is_flag=True, help="Remove tracks even if most of them, or whole folders, are gone."
)
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
    yes: bool,
    library: Path,
    model: Path | None,
    jobs: int,
    device: str,
    profile: str | None,
    on_duplicate: "OnDuplicate",
) -> None:
    """Make the library equal to folders.

    Adds what is new in each DIR, updates what has changed, and removes the tracks of files that are
    gone from it. Tracks from elsewhere stay. A DIR without any audio is an error: perhaps its drive
    is not mounted. So a folder inside it that is empty now, cannot be read, or is a link to nowhere
    keeps its tracks; a line says so, and the exit status is 1. Before it removes more than half of
    the tracks it asks; where there is no terminal to ask, --yes is needed.
    """
    from fingerprint.library.sync import Watch

    # Watching begins before the first sync, so that no change during it is missed.
    changes = Watch(folders, but=[library]) if watch else nullcontext()
    with open_or_create(library, model, device, profile) as opened, changes as waiting:
        failed = _sync(opened, folders, jobs, on_duplicate, yes=yes)
        if waiting is not None:
            note("Watching; end with Ctrl-C.")
            again = partial(_sync, opened, folders, jobs, on_duplicate, yes=yes, ask=False)
            _go_on(waiting, again)
    ctx.exit(1 if failed else 0)


def _go_on(changes: "Watch", sync: Callable[[], int]) -> NoReturn:
    """Sync after every change; a sync that failed, because another run writes, say, is retried."""
    pause, said = inf, ""
    while True:
        changes.wait(pause)
        try:
            sync()
            pause, said = inf, ""
        except BrokenPipeError:
            raise  # the reader of the output has closed it
        except (FingerprintError, OSError) as error:
            pause = min(2 * pause, LONGEST_PAUSE) if pause < inf else FIRST_PAUSE
            if said != (said := reason(error)):
                note(f"Error: {said}")


def _sync(
    library: "Library",
    folders: tuple[Path, ...],
    jobs: int,
    on_duplicate: "OnDuplicate",
    *,
    yes: bool,
    ask: bool = True,
) -> int:
    """Sync and print a summary; returns the number of files that failed or are missing but kept."""
    from fingerprint.library.sync import sync

    begin = perf_counter()
    with ProgressLine() as line:
        sure = Asking(line, yes=yes, ask=ask)
        done = sync(
            library,
            folders,
            jobs=jobs,
            on_duplicate=on_duplicate,
            on_progress=lambda now: show_progress(line, now),
            sure=sure,
        )
    failed = len(done.report.failed)
    click.echo(summary(done.report, failed, library.folder, perf_counter() - begin))
    for path in done.removed:
        click.echo(f"removed {display_name(path)}")
    for _, why in done.report.failed:
        note(f"failed: {one_line(why)}")
    _tell_kept(done.kept, "--yes removes them")
    show_duplicates(done.report)
    show_damage(done.report)
    return failed + len(done.kept)


def _tell_kept(kept: "list[Kept]", remedy: str) -> None:
    """Print in which folders tracks were kept, why, and how to remove them."""
    from fingerprint.audio.files import Presence

    whys = {
        Presence.GONE: f"the files are gone, but so are most; {remedy}",
        Presence.EMPTIED: f"the folder is empty or gone, as if its drive were not there; {remedy}",
        Presence.UNREACHABLE: "it cannot be read, or is a link to nowhere",
    }
    folders = Counter((one.path.parent, whys[one.presence]) for one in kept)
    for (folder, why), number in folders.items():
        note(f"kept: {counted(number, 'track')} of {display_name(folder)}: {why}")


class Asking:
    """Whether to remove many tracks: yes with --yes, else the user at the terminal is asked."""

    def __init__(self, line: ProgressLine, *, yes: bool, ask: bool) -> None:
        self._line = line
        self._yes = yes
        self._ask = ask and sys.stdin.isatty() and sys.stderr.isatty()

    def __call__(self, removed: int, of: int) -> bool:
        if not self._yes and self._ask:
            self._line.close()
            self._yes = click.confirm(f"Remove {removed:,} of {counted(of, 'track')}?", err=True)
        return self._yes


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
