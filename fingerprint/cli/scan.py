"""`fingerprint scan`: everything that plays in long recordings."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from fingerprint.answers import json_line, span_record
from fingerprint.audio.files import display_name, without_password
from fingerprint.cli.inputs import local, recording, spoken
from fingerprint.cli.opening import open_any
from fingerprint.cli.options import (
    device_option,
    library_or_server_option,
    min_confidence_option,
    model_option,
    stream_option,
    strict_option,
)
from fingerprint.cli.progress import ProgressLine, note
from fingerprint.cli.text import (
    clock,
    error_line,
    lost,
    percent,
    track_name,
    warn,
)
from fingerprint.errors import AudioError, FingerprintError
from fingerprint.milvus.address import Address

if TYPE_CHECKING:
    from fingerprint.audio.report import DecodeReport
    from fingerprint.audio.worker import ConfinedDecoder
    from fingerprint.library.library import Library
    from fingerprint.scanning import Span

Format = Literal["table", "json", "csv", "cue", "audacity", "tracklist"]
UNKNOWN_NAME = "(unknown)"


@click.command("scan")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@library_or_server_option
@model_option
@device_option
@min_confidence_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "cue", "audacity", "tracklist"]),
    default="table",
    show_default=True,
    help="JSON Lines, CSV, a cue sheet, labels for Audacity (of one FILE), or a tracklist "
    "as people post it under a mix.",
)
@click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
@strict_option
@stream_option
@click.pass_context
def scan_command(
    ctx: click.Context,
    files: tuple[str, ...],
    library: Path | Address | str,
    model: Path | None,
    device: str,
    min_confidence: float,
    form: Format,
    as_json: bool,
    strict: bool,
    stream: int | None,
) -> None:
    """Name everything that plays in long recordings.

    FILE is a DJ set, a broadcast, a film, of any length; memory does not grow with it. Or - for
    standard input, which is read to its end first. Prints spans with the track that plays, its
    offset and its rate, and the gaps between them in which nothing is known.

    Exit status: 0 every file has known music, 1 some have none, 2 some could not be read.
    """
    if form == "audacity" and len(files) > 1:
        raise click.UsageError("labels do not name their file: scan one FILE at a time")
    form = "json" if as_json else form
    from fingerprint.audio.worker import ConfinedDecoder

    with ConfinedDecoder() as decoder:  # starts while the library and the model are opened
        try:
            opened = open_any(library, model, device)
        except FingerprintError as error:
            # A program that reads the output gets an object for every recording, even on an error.
            for file in files if form == "json" else ():
                _print_json(file, error=error_line(error))
            raise
        how = _Scanning(decoder, min_confidence, form, stream, strict)
        ctx.exit(_scan_all(files, opened, how))


def _print_json(file: str, **about: object) -> None:
    """Print something about a recording, as one JSON object."""
    record = {"recording": without_password(file), **about}
    click.echo(json_line(record).encode("utf-8"))


@dataclass(frozen=True, slots=True)
class _Scanning:
    """How recordings are decoded and what is shown."""

    decoder: "ConfinedDecoder"
    min_confidence: float
    form: Format
    stream: int | None
    strict: bool


def _scan_all(files: tuple[str, ...], library: "Library", how: _Scanning) -> int:
    status = 0
    if how.form == "csv":
        from fingerprint.scanning.formats import csv_header

        click.echo(csv_header())
    for file in files:
        status = max(status, _scan(library, file, how))
    return status


def _scan(library: "Library", file: str, how: _Scanning) -> int:
    """Scan one file; an error is reported, and does not stop the command."""
    from fingerprint.audio.report import DecodeReport

    report = DecodeReport()

    def report_json(**about: object) -> None:
        if how.form == "json":
            _print_json(file, **about)

    with ProgressLine() as line:
        spans = _Spans(library, file, how, report, line)
        lines = _lines(_named(file), iter(spans), how.form)
        while True:
            try:  # An error here concerns this file only; one below does not.
                text = next(lines, None)
            except (FingerprintError, OSError) as error:
                note(f"Error: {error_line(error)}")
                report_json(error=error_line(error))
                return 2
            if text is None:
                break
            click.echo(text.encode("utf-8", "replace"))
    if report.damage:
        warn(spoken(file), report.damage)
        report_json(warnings=[one.as_record() for one in report.damage])
    return 0 if spans.known else 1


def _named(file: str) -> Path:
    """The name of a recording in the output; of a file:// address, its path."""
    return local(file) if file.lower().startswith("file:") else Path(without_password(file))


@dataclass(slots=True)
class _Spans:
    """What plays in a file, span by span; `known` says whether any of it is known music."""

    library: "Library"
    file: str
    how: _Scanning
    report: "DecodeReport"
    line: ProgressLine
    known: bool = False

    def __iter__(self) -> Iterator["Span"]:
        from fingerprint.scanning import scan
        from fingerprint.scanning.scanner import BLOCK

        name, how = spoken(self.file), self.how
        source, rate = recording(self.file), self.library.model.sample_rate
        decoded = how.decoder.blocks(
            source, rate, block=BLOCK, name=name, stream=how.stream, report=self.report
        )
        spans = scan(
            source,
            self.library,
            name=name,
            min_confidence=how.min_confidence,
            blocks=decoded,
            on_progress=lambda at: self.line.show(0, 0, f"{name}: {clock(at)}"),
        )
        for span in spans:
            self.known |= span.match is not None
            yield span
        if self.report.damage and how.strict:
            raise AudioError(lost(name, self.report.damage))


def _lines(file: Path, spans: Iterator["Span"], form: Format) -> Iterator[str]:
    from fingerprint.scanning import formats

    if form == "cue":
        yield from formats.cue_sheet(file, spans)
    elif form == "table":
        yield from _table(file, spans)
    elif form == "audacity":
        yield from map(formats.audacity_line, spans)
    elif form == "tracklist":
        yield from map(formats.tracklist_line, spans)
    elif form == "csv":
        yield from (formats.csv_line(display_name(file), span) for span in spans)
    else:
        yield from (json_line(span_record(str(file), span)) for span in spans)


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
