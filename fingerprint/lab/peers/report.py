"""The comparison as Markdown and as JSON. Pure, except for writing files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from fingerprint.lab.benchmark.conditions import Condition
from fingerprint.lab.peers.answers import Standing
from fingerprint.lab.peers.curves import draw
from fingerprint.lab.report_format import finite, markdown_table, number, percent, share_json


@dataclass(frozen=True, slots=True)
class Comparison:
    """The rows, and what they were measured on."""

    standings: Sequence[Standing]
    conditions: Sequence[Condition]
    split: str
    seed: int
    queries: int  # a condition
    tracks: int  # in the library
    hours: float  # in the library
    real: str = ""  # the table of real recordings, if there is one


def save(comparison: Comparison, folder: Path) -> Path:
    """Write `peers.md`, `peers.json` and `peers.png` to `folder`; returns the first."""
    text = markdown(comparison)
    (folder / "peers.json").write_text(json.dumps(as_json(comparison), indent=1) + "\n")
    draw(comparison.standings, comparison.conditions, folder / "peers.png")
    table = folder / "peers.md"
    table.write_text(text, encoding="utf-8")
    return table


def markdown(comparison: Comparison) -> str:
    """One row a system, then every condition with its intervals, then the systems themselves."""
    c = comparison
    return (
        f"{c.queries} queries a condition from the {c.split} split (seed {c.seed}) against "
        f"{c.tracks} tracks, {c.hours:.1f} h. Top-1 in %.\n\n"
        f"{_overview(c)}\n\n{_real(c)}![Top-1 by length and by noise](peers.png)\n\n"
        f"{_details(c)}\n\n{_systems(c)}\n"
    )


def _real(c: Comparison) -> str:
    return f"Real recordings. {c.real}\n\n" if c.real else ""


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Every figure, ready for `json.dumps`; a figure of nothing is null."""
    c = comparison
    return {
        "split": c.split,
        "seed": c.seed,
        "queries_per_condition": c.queries,
        "library": {"tracks": c.tracks, "hours": round(c.hours, 3)},
        "systems": [_standing_json(standing, c.conditions) for standing in c.standings],
    }


def _overview(c: Comparison) -> str:
    known = [condition for condition in c.conditions if not condition.unknown]
    families = [(family, list(of)) for family, of in groupby(known, lambda k: k.family)]
    head = ["system"]
    head += [f"{name} {'/'.join(f'{k.seconds:g}' for k in of)} s" for name, of in families]
    head += ["right at 1 % false accepts", "unknown answered"]
    rows = [
        [
            s.title,
            *("/".join(number(100 * s.top1(k).value) for k in of) for _, of in families),
            number(100 * s.right_at_1_percent.value),
            number(100 * s.unknown_answered.value),
        ]
        for s in c.standings
    ]
    return markdown_table(head, rows)


def _details(c: Comparison) -> str:
    head = ["top-1 % (95 % interval)", *(s.title for s in c.standings)]
    rows = [
        [condition.name, *(percent(s.top1(condition)) for s in c.standings)]
        for condition in c.conditions
        if not condition.unknown
    ]
    rows.append(
        ["right at 1 % false accepts", *(percent(s.right_at_1_percent) for s in c.standings)]
    )
    rows.append(["unknown answered", *(percent(s.unknown_answered) for s in c.standings)])
    return markdown_table(head, rows)


def _systems(c: Comparison) -> str:
    head = [
        "system",
        "version",
        "settings",
        "hours indexed an hour",
        "index, MB an hour",
        "ms a query",
    ]
    rows = [
        [
            s.title,
            s.version,
            s.settings or "its own",
            number(s.speed),
            number(s.megabytes, 2),
            number(1000 * s.seconds),
        ]
        for s in c.standings
    ]
    return markdown_table(head, rows)


def _standing_json(standing: Standing, conditions: Sequence[Condition]) -> dict[str, Any]:
    return {
        "system": standing.title,
        "version": standing.version,
        "settings": standing.settings,
        "top1": {
            condition.name: share_json(standing.top1(condition))
            for condition in conditions
            if not condition.unknown
        },
        "right_at_1_percent": share_json(standing.right_at_1_percent),
        "unknown_answered": share_json(standing.unknown_answered),
        "index_speed": finite(standing.speed),
        "index_megabytes_an_hour": finite(standing.megabytes),
        "seconds_median": finite(standing.seconds),
    }
