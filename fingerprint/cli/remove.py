"""`fingerprint remove`: forget tracks."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.opening import require_library, writing_at
from fingerprint.cli.options import library_or_server_option
from fingerprint.cli.progress import note
from fingerprint.cli.remote import remove_from_server
from fingerprint.cli.text import counted, show_kept
from fingerprint.errors import LibraryError
from fingerprint.milvus.address import Address

if TYPE_CHECKING:
    from fingerprint.library.records import Listed


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
        remove_from_server(library, what, ids, missing=missing, dry_run=dry_run)
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
        _show_unreachable(listed)
    if found.unknown:
        raise LibraryError(f"there is no track for {', '.join(map(display_name, found.unknown))}")


def _gone_copies(copies: Iterable[Path]) -> list[Path]:
    from fingerprint.audio.files import Presence, presence

    return [path for path in copies if presence(path) is Presence.GONE]


def _show_unreachable(listed: "Iterable[Listed]") -> None:
    """List the folders whose files are out of reach, so that their tracks are kept."""
    from fingerprint.audio.files import Presence, presence
    from fingerprint.library.sync import Kept

    states = ((one.track.path, presence(one.track.path)) for one in listed)
    out_of_reach = (Presence.EMPTIED, Presence.UNREACHABLE)
    kept = [Kept(path, state) for path, state in states if state in out_of_reach]
    show_kept(kept, "remove the folder, if that is so")
