"""Spectral peaks: what they are, how they are stored, and that chunks leave no trace."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from library_world import RATE, busy_song

from fingerprint.audio.peaks import (
    BINS,
    BLOCK,
    EMPTY,
    HOP,
    SIZE,
    PeakExtractor,
    joined,
    kept_of,
    peaks_of,
    positions,
)
from fingerprint.types import Clip, Floats

FEW = settings(deadline=None, derandomize=True, max_examples=25)


def noise(seconds: float, seed: int = 0) -> Floats:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (0.1 * samples).astype(np.float32)


def bin_of(hertz: float) -> int:
    return round(hertz * SIZE / RATE) - BINS[0]


def test_a_beep_is_a_peak_at_its_time_and_frequency() -> None:
    samples = 1e-3 * noise(4.0)
    begin, length, hertz = 2.0, 0.064, 1_500.0
    time = np.arange(round(length * RATE)) / RATE
    first = round(begin * RATE)
    samples[first : first + len(time)] += np.sin(2 * np.pi * hertz * time)
    frame, bin_ = positions(peaks_of(Clip(samples, RATE)), BLOCK)
    middle = (first + len(time) / 2 - SIZE / 2) / HOP
    near = (np.abs(frame - middle) <= 1) & (np.abs(bin_ - bin_of(hertz)) <= 1)
    assert near.any()


def test_silence_and_a_constant_have_no_peaks() -> None:
    for level in (0.0, 0.5):
        codes = peaks_of(Clip(np.full(3 * RATE, level, np.float32), RATE))
        assert (codes[2:-2] == EMPTY).all()


def test_the_level_of_a_recording_does_not_move_its_peaks() -> None:
    clip = busy_song(3, 6.0)
    loud, quiet = (peaks_of(Clip(clip * gain, RATE)) for gain in (np.float32(2.0), np.float32(0.5)))
    assert np.mean(loud == quiet) > 0.99


@FEW
@given(
    st.floats(0.01, 9.0),
    st.lists(st.integers(1, 30_000), min_size=1, max_size=12),
    st.sampled_from([6, 16, 31]),
)
def test_chunks_of_any_length_give_the_same_peaks(
    seconds: float, chunks: list[int], block: int
) -> None:
    samples = busy_song(1, 10.0)[: round(seconds * RATE)]
    whole = peaks_of(Clip(samples, RATE), block=block)
    extractor, rest, turn = PeakExtractor(RATE, block=block), samples, 0
    while len(rest):
        size = chunks[turn % len(chunks)]
        extractor.take(rest[:size])
        rest, turn = rest[size:], turn + 1
    np.testing.assert_array_equal(extractor.end(), whole)
    assert whole.shape[1] == kept_of(block)


def test_blocks_are_of_one_size_and_cover_the_recording_to_its_end() -> None:
    codes = peaks_of(Clip(noise(7.3), RATE))
    frames = (round(7.3 * RATE) - SIZE) // HOP + 1
    assert codes.shape == (-(-frames // BLOCK), kept_of(BLOCK))
    assert codes.dtype == np.uint16
    frame, _ = positions(codes, BLOCK)
    assert frame.max() >= frames - 2 * BLOCK
    assert frame.max() < frames


@pytest.mark.parametrize("step", [1, 2, 3])
def test_joined_blocks_hold_the_same_peaks(step: int) -> None:
    codes = peaks_of(Clip(noise(5.0), RATE))
    one = positions(codes, BLOCK)
    other = positions(joined(codes, step, BLOCK), step * BLOCK)
    assert sorted(zip(*one, strict=True)) == sorted(zip(*other, strict=True))


def test_another_sample_rate_has_much_the_same_peaks() -> None:
    rng = np.random.default_rng(4)
    time = np.arange(6 * 16_000) / 16_000
    chords = rng.uniform(300, 3_500, (13, 3))[(time * 2).astype(int)]
    double = (0.2 * np.sin(2 * np.pi * chords * time[:, None]).sum(axis=1)).astype(np.float32)
    low = peaks_of(Clip(double[::2].copy(), RATE))
    high = peaks_of(Clip(double, 16_000))
    there = [set(zip(*positions(codes, BLOCK), strict=True)) for codes in (low, high)]
    assert len(there[0] & there[1]) > 0.5 * len(there[0])
