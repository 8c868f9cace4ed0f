"""`fingerprint sync`: make a library equal to folders, once or after every change."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from math import inf
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NoReturn

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.index import show_damage, show_duplicates, show_progress, summary
from fingerprint.cli.inputs import local
from fingerprint.cli.opening import open_or_create
from fingerprint.cli.options import (
    device_option,
    duplicate_option,
    jobs_option,
    library_option,
    model_option,
    profile_option,
)
from fingerprint.cli.progress import ProgressLine, note
from fingerprint.cli.text import counted, error_line, one_line, show_kept
from fingerprint.errors import FingerprintError

if TYPE_CHECKING:
    from fingerprint.library.indexing import OnDuplicate
    from fingerprint.library.library import Library
    from fingerprint.library.sync import Watch

FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0  # s before a failed sync is tried again


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
    changes = Watch(folders, ignore=[library]) if watch else nullcontext()
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
            if said != (said := error_line(error)):
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
        sure = _Confirm(line, yes=yes, ask=ask)
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
    show_kept(done.kept, "--yes removes them")
    show_duplicates(done.report)
    show_damage(done.report)
    return failed + len(done.kept)


class _Confirm:
    """Whether to remove many tracks: yes with --yes, else the user at the terminal decides."""

    def __init__(self, line: ProgressLine, *, yes: bool, ask: bool) -> None:
        self._line = line
        self._yes = yes
        self._ask = ask and sys.stdin.isatty() and sys.stderr.isatty()

    def __call__(self, removed: int, of: int) -> bool:
        if not self._yes and self._ask:
            self._line.close()
            self._yes = click.confirm(f"Remove {removed:,} of {counted(of, 'track')}?", err=True)
        return self._yes
