"""`fingerprint duplicates`: the same recordings in the library."""

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fingerprint import html_page
from fingerprint.answers import json_line
from fingerprint.audio.files import display_name
from fingerprint.cli.opening import open_library
from fingerprint.cli.options import FILE, json_option, library_option, model_option
from fingerprint.cli.progress import ProgressLine
from fingerprint.cli.text import clock, counted, printable

if TYPE_CHECKING:
    from fingerprint.library.duplicates import Group, Version

POLICY = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; media-src file:; style-src 'unsafe-inline'\">"
)
STYLE = "table{width:100%;margin-bottom:2em}td,th{text-align:left}tr.best{font-weight:bold}"


@click.command("duplicates")
@click.option("--html", type=FILE, metavar="FILE", help="Write a page with players instead.")
@library_option
@model_option
@json_option
def duplicates_command(html: Path | None, library: Path, model: Path | None, as_json: bool) -> None:
    """Find the same recordings in the library.

    Groups of tracks that sound the same from end to end, whatever their encoding. The best copy of
    each, the longest or else the one with the highest bit rate, is marked and comes first.
    """
    from fingerprint.library.duplicates import find_duplicates

    with open_library(library, model, "cpu") as opened, ProgressLine(quiet=as_json) as line:
        groups = find_duplicates(
            opened, lambda n, of: line.show(n, of, f"{n:,}/{of:,} tracks compared")
        )
    if html is not None:
        html.write_text(page(groups), encoding="utf-8")
        click.echo(f"{_summary(groups)} Page: {display_name(html)}")
    elif as_json:
        for group in groups:
            click.echo(json_line(_record(group)).encode("utf-8"))
    else:
        _show_table(groups)


def page(groups: list["Group"]) -> str:
    """An HTML page without scripts, which loads nothing but the audio files."""
    tables = []
    for group in groups:
        rows = []
        for number, version in enumerate(group.versions):
            name = escape(printable(display_name(version.path)))
            source = escape(version.path.as_uri())
            best = ' class="best"' if number == 0 else ""
            rows.append(
                f"<tr{best}><td>{clock(version.duration)}</td><td>{_rate(version)}</td>"
                f'<td><audio controls preload="none" src="{source}"></audio></td>'
                f"<td>{name}</td></tr>"
            )
        head = "<tr><th>length</th><th>bit rate</th><th></th><th>file</th></tr>"
        tables.append(f"<table>{head}{''.join(rows)}</table>")
    about = "The best copy, by length and then by bit rate, comes first in each group."
    body = "\n".join([f"<p>{escape(_summary(groups))} {about}</p>", *tables])
    return html_page.page("Duplicates", body, style=STYLE, head=POLICY)


def _show_table(groups: list["Group"]) -> None:
    for group in groups:
        for number, version in enumerate(group.versions):
            same = "link" if version.same_file else "same" if version.exact else ""
            mark = "best" if number == 0 else same
            track = "" if version.track_id is None else str(version.track_id)
            columns = f"{mark:<4}  {track:>6}  {clock(version.duration):>8}  {_rate(version):>10}"
            click.echo(f"{columns}  {display_name(version.path)}")
        click.echo()
    click.echo(_summary(groups))


def _record(group: "Group") -> dict[str, object]:
    return {
        "similarity": round(group.cosine, 4),
        "tracks": [
            {
                "best": number == 0,
                "path": str(version.path),
                "id": version.track_id,
                "duration": round(version.duration, 3),
                "bytes": version.bytes,
                "bit_rate": round(version.bit_rate),
                "same_audio": version.exact,
                "same_file": version.same_file,
            }
            for number, version in enumerate(group.versions)
        ],
    }


def _summary(groups: list["Group"]) -> str:
    others = [version for group in groups for version in group.versions[1:]]
    spare = [version for version in others if not version.same_file]
    links = len(others) - len(spare)
    size = sum(version.bytes for version in spare)
    return (
        f"{counted(len(groups), 'recording')} in several files; "
        f"{counted(len(spare), 'file')} ({size / 1e6:,.1f} MB) could be deleted"
        + (f"; {links:,} more are other names of the same file." if links else ".")
    )


def _rate(version: "Version") -> str:
    return f"{version.bit_rate / 1000:,.0f} kbit/s"
