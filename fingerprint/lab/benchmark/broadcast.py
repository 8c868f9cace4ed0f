"""A made-up broadcast, and the score of a scan of it, second by second.

Known and unknown tracks, in random order and cut at random, are joined by a cross-fade, by a hard
cut, or by talk and jingles; some have speech over them. The truth is exact to the sample.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from fingerprint.lab.benchmark.material import (
    WORKING_RATE,
    Material,
    Rng,
    chain,
    cut,
    rms,
)
from fingerprint.lab.corpus import Recordings
from fingerprint.scanning.spans import Span
from fingerprint.types import Floats

KNOWN, UNKNOWN = 40, 20  # tracks in a broadcast
MUSIC = (45.0, 150.0)  # s of a track
FADE = (2.0, 8.0)  # s that two tracks overlap in a cross-fade
JINGLE = (3.0, 8.0)  # s
SPOKEN_OVER = 0.3  # share of tracks with speech over them
SPEECH = (10.0, 30.0)  # s of it
UNDER_DB = (-10.0, 0.0)  # level of the music under speech against it
LEVEL_DB = (-9.0, 0.0)  # of a track, against the loudest
JOINS = ("fade", "cut", "jingle", "talk")
ODDS = (0.45, 0.15, 0.15, 0.25)
LOUDNESS = 0.1  # RMS of a track at 0 dB


@dataclass(frozen=True, slots=True)
class Aired:
    """From `start` to `end` (s) `path` was on air, from its second `offset` on.

    In a cross-fade the change is in its middle. `known`: whether the track is in the library.
    """

    start: float
    end: float
    path: Path
    offset: float
    known: bool


@dataclass(frozen=True, slots=True)
class Score:
    """Of known tracks, by seconds: shares 0..1; and of the boundaries of those that were found."""

    precision: float
    recall: float
    found: int  # of the known items
    known: int
    boundary_median: float  # s
    boundary_95: float  # s

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def make_broadcast(
    material: Material, path: Path, *, seconds: float, rng: Rng, scale: float = 1.0
) -> list[Aired]:
    """Write a broadcast of about `seconds` as Ogg Opus; returns what is on air when.

    `scale` makes a shorter one with fewer tracks. Tracks are drawn without repetition as long as
    there are any.
    """
    items = [
        *((material.known, i, True) for i in _drawn(material.known, round(KNOWN * scale), rng)),
        *(
            (material.unknown, i, False)
            for i in _drawn(material.unknown, round(UNKNOWN * scale), rng)
        ),
    ]
    order = [items[i] for i in rng.permutation(len(items))]
    pieces = [_piece(material, recordings, i, rng) for recordings, i, _ in order]
    joins = [str(join) for join in rng.choice(JOINS, len(order) + 1, p=ODDS)]
    joins[0] = joins[-1] = "talk"
    talk = _talk_lengths(seconds, [len(piece.sound) for piece in pieces], joins, rng)
    sound, starts, fades = _assembled(material, [p.sound for p in pieces], joins, talk, rng)
    _write(path, sound)
    aired = []
    for number, ((recordings, i, known), piece) in enumerate(zip(order, pieces, strict=True)):
        before, after = fades[number] / 2, fades[number + 1] / 2
        begin = starts[number] + before
        end = starts[number] + len(piece.sound) - after
        offset = (piece.start + before) / WORKING_RATE
        aired.append(
            Aired(begin / WORKING_RATE, end / WORKING_RATE, recordings.files[i].path, offset, known)
        )
    return aired


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    sound: Floats
    start: int  # sample of the track


def _drawn(recordings: Recordings, count: int, rng: Rng) -> list[int]:
    (long_enough,) = np.nonzero(np.diff(recordings.starts) >= MUSIC[0] * WORKING_RATE)
    rounds = 1 + count // max(1, len(long_enough))
    order = np.concatenate([rng.permutation(long_enough) for _ in range(rounds)])
    return [int(i) for i in order[:count]]


def _piece(material: Material, recordings: Recordings, number: int, rng: Rng) -> _Piece:
    track = recordings.recording(number)
    length = min(len(track), round(rng.uniform(*MUSIC) * WORKING_RATE))
    start = int(rng.integers(len(track) - length + 1))
    sound = cut(track, start, length)
    sound = sound * np.float32(LOUDNESS / max(rms(sound), 1e-4) * _gain(LEVEL_DB, rng))
    if rng.random() < SPOKEN_OVER:
        spoken = min(length, round(rng.uniform(*SPEECH) * WORKING_RATE))
        at = int(rng.integers(length - spoken + 1))
        under = max(rms(sound[at : at + spoken]), 1e-4)
        speech = chain(material.speech, spoken, rng) * np.float32(under / _gain(UNDER_DB, rng))
        sound[at : at + spoken] += speech
    return _Piece(sound, start)


def _gain(decibels: tuple[float, float], rng: Rng) -> float:
    return float(10 ** (rng.uniform(*decibels) / 20))


def _talk_lengths(
    seconds: float, music: Sequence[int], joins: Sequence[str], rng: Rng
) -> list[int]:
    """Samples of talk for each join that is one: what music leaves of the broadcast, shared."""
    count = sum(join == "talk" for join in joins)
    missing = max(10 * count * WORKING_RATE, round(seconds * WORKING_RATE) - sum(music))
    return [int(share * missing) for share in rng.dirichlet(np.full(count, 4.0))]


def _assembled(
    material: Material, music: Sequence[Floats], joins: Sequence[str], talk: list[int], rng: Rng
) -> tuple[Floats, list[int], list[int]]:
    """The whole sound, at which sample each track starts, and how long each fade is."""
    parts: list[tuple[int, Floats]] = []
    starts, fades, at, left = [], [], 0, list(talk)
    for number, join in enumerate(joins):
        fade = 0
        if join == "fade":
            fade = round(rng.uniform(*FADE) * WORKING_RATE)
            at -= fade
        elif join != "cut":
            length = left.pop() if join == "talk" else round(rng.uniform(*JINGLE) * WORKING_RATE)
            sounds = material.speech if join == "talk" else material.effects
            parts.append((at, chain(sounds, length, rng) * np.float32(LOUDNESS)))
            at += length
        fades.append(fade)
        if number < len(music):
            starts.append(at)
            at += len(music[number])
    for number, sound in enumerate(music):
        parts.append((starts[number], _faded(sound, fades[number], fades[number + 1])))
    whole = np.zeros(at, np.float32)
    for start, sound in parts:
        whole[start : start + len(sound)] += sound
    return whole, starts, fades


def _faded(sound: Floats, before: int, after: int) -> Floats:
    """Equal power: quarter of a sine up, quarter of a cosine down."""
    sound = sound.copy()
    sound[:before] *= np.sin(np.linspace(0, np.pi / 2, before, dtype=np.float32))
    if after:
        sound[-after:] *= np.cos(np.linspace(0, np.pi / 2, after, dtype=np.float32))
    return sound


def _write(path: Path, sound: Floats) -> None:
    """In blocks, for the encoder keeps what it is given on its stack."""
    gain = np.float32(0.9 / max(float(np.abs(sound).max()), 1e-4))
    with soundfile.SoundFile(path, "w", WORKING_RATE, 1, format="OGG", subtype="OPUS") as file:
        for begin in range(0, len(sound), WORKING_RATE):
            file.write(sound[begin : begin + WORKING_RATE] * gain)


def score(spans: Iterable[Span], aired: Sequence[Aired]) -> Score:
    """Compare a scan with what was on air.

    In every second, at its middle, the known tracks on air are compared with those that were
    named: one that is both is right, one that is only named is a false alarm. A boundary's error
    is from that of the track's item to the nearest one of a span of the track that overlaps it.
    """
    named = [span for span in spans if span.match is not None]
    truth = [item for item in aired if item.known]
    end = max([s.end for s in named] + [a.end for a in aired], default=0.0)
    right = claimed = on_air = 0
    for moment in np.arange(0.5, end, 1.0):
        is_on = {a.path for a in truth if a.start <= moment < a.end}
        is_named = {s.match.track.path for s in named if s.match and s.start <= moment < s.end}
        right += len(is_on & is_named)
        claimed += len(is_named)
        on_air += len(is_on)
    errors = [error for item in truth if (error := _boundary_errors(named, item))]
    flat = [value for pair in errors for value in pair]
    return Score(
        precision=right / claimed if claimed else 1.0,
        recall=right / on_air if on_air else 1.0,
        found=len(errors),
        known=len(truth),
        boundary_median=float(np.median(flat)) if flat else float("nan"),
        boundary_95=float(np.quantile(flat, 0.95)) if flat else float("nan"),
    )


def _boundary_errors(named: Sequence[Span], item: Aired) -> tuple[float, float] | None:
    own = [
        span
        for span in named
        if span.match is not None
        and span.match.track.path == item.path
        and min(span.end, item.end) > max(span.start, item.start)
    ]
    if not own:
        return None
    return (
        min(abs(span.start - item.start) for span in own),
        min(abs(span.end - item.end) for span in own),
    )
