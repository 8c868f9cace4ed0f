import numpy as np
import pytest

from fingerprint.recognition.alignment import POWER
from fingerprint.recognition.cohort import PASSAGE, PASSAGES, level, sample
from fingerprint.types import Fingerprint, Floats, Ints, Level, Rows


def unit(count: int, seed: int, dim: int = 16) -> Floats:
    vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_level_is_the_mean_and_spread_of_scores_at_every_place() -> None:
    background, query = unit(60, 0), unit(20, 1)
    windows = query[::4]  # a library row apart
    scores = [
        np.mean([background[place + i] @ windows[i] for i in range(5)]) for place in range(56)
    ]
    found = level(background, Fingerprint(query, 0.064), hop=0.256)
    assert found.mean == pytest.approx(np.mean(scores), abs=1e-6)
    assert found.spread == pytest.approx(np.std(scores), abs=1e-6)


def test_clear_windows_count_for_more_by_a_power_of_their_clearness() -> None:
    background, query = unit(60, 0), unit(5, 1)
    clearness = np.array([1, 4, 2, 0.5, 3], np.float32)
    weights = clearness**POWER / np.sum(clearness**POWER)
    scores = [
        sum(weights[i] * (background[place + i] @ query[i]) for i in range(5))
        for place in range(56)
    ]
    found = level(background, Fingerprint(query, 0.256, clearness=clearness), hop=0.256)
    assert found.mean == pytest.approx(np.mean(scores), abs=1e-6)
    assert found.spread == pytest.approx(np.std(scores), abs=1e-6)


def test_silent_windows_do_not_count() -> None:
    background, query = unit(60, 0), unit(5, 1)
    gapped = np.insert(query, 2, np.zeros((3, 16)), axis=0).astype(np.float32)
    assert level(background, Fingerprint(gapped, 0.256), hop=0.256) == level(
        background, Fingerprint(query, 0.256), hop=0.256
    )


def test_the_level_of_an_empty_library_or_query_is_zero() -> None:
    query = Fingerprint(unit(5, 1), 0.064)
    assert level(np.zeros((0, 16), np.float32), query, hop=0.256) == Level(0.0, 0.0)
    assert level(unit(9, 0), Fingerprint(np.zeros((4, 16), np.float32), 0.1), hop=0.2) == Level(
        0.0, 0.0
    )


def test_a_query_longer_than_the_library_still_has_a_level() -> None:
    found = level(unit(6, 0), Fingerprint(unit(400, 1), 0.256), hop=0.256)
    assert found.spread > 0


class Numbers:
    """One track, whose rows hold their own numbers."""

    hop = 0.256

    def __init__(self, total: int) -> None:
        self.rows = Rows(np.array([0, total])) if total else Rows(np.zeros(0, np.int64))

    def vectors(self, rows: Ints) -> Floats:
        return rows[:, None].astype(np.float32)


@pytest.mark.parametrize("total", [0, 10, PASSAGE * PASSAGES, PASSAGE * PASSAGES + 7, 1_000_000])
def test_a_sample_is_of_passages_from_all_over_and_always_the_same(total: int) -> None:
    numbers = Numbers(total)
    found = sample(numbers)[:, 0].astype(int)
    np.testing.assert_array_equal(found, sample(numbers)[:, 0])
    assert len(found) == min(total, PASSAGE * PASSAGES)
    assert len(set(found)) == len(found)
    assert not len(found) or (found.min() >= 0 and found.max() < total)
    if total > 100_000:
        begins = found[::PASSAGE]
        assert (np.diff(found.reshape(-1, PASSAGE), axis=1) == 1).all()
        assert np.diff(begins).max() < 3 * total / PASSAGES
