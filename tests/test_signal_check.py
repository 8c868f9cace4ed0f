"""What holds nothing to recognise is refused, and music is not, however noisy."""

from collections.abc import Callable

import numpy as np
import pytest

from fingerprint.recognition.signal_check import nothing_in
from fingerprint.types import Clip, Floats

RATE = 8_000
SECONDS = (1.0, 2.0, 5.0, 20.0)


def clip(samples: np.ndarray) -> Clip:
    return Clip(samples.astype(np.float32), RATE)


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("level", [1e-3, 0.1, 1.0])
def test_white_noise_is_steady_noise(seconds: float, level: float) -> None:
    rng = np.random.default_rng(int(seconds))
    noises = [clip(level * rng.standard_normal(round(seconds * RATE))) for _ in range(30)]
    assert sum(nothing_in(noise) == "steady noise" for noise in noises) >= 29


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("frequency", [131.3, 440.0, 1_003.7, 3_517.9])
def test_a_tone_is_a_steady_tone(seconds: float, frequency: float) -> None:
    time = np.arange(round(seconds * RATE)) / RATE
    wave = np.sin(2 * np.pi * frequency * time)
    assert nothing_in(clip(0.3 * wave)) == "a steady tone"
    assert nothing_in(clip(0.3 * np.sign(wave))) == "a steady tone"


def test_silence_and_near_silence_are_detected() -> None:
    rng = np.random.default_rng(0)
    assert nothing_in(clip(np.zeros(RATE))) == "silence"
    assert nothing_in(clip(np.zeros(0))) == "silence"
    assert nothing_in(clip(np.full(RATE, 0.5))) == "silence"  # a constant voltage
    assert nothing_in(clip(3e-5 * rng.standard_normal(5 * RATE))) == "silence"  # -90 dB


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("snr_db", [60.0, 10.0, 0.0])
def test_music_is_not_refused(song: Callable[..., Floats], seconds: float, snr_db: float) -> None:
    for seed in range(10):
        music = song(seed, seconds)
        noise = np.random.default_rng(seed).standard_normal(len(music))
        noise *= np.sqrt(np.mean(music**2)) * 10 ** (-snr_db / 20)
        assert nothing_in(clip(music + noise)) is None


def test_clip_too_short_to_judge_is_not_refused() -> None:
    assert nothing_in(clip(np.random.default_rng(0).standard_normal(RATE // 4))) is None


@pytest.mark.parametrize("length", [1, 132])
def test_a_click_in_silence_is_hardly_any_sound(length: int) -> None:
    """dejavu issues 109 and 102: a click as the recording starts, then silence, named a song."""
    samples = np.zeros(8 * RATE)
    samples[100 : 100 + length] = 0.8 * np.exp(-np.arange(length) / 33)
    assert nothing_in(clip(samples)) == "hardly any sound"
    samples += 0.02 * np.sin(2 * np.pi * np.cumsum(np.linspace(300, 900, len(samples))) / RATE)
    assert nothing_in(clip(samples)) is None
