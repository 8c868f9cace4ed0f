"""How much of the music is left in each band: real recordings against made-up ones.

A query is aligned with the reference. In each of `BANDS` mel bands the log powers of both, less
their mean over a second, are correlated over time: 1 if the band holds the music and nothing else,
0 if it holds none of it. The degradations of training should leave as much in each band as
loudspeakers, rooms, noise and phones do.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from fingerprint.audio.decode import load_clip
from fingerprint.config import FrontendConfig
from fingerprint.lab.real.folder import RealSet, Role
from fingerprint.lab.report_format import markdown_table
from fingerprint.lab.training.config import DegradeConfig
from fingerprint.lab.training.degrade import degrade
from fingerprint.lab.training.pairs import Studio, draw
from fingerprint.lab.training.sounds import draw_tracks
from fingerprint.model.frontend import Frontend
from fingerprint.types import Floats

BANDS = 24
LAYOUT = FrontendConfig(n_bands=BANDS, f_min=100.0, f_max=3_900.0)
SECONDS = 5.0  # of each clip that are compared, at most
SHORTEST = 2.0
AROUND = 31  # frames, a second
BATCH = 20  # made-up clips at a time


@dataclass(frozen=True, slots=True, eq=False)
class Left:
    """The correlation with the music in n clips."""

    name: str
    correlation: Floats  # (n, BANDS)
    spread: Floats  # (n, BANDS) standard deviation of the query's log power over time


def of_real(real: RealSet, role: Role) -> Left:
    """Of the recordings of a role whose place is known."""
    rate = LAYOUT.sample_rate
    pairs = []
    for line in real.lines:
        if line.role != role or line.offset_s is None or line.reference is None:
            continue
        query = load_clip(real.file(line.query), rate).samples
        track = load_clip(real.file(line.reference), rate).samples
        begin = round(line.offset_s * rate)
        query, track = query[max(0, -begin) :], track[max(0, begin) :]
        length = min(len(query), len(track), round(SECONDS * rate))
        if length >= SHORTEST * rate:
            pairs.append((query[:length], track[:length]))
    return _left(f"real recordings, role {role}", pairs)


def of_degradations(name: str, studio: Studio, config: DegradeConfig, clips: int) -> Left:
    """Of clips that are made as training makes them, at the tempo and pitch they had."""
    config = config.model_copy(update={"time_offset": 1e-6, "tempo": 0.0, "speed": 0.0})
    past = round(config.past * studio.sample_rate)
    length = past + round(SECONDS * studio.sample_rate)
    rng = torch.Generator().manual_seed(0)

    def pairs() -> Iterator[tuple[Floats, Floats]]:
        for _ in range(-(-clips // BATCH)):
            tracks = draw_tracks(studio.music, min(BATCH, len(studio.music)), rng)
            drawn = draw(studio, tracks, length, config, rng)
            degraded = degrade(drawn.scene, config, studio.sample_rate, rng)
            for query, track in zip(degraded, drawn.scene.clean, strict=True):
                yield query[past:].numpy(), track[past:].numpy()

    return _left(name, list(pairs()))


def table(results: Sequence[Left]) -> str:
    """Markdown: the share of the music in all bands, and its median by octave."""
    centres = _centres()
    edges = (100, 400, 800, 1_600, 4_000)  # Hz
    spans = [
        (low, high, np.flatnonzero((centres >= low) & (centres < high)))
        for low, high in itertools.pairwise(edges)
    ]
    heads = ["clips", "n", "mean: 25, 50, 75 % of clips"]
    heads += [f"{low} to {high} Hz" for low, high, _ in spans] + ["spread of the level"]
    rows = []
    for left in results:
        quartiles = np.percentile(left.correlation.mean(axis=1), [25, 50, 75])
        cells = [left.name, str(len(left.correlation)), " ".join(f"{q:.2f}" for q in quartiles)]
        cells += [f"{np.median(left.correlation[:, bands]):.2f}" for *_, bands in spans]
        cells.append(f"{np.median(left.spread):.2f}")
        rows.append(cells)
    return markdown_table(heads, rows)


def _left(name: str, pairs: Sequence[tuple[Floats, Floats]]) -> Left:
    frontend = Frontend(LAYOUT)
    correlations, spreads = [], []
    for query, track in pairs:
        query_levels, clean = (_varying(frontend, sound) for sound in (query, track))
        power = query_levels.square().sum(1) * clean.square().sum(1)
        correlations.append(((query_levels * clean).sum(1) / power.clamp(min=1e-9).sqrt()).numpy())
        spreads.append(query_levels.std(dim=1).numpy())
    return Left(name, np.array(correlations), np.array(spreads))


def _varying(frontend: Frontend, sound: Floats) -> torch.Tensor:
    """Log power of the bands, less its mean over a second around: (BANDS, F)."""
    power = frontend.bands(torch.from_numpy(np.array(sound, np.float32))[None])[0]
    level = torch.log(power + 1e-9 * power.mean() + 1e-12)
    mean = F.avg_pool1d(level[None], AROUND, stride=1, padding=AROUND // 2, count_include_pad=False)
    return level - mean[0]


def _centres() -> Floats:
    """The middle frequency of each band, Hz."""
    low, high = (2_595 * np.log10(1 + f / 700) for f in (LAYOUT.f_min, LAYOUT.f_max))
    mel = low + (high - low) * np.arange(1, BANDS + 1) / (BANDS + 1)
    centres: Floats = (700 * (10 ** (mel / 2_595) - 1)).astype(np.float32)
    return centres
