"""Plots of the comparison: one curve a system, over the length and the SNR of the query."""

from collections.abc import Callable, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fingerprint.lab.benchmark.conditions import Condition
from fingerprint.lab.benchmark.metrics import Share
from fingerprint.lab.peers.answers import Answer, Standing, share

LONG = 5.0  # s; queries at least as long are taken together in the curves over noise
SNR_STEP = 2.0  # dB, width of a bin over a range of ratios
Point = tuple[float, Callable[[Answer], bool]]  # where on the axis, and which answers count


def draw(standings: Sequence[Standing], conditions: Sequence[Condition], path: Path) -> None:
    """Write a PNG of four panels: added noise and phones, each by length and by noise."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2, sharey=True)
    families = (
        ("noise", [c for c in conditions if c.family == "noise"]),
        ("phone", [c for c in conditions if c.phone and not c.unknown]),
    )
    for (name, members), (by_length, by_snr) in zip(families, panels, strict=True):
        _curves(by_length, standings, over_length([c for c in members if c.family == name]))
        _style(by_length, f"{name}, by length", "length of the query, s")
        by_length.set_xscale("log")
        lengths = sorted({c.seconds for c in members})
        by_length.set_xticks(lengths, [f"{seconds:g}" for seconds in lengths])
        by_length.minorticks_off()
        _curves(by_snr, standings, over_snr(members))
        _style(by_snr, f"{name}, queries of {LONG:g} s and more", "signal-to-noise ratio, dB")
        by_snr.xaxis.get_major_locator().set_params(integer=True)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=110)


def over_length(conditions: Sequence[Condition]) -> list[Point]:
    """A point a condition."""
    return [(c.seconds, partial(_is_of, names={c.name})) for c in conditions]


def over_snr(conditions: Sequence[Condition]) -> list[Point]:
    """A point a ratio that is fixed, and one for every `SNR_STEP` of a range."""
    long = [c for c in conditions if c.seconds >= LONG]
    spans = sorted({c.snr_db for c in long if c.snr_db is not None})
    middles = [
        float(middle)
        for low, high in spans
        for middle in ([low] if low == high else np.arange(low + SNR_STEP / 2, high, SNR_STEP))
    ]
    names = {c.name for c in long}
    return [(middle, partial(_is_near, names=names, snr_db=middle)) for middle in middles]


def _is_of(answer: Answer, names: Set[str]) -> bool:
    return answer.condition in names


def _is_near(answer: Answer, names: Set[str], snr_db: float) -> bool:
    return answer.condition in names and abs(answer.snr_db - snr_db) <= SNR_STEP / 2


def _curves(axis: Any, standings: Sequence[Standing], points: Sequence[Point]) -> None:
    for number, standing in enumerate(standings):
        shares = [share(a.right for a in standing.answers if counts(a)) for _, counts in points]
        drawn = [(x, s) for (x, _), s in zip(points, shares, strict=True) if s.total]
        own = {"color": "black", "linewidth": 2.2} if number == 0 else {"color": f"C{number - 1}"}
        axis.errorbar(
            [x for x, _ in drawn],
            [100 * s.value for _, s in drawn],
            yerr=_spread([s for _, s in drawn]),
            marker="o",
            capsize=2,
            elinewidth=0.8,
            label=standing.title,
            **own,
        )


def _spread(shares: Sequence[Share]) -> Any:
    """Distances to the ends of the intervals, (2, n), in percent."""
    ends = [(s.value - s.interval[0], s.interval[1] - s.value) for s in shares]
    return 100 * np.clip(np.array(ends).reshape(-1, 2).T, 0, None)


def _style(axis: Any, title: str, label: str) -> None:
    axis.set_title(title)
    axis.set_xlabel(label)
    axis.set_ylabel("right track, % of queries")
    axis.set_ylim(-2, 102)
    axis.grid(visible=True, color="#e5e5e5")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
