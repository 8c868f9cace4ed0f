"""`fingerprint index`: learn the recordings of files and folders."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from fingerprint.answers import json_line
from fingerprint.audio import files as audio_files
from fingerprint.audio.files import display_name, find_audio, without_password
from fingerprint.audio.objects import find_objects, is_object, spelled
from fingerprint.audio.playlists import PLAYLIST_SUFFIXES
from fingerprint.cli.inputs import listed, local
from fingerprint.cli.opening import open_or_create
from fingerprint.cli.options import (
    FOLDER,
    device_option,
    duplicate_option,
    jobs_option,
    library_or_server_option,
    model_option,
    profile_option,
    stream_option,
    strict_option,
)
from fingerprint.cli.progress import ProgressLine, note
from fingerprint.cli.remote import index_on_server
from fingerprint.cli.text import counted, error_line, length, one_line, warn
from fingerprint.errors import AudioError
from fingerprint.milvus.address import Address

if TYPE_CHECKING:
    from fingerprint.cluster import Plan
    from fingerprint.library.indexing import OnDuplicate, Progress, Report
    from fingerprint.library.library import Library


def _cluster(address: str | None) -> str | None:
    """The address of a cluster; refuses a path, which a user may write behind --ray."""
    if address not in (None, "local", "auto") and ":" not in str(address):
        raise click.BadParameter(
            f"{display_name(str(address))} is no address of a Ray cluster: write --ray=ADDRESS, or "
            "--ray after what is to be indexed."
        )
    return address


@click.command("index")
@click.argument("paths", nargs=-1, metavar="PATH...")
@library_or_server_option
@model_option
@jobs_option
@device_option
@profile_option
@duplicate_option
@click.option(
    "--files-from",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Also index the paths that FILE lists, one a line, or a playlist (M3U, PLS, XSPF, ASX, "
    "WPL, CUE); - reads them from standard input.",
)
@strict_option
@stream_option
@click.option(
    "--ray",
    "cluster",
    is_flag=False,
    flag_value="local",
    metavar="[ADDRESS]",
    callback=lambda _ctx, _option, value: _cluster(value),
    help="Embed on a Ray cluster: HOST:PORT on one of its machines, ray://HOST:PORT from others, "
    "auto for the one that runs here. Without ADDRESS one is started for this run. --jobs limits "
    "its workers.",
)
@click.option(
    "--shards",
    type=FOLDER,
    metavar="DIR",
    help="With --ray: a folder that all machines share, for embeddings that are not imported yet. "
    "By default in the library.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a summary as one JSON object.")
@click.pass_context
def index_command(
    ctx: click.Context,
    paths: tuple[str, ...],
    library: Path | Address | str,
    model: Path | None,
    jobs: int,
    device: str,
    profile: str | None,
    on_duplicate: "OnDuplicate",
    files_from: Path | None,
    strict: bool,
    stream: int | None,
    cluster: str | None,
    shards: Path | None,
    as_json: bool,
) -> None:
    """Learn the recordings in files and folders.

    PATH is an audio or video file, or a folder, which is walked; or an address in object storage or
    on the web, such as s3://bucket/folder or https://host/song.mp3.

    Files that have not changed since the last run are skipped; recordings whose file was moved or
    got new tags keep their place. A file that cannot be read is reported at the end, the rest is
    indexed, and the exit status is 1. Of a damaged file the decodable part is indexed, with a
    warning; --strict leaves it out. `add` is another name of this command.

    For a library on a server, set FINGERPRINT_TOKEN to the token of `fingerprint serve`; recordings
    that the library has already are left out.
    """
    if not paths and files_from is None:
        raise click.UsageError("Name files or folders to index, or --files-from FILE.")
    plan = _plan(ctx, library, cluster, shards)
    files, reasons = _found([*paths, *listed(files_from)])
    if not files and not reasons:
        where = display_name(paths[0]) if len(paths) == 1 else "what was named"
        raise AudioError(f"there are no audio files in {where}")
    if files:
        begin = perf_counter()
        if isinstance(library, str):
            report = index_on_server(library, model, device, files, jobs, stream=stream)
        else:
            with open_or_create(library, model, "cpu" if plan else device, profile) as opened:
                way = _way(jobs, plan)
                report = index(opened, files, way, on_duplicate, strict=strict, stream=stream)
        reasons += [one_line(why) for _, why in report.failed]
        if as_json:
            click.echo(json_line(as_record(report, reasons)).encode("utf-8"))
        else:
            click.echo(summary(report, len(reasons), library, perf_counter() - begin))
            show_duplicates(report)
        show_damage(report)
    elif as_json:
        from fingerprint.library.indexing import Report

        click.echo(json_line(as_record(Report(), reasons)).encode("utf-8"))
    for why in reasons:
        note(f"failed: {why}")
    ctx.exit(1 if reasons else 0)


def _plan(
    ctx: click.Context, library: object, cluster: str | None, shards: Path | None
) -> "Plan | None":
    """How to use the cluster of --ray; None without --ray.

    Raises:
        LibraryError: Ray is not installed, or nothing answers at the address.
    """
    if cluster is None:
        if shards is not None:
            raise click.UsageError("--shards is for --ray.")
        return None
    if isinstance(library, str):
        raise click.UsageError("--ray needs a library in a folder or in Milvus, not on a server.")
    from fingerprint.cluster import Plan, check

    check(cluster)
    jobs, device, model = (ctx.params[name] for name in ("jobs", "device", "model"))
    limited = ctx.get_parameter_source("jobs") is not ParameterSource.DEFAULT
    return Plan(cluster, jobs if limited else 0, device, model, shards)


def _way(jobs: int, plan: "Plan | None") -> "Callable[..., Report]":
    """How files are indexed: in this process, or on a cluster."""
    if plan is None:
        from fingerprint.library.indexing import index_files

        return partial(index_files, jobs=jobs)
    from fingerprint.cluster import index_on_ray

    return partial(index_on_ray, plan=plan)


def index(
    library: "Library",
    files: list[Path],
    way: "Callable[..., Report]",
    on_duplicate: "OnDuplicate",
    *,
    strict: bool,
    stream: int | None,
) -> "Report":
    """Index files, in this process or on a cluster, with progress on the terminal."""
    with ProgressLine() as line:
        return way(
            library,
            files,
            on_duplicate=on_duplicate,
            strict=strict,
            stream=stream,
            on_progress=lambda progress: show_progress(line, progress),
        )


def _found(names: Iterable[str]) -> tuple[list[Path], list[str]]:
    """Every recording in files, folders and object storage, and why others cannot be read."""
    reasons: list[str] = []
    paths: list[Path] = []
    objects: list[Path] = []
    for name in names:
        try:
            if is_object(name) and not Path(name).exists():
                objects += find_objects(name)
            else:
                paths.append(_no_playlist(local(name)))
        except AudioError as error:
            reasons.append(error_line(error))
        except (OSError, ValueError) as error:
            why, shown = audio_files.reason(error), display_name(without_password(name))
            reasons.append(one_line(f"cannot read {shown}: {why}"))

    def unreachable(path: Path, error: OSError | ValueError) -> None:
        reasons.append(one_line(f"cannot read {display_name(path)}: {audio_files.reason(error)}"))

    return [*find_audio(paths, unreachable), *dict.fromkeys(objects)], reasons


def _no_playlist(path: Path) -> Path:
    if path.suffix.lower() in PLAYLIST_SUFFIXES and path.is_file():
        name = display_name(path)
        raise AudioError(f"{name} is a playlist: index what it lists with --files-from {name}")
    return path


def show_progress(line: ProgressLine, now: "Progress") -> None:
    """Show the progress of a run."""
    audio, speed = length(now.seconds_of_audio), now.seconds_of_audio / max(now.elapsed, 0.001)
    text = f"{now.done:,}/{now.total:,} tracks  {audio} of audio  {speed:,.0f} x real time"
    failed = f"  {now.failed:,} failed" if now.failed else ""
    line.show(now.done, now.total, text + failed)


def summary(report: "Report", failed: int, library: object, elapsed: float) -> str:
    """A summary of a run, in one line."""
    done = f"Indexed {counted(report.added, 'track')}"
    if report.added:
        audio, speed = length(report.seconds_of_audio), report.seconds_of_audio / elapsed
        done += f" ({audio} of audio in {elapsed:.0f} s, {speed:,.0f} x real time)"
    moved = f"{report.relabelled:,} moved or retagged, " if report.relabelled else ""
    damaged = f", {len(report.damaged):,} damaged" if report.damaged else ""
    rest = f"{moved}{report.skipped:,} unchanged, {failed:,} failed{damaged}"
    return f"{done}, {rest}. Library: {display_name(str(library))}"


def as_record(report: "Report", reasons: list[str]) -> dict[str, object]:
    """Return the JSON object of a run: documented, stable, plain types only."""
    return {
        "added": report.added,
        "unchanged": report.skipped,
        "relabelled": report.relabelled,
        "seconds": round(report.seconds_of_audio, 3),
        "duplicates": [
            {"path": spelled(one.path), "of": spelled(one.of), "exact": one.exact}
            for one in report.duplicates
        ],
        "damaged": [
            {"path": spelled(path), "warnings": [one.as_record() for one in damage]}
            for path, damage in report.damaged
        ],
        "failed": reasons,
    }


def show_damage(report: "Report") -> None:
    """Print which recordings lost sound when they were decoded."""
    for path, damage in report.damaged:
        warn(display_name(path), damage)


def show_duplicates(report: "Report") -> None:
    """Print the files whose recording is the same as another file's."""
    for copy in report.duplicates:
        kind = "the same audio as" if copy.exact else "another encoding of"
        note(f"duplicate: {display_name(copy.path)} is {kind} {display_name(copy.of)}")
