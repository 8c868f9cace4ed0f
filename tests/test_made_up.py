"""Sounds by formula: as long as asked for, the same for the same seed, and audible."""

import numpy as np
import pytest

from fingerprint.lab.benchmark.made_up import KINDS, LONGEST, SHORTEST, made_up, short_sound
from fingerprint.lab.benchmark.material import WORKING_RATE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [1.0, 3.7])
def test_every_kind_is_a_sound(kind: str, seconds: float) -> None:
    made = [made_up(kind, seconds, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert {len(sound) for sound in made} == {round(seconds * WORKING_RATE)}
    assert all(np.isfinite(sound).all() for sound in made)
    assert all(float(np.abs(sound).max()) == pytest.approx(0.5) for sound in made)
    np.testing.assert_array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def test_short_sounds_have_their_lengths_and_differ() -> None:
    rng = np.random.default_rng(0)
    sounds = [short_sound(rng) for _ in range(50)]
    seconds = [len(sound) / WORKING_RATE for sound in sounds]
    assert SHORTEST - 0.01 <= min(seconds) < 1 < 4 < max(seconds) <= LONGEST + 0.01
    assert len({sound.tobytes() for sound in sounds}) == 50
