"""Results as a table, as JSON, and as a page with plots."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fingerprint.html_page import image
from fingerprint.lab.benchmark.metrics import Bin, Summary
from fingerprint.lab.benchmark.plots import draw_all
from fingerprint.lab.benchmark.results import Results
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


def table(results: Results) -> str:
    """The figures as a Markdown table, shares in percent with their 95 % intervals."""
    head = (
        "condition",
        "queries",
        "top-1 %",
        "right place %",
        "accepted and right %",
        "accepted and wrong %",
        "offset error ms, median / 95 %",
        "rate within 0.5 %",
        "ms a query",
    )
    rows = [_row(summary, unknown=results.is_unknown(summary)) for summary in results.summaries]
    return markdown_table(head, rows)


def headline(results: Results) -> str:
    """What was measured against what, and the figures that are not of one condition."""
    lines = [
        f"{len(results.outcomes)} queries from the {results.split} split (seed {results.seed}) "
        f"against {results.tracks} tracks, {results.hours:.1f} h; model {results.model_id[:12]}.",
    ]
    if results.false_accepts.total:  # the rest depends on the share of unknown queries
        lines.append(
            f"False accepts on unknown tracks at confidence {results.min_confidence:g}: "
            f"{percent(results.false_accepts)} %. "
            f"Expected calibration error: {number(results.calibration_error, 4)}. "
            f"Confidence at which 1 % of unknown queries are answered: "
            f"{number(results.threshold_1_percent, 4)}; "
            f"known queries accepted and right there: {percent(results.right_at_1_percent)} %."
        )
    lines += [
        f"{summary.condition}: both accepted {percent(summary.both)} %."
        for summary in results.summaries
        if summary.both.total
    ]
    if not results.recorded_noise:
        lines.append("The corpus has no recorded sounds: noise is synthesised, without voices.")
    if results.left_out:
        lines.append(f"The corpus does not suffice for: {', '.join(results.left_out)}.")
    return "\n".join(lines)


def as_json(results: Results) -> dict[str, Any]:
    """Every figure and every setting, ready for `json.dumps`; a figure of nothing is null."""
    return {
        "split": results.split,
        "seed": results.seed,
        "queries_per_condition": results.queries,
        "min_confidence": results.min_confidence,
        "model_id": results.model_id,
        "library": {"tracks": results.tracks, "hours": round(results.hours, 3)},
        "seconds": round(results.seconds, 1),
        "recorded_noise": results.recorded_noise,
        "left_out": results.left_out,
        "false_accepts": share_json(results.false_accepts),
        "calibration_error": finite(results.calibration_error),
        "threshold_1_percent": finite(results.threshold_1_percent),
        "right_at_1_percent": share_json(results.right_at_1_percent),
        "conditions": [_summary_json(summary) for summary in results.summaries],
        "reliability": [_bin_json(b) for b in results.reliability],
    }


def save(results: Results, folder: Path) -> Path:
    """Write the report; returns the page.

    `folder` gets `results.json`, `outcomes.jsonl` (one query a line), `table.md`, the plots and
    `report.html`, which holds the plots itself and can be sent alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(as_json(results), indent=1) + "\n")
    with (folder / "outcomes.jsonl").open("w") as lines:
        for outcome in results.outcomes:
            values = {key: finite(value) for key, value in asdict(outcome).items()}
            lines.write(json.dumps(values, ensure_ascii=False) + "\n")
    (folder / "table.md").write_text(f"{headline(results)}\n\n{table(results)}\n")
    plots = draw_all(results, folder)
    page = folder / "report.html"
    images = "".join(image(plot.read_bytes(), plot.stem) for plot in plots)
    write_page(page, "Evaluation", html_text(headline(results)), html_table(table(results)), images)
    return page


def _row(summary: Summary, *, unknown: bool) -> tuple[str, ...]:
    place = f"{_ms(summary.offset_error_median)} / {_ms(summary.offset_error_95)}"
    return (
        summary.condition,
        str(summary.top1.total),
        "-" if unknown else percent(summary.top1),
        "-" if unknown else percent(summary.place),
        "-" if unknown else percent(summary.accepted_right),
        percent(summary.accepted_wrong),
        "-" if unknown else place,
        "-" if unknown else percent(summary.rate),
        _ms(summary.seconds_median),
    )


def _ms(seconds: float) -> str:
    return number(1000 * seconds)


def _summary_json(summary: Summary) -> dict[str, Any]:
    shares = ("top1", "place", "accepted_right", "accepted_wrong", "rate", "both")
    numbers = ("offset_error_median", "offset_error_95", "rate_error_median", "seconds_median")
    return (
        {"condition": summary.condition}
        | {name: share_json(getattr(summary, name)) for name in shares}
        | {name: finite(getattr(summary, name)) for name in numbers}
    )


def _bin_json(b: Bin) -> dict[str, Any]:
    return {
        "low": b.low,
        "high": b.high,
        "confidence": finite(b.confidence),
        "accuracy": share_json(b.accuracy),
    }
