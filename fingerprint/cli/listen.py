"""`fingerprint listen`: name what plays now."""

from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import click

from fingerprint.answers import json_line, match_record
from fingerprint.cli.inputs import standard_input
from fingerprint.cli.opening import open_any
from fingerprint.cli.options import (
    FILE,
    STDIN,
    Finite,
    device_option,
    json_option,
    library_or_server_option,
    min_confidence_option,
    model_option,
)
from fingerprint.cli.progress import note
from fingerprint.cli.text import clock, one_line, percent, track_name
from fingerprint.milvus.address import Address

if TYPE_CHECKING:
    from fingerprint.library.library import Library
    from fingerprint.listening import Event
    from fingerprint.types import Clip, Match


@click.command("listen")
@click.argument("source", required=False, type=click.Choice([STDIN]), metavar="[-]")
@library_or_server_option
@model_option
@device_option
@min_confidence_option
@click.option("--url", metavar="URL", help="A stream: Icecast, HLS, or whatever FFmpeg opens.")
@click.option("--microphone", metavar="NAME", help="Input device: a part of its name.")
@click.option("--continuous", is_flag=True, help="Report every track, without end.")
@click.option(
    "--log", type=FILE, metavar="FILE", help="Append every report as JSON Lines, with the time."
)
@click.option(
    "--patience",
    type=Finite(min=1),
    metavar="S",
    default=30.0,
    show_default=True,
    help="Seconds of sound after which it gives up, unless --continuous.",
)
@click.option(
    "--rate",
    type=click.IntRange(min=1_000),
    metavar="HZ",
    default=44_100,
    show_default=True,
    help="Sample rate of raw samples.",
)
@click.option(
    "--channels",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="Channels of raw samples.",
)
@click.option(
    "--encoding",
    type=click.Choice(["s16le", "s32le", "f32le"]),
    default="s16le",
    show_default=True,
    help="Of raw samples.",
)
@json_option
@click.pass_context
def listen_command(
    ctx: click.Context,
    source: str | None,
    library: Path | Address | str,
    model: Path | None,
    device: str,
    min_confidence: float,
    url: str | None,
    microphone: str | None,
    continuous: bool,
    log: Path | None,
    patience: float,
    rate: int,
    channels: int,
    encoding: Literal["s16le", "s32le", "f32le"],
    as_json: bool,
) -> None:
    """Name what plays now.

    Listens to the microphone, to a stream (--url), or to raw samples on standard input (-), and
    answers as soon as it is sure. A stream that breaks off is opened again, after growing pauses of
    up to a minute.

    Exit status: 0 a track was recognised, 1 none was, 2 the source cannot be opened.
    """
    if sum(one is not None for one in (source, url, microphone)) > 1:
        raise click.UsageError("name one source: -, --url or --microphone")
    opened = open_any(library, model, device)
    from fingerprint.listening import (
        PcmFormat,
        network,
        raw_samples,
        reconnecting,
    )
    from fingerprint.listening import (
        microphone as from_microphone,
    )

    hertz = opened.model.sample_rate
    clips: Iterator[Clip | None]
    if source == STDIN:
        form = PcmFormat(rate, channels, encoding)
        clips = raw_samples(standard_input(), form, hertz)
    elif url is not None:
        clips = reconnecting(lambda: network(url, hertz), on_pause=_show_pause)
    else:
        clips = from_microphone(hertz, microphone)
    with log.open("a", encoding="utf-8") if log else nullcontext() as file:
        reporter = Reporter(file, as_json=as_json)
        if continuous:
            known = _go_on(clips, opened, min_confidence, reporter)
        else:
            known = _once(clips, opened, min_confidence, patience, reporter)
    ctx.exit(0 if known else 1)


class Reporter:
    """Prints events, and appends them to the log file if there is one."""

    def __init__(self, log: IO[str] | None, *, as_json: bool) -> None:
        self._log = log
        self._as_json = as_json

    def report(self, kind: str, at: float, text: str, **more: object) -> None:
        """`at` is the second of sound; the log also has the time of day."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        record = json_line({"event": kind, "time": now, "at": round(at, 3), **more})
        click.echo((record if self._as_json else text).encode("utf-8"))
        if self._log is not None:
            self._log.write(record + "\n")
            self._log.flush()  # so that a reader of the log sees each line at once


def _once(
    clips: "Iterator[Clip | None]",
    library: "Library",
    min_confidence: float,
    patience: float,
    reporter: Reporter,
) -> bool:
    from fingerprint.listening.listener import first_answer

    sound = (clip for clip in clips if clip is not None)
    match, at = first_answer(sound, library, min_confidence=min_confidence, patience=patience)
    if match is None:
        reporter.report("unknown", at, f"nothing known in {at:.0f} s", match=None)
        return False
    reporter.report("heard", at, _heard_line(at, match), match=match_record(match))
    return True


def _go_on(
    clips: "Iterator[Clip | None]", library: "Library", min_confidence: float, reporter: Reporter
) -> bool:
    from fingerprint.listening import listen

    known = False
    for event in listen(clips, library, min_confidence=min_confidence):
        known |= event.kind == "heard"
        _report(event, reporter)
    return known


def _report(event: "Event", reporter: Reporter) -> None:
    if event.heard is not None:
        match = event.heard
        reporter.report("heard", event.at, _heard_line(event.at, match), match=match_record(match))
    elif event.span is not None and event.span.match is not None:
        span, match = event.span, event.span.match
        text = f"{clock(span.start):>9} to {clock(span.end)}  {track_name(match.track)}"
        start, end = round(span.start, 3), round(span.end, 3)
        reporter.report("played", event.at, text, start=start, end=end, match=match_record(match))
    else:
        reporter.report("lost", event.at, f"{clock(event.at):>9}  the stream has broken off")


def _heard_line(at: float, match: "Match") -> str:
    place = clock(match.offset)
    return f"{clock(at):>9}  {track_name(match.track)} at {place} ({percent(match.confidence)})"


def _show_pause(why: str, seconds: float) -> None:
    note(f"{one_line(why)}; trying again in {seconds:.0f} s")
