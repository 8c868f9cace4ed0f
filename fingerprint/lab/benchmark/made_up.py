"""Sounds made by formula that are not music, and short sounds for libraries. NumPy only."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fingerprint.lab.benchmark.material import WORKING_RATE as RATE
from fingerprint.lab.benchmark.material import Rng
from fingerprint.types import Floats

Wave = NDArray[np.float64]

PEAK = 0.5  # of full scale
KEYS = ((697, 770, 852, 941), (1209, 1336, 1477, 1633))  # Hz, of a telephone's keys (ITU-T Q.23)
FORMANTS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480))  # Hz
SHORTEST, LONGEST = 0.6, 5.0  # s of a short sound


def made_up(kind: str, seconds: float, rng: Rng) -> Floats:
    """A sound of one of `KINDS`, mono at `WORKING_RATE`."""
    wave = KINDS[kind](round(seconds * RATE), rng)
    return _at_peak(wave)


def short_sound(rng: Rng) -> Floats:
    """A sting, a word or an effect of 0.6 to 5 s, of decaying tones and bursts of noise."""
    length = round(float(np.exp(rng.uniform(np.log(SHORTEST), np.log(LONGEST)))) * RATE)
    wave = np.zeros(length)
    for _ in range(int(rng.integers(3, 6) * max(1, length // RATE))):
        start = int(rng.integers(length // 2 if length < RATE else length))
        time = np.arange(length - start) / RATE
        decay = np.exp(-time / rng.uniform(0.05, 0.5))
        if rng.random() < 0.8:
            wave[start:] += decay * np.sin(2 * np.pi * rng.uniform(150, 2500) * time)
        else:
            wave[start:] += 0.3 * decay * rng.standard_normal(len(time))
    return _at_peak(wave)


def _at_peak(wave: Wave) -> Floats:
    samples: Floats = (PEAK * wave / max(float(np.abs(wave).max()), 1e-9)).astype(np.float32)
    return samples


def _time(length: int) -> Wave:
    return np.arange(length) / RATE


def _clicks(length: int, rng: Rng) -> Wave:
    wave = np.zeros(length)
    wave[rng.integers(length, size=int(rng.integers(1, 30)))] = rng.choice([-1.0, 1.0])
    return np.convolve(wave, np.exp(-np.arange(64) / rng.uniform(0.5, 20)))[:length]


def _bursts(length: int, rng: Rng) -> Wave:
    gate = np.repeat(rng.random(length // 800 + 1) < rng.uniform(0.1, 0.6), 800)[:length]
    wave: Wave = gate * _noise(length, rng)
    return wave


def _siren(length: int, rng: Rng) -> Wave:
    low, period = rng.uniform(300, 900), rng.uniform(0.3, 5)
    sway = np.sin(2 * np.pi * _time(length) / period)
    if rng.random() < 1 / 2:  # two tones in turn
        sway = np.sign(sway)
    frequency = low * (1 + rng.uniform(0.2, 1) * (1 + sway) / 2)
    wave: Wave = np.tanh(rng.uniform(0.5, 4) * np.sin(2 * np.pi * np.cumsum(frequency) / RATE))
    return wave


def _keys(length: int, rng: Rng) -> Wave:
    step = round(rng.uniform(0.08, 0.3) * RATE)
    wave, time = np.zeros(length), _time(step)
    for start in range(0, length - step, step + round(rng.uniform(0.03, 0.2) * RATE)):
        for group in KEYS:
            wave[start : start + step] += np.sin(2 * np.pi * rng.choice(group) * time)
    return wave


def _hum(length: int, rng: Rng) -> Wave:
    mains = float(rng.choice([50, 60])) * (1 + rng.normal(0, 1e-3))
    time = _time(length)
    wave: Wave = np.sum(
        [rng.random() / k * np.sin(2 * np.pi * k * mains * time) for k in range(1, 20)], axis=0
    )
    return wave + rng.uniform(0, 0.1) * rng.standard_normal(length)


def _drums(length: int, rng: Rng) -> Wave:
    wave = np.zeros(length)
    beat = rng.uniform(0.2, 0.6) / 2
    for number in range(int(length / RATE / beat)):
        start = round(number * beat * RATE)
        time = _time(length - start)
        kind = number % 4 if rng.random() < 0.8 else int(rng.integers(4))
        if kind == 0:
            wave[start:] += np.exp(-8 * time) * np.sin(
                2 * np.pi * 60 * time * (1 + np.exp(-30 * time))
            )
        elif kind == 2:
            wave[start:] += 0.5 * np.exp(-15 * time) * rng.standard_normal(len(time))
        elif rng.random() < 0.7:
            wave[start:] += 0.2 * np.exp(-60 * time) * rng.standard_normal(len(time))
    return wave


def _modem(length: int, rng: Rng) -> Wave:
    rate = float(rng.choice([45.45, 300, 1200]))  # baud
    bits = rng.integers(2, size=int(length / RATE * rate) + 2)
    low, shift = rng.uniform(900, 2000), float(rng.choice([170, 200, 850, 1000]))
    frequency = low + shift * bits[(_time(length) * rate).astype(int)]
    wave: Wave = np.sin(2 * np.pi * np.cumsum(frequency) / RATE)
    return wave


def _noise(length: int, rng: Rng) -> Wave:
    spectrum = np.fft.rfft(rng.standard_normal(length))
    tilt = np.maximum(np.arange(len(spectrum)), 1.0) ** rng.uniform(-1.5, 0.5)
    wave: Wave = np.fft.irfft(spectrum * tilt, length)
    moments = np.arange(0, length / RATE + 0.5, 0.5)  # s
    swell = np.interp(_time(length), moments, rng.uniform(0.1, 1, len(moments)))
    return wave * swell


def _voice(length: int, rng: Rng) -> Wave:
    """Vowels of a buzzing source, with pauses and hisses, as speech has them."""
    pitch = rng.uniform(90, 250)
    parts: list[Wave] = []
    total = 0
    while total < length:
        size = round(rng.uniform(0.08, 0.3) * RATE)
        time, shape = _time(size), np.hanning(size)
        kind = rng.random()
        if kind < 0.65:
            here = pitch * (1 + 0.15 * rng.standard_normal() + 0.1 * time)
            phase = 2 * np.pi * np.cumsum(here) / RATE
            formants = FORMANTS[int(rng.integers(len(FORMANTS)))]
            part = np.zeros(size)
            for k in range(1, int(4_000 / pitch)):
                gain = sum(1 / (1 + ((k * pitch - f) / 100) ** 2) for f in formants)
                part += gain / k**0.5 * np.sin(k * phase)
        elif kind < 0.85:
            part = 0.3 * np.diff(rng.standard_normal(size + 1))
        else:
            part = np.zeros(size)
        parts.append(shape * part)
        total += size
    return np.concatenate(parts)[:length]


KINDS: dict[str, Callable[[int, Rng], Wave]] = {
    "clicks": _clicks,
    "bursts": _bursts,
    "sirens": _siren,
    "telephone keys": _keys,
    "hum": _hum,
    "drums": _drums,
    "modems": _modem,
    "swelling noise": _noise,
    "vowels": _voice,
}
