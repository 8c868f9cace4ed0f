"""Clips against the recordings they are cut from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fingerprint.lab.corpus import CorpusFile, Recordings
from fingerprint.lab.training.sounds import SOUND_RATES, Bank, Sources, chains, draw_tracks

RATE = 8_000
CPU = torch.device("cpu")


def tone(frequency: float, seconds: float = 10.0, level: float = 8_000) -> NDArray[np.int16]:
    time = np.arange(round(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * frequency * time)).astype(np.int16)


def bank(*sounds: NDArray[np.int16]) -> Bank:
    file = CorpusFile(Path("a"), "", "train", "music", 10.0, RATE, "", "")
    starts = np.cumsum([0, *map(len, sounds)])
    return Bank.of(Recordings(np.concatenate(sounds), starts, (file,) * len(sounds)), CPU)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def virtual(music: Bank, rate: float, gain: float, other: int = 1, other_from: int = 0) -> Sources:
    def column(value: float) -> torch.Tensor:
        return torch.tensor([value])

    return Sources(music, column(0), column(rate), column(other), column(other_from), column(gain))


def numbers(values: Sequence[int]) -> torch.Tensor:
    return torch.tensor(values)


def test_a_clip_beyond_the_ends_of_a_recording_is_padded_in_place() -> None:
    sounds = bank(np.full(3, 9, np.int16), np.arange(1, 6, dtype=np.int16), np.full(3, 9, np.int16))
    expected = torch.tensor([[0, 0, 1, 2, 3, 4, 5, 0], [3, 4, 5, 0, 0, 0, 0, 0]]) / 32_768
    assert torch.equal(sounds.cut(numbers([1, 1]), numbers([-2, 2]), 8), expected)


def test_a_virtual_track_has_another_pitch_and_another_track_mixed_in() -> None:
    sources = virtual(bank(tone(440), tone(1_000)), rate=1.1, gain=0.5, other_from=123)
    (clip,) = sources.cut(numbers([20_000]), RATE).numpy()
    spectrum = np.abs(np.fft.rfft(clip * np.hanning(RATE)))
    assert spectrum.argmax() == 484
    assert spectrum[1_100] == pytest.approx(0.5 * spectrum[484], rel=0.05)
    assert spectrum[440] < 1e-2 * spectrum[484]


def test_a_virtual_track_is_the_same_wherever_it_is_cut() -> None:
    noise = (1_000 * np.random.default_rng(0).standard_normal((2, 10 * RATE))).astype(np.int16)
    sources = virtual(bank(*noise), rate=0.9, gain=1.0, other_from=5)
    early, late = (sources.cut(numbers([start]), 16_000)[0].numpy() for start in (20_000, 20_900))
    assert np.corrcoef(early[1_000:], late[:-1_000])[0, 1] > 0.99  # 900 / 0.9 later


def test_virtual_tracks_have_the_wanted_frequency() -> None:
    sources = Sources.draw(bank(tone(440), tone(1_000)), torch.zeros(400).long(), 0.25, seeded())
    made = sources.gain > 0
    assert float(made.float().mean()) == pytest.approx(0.25, abs=0.06)
    assert bool((sources.rate[~made] == 1).all())


def test_quiet_places_are_drawn_again() -> None:
    music = bank(np.concatenate([tone(440, level=2), tone(440)]), tone(440, seconds=0.5))
    places = music.draw_places(torch.zeros(50).long(), RATE, seeded())
    assert float((places > 70_000).float().mean()) > 0.9
    assert music.draw_places(numbers([1]), RATE, seeded()).tolist() == [0]  # shorter than a clip


def test_tracks_are_drawn_once_each_and_long_ones_more_often() -> None:
    music = bank(*(tone(440, seconds=seconds) for seconds in (1, 1, 1, 16)))
    assert sorted(draw_tracks(music, 4, seeded()).tolist()) == [0, 1, 2, 3]
    first = [int(draw_tracks(music, 1, seeded(seed))) for seed in range(300)]
    assert np.mean(np.array(first) == 3) == pytest.approx(4 / 7, abs=0.09)


def test_a_chain_is_of_sounds_that_are_all_as_loud_each_at_its_own_speed() -> None:
    sounds = bank(*(tone(1_000, seconds=1.0, level=level) for level in (30, 300, 3_000)))
    (clip,) = chains(sounds, torch.arange(3), 1, 6 * RATE, seeded()).numpy()
    frames = clip[: 48 * 1_000].reshape(48, 1_000)
    assert np.sqrt(np.mean(frames**2, axis=1)) == pytest.approx(np.ones(48), abs=0.1)
    spectra = np.abs(np.fft.rfft(frames * np.hanning(1_000)))
    pitches = spectra.argmax(axis=1) * RATE / 1_000
    low, high = (1_000 * rate for rate in SOUND_RATES)
    assert np.all((pitches > low - 10) & (pitches < high + 10))
    assert len(np.unique(pitches)) >= 4


def test_a_chain_of_silence_or_of_single_samples_is_silent_or_finite() -> None:
    silence, one = bank(np.zeros(100, np.int16)), bank(np.ones(1, np.int16))
    assert not chains(silence, numbers([0]), 2, RATE, seeded()).any()
    assert bool(torch.isfinite(chains(one, numbers([0]), 2, 50, seeded())).all())
