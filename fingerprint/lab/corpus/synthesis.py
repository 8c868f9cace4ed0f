"""Instruments, drums and an echo by formula, for generated music. NumPy only.

Pitched voices are of four kinds: additive (a spectrum of harmonics), subtractive (a bright one
that darkens), frequency modulation (Chowning 1973) and plucked strings (Karplus and Strong 1983).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fingerprint.types import Floats

DRUMS = ("kick", "snare", "hat", "open hat", "tom", "clap")
TABLE = 2_048  # samples of a single-cycle wave
HARMONICS = 40
LONGEST_NOTE = 6.0  # s
FADE = 0.004  # s at a note's end, against clicks

Rng = np.random.Generator
Wave = NDArray[np.float64]  # until it is mixed


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """An instrument: how it sounds and how it is struck."""

    tone: Callable[[Wave, Wave, float], Wave]
    attack: float  # s
    decay: float  # s, of what is above `sustain`
    sustain: float  # 0..1
    release: float  # s
    vibrato: float  # semitones
    detune: float  # semitones between two copies; one alone at 0


def draw_voice(rng: Rng) -> Voice:
    """An instrument at random."""
    tones = (_draw_additive, _draw_subtractive, _draw_modulated, _draw_plucked)
    tone = tones[int(rng.integers(len(tones)))](rng)
    struck = rng.random() < 0.6
    return Voice(
        tone=tone,
        attack=float(rng.uniform(0.002, 0.02) if struck else rng.uniform(0.02, 0.25)),
        decay=float(10 ** rng.uniform(-1.3, 0.5)),
        sustain=float(rng.uniform(0, 0.3) if struck else rng.uniform(0.4, 1)),
        release=float(10 ** rng.uniform(-1.7, -0.3)),
        vibrato=float(rng.choice([0.0, 0.0, rng.uniform(0.05, 0.4)])),
        detune=float(rng.choice([0.0, rng.uniform(0.03, 0.25)])),
    )


def play(voice: Voice, pitch: int, seconds: float, sample_rate: int) -> Floats:
    """A note of MIDI number `pitch`, held for `seconds`, then released: (T,), peak about 1."""
    held = min(seconds, LONGEST_NOTE)
    time = np.arange(round((held + voice.release) * sample_rate)) / sample_rate
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    while frequency > sample_rate / 6:  # what the band cannot hold sounds an octave lower
        frequency /= 2
    copies = (-voice.detune / 2, voice.detune / 2) if voice.detune else (0.0,)
    sound = np.zeros_like(time)
    for shift in copies:
        bend = 2 ** (shift / 12)
        # The phase of a sine-shaped vibrato at 5.5 Hz, in cycles; its depth is small.
        sway = voice.vibrato / 12 * np.log(2) / (2 * np.pi * 5.5) * np.sin(2 * np.pi * 5.5 * time)
        cycles = frequency * bend * (time - sway)
        sound += voice.tone(cycles, time, frequency * bend / sample_rate) / len(copies)
    return (sound * _envelope(voice, time, held)).astype(np.float32)


def _envelope(voice: Voice, time: Wave, held: float) -> Wave:
    body = voice.sustain + (1 - voice.sustain) * np.exp(-time / voice.decay)
    after = np.exp(-np.maximum(time - held, 0) / (voice.release / 4))
    end = np.clip((time[-1] - time) / FADE, 0, 1)
    shaped: Wave = np.minimum(time / voice.attack, 1) * body * after * end
    return shaped


def _draw_additive(rng: Rng) -> Callable[[Wave, Wave, float], Wave]:
    number = np.arange(1, HARMONICS + 1)
    spectrum = rng.random(HARMONICS) / number ** rng.uniform(0.5, 2.5)
    if rng.random() < 0.3:
        spectrum[1::2] *= 0.1  # hollow, as a clarinet
    return partial(_wave, spectrum)


def _wave(spectrum: Wave, cycles: Wave, _: Wave, pitch: float) -> Wave:
    """A steady spectrum of harmonics, those below half the rate; `pitch` in cycles a sample."""
    allowed = spectrum * (np.arange(1, len(spectrum) + 1) * pitch < 0.5)
    phases = np.exp(2j * np.pi * np.arange(len(spectrum)) ** 2 / len(spectrum))  # a low peak
    table = np.fft.irfft(np.r_[0, allowed * phases], TABLE)
    wave: Wave = table[(cycles * TABLE).astype(np.int64) % TABLE] / np.abs(table).max()
    return wave


def _draw_subtractive(rng: Rng) -> Callable[[Wave, Wave, float], Wave]:
    number = np.arange(1, HARMONICS + 1)
    width = rng.uniform(0.1, 0.5)  # of the pulse; the other wave is a sawtooth
    raw = np.abs(np.sin(np.pi * width * number)) / number if rng.random() < 0.5 else 1 / number
    low, high = np.sort(10 ** rng.uniform(0.2, 1.5, size=2))  # harmonics that the filter lets by
    peak = rng.uniform(0, 2)

    def filtered(cut: float) -> Wave:
        resonance = 1 + peak * np.exp(-(((number - cut) / (0.3 * cut)) ** 2))
        shaped: Wave = raw * resonance / (1 + (number / cut) ** 4)
        return shaped

    return partial(_sweep, filtered(low), filtered(high), float(10 ** rng.uniform(-1.2, 0.3)))


def _sweep(dark: Wave, bright: Wave, decay: float, cycles: Wave, time: Wave, pitch: float) -> Wave:
    share = np.exp(-time / decay)
    both: Wave = share * _wave(bright, cycles, time, pitch)
    return both + (1 - share) * _wave(dark, cycles, time, pitch)


def _draw_modulated(rng: Rng) -> Callable[[Wave, Wave, float], Wave]:
    ratio = float(rng.choice([0.5, 1, 1, 2, 3, 4, 1.41, 3.5]))  # the last two as bells
    return partial(
        _modulated, ratio, float(rng.uniform(0.5, 6)), float(10 ** rng.uniform(-1.2, 0.3))
    )


def _modulated(
    ratio: float, index: float, decay: float, cycles: Wave, time: Wave, pitch: float
) -> Wave:
    # Carson's rule: the index at which the side bands stay below half the rate.
    most = max(0.0, (0.5 / pitch - 1) / ratio - 1)
    depth = min(index, most) * np.exp(-time / decay)
    sound: Wave = np.sin(2 * np.pi * cycles + depth * np.sin(2 * np.pi * ratio * cycles))
    return sound


def _draw_plucked(rng: Rng) -> Callable[[Wave, Wave, float], Wave]:
    seed, damping = int(rng.integers(1 << 32)), float(rng.uniform(0.98, 0.999))
    return partial(_plucked, seed, damping, int(rng.integers(1, 5)))


def _plucked(seed: int, damping: float, softness: int, cycles: Wave, _: Wave, pitch: float) -> Wave:
    """A burst of noise that goes round a loop and is smoothed every time."""
    period = max(8, round(1 / pitch - 0.5))
    # Smoothing is late by half a sample a round; reading the loop at that pace puts it in tune.
    place = np.maximum(cycles, 0) * (period + 0.5)
    rounds = int(place.max()) // period + 2
    burst = np.random.default_rng(seed).uniform(-1, 1, period)
    for _round in range(softness):
        burst = (burst + np.roll(burst, 1)) / 2
    burst -= burst.mean()
    loop = np.empty((rounds, period))
    for i in range(rounds):
        loop[i] = burst
        burst = damping * (burst + np.roll(burst, 1)) / 2
    loop /= np.abs(loop[0]).max()
    return np.interp(place, np.arange(loop.size), loop.ravel())


def draw_kit(rng: Rng, sample_rate: int) -> tuple[Floats, ...]:
    """A sound for each of `DRUMS`."""

    def noise(seconds: float, differences: int) -> Wave:
        burst = rng.standard_normal(round(seconds * sample_rate) + differences)
        return _decaying(np.diff(burst, n=differences) / 2**differences, seconds, sample_rate)

    def tone(high: float, low: float, seconds: float) -> Wave:
        time = np.arange(round(seconds * sample_rate)) / sample_rate
        sweep = (high - low) * 0.03 * (1 - np.exp(-time / 0.03)) + low * time  # cycles
        return _decaying(np.sin(2 * np.pi * sweep), seconds, sample_rate)

    body = rng.uniform(140, 260)  # Hz
    snare = noise(rng.uniform(0.1, 0.35), 1)
    drum = tone(1.5 * body, body, len(snare) / sample_rate)
    tuned = rng.uniform(80, 200)
    kit = (
        0.9 * tone(rng.uniform(120, 400), rng.uniform(40, 70), rng.uniform(0.15, 0.5)),
        0.6 * snare + rng.uniform(0.1, 0.5) * drum[: len(snare)],
        rng.uniform(0.1, 0.4) * noise(rng.uniform(0.03, 0.1), 2),
        rng.uniform(0.1, 0.3) * noise(rng.uniform(0.2, 0.6), 2),
        0.7 * tone(2 * tuned, tuned, rng.uniform(0.2, 0.5)),
        0.4 * noise(rng.uniform(0.08, 0.2), 1),
    )
    return tuple(sound.astype(np.float32) for sound in kit)


def _decaying(sound: Wave, seconds: float, sample_rate: int) -> Wave:
    time = np.arange(len(sound)) / sample_rate
    faded: Wave = sound * np.exp(-5 * time / seconds)
    return faded


def reverberate(sound: Floats, seconds: float, wet: float, sample_rate: int, rng: Rng) -> Floats:
    """Mix in the sound (T,) in a room of decaying noise, `seconds` being its RT60."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    room = rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    room *= wet / np.sqrt(np.sum(room**2))
    size = 1 << (len(sound) + len(room)).bit_length()
    echo = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(room, size), size)
    mixed: Floats = ((1 - wet) * sound + echo[: len(sound)]).astype(np.float32)
    return mixed
