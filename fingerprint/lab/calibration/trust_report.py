"""The figures of `trust` as text and as plots."""

from pathlib import Path
from typing import Any

import numpy as np

from fingerprint.cli.text import counted
from fingerprint.lab import report_format
from fingerprint.lab.benchmark.metrics import Share
from fingerprint.lab.benchmark.plots import RIGHT, UNKNOWN, figure_of
from fingerprint.lab.calibration.trust import TARGET, Trust

LEAST = 10  # queries of which a share is printed: of fewer, it says nothing


def text(trust: Trust) -> str:
    """Every figure in Markdown. Shares of fewer than `LEAST` queries are left out."""
    strict = trust.strict
    summary = [
        f"- Expected calibration error {trust.calibration_error:.4f} "
        f"({len(trust.bins)} bins; a share of {trust.prior:.0%} unknown).",
        f"- Of the answers given at 0.95 and above, {100 * trust.precision(0.95):.2f} % are right.",
        f"- False accepts at the default, {trust.min_confidence:g}: "
        f"{percent(trust.false_accepts)} %.",
        f"- {100 * TARGET:g} % false accepts are reached at the confidence {strict:.4f}.",
    ]
    families = zip(trust.operating(trust.min_confidence), trust.operating(strict), strict=True)
    parts = [
        f"{len(trust.known):,} known and {len(trust.unknown):,} unknown queries; "
        f"model {trust.model_id[:12]}.",
        "\n".join(summary),
        _table(
            ("queries", "top-1 %", "accepted and right %", f"at {100 * TARGET:g} % false accepts"),
            [
                (row.condition, row.top1, row.accepted, at_target.accepted)
                for row, at_target in families
            ],
        ),
        _table(
            ("library", "false accepts %"),
            [(counted(size, "track"), share) for size, share in trust.growth()],
        ),
        _table(
            ("library, half of it cut to a few seconds", "accepted and right %", "false accepts %"),
            [
                (counted(row.tracks, "track"), row.accepted, row.false_accepts)
                for row in trust.few()
            ],
        ),
    ]
    return "\n\n".join(part for part in parts if part)


def _table(titles: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A Markdown table of shares, each row under its name; empty without a row to print."""
    kept = [
        (name, *(percent(share) if share.total >= LEAST else "-" for share in shares))
        for name, *shares in rows
        if any(share.total >= LEAST for share in shares)
    ]
    return report_format.markdown_table(titles, kept) if kept else ""


def percent(share: Share) -> str:
    """A share with two decimals, its interval and its counts."""
    return report_format.percent(share, 2, counts=True)


def draw(trust: Trust, path: Path) -> None:
    """Reliability, false accepts over the threshold, false accepts over the library's size."""
    figure, (diagram, curve, growth) = figure_of(15, 4.6, 3)
    _reliability(diagram, trust)
    _curve(curve, trust)
    _growth(growth, trust)
    figure.savefig(path, dpi=110)


def _reliability(axis: Any, trust: Trust) -> None:
    axis.plot([0, 100], [0, 100], ":", color="black", linewidth=1)
    given = [100 * b.confidence for b in trust.bins]
    right = [100 * b.right for b in trust.bins]
    sizes = [12 + 400 * b.weight for b in trust.bins]
    axis.plot(given, right, "-", color=RIGHT, linewidth=1)
    axis.scatter(given, right, sizes, color=RIGHT, alpha=0.7)
    axis.set_xlabel("confidence given, %")
    axis.set_ylabel("answers that are right, %")
    axis.set_title(f"Reliability (error {trust.calibration_error:.3f}; area: answers)")


def _curve(axis: Any, trust: Trust) -> None:
    thresholds = np.linspace(0.5, 0.999, 200)
    accepted = np.array([a.confidence for a in trust.unknown])
    known = np.array([a.confidence * a.case.right for a in trust.known])
    axis.plot(
        [100 * float(np.mean(accepted >= t)) for t in thresholds],
        [100 * float(np.mean(known >= t)) for t in thresholds],
        color=UNKNOWN,
    )
    axis.set_xlabel("unknown queries accepted, %")
    axis.set_ylabel("known queries accepted and right, %")
    axis.set_title("At every threshold from 0.5 to 0.999")


def _growth(axis: Any, trust: Trust) -> None:
    sizes = [size for size, _ in trust.growth()]
    shares = [share for _, share in trust.growth()]
    values = [100 * share.value for share in shares]
    edges = 100 * np.array([share.interval for share in shares]).T  # (2, sizes)
    # At no hits the lower edge is a rounding error above 0.
    reach = np.maximum(0, [values - edges[0], edges[1] - values])
    axis.errorbar(sizes, values, yerr=reach, fmt="o-", color=UNKNOWN, capsize=3)
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("tracks in the library (the largest is simulated)")
    axis.set_ylabel("false accepts, %, with 95 % interval")
    axis.set_title(f"At the default confidence, {trust.min_confidence:g}")
