"""Pictures of an evaluation that a person reads without the code.

Figures are drawn on Agg canvases of their own: no display, no global state of matplotlib.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fingerprint.lab.benchmark.metrics import Outcome, Share, Summary
from fingerprint.lab.benchmark.results import Results

SNR_STEP = 2.0  # dB, width of the bins of the curve over SNR
LENGTHS = [1, 2, 3, 5, 10]  # s, of queries
RIGHT, PLACE, WRONG, UNKNOWN = "#1b7837", "#2166ac", "#d95f02", "#762a83"


def draw_all(results: Results, folder: Path) -> list[Path]:
    """Draw every plot as a PNG into `folder`; returns the files in reading order."""
    drawings = {
        "conditions": _conditions,
        "curves": _curves,
        "confidence": _confidence,
    }
    paths = []
    for name, draw in drawings.items():
        path = folder / f"{name}.png"
        draw(results).savefig(path, dpi=110)
        paths.append(path)
    return paths


def figure_of(width: float, height: float, panels: int) -> tuple[Any, Sequence[Any]]:
    """A figure of inches with panels side by side, and their axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for axis in axes:
        axis.grid(visible=True, color="#e5e5e5")
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _conditions(results: Results) -> Any:
    """One row a condition: known tracks on the left, unknown ones on the right."""
    known = [s for s in results.summaries if not results.is_unknown(s)]
    unknown = [s for s in results.summaries if results.is_unknown(s)]
    figure, (left, right) = figure_of(14, 1.6 + 0.36 * max(len(known), len(unknown)), 2)
    _rows(left, known)
    _points(left, [s.top1 for s in known], 0.22, "right track", RIGHT, "o")
    _points(left, [s.place for s in known], 0.0, "right place", PLACE, "s")
    _points(left, [s.accepted_right for s in known], -0.22, "accepted and right", "#666666", "D")
    lowest = min((s.accepted_right.interval[0] for s in known), default=0.0)
    left.set_xlim(10 * int(10 * lowest), 100.5)
    left.set_title("Tracks in the library")
    _rows(right, unknown)
    _points(right, [s.accepted_wrong for s in unknown], 0.0, "accepted", UNKNOWN, "X")
    highest = max((s.accepted_wrong.interval[1] for s in unknown), default=0.0)
    right.set_xlim(-0.2, 100 * highest + 1)
    right.set_title("Tracks not in the library: false accepts")
    for axis in (left, right):
        axis.set_xlabel("% of queries, with 95 % interval")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure


def _rows(axis: Any, summaries: Sequence[Summary]) -> None:
    n = len(summaries)
    axis.set_yticks(range(n), [s.condition for s in summaries])
    axis.set_ylim(max(n, 1) - 0.4, -0.6)  # the first at the top


def _points(
    axis: Any, shares: Sequence[Share], rise: float, label: str, colour: str, marker: str
) -> None:
    """One marker a row, `rise` rows above its middle."""
    if shares:
        value, spread = _bars(shares)
        rows = np.arange(len(shares)) - rise
        axis.errorbar(value, rows, xerr=spread, fmt=marker, color=colour, label=label, markersize=5)


def _curves(results: Results) -> Any:
    """Top-1 over the query's length, and over its signal-to-noise ratio."""
    figure, (by_length, by_snr) = figure_of(13, 5, 2)
    for family, members in _families(results).items():
        value, spread = _bars([s.top1 for _, s in members])
        lengths = [seconds for seconds, _ in members]
        by_length.errorbar(lengths, value, yerr=spread, marker="o", capsize=3, label=family)
    by_length.set_xscale("log")
    by_length.set_xticks(LENGTHS, [str(seconds) for seconds in LENGTHS])
    by_length.minorticks_off()
    by_length.set_xlabel("length of the query, s")
    by_length.set_title("Right track by length, with 95 % intervals")
    _snr_curves(by_snr, results)
    by_snr.set_xlabel("signal-to-noise ratio, dB")
    by_snr.set_title(f"Right track by noise, {SNR_STEP:g} dB a point")
    for axis in (by_length, by_snr):
        axis.set_ylim(top=101)
        axis.set_ylabel("right track, % of queries")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _families(results: Results) -> dict[str, list[tuple[float, Summary]]]:
    families: dict[str, list[tuple[float, Summary]]] = {}
    for condition, summary in zip(results.conditions, results.summaries, strict=True):
        if not condition.unknown:
            families.setdefault(condition.family, []).append((condition.seconds, summary))
    return families


def _snr_curves(axis: Any, results: Results) -> None:
    """A colour a length; dashed for phone recordings."""
    for condition in results.conditions:
        span = condition.snr_db
        if condition.unknown or span is None or span[0] == span[1]:
            continue
        outcomes = results.by_condition[condition.name]
        middles = np.arange(span[0] + SNR_STEP / 2, span[1], SNR_STEP)
        value, _ = _bars([_near(outcomes, middle) for middle in middles])
        colour = f"C{LENGTHS.index(int(condition.seconds))}"
        line = "o--" if condition.phone else "o-"
        axis.plot(middles, value, line, color=colour, label=condition.name)


def _near(outcomes: Sequence[Outcome], snr_db: float) -> Share:
    """Right answers within half a step of this ratio."""
    inside = [o.right for o in outcomes if abs(o.snr_db - snr_db) <= SNR_STEP / 2]
    return Share(sum(inside), len(inside))


def _confidence(results: Results) -> Any:
    """Score and confidence of right, wrong and unknown answers; the reliability diagram."""
    figure, (scores, confidences, diagram) = figure_of(15, 4.6, 3)
    groups = (
        ("right", [o for o in results.known if o.path and o.right], RIGHT),
        ("wrong track", [o for o in results.known if o.path and not o.right], WRONG),
        ("not in the library", [o for o in results.unknown if o.path], UNKNOWN),
    )
    for label, outcomes, colour in groups:
        if not outcomes:
            continue
        name = f"{label} ({len(outcomes)})"
        style = {"histtype": "stepfilled", "alpha": 0.45, "color": colour, "label": name}
        weights = np.full(len(outcomes), 100 / len(outcomes))
        bins = np.linspace(-0.2, 1, 61)
        scores.hist(np.clip([o.score for o in outcomes], -0.2, 1), bins, weights=weights, **style)
        confidences.hist(
            [o.confidence for o in outcomes], np.linspace(0, 1, 41), weights=weights, **style
        )
    confidences.axvline(results.min_confidence, color="black", linestyle=":", label="accepted from")
    confidences.set_ylim(0.05, 130)  # before the scale, which cannot find limits where nothing is
    confidences.set_yscale("log")
    for axis, name in ((scores, "score"), (confidences, "confidence")):
        axis.set_xlabel(name)
        axis.set_ylabel("% of these answers")
        axis.legend(fontsize=8, frameon=False)
        axis.set_title(f"{name.capitalize()} of right and wrong answers")
    _reliability(diagram, results)
    return figure


def _reliability(axis: Any, results: Results) -> None:
    filled = [b for b in results.reliability if b.accuracy.total]
    axis.plot([0, 100], [0, 100], color="#999999", linestyle="--", label="as sure as right")
    if filled:
        value, spread = _bars([b.accuracy for b in filled])
        confidence = [100 * b.confidence for b in filled]
        axis.errorbar(confidence, value, yerr=spread, fmt="o-", color=RIGHT, capsize=3)
    axis.set_xlabel("confidence given, %")
    axis.set_ylabel("answers that are right, %")
    axis.set_title(f"Reliability, expected calibration error {results.calibration_error:.3f}")
    axis.legend(fontsize=8, frameon=False)


def _bars(shares: Sequence[Share]) -> tuple[Any, Any]:
    """Values (n,) and distances to the interval's ends (2, n), in percent."""
    value = np.array([s.value for s in shares])
    ends = np.array([s.interval for s in shares]).reshape(-1, 2)
    spread = np.clip(np.stack([value - ends[:, 0], ends[:, 1] - value]), 0, None)
    return 100 * value, 100 * spread
