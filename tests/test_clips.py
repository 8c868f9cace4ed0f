"""Clips against the recordings they are cut from."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fingerprint.lab.corpus import CorpusFile, Recordings
from fingerprint.lab.training.clips import (
    SOUND_RATES,
    Source,
    chain,
    cut,
    draw_place,
    draw_source,
    loop,
)

RATE = 8_000


def tone(frequency: float, seconds: float = 10.0, level: float = 8_000) -> NDArray[np.int16]:
    time = np.arange(round(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * frequency * time)).astype(np.int16)


def test_a_clip_beyond_the_ends_of_a_recording_is_padded_in_place() -> None:
    sound = np.arange(1, 6, dtype=np.int16)
    expected = np.array([0, 0, 1, 2, 3, 4, 5, 0]) / 32_768
    assert np.array_equal(cut(sound, -2, 8), expected.astype(np.float32))


def test_a_virtual_track_has_another_pitch_and_another_track_mixed_in() -> None:
    virtual = Source(tone(440), rate=1.1, other=tone(1_000), other_from=123, other_gain=0.5)
    spectrum = np.abs(np.fft.rfft(virtual.cut(20_000, RATE) * np.hanning(RATE)))
    assert spectrum.argmax() == 484
    assert spectrum[1_100] == pytest.approx(0.5 * spectrum[484], rel=0.05)
    assert spectrum[440] < 1e-2 * spectrum[484]


def test_a_virtual_track_is_the_same_wherever_it_is_cut() -> None:
    rng = np.random.default_rng(0)
    noise = (1_000 * rng.standard_normal((2, 10 * RATE))).astype(np.int16)
    virtual = Source(noise[0], rate=0.9, other=noise[1], other_from=5, other_gain=1.0)
    early, late = virtual.cut(20_000, 16_000), virtual.cut(20_900, 16_000)
    assert np.corrcoef(early[1_000:], late[:-1_000])[0, 1] > 0.99  # 900 / 0.9 later


def test_virtual_tracks_are_as_frequent_as_asked() -> None:
    file = CorpusFile(Path("a"), "", "train", "music", 10.0, RATE, "", "")
    samples = np.concatenate([tone(440), tone(1_000)])
    music = Recordings(samples, np.array([0, 80_000, 160_000]), (file, file))
    rng = np.random.default_rng(0)
    made = [draw_source(music, 0, 0.25, rng).other is not None for _ in range(400)]
    assert np.mean(made) == pytest.approx(0.25, abs=0.06)


def test_quiet_places_are_drawn_again() -> None:
    sound = np.concatenate([tone(440, level=2), tone(440)])
    places = [draw_place(sound, RATE, np.random.default_rng(seed)) for seed in range(50)]
    assert np.mean([place > 70_000 for place in places]) > 0.9


def test_a_short_sound_is_repeated_to_fill_and_has_unit_level() -> None:
    clip = loop(tone(440, seconds=0.25), RATE, np.random.default_rng(0))
    assert len(clip) == RATE
    assert np.sqrt(np.mean(clip**2)) == pytest.approx(1.0, rel=1e-4)
    assert np.allclose(clip[:2_000], clip[2_000:4_000], atol=1e-4)


def test_a_chain_is_of_sounds_that_are_all_as_loud_each_at_its_own_speed() -> None:
    sounds = [tone(1_000, seconds=1.0, level=level) for level in (30, 300, 3_000)]
    clip = chain(sounds, 6 * RATE, np.random.default_rng(0))
    assert len(clip) == 6 * RATE
    frames = clip[: 48 * 1_000].reshape(48, 1_000)
    assert np.sqrt(np.mean(frames**2, axis=1)) == pytest.approx(np.ones(48), abs=0.1)
    spectra = np.abs(np.fft.rfft(frames * np.hanning(1_000)))
    pitches = spectra.argmax(axis=1) * RATE / 1_000
    low, high = (1_000 * rate for rate in SOUND_RATES)
    assert np.all((pitches > low - 10) & (pitches < high + 10))
    assert len(np.unique(pitches)) >= 4


def test_a_chain_of_silence_or_of_single_samples_is_silent_or_finite() -> None:
    rng = np.random.default_rng(0)
    assert not chain([np.zeros(100, np.int16)], RATE, rng).any()
    assert np.isfinite(chain([np.ones(1, np.int16)], 50, rng)).all()
