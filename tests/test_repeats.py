"""Passages that return: found where they were put, and nowhere else."""

import numpy as np
import pytest

from fingerprint.recognition.copies import APART, repeats, similar
from fingerprint.types import Candidate, Floats

HOP, WINDOW = 0.25, 2.0


def smooth(count: int, seed: int, width: int = 7) -> Floats:
    """Unit vectors that change slowly, as those of overlapping windows do."""
    noise = np.random.default_rng(seed).standard_normal((count + width, 64))
    kernel = np.hanning(width + 2)[1:-1]
    rows = np.stack([np.convolve(column, kernel, "valid") for column in noise.T], axis=1)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)[:count]


def place(offset: float, rate: float = 1.0) -> Candidate:
    return Candidate(0, offset, rate, 0.9)


def find(track: Floats, offset: float, seconds: float = 5.0) -> list[float]:
    return repeats(track, place(offset), hop=HOP, window=WINDOW, seconds=seconds)


def test_a_passage_that_returns_is_found_wherever_it_is() -> None:
    track = smooth(400, 0)
    track[200:240] = track[40:80]
    track[320:360] = track[40:80]
    assert find(track, 12.0) == pytest.approx([52.0, 82.0], abs=HOP / 4)
    assert find(track, 52.0) == pytest.approx([12.0, 82.0], abs=HOP / 4)
    assert find(track, 30.0) == []


def test_a_repeat_between_two_rows_is_found() -> None:
    fine = smooth(4 * 500, 1, 41)
    fine[1_200:1_400] = fine[101:301]  # a quarter of a row beside the grid
    track = fine[::4]
    assert find(track, 8.0) == pytest.approx([8.0 + (1_200 - 101) / 4 * HOP], abs=HOP / 2)


def test_a_loop_repeats_at_every_round_but_not_beside_itself() -> None:
    loop = smooth(40, 2)
    track = np.concatenate([loop] * 6)
    found = find(track, 11.0)
    assert found == pytest.approx([1.0, 21.0, 31.0, 41.0, 51.0], abs=HOP / 4)
    assert min(np.diff(found)) > APART


def test_passage_that_overruns_the_track_has_no_repeats() -> None:
    track = np.concatenate([smooth(40, 3)] * 3)
    assert find(track, -1.0) == []
    assert find(track, 29.0) == []
    assert repeats(track[:1], place(0.0), hop=HOP, window=WINDOW, seconds=1.0) == []


def test_in_a_uniform_track_only_an_identical_passage_is_a_repeat() -> None:
    alike = smooth(400, 4) * 0.1 + smooth(1, 5)
    alike[200:240] = alike[40:80]
    alike /= np.linalg.norm(alike, axis=1, keepdims=True)
    assert find(alike.astype(np.float32), 12.0) == pytest.approx([52.0], abs=HOP / 4)
    assert find(alike.astype(np.float32), 30.0) == []


def test_similar_passages_are_listed_the_nearest_first() -> None:
    track = smooth(400, 0)
    for first, share in ((120, 0.3), (200, 0.6), (320, 1.2)):
        track[first : first + 40] = track[40:80] + share * smooth(40, first)
    track /= np.linalg.norm(track, axis=1, keepdims=True)
    found = similar(track, place(12.0), hop=HOP, window=WINDOW, seconds=5.0)
    assert found[:2] == pytest.approx([32.0, 52.0], abs=HOP / 4)
    assert 82.0 not in found[:2]
    assert similar(track, place(99.0), hop=HOP, window=WINDOW, seconds=5.0) == []
