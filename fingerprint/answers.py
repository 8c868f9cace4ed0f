"""Answers as other programs read them: JSON objects, documented, stable, plain types only.

The command line prints them and the server sends them: the same objects.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from fingerprint.audio.files import is_control
from fingerprint.audio.objects import spelled

if TYPE_CHECKING:
    from fingerprint.audio.report import Damage
    from fingerprint.library.records import Listed
    from fingerprint.listening import Event
    from fingerprint.scanning import Span
    from fingerprint.types import Match

SUREST = 0.9999  # rounding makes no answer certain
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def match_record(match: "Match") -> dict[str, object]:
    """A match, as part of other objects; with `part` only where something else plays as well."""
    record: dict[str, object] = {
        "path": spelled(match.track.path),
        "title": match.track.tags.title,
        "artist": match.track.tags.artist,
        "offset": round(float(match.offset), 3),
        "rate": round(float(match.rate), 4),
        "confidence": round(min(float(match.confidence), SUREST), 4),
        "score": round(float(match.score), 4),
        "repeats": [round(offset, 3) for offset in match.repeats],
    }
    if match.part is not None:
        record["part"] = [round(float(moment), 3) for moment in match.part]
    return record


def query_record(
    query: str,
    seconds: float,
    matches: "Iterable[Match]" = (),
    damage: "Iterable[Damage]" = (),
    error: str | None = None,
) -> dict[str, object]:
    """What became of one query; `seconds` is the processing time."""
    found = [match_record(match) for match in matches]
    return {
        "query": query,
        "status": "error" if error is not None else "match" if found else "no-match",
        "seconds": round(seconds, 4),
        "matches": found,
        "warnings": [one.as_record() for one in damage],
        "error": error,
    }


def span_record(recording: str, span: "Span") -> dict[str, object]:
    """A stretch of a recording; `match` is null where nothing is known."""
    return {
        "recording": recording,
        "start": round(span.start, 3),
        "end": round(span.end, 3),
        "match": match_record(span.match) if span.match is not None else None,
    }


def event_record(event: "Event", time: str) -> dict[str, object]:
    """Something that was heard, at a time of day (UTC); see docs/answers.md."""
    record: dict[str, object] = {"event": event.kind, "time": time, "at": round(event.at, 3)}
    if event.heard is not None:
        record["match"] = match_record(event.heard)
    elif event.span is not None and event.span.match is not None:
        span = event.span
        record |= {"start": round(span.start, 3), "end": round(span.end, 3)}
        record["match"] = match_record(event.span.match)
    return record


def track_record(listed: "Listed", damage: "Iterable[Damage]" = ()) -> dict[str, object]:
    """A track of a library."""
    track = listed.track
    record = {"id": listed.id, "path": spelled(track.path), "duration": track.duration}
    warnings = [one.as_record() for one in damage]
    return {**record, **asdict(track.tags), "warnings": warnings}


def json_line(record: Mapping[str, object]) -> str:
    """One object on one line of strict JSON: no NaN, no lone surrogates, no raw control codes.

    Control codes are escaped, so a reader gets them back; an undecodable byte of a file name is
    replaced, for there is no way to write it.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    return "".join(_escaped(letter) if is_control(letter) else letter for letter in text)


def _escaped(letter: str) -> str:
    return REPLACEMENT if "\ud800" <= letter <= "\udfff" else json.dumps(letter)[1:-1]
