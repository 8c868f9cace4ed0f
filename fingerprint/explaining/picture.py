"""The picture of an answer: spectrograms, similarity, evidence over time, candidates.

Drawn on an Agg canvas of its own: no display, no global state of matplotlib.
"""

from typing import Any

import numpy as np

from fingerprint.audio.files import display_name
from fingerprint.errors import AudioError
from fingerprint.explaining.evidence import Explanation
from fingerprint.types import Clip, Floats, Match

FRAME, STEP = 0.064, 0.016  # s, of the spectrograms
RANGE_DB = 60.0  # below the loudest that is shown
BEST, OTHERS, LINE = "#1b7837", "#b0b0b0", "#d95f02"


def draw(explanation: Explanation, title: str, min_confidence: float) -> Any:
    """A matplotlib figure.

    Raises:
        AudioError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise AudioError("pictures need matplotlib: pip install 'fingerprint[explain]'") from error
    figure = Figure(figsize=(13, 11), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13)
    axes = figure.subplots(3, 2, height_ratios=(1, 1.35, 0.9))
    best = explanation.matches[0]
    _spectrogram(axes[0, 0], explanation.query, "Query", 0.0, 1.0)
    _spectrogram(
        axes[0, 1],
        explanation.reference,
        f"The best candidate: {label(best)}",
        best.offset,
        best.rate,
    )
    grid = axes[1, 0].get_gridspec()
    for axis in axes[1]:
        axis.remove()
    _similarity(figure.add_subplot(grid[1, :]), figure, explanation)
    _evidence(axes[2, 0], explanation)
    _candidates(axes[2, 1], explanation, min_confidence)
    return figure


def label(match: Match) -> str:
    """A short name of a track."""
    tags = match.track.tags
    name = " - ".join(filter(None, (tags.artist, tags.title))) if tags.title else ""
    name = display_name(name or match.track.path.name)
    return name if len(name) <= 42 else name[:41] + "…"


def spectrogram(clip: Clip) -> Floats:
    """Level in dB below the loudest, (bins, frames), from 0 down to -`RANGE_DB`."""
    size, step = round(FRAME * clip.sample_rate), round(STEP * clip.sample_rate)
    samples = np.pad(clip.samples, (0, max(0, size - len(clip.samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::step]
    power = np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)) ** 2
    level = 10 * np.log10(np.maximum(power, 1e-12))
    clipped: Floats = np.maximum(level - level.max(), -RANGE_DB).T.astype(np.float32)
    return clipped


def _spectrogram(axis: Any, clip: Clip | None, title: str, start: float, rate: float) -> None:
    axis.set_title(title)
    axis.set_xlabel("seconds" if start == 0 and rate == 1 else "seconds into the track")
    if clip is None:
        axis.text(0.5, 0.5, "its file cannot be read", ha="center", transform=axis.transAxes)
        return
    end = start + rate * clip.duration
    axis.imshow(
        spectrogram(clip),
        aspect="auto",
        origin="lower",
        cmap="magma",
        extent=(start, end, 0, clip.sample_rate / 2_000),
    )
    axis.set_ylabel("kHz")


def _similarity(axis: Any, figure: Any, explanation: Explanation) -> None:
    """Every moment of the query against every moment of the track; a match is a bright diagonal."""
    axis.set_title(
        "How alike each moment of the query (across) and of the track (up) are: "
        "a match is a bright diagonal"
    )
    axis.set_xlabel("seconds into the query")
    axis.set_ylabel("seconds into the track")
    moments, places = explanation.moments, explanation.places
    if not len(places):
        return
    image = axis.imshow(
        explanation.similarity,
        aspect="auto",
        origin="lower",
        cmap="viridis",
        vmin=0,
        vmax=1,
        extent=(moments[0], moments[-1] + 1e-3, places[0], places[-1] + 1e-3),
    )
    best = explanation.matches[0]
    ends = np.array([moments[0], moments[-1]])
    for shift in (-1.2, 1.2):  # beside the diagonal, so that it can be seen
        axis.plot(ends, best.offset + best.rate * ends + shift, ":", color=LINE, linewidth=1.2)
    axis.set_ylim(places[0], places[-1])
    figure.colorbar(image, ax=axis, label="cosine similarity", pad=0.01)


def _evidence(axis: Any, explanation: Explanation) -> None:
    axis.set_title("Evidence over time")
    for number in reversed(range(len(explanation.along))):
        first = number == 0
        axis.plot(
            explanation.moments,
            explanation.along[number],
            color=BEST if first else OTHERS,
            linewidth=2 if first else 1,
            label="best candidate" if first else ("the others" if number == 1 else None),
        )
    axis.set_xlabel("seconds into the query")
    axis.set_ylabel("cosine similarity")
    axis.set_ylim(min(0.0, axis.get_ylim()[0]), 1)
    axis.grid(visible=True, color="#e5e5e5")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right")


def _candidates(axis: Any, explanation: Explanation, min_confidence: float) -> None:
    matches = explanation.matches
    axis.set_title("Candidates: how sure, and how alike (dots)")
    heights = [100 * match.confidence for match in matches]
    colours = [BEST if match.confidence >= min_confidence else OTHERS for match in matches]
    rows = np.arange(len(matches))
    axis.barh(rows + 0.22, heights, 0.3, color=colours)
    axis.plot([100 * match.score for match in matches], rows + 0.22, "o", color=LINE)
    for row, match in zip(rows, matches, strict=True):
        axis.text(0, row - 0.08, label(match), fontsize=9)
    axis.axvline(100 * min_confidence, color="#666666", linestyle="--", linewidth=1)
    axis.set_yticks([])
    axis.set_ylim(len(matches) - 0.4, -0.6)
    axis.set_xlim(0, 100)
    axis.set_xlabel("% (dashed: what it takes to be an answer)")
    axis.spines[["top", "right"]].set_visible(False)
