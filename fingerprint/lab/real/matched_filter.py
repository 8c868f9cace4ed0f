"""Find where a track was played in a recording from a microphone, to a few milliseconds.

Whitened spectrograms are correlated. Loudspeaker, room and noise colour the spectrum and hide much
of it, but a frequency that rises above its surroundings in the track does so in the recording, too.

First the blocks of each track are searched for in the whole recording, a frame every 32 ms. Then
each block is located to 8 ms near the place of the track, and a line is fitted through the blocks:

    seconds of the recording = start + (1 + drift) * seconds of the track

because the clocks of player and recorder differ by up to 300 parts per million. The evidence is the
rank of each block's place on the line among all places of the recording: other music of the same
metre fits at every beat, but nowhere better. A block that was not played has a random rank.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil, exp, log

import numpy as np
import soxr
from numpy.typing import NDArray

from fingerprint.types import Clip, Floats

RATE = 8_000  # Hz, of everything here
FRAME = 512  # samples
FINE, COARSE = 64, 256  # samples between frames: 8 and 32 ms
GRID = COARSE / RATE  # s
BINS = slice(16, 224)  # 250 to 3,500 Hz
AROUND = 0.25  # s, of the local mean
MOST = 3.0  # nats above or below it, so that the start of silence does not outweigh everything

BLOCKS = 20  # of a track, at least, unless they get shorter than
BLOCK = (2.0, 5.0)  # s
FFT = 4_096  # coarse frames of the recording in one transform
PLACES = 3  # of a track in the recording that are looked at closely
APART = 2.0  # s between them

DRIFT, DRIFT_STEP = 300e-6, 10e-6  # largest difference of two clocks, and between those tried
REACH = 40  # fine frames, either side of where a block should be
CLOSE = 2  # fine frames off the line for a block to be on it

WINDOW = 0.2  # s of the recording, whose best place counts as one
SHAPE = 0.3  # ranks of a block that was played: Beta(SHAPE, 1); of others: uniform
ACCIDENT = 1e-3  # probability that a track that was not played is found


@dataclass(frozen=True, slots=True)
class Placed:
    """A track in a recording: `start` (s) may be before the recording's, if that began late.

    The track plays from its second `first` to `last`. Of the `blocks` in between, `on_line` are
    within two fine frames of the line. `evidence` (nats) is the logarithm of the likelihood ratio
    of played and not played; `chance` bounds the probability of as much evidence if it was not
    played.
    """

    start: float
    drift: float
    first: float
    last: float
    on_line: int
    blocks: int
    chance: float
    evidence: float

    @property
    def is_sure(self) -> bool:
        return self.chance <= ACCIDENT

    def second_of_track(self, second: float) -> float:
        """The second of the track that plays at a second of the recording."""
        return (second - self.start) / (1 + self.drift)

    def second_of_recording(self, second: float) -> float:
        """The second of the recording at which a second of the track plays."""
        return self.start + (1 + self.drift) * second


def whitened(samples: Floats, hop: int) -> Floats:
    """Levels against those just before and after, (frames, bins).

    Log power less its mean over a quarter of a second. So the spectra of loudspeaker, room, steady
    noise and steady tones cancel, and changes remain.
    """
    samples = np.pad(samples, (0, max(0, FRAME - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::hop]
    window = np.hanning(FRAME).astype(np.float32)
    power = np.empty((len(frames), BINS.stop - BINS.start), np.float32)
    for begin in range(0, len(frames), FFT):
        spectrum = np.fft.rfft(frames[begin : begin + FFT] * window, axis=1)[:, BINS]
        power[begin : begin + FFT] = spectrum.real**2 + spectrum.imag**2
    level = np.log(power + 1e-6 * power.mean() + 1e-12, out=power)
    width = round(AROUND * RATE / hop) // 2
    number = np.arange(len(level))
    first, last = np.maximum(number - width, 0), np.minimum(number + width + 1, len(level))
    sums = np.concatenate([np.zeros_like(level[:1]), level]).cumsum(axis=0, dtype=np.float64)
    level -= (sums[last] - sums[first]) / (last - first)[:, None]
    whole: Floats = np.clip(level, -MOST, MOST, out=level)
    return whole


class Recording:
    """A recording from a microphone, in which tracks are searched for."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        rate = clip.sample_rate
        self.samples: Floats = (
            clip.samples if rate == RATE else soxr.resample(clip.samples, rate, RATE)
        )

    @cached_property
    def _spectra(self) -> list[NDArray[np.complex64]]:
        """Transforms (bins, FFT / 2 + 1) of stretches that overlap by half."""
        levels = whitened(self.samples, COARSE).T
        stretches = (
            levels[:, begin : begin + FFT] for begin in range(0, levels.shape[1], FFT // 2)
        )
        return [_transform(stretch) for stretch in stretches]

    def find(self, track: Clip) -> Placed | None:
        """The most likely place of the track; None if one of the two is too short."""
        duration = len(track.samples) / RATE
        block = round(min(max(duration / BLOCKS, BLOCK[0]), BLOCK[1]) / GRID) * GRID
        starts = np.arange(0, duration - block, block).astype(np.float32)
        if not len(starts) or len(self.samples) < block * RATE:
            return None
        levels, length = whitened(track.samples, COARSE), round(block / GRID)
        firsts = np.round(starts / GRID).astype(int)
        evidence = np.stack(
            [_evidence(self._correlated(levels[at : at + length])) for at in firsts]
        )
        fine = whitened(track.samples, FINE)
        found = []
        for place in _places(evidence, starts):
            matched = _along(evidence, place + starts, ceil(DRIFT * duration / GRID)) > 0
            start, drift, on_line = self._line(fine, starts, block, place, matched)
            own = _along(evidence, start + (1 + drift) * starts, 1)
            begin, end, most = _likeliest_stretch(own)
            begin, end = _trimmed(on_line, begin, end)
            found.append(
                Placed(
                    start=start,
                    drift=drift,
                    first=float(starts[begin]),
                    last=float(starts[end - 1]) + block,
                    on_line=int(on_line[begin:end].sum()),
                    blocks=end - begin,
                    chance=min(1.0, evidence.size * exp(-most)),
                    evidence=most,
                )
            )
        return max(found, key=lambda one: one.evidence)

    def _correlated(self, levels: Floats) -> Floats:
        """The product of a block's levels (frames, bins) with the recording's at every frame."""
        spectrum = np.conj(_transform(levels.T))
        pieces = [
            np.fft.irfft(np.einsum("fk,fk->k", stretch, spectrum), FFT)[: FFT // 2]
            for stretch in self._spectra
        ]
        total = ceil(len(self.samples) / COARSE)
        return np.concatenate(pieces)[:total].astype(np.float32)

    def _line(
        self,
        track: Floats,
        starts: Floats,
        block: float,
        place: float,
        matched: NDArray[np.bool_],
    ) -> tuple[float, float, NDArray[np.bool_]]:
        """The line through the `matched` blocks of a track that begins about at `place`.

        Returns its start and drift, and which of the blocks are on it.
        """
        frame = FINE / RATE
        length = round(block / frame)
        along = (starts - starts.mean()) / frame
        around = self._around(place - REACH * frame, len(track) + 2 * REACH)
        curves = np.stack(
            [
                _products(track[first : first + length], around[first : first + length + 2 * REACH])
                for first in np.round(starts / frame).astype(int)
            ]
        )  # (blocks, 2 * REACH + 1)
        matched = matched & (curves.std(axis=1) > 0)
        drift, shift = _steepest(np.where(matched[:, None], _standardised(curves), 0), along)
        peaks = np.array([_peak(curve) for curve in curves])  # frames
        for _ in range(3):
            on_line = matched & (np.abs(peaks - shift - drift * along) <= CLOSE)
            if on_line.sum() < 3:
                break
            slope = np.polyfit(along[on_line], peaks[on_line], 1)[0]
            drift = float(np.clip(slope, -DRIFT, DRIFT))
            shift = float(np.mean(peaks[on_line] - drift * along[on_line]))
        start = place + (shift - REACH) * frame - drift * float(starts.mean())
        return start, drift, on_line

    def _around(self, second: float, frames: int) -> Floats:
        """Fine frames of the recording from a second on, zeros where there is none."""
        context = round(AROUND * RATE / FINE) * FINE
        begin = round(second * RATE)
        length = (frames - 1) * FINE + FRAME
        first, last = max(0, begin - context), min(len(self.samples), begin + length + context)
        levels = np.zeros((frames, BINS.stop - BINS.start), np.float32)
        if last - first < FRAME:
            return levels
        first += (begin - first) % FINE  # frames fall on `begin`
        found = whitened(self.samples[first:last], FINE)
        skip = (begin - first) // FINE
        source = found[max(0, skip) : max(0, skip) + frames - max(0, -skip)]
        levels[max(0, -skip) : max(0, -skip) + len(source)] = source
        return levels

    def likeness(self, track: Clip, placed: Placed, second: float, seconds: float) -> float:
        """The cosine of recording and track, whitened, in a passage of the recording."""
        frames = int(seconds * RATE) // FINE
        begin = round(placed.second_of_track(second) * RATE)
        played = whitened(track.samples[max(0, begin) : begin + frames * FINE + FRAME], FINE)
        recorded = self._around(second, len(played))
        size = np.linalg.norm(played) * np.linalg.norm(recorded)
        return float(np.vdot(played, recorded) / size) if size else 0.0


def _products(block: Floats, around: Floats) -> Floats:
    """The product of a block (n, bins) with all stretches of `around` (n + 2 REACH, bins)."""
    n = len(block)
    return np.array([np.vdot(block, around[lag : lag + n]) for lag in range(2 * REACH + 1)])


def _transform(levels: Floats) -> NDArray[np.complex64]:
    """Of each bin's levels over time, (bins, frames), padded: (bins, FFT / 2 + 1)."""
    return np.fft.rfft(levels, FFT, axis=1).astype(np.complex64, copy=False)


def _standardised(curves: Floats) -> Floats:
    """Less the median, over the spread, along the last axis."""
    centred = curves - np.median(curves, axis=-1, keepdims=True)
    spread = 1.4826 * np.median(np.abs(centred), axis=-1, keepdims=True)
    scores: Floats = centred / np.maximum(spread, 1e-9)
    return scores


def _evidence(curve: Floats) -> Floats:
    """Logarithm of the likelihood ratio, at every frame, of the block played there or not played.

    It follows from the share of windows of the recording that have a place as good.
    """
    width = round(WINDOW / GRID)
    windows = np.pad(curve, (0, -len(curve) % width), mode="edge").reshape(-1, width).max(axis=1)
    as_good = len(windows) - np.searchsorted(np.sort(windows), curve)
    rank = np.maximum(as_good, 1) / len(windows)
    return (log(SHAPE) + (SHAPE - 1) * np.log(rank)).astype(np.float32)


def _places(evidence: Floats, starts: Floats) -> Iterator[float]:
    """The likeliest seconds of the recording at which a track begins, best first."""
    before = round(float(starts[-1]) / GRID)  # a track may begin so much earlier
    sums = np.zeros(before + evidence.shape[1], np.float64)
    for start, curve in zip(starts, evidence, strict=True):
        first = round(float(start) / GRID)
        near = _highest_near(curve, ceil(DRIFT * abs(start - starts.mean()) / GRID))
        sums[before - first : before - first + len(near)] += np.maximum(near, 0)
    away = round(APART / GRID)
    for _ in range(PLACES):
        best = int(np.argmax(sums))
        yield (best - before) * GRID
        sums[max(0, best - away) : best + away] = -np.inf


def _along(evidence: Floats, seconds: Floats, reach: int) -> Floats:
    """The evidence of each block about a second of the recording, within `reach` frames."""
    frames = np.round(seconds / GRID).astype(int)
    total = evidence.shape[1]
    own = [
        curve[max(0, frame - reach) : frame + reach + 1].max() if 0 <= frame < total else log(SHAPE)
        for curve, frame in zip(evidence, frames, strict=True)
    ]
    return np.array(own, np.float32)


def _highest_near(curve: Floats, reach: int) -> Floats:
    """The highest value within `reach` of each."""
    padded = np.pad(curve, reach, mode="edge")
    highest: Floats = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1)
    return highest


def _steepest(scores: Floats, along: Floats) -> tuple[float, float]:
    """Drift and shift (frames) of the line on which the blocks' scores add up to most."""
    padded = np.pad(scores, ((0, 0), (REACH, REACH)))
    rows = np.arange(len(scores))[:, None]
    lags = np.arange(2 * REACH + 1)
    best, found = -np.inf, (0.0, float(REACH))
    for drift in np.arange(-DRIFT, DRIFT + DRIFT_STEP / 2, DRIFT_STEP):
        moved = np.round(drift * along).astype(int)[:, None]
        columns = np.clip(REACH + lags + moved, 0, padded.shape[1] - 1)
        sums = padded[rows, columns].sum(axis=0)
        if sums.max() > best:
            best, found = float(sums.max()), (float(drift), float(sums.argmax()))
    return found


def _peak(curve: Floats) -> float:
    """Where the curve is highest, between its points by a parabola."""
    at = int(curve.argmax())
    if not 0 < at < len(curve) - 1:
        return float(at)
    before, top, after = curve[at - 1 : at + 2]
    bend = before - 2 * top + after
    return at + float((before - after) / (2 * bend)) if bend else float(at)


def _likeliest_stretch(evidence: Floats) -> tuple[int, int, float]:
    """Begin and end of the stretch of blocks with most evidence, and that (Kadane's algorithm)."""
    best, begin, total = (0, 1, float(evidence[0])), 0, 0.0
    for number, value in enumerate(evidence):
        if total <= 0:
            begin, total = number, 0.0
        total += float(value)
        if total > best[2]:
            best = (begin, number + 1, total)
    return best


def _trimmed(on_line: NDArray[np.bool_], begin: int, end: int) -> tuple[int, int]:
    """The stretch without ends of a single block, which may lie on the line by chance."""
    while end - begin > 3 and (not on_line[end - 1] or on_line[end - 3 : end].sum() < 2):
        end -= 1
    while end - begin > 3 and (not on_line[begin] or on_line[begin : begin + 3].sum() < 2):
        begin += 1
    return begin, end
