"""How much the degradations of training are like real recordings.

A real recording is aligned with the track that was played, and the same passage of the track is
degraded as in training. Both queries are compared with the passage. In each of `BANDS` mel bands
the log powers of query and passage, less their mean over a second, are correlated over time: 1 if
the band holds the music and nothing else, 0 if it holds none of it.

A classifier then tries to tell the real queries from the degraded ones by simple statistics. Their
music is the same, and every statistic is relative to the passage, so only what happened to the
music can give them away. If nothing does, the area under the classifier's ROC curve is 0.5.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fingerprint.audio.decode import load_clip
from fingerprint.config import FrontendConfig
from fingerprint.errors import CorpusError
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
EDGES = (100, 400, 800, 1_600, 4_000)  # Hz, of the spans of bands that are reported
SECONDS = 5.0  # of each query that are compared, at most
SHORTEST = 2.0
PAST = 1.0  # s of the track before the passage, which reverberate into it
AROUND = 31  # frames, a second
LAG = 4  # frames, 0.13 s: the first whose samples do not overlap
BATCH = 20  # passages degraded at a time
FOLDS = 5  # of the cross-validation
DRAWS = 10_000  # of the bootstrap


@dataclass(frozen=True, slots=True, eq=False)
class Passage:
    """A passage of a track, and a query that heard it, at `LAYOUT.sample_rate`."""

    song: str
    track: Floats  # (past + T,) the passage and `PAST` seconds before it; zeros before the track
    query: Floats  # (T,)


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """n queries against their passages."""

    songs: tuple[str, ...]  # (n,)
    correlation: Floats  # (n, BANDS) with the music
    spread: Floats  # (n, BANDS) standard deviation of the query's log power over time
    statistics: Mapping[str, Floats]  # by kind, (n, k): what the classifier sees


def real_passages(real: RealSet, role: Role) -> list[Passage]:
    """The recordings of a role whose place is known.

    Raises:
        CorpusError: they are of fewer than two songs.
        AudioError: a file cannot be read.
    """
    rate = LAYOUT.sample_rate
    passages = []
    for line in real.lines:
        if line.role != role or line.offset_s is None or line.reference is None:
            continue
        query = load_clip(real.file(line.query), rate).samples
        track = load_clip(real.file(line.reference), rate).samples
        begin = round(line.offset_s * rate)
        query, begin = query[max(0, -begin) :], max(0, begin)
        length = min(len(query), len(track) - begin, round(SECONDS * rate))
        if length >= SHORTEST * rate:
            past = round(PAST * rate)
            played = np.pad(track, (past, 0))[begin : begin + past + length]
            passages.append(Passage(line.song, played, query[:length]))
    if len({one.song for one in passages}) < 2:
        raise CorpusError(f"realism needs recordings of two songs with role {role} and offset_s")
    return passages


def degraded(
    passages: Sequence[Passage], studio: Studio, config: DegradeConfig, clips: int
) -> list[Passage]:
    """Degrade each passage as training does, at its own tempo and pitch; `clips` in all, or more.

    Noise, rooms and devices are those of the studio.
    """
    config = config.model_copy(update={"time_offset": 1e-6, "tempo": 0.0, "speed": 0.0})
    past = round(PAST * studio.sample_rate)
    length = past + round(SECONDS * studio.sample_rate)
    rng = torch.Generator().manual_seed(0)
    made = []
    for _ in range(math.ceil(clips / len(passages))):
        for first in range(0, len(passages), BATCH):
            some = passages[first : first + BATCH]
            others = draw_tracks(studio.music, len(some), rng)
            tracks = [np.pad(one.track, (0, length - len(one.track))) for one in some]
            clean = torch.from_numpy(np.array(tracks, np.float32))
            scene = replace(draw(studio, others, length, config, rng).scene, clean=clean)
            heard = degrade(scene, config, studio.sample_rate, rng)[:, past:].numpy()
            made += [
                replace(one, query=query[: len(one.query)])
                for one, query in zip(some, heard, strict=True)
            ]
    return made


def measure(passages: Sequence[Passage]) -> Measured:
    """Compare the queries with their passages."""
    frontend = Frontend(LAYOUT)
    spans = [bands for _, bands in _spans()]
    correlations, spreads = [], []
    statistics: dict[str, list[Floats]] = {}
    for one in passages:
        passage = one.track[-len(one.query) :]
        query, track = (_levels(frontend, sound) for sound in (one.query, passage))
        changes, of_track = _varying(query), _varying(track)
        correlation = _cosine(changes, of_track)
        spread = changes.std(axis=1)
        colour = (query - track).mean(axis=1)
        kinds = {
            "music left": correlation,
            "spread of the level": spread - of_track.std(axis=1),
            "colour": colour - colour.mean(),
            "reverberation": _echo(changes) - _echo(of_track),
        }
        for kind, values in kinds.items():
            by_span = np.array([values[bands].mean() for bands in spans])
            statistics.setdefault(kind, []).append(by_span)
        peaks = np.array([_crest_db(one.query) - _crest_db(passage)])
        statistics.setdefault("peaks", []).append(peaks)
        correlations.append(correlation)
        spreads.append(spread)
    return Measured(
        tuple(one.song for one in passages),
        np.array(correlations),
        np.array(spreads),
        {kind: np.array(rows) for kind, rows in statistics.items()},
    )


@dataclass(frozen=True, slots=True)
class Auc:
    """Area under a ROC curve, and its 95 % interval by a bootstrap over songs."""

    value: float
    interval: tuple[float, float]


def told_apart(
    real: Floats, made: Floats, real_songs: Sequence[str], made_songs: Sequence[str]
) -> Auc:
    """How well a logistic regression tells real queries (n, S) from made ones (m, S).

    Each query is judged by a regression that was fitted on the queries of other songs.

    Raises:
        ValueError: there are fewer than two songs.
    """
    values = np.concatenate([real, made])
    is_real = np.arange(len(values)) < len(real)
    _, songs = np.unique([*real_songs, *made_songs], return_inverse=True)
    count = songs.max() + 1
    regression = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    folds = GroupKFold(min(FOLDS, count))
    logits = cross_val_predict(
        regression, values, is_real, groups=songs, cv=folds, method="decision_function"
    )
    # The area is the share of pairs, a real and a made query, in which the real one has more.
    difference = logits[is_real, None] - logits[~is_real]
    of_song = np.eye(count)[songs]  # (n + m, songs)
    by_song = of_song[is_real].T, of_song[~is_real]
    won = by_song[0] @ (0.5 + 0.5 * np.sign(difference)) @ by_song[1]  # (songs, songs)
    pairs = by_song[0] @ np.ones_like(difference) @ by_song[1]
    times = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), DRAWS)
    total = ((times @ pairs) * times).sum(axis=1)
    drawn = ((times @ won) * times).sum(axis=1)[total > 0] / total[total > 0]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Auc(float(won.sum() / pairs.sum()), (float(low), float(high)))


def table_of_music_left(results: Mapping[str, Measured]) -> str:
    """Markdown: the share of the music in all bands, and its median by span of frequencies."""
    heads = ["clips", "n", "mean: 25, 50, 75 % of clips"]
    heads += [f"{name} Hz" for name, _ in _spans()] + ["spread of the level"]
    rows = []
    for name, one in results.items():
        quartiles = np.percentile(one.correlation.mean(axis=1), [25, 50, 75])
        cells = [name, str(len(one.songs)), " ".join(f"{q:.2f}" for q in quartiles)]
        cells += [f"{np.median(one.correlation[:, bands]):.2f}" for _, bands in _spans()]
        cells.append(f"{np.median(one.spread):.2f}")
        rows.append(cells)
    return markdown_table(heads, rows)


def table_of_areas(real: Measured, made: Mapping[str, Measured]) -> str:
    """Markdown: the areas under the ROC curve, for all statistics and for each kind alone."""
    heads = ["degradations", "all statistics", *(f"{kind} alone" for kind in real.statistics)]
    rows = []
    for name, one in made.items():
        both = [np.hstack([*which.statistics.values()]) for which in (real, one)]
        whole = told_apart(both[0], both[1], real.songs, one.songs)
        low, high = whole.interval
        cells = [name, f"{whole.value:.2f} ({low:.2f}-{high:.2f})"]
        for kind, values in real.statistics.items():
            alone = told_apart(values, one.statistics[kind], real.songs, one.songs)
            cells.append(f"{alone.value:.2f}")
        rows.append(cells)
    return markdown_table(heads, rows)


def _levels(frontend: Frontend, sound: Floats) -> Floats:
    """Log power of the bands: (BANDS, F)."""
    power = frontend.bands(torch.from_numpy(np.array(sound, np.float32))[None])[0]
    levels: Floats = torch.log(power + 1e-9 * power.mean() + 1e-12).numpy()
    return levels


def _varying(levels: Floats) -> Floats:
    """The levels (BANDS, F) less their mean over a second around."""
    mean = F.avg_pool1d(
        torch.from_numpy(levels)[None], AROUND, stride=1, padding=AROUND // 2,
        count_include_pad=False,
    )[0]  # fmt: skip
    varying: Floats = levels - mean.numpy()
    return varying


def _cosine(a: Floats, b: Floats) -> Floats:
    """Of each row of two arrays (BANDS, F): (BANDS,)."""
    power = np.square(a).sum(axis=1) * np.square(b).sum(axis=1)
    cosine: Floats = (a * b).sum(axis=1) / np.sqrt(np.maximum(power, 1e-9))
    return cosine


def _echo(varying: Floats) -> Floats:
    """How much of a band's change is still there `LAG` frames later: (BANDS,)."""
    return _cosine(varying[:, LAG:], varying[:, :-LAG])


def _crest_db(sound: Floats) -> float:
    """The peak over the root mean square, dB."""
    rms = float(np.sqrt(np.square(sound, dtype=np.float64).mean()))
    return 20 * math.log10(max(float(np.abs(sound).max()), 1e-9) / max(rms, 1e-9))


def _spans() -> list[tuple[str, NDArray[np.int64]]]:
    """The spans between `EDGES`: their names, and the numbers of their bands."""
    low, high = (2_595 * math.log10(1 + f / 700) for f in (LAYOUT.f_min, LAYOUT.f_max))
    mel = low + (high - low) * np.arange(1, BANDS + 1) / (BANDS + 1)
    centres = 700 * (10 ** (mel / 2_595) - 1)  # Hz
    return [
        (f"{begin} to {end}", np.flatnonzero((centres >= begin) & (centres < end)))
        for begin, end in itertools.pairwise(EDGES)
    ]
