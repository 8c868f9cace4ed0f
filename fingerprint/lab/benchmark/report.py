"""Results as a table, as JSON, and as a page with plots."""

import html
import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Any

from fingerprint.lab.benchmark.metrics import Bin, Share, Summary
from fingerprint.lab.benchmark.plots import draw_all
from fingerprint.lab.benchmark.results import Results


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
    rows = [head, tuple("---" if i == 0 else "---:" for i in range(len(head)))]
    rows += [_row(summary, unknown=results.is_unknown(summary)) for summary in results.summaries]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def headline(results: Results) -> str:
    """What was measured against what, and the figures that are not of one condition."""
    lines = [
        f"{len(results.outcomes)} queries from the {results.split} split (seed {results.seed}) "
        f"against {results.tracks} tracks, {results.hours:.1f} h; model {results.model_id[:12]}.",
        f"False accepts on unknown tracks at confidence {results.min_confidence:g}: "
        f"{_percent(results.false_accepts)} %. "
        f"Expected calibration error: {_number(results.calibration_error, 4)}. "
        f"Confidence at which 1 % of unknown queries are answered: "
        f"{_number(results.threshold_1_percent, 4)}; "
        f"known queries accepted and right there: {_percent(results.right_at_1_percent)} %.",
    ]
    lines += [
        f"{summary.condition}: both accepted {_percent(summary.both)} %."
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
        "false_accepts": _share_json(results.false_accepts),
        "calibration_error": finite(results.calibration_error),
        "threshold_1_percent": finite(results.threshold_1_percent),
        "right_at_1_percent": _share_json(results.right_at_1_percent),
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
    page.write_text(_page(results, plots))
    return page


def _row(summary: Summary, *, unknown: bool) -> tuple[str, ...]:
    place = f"{_ms(summary.offset_error_median)} / {_ms(summary.offset_error_95)}"
    return (
        summary.condition,
        str(summary.top1.total),
        "-" if unknown else _percent(summary.top1),
        "-" if unknown else _percent(summary.place),
        "-" if unknown else _percent(summary.accepted_right),
        _percent(summary.accepted_wrong),
        "-" if unknown else place,
        "-" if unknown else _percent(summary.rate),
        _ms(summary.seconds_median),
    )


def _percent(share: Share) -> str:
    if not share.total:
        return "-"
    low, high = share.interval
    return f"{100 * share.value:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def _ms(seconds: float) -> str:
    return "-" if isnan(seconds) else f"{1000 * seconds:.0f}"


def _number(value: float, digits: int) -> str:
    return "-" if isnan(value) else f"{value:.{digits}f}"


def finite(value: Any) -> Any:
    """A value as JSON has it: None for NaN."""
    return None if isinstance(value, float) and isnan(value) else value


def _share_json(share: Share) -> dict[str, Any]:
    low, high = share.interval
    return {
        "hits": share.hits,
        "total": share.total,
        "share": finite(share.value),
        "low": finite(low),
        "high": finite(high),
    }


def _summary_json(summary: Summary) -> dict[str, Any]:
    shares = ("top1", "place", "accepted_right", "accepted_wrong", "rate", "both")
    numbers = ("offset_error_median", "offset_error_95", "rate_error_median", "seconds_median")
    return (
        {"condition": summary.condition}
        | {name: _share_json(getattr(summary, name)) for name in shares}
        | {name: finite(getattr(summary, name)) for name in numbers}
    )


def _bin_json(b: Bin) -> dict[str, Any]:
    return {
        "low": b.low,
        "high": b.high,
        "confidence": finite(b.confidence),
        "accuracy": _share_json(b.accuracy),
    }


def _page(results: Results, plots: Sequence[Path]) -> str:
    head = html.escape(headline(results)).replace("\n", "<br>")
    images = "".join(_image(plot) for plot in plots)
    return html_page("Evaluation", f"<p>{head}</p>{html_table(table(results))}{images}")


def html_table(markdown: str) -> str:
    """A Markdown table as one of HTML."""
    head, *rows = [
        [html.escape(cell.strip()) for cell in line.strip("|").split("|")]
        for line in markdown.splitlines()
        if not line.startswith("| ---")
    ]
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    titles = "".join(f"<th>{cell}</th>" for cell in head)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def html_page(title: str, body: str) -> str:
    """A page that needs no other file."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<style>body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 "
        "1rem}table{border-collapse:collapse}td{white-space:nowrap}td,th{padding:.2rem .7rem;"
        "text-align:right;border-bottom:1px solid #ddd}"
        "td:first-child,th:first-child{text-align:left}img{max-width:100%}</style>"
        f"<h1>{title}</h1>{body}</html>\n"
    )


def _image(plot: Path) -> str:
    data = b64encode(plot.read_bytes()).decode()
    return f'<img alt="{plot.stem}" src="data:image/png;base64,{data}">'
