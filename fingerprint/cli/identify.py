"""`fingerprint identify`: name the recordings that snippets were taken from."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import click

from fingerprint.answers import json_line, query_record
from fingerprint.audio.files import display_name, without_password
from fingerprint.cli.inputs import recording, spoken
from fingerprint.cli.opening import open_any
from fingerprint.cli.options import (
    device_option,
    json_option,
    library_or_server_option,
    min_confidence_option,
    model_option,
    stream_option,
    strict_option,
)
from fingerprint.cli.progress import note
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
    from fingerprint.audio.report import Damage
    from fingerprint.audio.worker import ConfinedDecoder
    from fingerprint.library.library import Library
    from fingerprint.types import Clip, Match

STATUS = {"match": 0, "no-match": 1, "error": 2}  # the worst of all queries is the exit status
RATE_SHOWN_FROM = 0.002  # a playback rate that is closer to 1 is not shown


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one query: matches, or an error.

    `matches` reach the confidence wanted, `best` is the highest confidence of any candidate, and
    `seconds` is the processing time.
    """

    query: str
    seconds: float
    matches: tuple["Match", ...] = ()
    best: float = 0.0
    error: str | None = None
    damage: list["Damage"] = field(default_factory=list)  # sound of the query lost in decoding

    @property
    def status(self) -> Literal["match", "no-match", "error"]:
        if self.error is not None:
            return "error"
        return "match" if self.matches else "no-match"


@dataclass(frozen=True, slots=True)
class _Options:
    """How queries are decoded and answered."""

    decoder: "ConfinedDecoder"
    top: int
    min_confidence: float
    stream: int | None
    strict: bool


@click.command("identify")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@library_or_server_option
@model_option
@device_option
@click.option(
    "--top",
    type=click.IntRange(min=1),
    metavar="N",
    default=5,
    show_default=True,
    help="Maximum number of matches per query.",
)
@min_confidence_option
@strict_option
@stream_option
@json_option
@click.pass_context
def identify_command(
    ctx: click.Context,
    files: tuple[str, ...],
    library: Path | Address | str,
    model: Path | None,
    device: str,
    top: int,
    min_confidence: float,
    strict: bool,
    stream: int | None,
    as_json: bool,
) -> None:
    """Name the recording that a snippet is from.

    FILE is an audio or video file, or - for standard input. Several are answered one by one.

    Exit status: 0 every query matched, 1 some had no match, 2 some could not be read.
    """
    from fingerprint.audio.worker import ConfinedDecoder

    worst = 0
    show = _show_json if as_json else _show_table
    with ConfinedDecoder() as decoder:  # starts while the library and the model are opened
        options = _Options(decoder, top, min_confidence, stream, strict)
        for answer in _answers(files, library, model, device, options, as_json=as_json):
            show(answer)
            worst = max(worst, STATUS[answer.status])
    ctx.exit(worst)


def _answers(
    files: tuple[str, ...],
    folder: Path | Address | str,
    model: Path | None,
    device: str,
    options: _Options,
    *,
    as_json: bool,
) -> Iterator[Answer]:
    try:
        # To start a GPU takes longer than to embed a snippet on the CPU.
        library = open_any(folder, model, "cpu" if device == "auto" else device)
    except FingerprintError as error:
        if not as_json:
            raise
        # A program that reads the output gets an object for every query, even on an error.
        yield from (Answer(query, 0.0, error=error_line(error)) for query in files)
        return
    for query in files:
        yield answer(library, query, options)


def answer(library: "Library", query: str, options: _Options) -> Answer:
    """Identify one file; an unreadable one gives an answer with an error."""
    from fingerprint.recognition.recognise import SPOKEN

    begin = perf_counter()
    damage: list[Damage] = []
    try:
        clip, damage = _load(query, library.model.sample_rate, options)
        result = library.recognise(clip, top=options.top, parts=True)
        if result.nothing not in (None, "nothing near enough"):
            raise AudioError(
                f"there is nothing to recognise in {spoken(query)}: {SPOKEN[result.nothing]}"
            )
    except (FingerprintError, OSError) as error:
        return Answer(query, perf_counter() - begin, error=error_line(error), damage=damage)
    return Answer(
        query,
        perf_counter() - begin,
        tuple(result.at_least(options.min_confidence)),
        max((match.confidence for match in result.matches), default=0.0),
        damage=damage,
    )


def _load(query: str, sample_rate: int, options: _Options) -> tuple["Clip", list["Damage"]]:
    from fingerprint.audio.report import DecodeReport
    from fingerprint.audio.source import LONGEST_CLIP

    report = DecodeReport()
    clip = options.decoder.load(
        recording(query),
        sample_rate,
        longest=LONGEST_CLIP,
        name=spoken(query),
        stream=options.stream,
        report=report,
    )
    if report.damage and options.strict:
        raise AudioError(lost(spoken(query), report.damage))
    return clip, report.damage


def as_record(answer: Answer) -> dict[str, object]:
    """Return the JSON object of an answer: documented, stable, plain types only."""
    query = without_password(answer.query)
    return query_record(query, answer.seconds, answer.matches, answer.damage, answer.error)


def _show_json(answer: Answer) -> None:
    click.echo(json_line(as_record(answer)).encode("utf-8"))  # whatever the terminal's encoding


def _show_table(answer: Answer) -> None:
    if answer.error is None:
        warn(spoken(answer.query), answer.damage)
    if answer.error is not None:
        note(f"Error: {answer.error}")
        return
    click.echo(display_name(answer.query))
    if not answer.matches:
        click.echo(f"  not in the library (best candidate: {percent(answer.best)} sure)")
        return
    for line in _table(answer.matches):
        click.echo(line)


def _table(matches: tuple["Match", ...]) -> list[str]:
    """Aligned columns; names come last, because they may be long or have wide characters."""
    with_rate = any(abs(match.rate - 1) >= RATE_SHOWN_FROM for match in matches)
    parts = [match.part for match in matches if match.part is not None]
    rate, plays = "  rate  " if with_rate else "", f"{'plays in':>15}  " if parts else ""
    lines = [f"  confidence    offset  {rate}{plays}track"]
    for match in matches:
        rate = f"{match.rate:6.3f}  " if with_rate else ""
        plays = f"{_span(match.part):>15}  " if parts else ""
        sure, place = percent(match.confidence), clock(match.offset)
        lines.append(f"  {sure:>10}  {place:>8}  {rate}{plays}{track_name(match.track)}")
    if len(parts) == 1:
        lines.append("  the rest of it is not recognised")
    elif parts:
        (begin, end), (other_begin, other_end) = parts[:2]
        common = min(end, other_end) - max(begin, other_begin)
        shorter = min(end - begin, other_end - other_begin)
        how = "at the same time" if common > shorter / 2 else "one after the other"
        lines.append(f"  {len(parts)} tracks play in it, {how}")
    return lines


def _span(part: tuple[float, float] | None) -> str:
    return f"{clock(part[0])} - {clock(part[1])}" if part else ""
