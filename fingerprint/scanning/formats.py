"""Formats of spans for programs and people: CSV, cue sheet, Audacity labels, tracklist."""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from fingerprint.audio.files import display_name
from fingerprint.scanning.spans import Span

COLUMNS = (
    "recording", "start", "end", "path", "artist", "title", "offset", "rate", "confidence"
)  # fmt: skip
UNKNOWN = "unknown"
UNKNOWN_TRACK = "ID"
CUE_FRAMES = 75  # a second: sectors of a CD


def name_of(span: Span) -> str:
    """Artist and title, the file's name without tags, or "unknown"; printable, on one line."""
    if span.match is None:
        return UNKNOWN
    tags = span.match.track.tags
    name = " - ".join(filter(None, (tags.artist, tags.title))) if tags.title else ""
    return display_name(name or span.match.track.path.name).replace("\t", " ")


def csv_header() -> str:
    """The names of the columns."""
    return _csv_line(COLUMNS)


def csv_line(recording: str, span: Span) -> str:
    """One row (RFC 4180); a span without match has empty fields."""
    known: tuple[str, ...] = ("",) * 6
    if span.match is not None:
        match, tags = span.match, span.match.track.tags
        known = (
            display_name(match.track.path),
            tags.artist,
            tags.title,
            f"{match.offset:.3f}",
            f"{match.rate:.4f}",
            f"{match.confidence:.4f}",
        )
    return _csv_line((recording, f"{span.start:.3f}", f"{span.end:.3f}", *known))


def audacity_line(span: Span) -> str:
    """A label of a label track: start, end (s) and text, between tabs."""
    return f"{span.start:.6f}\t{span.end:.6f}\t{name_of(span)}"


def tracklist_line(span: Span) -> str:
    """A line of a tracklist as posted under a mix, where an unknown track is called ID."""
    name = name_of(span) if span.match is not None else UNKNOWN_TRACK
    minutes, seconds = divmod(int(max(0.0, span.start)), 60)
    hours, minutes = divmod(minutes, 60)
    time = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"
    return f"{time} {name}"


def cue_sheet(recording: Path, spans: Iterable[Span]) -> Iterator[str]:
    """The lines of a cue sheet: one track for each span, unknown ones included.

    Times are minutes, seconds and frames of 1/75 s (Red Book). The format ends at number 99, but
    most programs read higher ones.
    """
    yield f"FILE {_quoted(recording.name)} WAVE"
    for number, span in enumerate(spans, start=1):
        yield f"  TRACK {number:02d} AUDIO"
        tags = span.match.track.tags if span.match is not None else None
        yield f"    TITLE {_quoted(tags.title if tags and tags.title else name_of(span))}"
        if tags and tags.artist:
            yield f"    PERFORMER {_quoted(tags.artist)}"
        yield f"    INDEX 01 {_cue_time(span.start)}"


def _cue_time(seconds: float) -> str:
    frames = round(max(0.0, seconds) * CUE_FRAMES)
    minutes, rest = divmod(frames, 60 * CUE_FRAMES)
    return f"{minutes:02d}:{rest // CUE_FRAMES:02d}:{rest % CUE_FRAMES:02d}"


def _quoted(text: str) -> str:
    """The format has no escape for quotes."""
    return '"' + display_name(text).replace('"', "'") + '"'


def _csv_line(fields: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()
