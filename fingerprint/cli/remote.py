"""Change a library on a server: embeddings are computed here, and no audio is sent."""

import socket
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.opening import open_model, token
from fingerprint.cli.progress import ProgressLine
from fingerprint.errors import LibraryError

if TYPE_CHECKING:
    from fingerprint.library.embedding import Recording
    from fingerprint.library.indexing import Report
    from fingerprint.serving.remote import RemoteLibrary


def index_on_server(
    address: str,
    model: Path | None,
    device: str,
    files: list[Path],
    jobs: int,
    *,
    stream: int | None,
) -> "Report":
    """Add recordings to the library on a server, one by one."""
    from fingerprint.library.embedding import Failure, embed_files
    from fingerprint.library.indexing import Report
    from fingerprint.library.records import Stamp
    from fingerprint.serving.remote import RemoteLibrary

    report = Report()
    stamps: dict[Path, Stamp] = {}
    for path in files:
        try:
            stamps[path.absolute()] = Stamp.of(path)
        except OSError as error:
            reason = f"cannot read {display_name(path)}: {error.strerror}"
            report.failed.append((path, reason))
    with (
        RemoteLibrary(address, open_model(model, device), token()) as library,
        ProgressLine() as line,
    ):
        recordings = embed_files(stamps, library.model, jobs=jobs, stream=stream)
        with closing(recordings):
            for number, one in enumerate(recordings, start=1):
                if isinstance(one, Failure):
                    report.failed.append((one.path, one.reason))
                    continue
                _add(library, one, report)
                line.show(number, len(stamps), f"{number:,}/{len(stamps):,} tracks")
    return report


def _add(library: "RemoteLibrary", recording: "Recording", report: "Report") -> None:
    """Add a recording to the library on a server, and to the report."""
    from fingerprint.serving.remote import KnownError, UnusableError, add

    try:
        add(library.server, recording, library.model.id, socket.gethostname())
    except KnownError:
        report.skipped += 1
    except UnusableError as error:
        report.failed.append((recording.path, f"{display_name(recording.path)}: {error}"))
        return
    else:
        report.added += 1
        report.seconds_of_audio += recording.duration
    if recording.damage:
        report.damaged.append((recording.path, recording.damage))


def remove_from_server(
    address: str, what: tuple[str, ...], ids: tuple[int, ...], *, missing: bool, dry_run: bool
) -> None:
    """Remove tracks from the library on a server: by number, by path or by pattern."""
    from fingerprint.serving.remote import Connection, remove, tracks

    if missing:
        raise click.UsageError("--missing needs the library's own folder, not a server.")
    with closing(Connection(address, token())) as server:
        listed = list(tracks(server))
        chosen = {one["id"]: one["path"] for one in listed if one["id"] in ids}
        unknown = [str(number) for number in ids if number not in chosen]
        for name in what:
            found = {one["id"]: one["path"] for one in listed if fnmatchcase(one["path"], name)}
            found |= {one["id"]: one["path"] for one in listed if one["path"] == name}
            unknown += [] if found else [name]
            chosen |= found
        for number, path in chosen.items():
            if not dry_run:
                remove(server, number)
            click.echo(f"{'would remove' if dry_run else 'removed'} {display_name(path)}")
    if unknown:
        raise LibraryError(f"there is no track for {', '.join(map(display_name, unknown))}")
