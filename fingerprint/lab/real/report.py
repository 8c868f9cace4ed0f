"""Outcomes on real recordings as figures, a table, JSON, CSV and a page.

The parts of one song are not independent: the same passage in the same room, whole and cut. So
intervals come from a bootstrap over songs, and never from the number of queries.
"""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from fingerprint.lab.benchmark.metrics import Share
from fingerprint.lab.real.measure import WHOLE, Measured, Outcome
from fingerprint.lab.report_format import (
    finite,
    html_table,
    html_text,
    markdown_table,
    number,
    percent,
    share_json,
    write_page,
)

DRAWS = 10_000  # of the bootstrap
SEED = 17


@dataclass(frozen=True, slots=True)
class SongShare:
    """`hits` of `total` queries of `songs` songs, with a 95 % interval over the songs."""

    hits: int
    total: int
    songs: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.hits / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one length; the last two are shares of unknown queries: false accepts."""

    length: str
    top1: SongShare
    place: SongShare  # of those whose place is known
    answered_right: SongShare
    answered_wrong: SongShare
    hidden_answered: SongShare  # known queries, their song hidden
    unknown_answered: SongShare
    milliseconds: float  # median of the queries of the library as it is


def by_song(hits: Iterable[tuple[str, bool]]) -> SongShare:
    """The share of hits among (song, hit) pairs, with its interval by a bootstrap over songs.

    Percentiles of the share among as many songs, drawn with replacement. If all queries are hits,
    or none, every draw is the same; then Wilson's interval for the number of songs is used.
    """
    songs: dict[str, list[bool]] = {}
    for song, hit in hits:
        songs.setdefault(song, []).append(hit)
    n = len(songs)
    counts = np.array([(sum(own), len(own)) for own in songs.values()]).reshape(n, 2)
    right, total = (int(number) for number in counts.sum(axis=0))
    if right in (0, total):
        low, high = Share(n if right else 0, n).interval
        return SongShare(right, total, n, low, high)
    drawn = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), DRAWS) @ counts
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return SongShare(right, total, n, float(low), float(high))


def rows(measured: Measured, *, above_noise: bool = False) -> list[Row]:
    """The figures of each length; `above_noise` leaves out queries below the noise floor."""
    kept = [o for o in measured.outcomes if not (above_noise and o.under_noise)]
    return [_row(length, kept, measured.min_confidence) for length in measured.lengths]


def _row(length: str, outcomes: Sequence[Outcome], least: float) -> Row:
    some = [o for o in outcomes if o.length == length]
    known = [o for o in some if o.known]
    hidden = [o for o in some if o.hidden]
    unknown = [o for o in some if not o.known and not o.hidden]

    def answered(o: Outcome) -> bool:
        return bool(o.path) and o.confidence >= least

    def share(which: Iterable[Outcome], hit: Callable[[Outcome], bool]) -> SongShare:
        return by_song((o.song, hit(o)) for o in which)

    times = [o.milliseconds for o in some if not o.hidden]
    return Row(
        length=length,
        top1=share(known, lambda o: o.right),
        place=share((o for o in known if o.place_right is not None), lambda o: bool(o.place_right)),
        answered_right=share(known, lambda o: o.right and answered(o)),
        answered_wrong=share(known, lambda o: not o.right and answered(o)),
        hidden_answered=share(hidden, answered),
        unknown_answered=share(unknown, answered),
        milliseconds=float(np.median(times)) if times else float("nan"),
    )


def under_noise(measured: Measured) -> int:
    """The number of queries whose music is below the noise floor."""
    return len({o.query for o in measured.outcomes if o.under_noise})


def headline(measured: Measured) -> str:
    """The number of queries, and the library."""
    known = {o.query: o.song for o in measured.outcomes if o.known}
    unknown = {o.query for o in measured.outcomes if not o.known and not o.hidden}
    library = (
        "the corpus and the set's references" if measured.with_corpus else "the set's references"
    )
    return (
        f"Real recordings: {len(known)} known queries of {len(set(known.values()))} songs and "
        f"{len(unknown)} unknown ones, role {measured.role}, against {measured.tracks} tracks, "
        f"{measured.hours:.1f} h ({library}); model {measured.model_id[:12]}.\n"
        f"Answered: at or above confidence {measured.min_confidence:g}. "
        "In brackets: 95 % intervals by bootstrap over songs."
    )


HEAD = (
    "length",
    "queries",
    "top-1 %",
    "place within 0.5 s %",
    "answered and right %",
    "answered and wrong %",
    "own song hidden: answered %",
    "unknown: answered %",
    "ms a query",
)


def table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    lines = []
    for row in rows:
        shares = (
            row.top1,
            row.place,
            row.answered_right,
            row.answered_wrong,
            row.hidden_answered,
            row.unknown_answered,
        )
        length = row.length if row.length == WHOLE else f"{row.length} s"
        lines.append((length, str(row.top1.total), *map(percent, shares), number(row.milliseconds)))
    return markdown_table(HEAD, lines)


def _noise_title(measured: Measured) -> str:
    return (
        f"Without the {under_noise(measured)} known queries whose music lies under the noise floor "
        "(matched filter below 0.05, or null):"
    )


def text(measured: Measured) -> str:
    """Headline and tables, for a terminal or a Markdown file."""
    parts = [headline(measured), table(rows(measured))]
    if under_noise(measured):
        parts += [_noise_title(measured), table(rows(measured, above_noise=True))]
    return "\n\n".join(parts)


def as_json(measured: Measured) -> dict[str, Any]:
    """Every figure and every setting, ready for `json.dumps`; a figure of nothing is null."""
    return {
        "folder": str(measured.folder),
        "role": measured.role,
        "lengths": list(measured.lengths),
        "min_confidence": measured.min_confidence,
        "model_id": measured.model_id,
        "library": {
            "tracks": measured.tracks,
            "hours": round(measured.hours, 3),
            "with_corpus": measured.with_corpus,
        },
        "all": [_row_json(row) for row in rows(measured)],
        "under_noise": under_noise(measured),
        "above_noise": [_row_json(row) for row in rows(measured, above_noise=True)],
    }


def _row_json(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {"length": row.length}
    for field in fields(row)[1:]:
        value = getattr(row, field.name)
        if isinstance(value, SongShare):
            found[field.name] = share_json(value) | {"songs": value.songs}
        else:
            found[field.name] = finite(value)
    return found


def save(measured: Measured, folder: Path) -> Path:
    """Write `real.json`, `real.csv` (an outcome a line), `real.md` and `real.html`, the page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "real.json").write_text(json.dumps(as_json(measured), indent=1) + "\n")
    with (folder / "real.csv").open("w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(Outcome))
        for outcome in measured.outcomes:
            writer.writerow("" if finite(v) is None else v for v in astuple(outcome))
    (folder / "real.md").write_text(f"{text(measured)}\n")
    page = folder / "real.html"
    parts = [html_text(headline(measured)), html_table(table(rows(measured)))]
    if under_noise(measured):
        loud = table(rows(measured, above_noise=True))
        parts += [html_text(_noise_title(measured)), html_table(loud)]
    write_page(page, "Real recordings", *parts)
    return page
