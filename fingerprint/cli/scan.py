"""`fingerprint scan`: everything that plays in long recordings."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.opening import open_library
from fingerprint.cli.options import (
    device_option,
    library_option,
    min_confidence_option,
    model_option,
    stream_option,
    strict_option,
)
from fingerprint.cli.progress import ProgressLine
from fingerprint.cli.text import (
    clock,
    json_line,
    lost,
    match_record,
    percent,
    reason,
    track_name,
    warn,
)
from fingerprint.errors import AudioError, FingerprintError

if TYPE_CHECKING:
    from fingerprint.audio.worker import ConfinedDecoder
    from fingerprint.library.library import Library
    from fingerprint.scanning import Span

Format = Literal["table", "json", "csv", "cue", "audacity"]
UNKNOWN_NAME = "(unknown)"


@click.command("scan")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
@library_option
@model_option
@device_option
@min_confidence_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "cue", "audacity"]),
    default="table",
    show_default=True,
    help="JSON Lines, CSV, a cue sheet, or labels for Audacity (of one FILE).",
)
@click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
@strict_option
@stream_option
@click.pass_context
def scan_command(
    ctx: click.Context,
    files: tuple[Path, ...],
    library: Path,
    model: Path | None,
    device: str,
    min_confidence: float,
    form: Format,
    as_json: bool,
    strict: bool,
    stream: int | None,
) -> None:
    """Name everything that plays in long recordings.

    FILE is a DJ set, a broadcast, a film: any length, in memory that stays flat. What is printed
    are stretches with the track that plays, from where in the track and at which rate, and the
    gaps between where nothing is known.

    Exit status: 0 every file has known music, 1 some have none, 2 some could not be read.
    """
    if form == "audacity" and len(files) > 1:
        raise click.UsageError("labels do not name their file: scan one FILE at a time")
    form = "json" if as_json else form
    from fingerprint.audio.worker import ConfinedDecoder

    with ConfinedDecoder() as decoder:  # starts while the library and the model are opened
        ctx.exit(
            _scan_all(
                files,
                open_library(library, model, device),
                _Scanning(decoder, min_confidence, form, stream, strict),
            )
        )


@dataclass(frozen=True, slots=True)
class _Scanning:
    """How recordings are decoded and what is shown."""

    decoder: "ConfinedDecoder"
    min_confidence: float
    form: Format
    stream: int | None
    strict: bool


def _scan_all(files: tuple[Path, ...], library: "Library", how: _Scanning) -> int:
    status = 0
    if how.form == "csv":
        from fingerprint.scanning.formats import csv_header

        click.echo(csv_header())
    for file in files:
        status = max(status, _scan(library, file, how))
    return status


def _scan(library: "Library", file: Path, how: _Scanning) -> int:  # noqa: C901 - one branch an outcome
    """Scan one file; an unreadable one is reported, and the others get their turn."""
    from fingerprint.audio.report import DecodeReport
    from fingerprint.scanning import scan
    from fingerprint.scanning.scanner import BLOCK

    known = False
    report, name = DecodeReport(), display_name(file)
    rate = library.model.sample_rate

    def watched() -> Iterator["Span"]:
        nonlocal known
        for span in spans:
            known |= span.match is not None
            yield span

    try:
        with ProgressLine() as line:
            spans = scan(
                file,
                library,
                min_confidence=how.min_confidence,
                blocks=how.decoder.blocks(
                    file, rate, block=BLOCK, stream=how.stream, report=report
                ),
                on_progress=lambda at: line.show(0, 0, f"{display_name(file)}: {clock(at)}"),
            )
            for text in _lines(file, watched(), how.form):
                click.echo(text.encode("utf-8"))
        if report.damage and how.strict:
            raise AudioError(lost(name, report.damage))
    except BrokenPipeError:
        raise  # the reader of our output has left
    except (FingerprintError, OSError) as error:
        click.echo(f"Error: {reason(error)}", err=True)
        if how.form == "json":
            click.echo(json_line({"recording": str(file), "error": reason(error)}).encode("utf-8"))
        return 2
    warn(name, report.damage)
    if how.form == "json" and report.damage:
        found = [one.as_record() for one in report.damage]
        click.echo(json_line({"recording": str(file), "warnings": found}).encode("utf-8"))
    return 0 if known else 1


def _lines(file: Path, spans: Iterator["Span"], form: Format) -> Iterator[str]:
    from fingerprint.scanning import formats

    if form == "cue":
        yield from formats.cue_sheet(file, spans)
    elif form == "table":
        yield from _table(file, spans)
    elif form == "audacity":
        yield from map(formats.audacity_line, spans)
    elif form == "csv":
        yield from (formats.csv_line(display_name(file), span) for span in spans)
    else:
        yield from (json_line(as_record(file, span)) for span in spans)


def as_record(file: Path, span: "Span") -> dict[str, object]:
    """Return the JSON object of a span; `match` is null where nothing is known."""
    return {
        "recording": str(file),
        "start": round(span.start, 3),
        "end": round(span.end, 3),
        "match": match_record(span.match) if span.match is not None else None,
    }


def _table(file: Path, spans: Iterator["Span"]) -> Iterator[str]:
    yield display_name(file)
    yield "     start       end  confidence    offset    rate  track"
    for span in spans:
        start, end = clock(span.start), clock(span.end)
        if span.match is None:
            yield f"  {start:>8}  {end:>8}{'':30}  {UNKNOWN_NAME}"
            continue
        match = span.match
        sure, place = percent(match.confidence), clock(match.offset)
        yield (
            f"  {start:>8}  {end:>8}  {sure:>10}  {place:>8}  {match.rate:6.3f}  "
            f"{track_name(match.track)}"
        )
