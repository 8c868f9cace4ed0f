"""Simulated rooms sound as long and as near as was asked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fingerprint.errors import ConfigError
from fingerprint.lab.corpus.config import RoomsConfig
from fingerprint.lab.corpus.rooms import direct_path, simulate_room, stack_aligned
from fingerprint.types import Floats

RATE = 8_000
ROOMS = RoomsConfig(
    count=3,
    seed=5,
    length=(4.0, 6.0),
    width=(4.0, 5.0),
    height=(2.5, 3.0),
    reverberation=(0.5, 0.5),
    distance=(1.0, 2.0),
)


def reverberation(response: Floats) -> float:
    """Seconds for a decay by 60 dB, from the backward integral between -5 and -25 dB."""
    energy = np.cumsum(np.square(response, dtype=np.float64)[::-1])[::-1]
    level = 10 * np.log10(energy / energy[0] + 1e-12)
    return float(3 * (np.argmax(level < -25) - np.argmax(level < -5)) / RATE)


def directness(response: Floats) -> float:
    """Share of the energy within 2 ms of the direct path."""
    return float(np.sum(np.square(response[: RATE // 500])))


def rooms(**ranges: tuple[float, float]) -> Floats:
    config = ROOMS.model_copy(update=ranges)
    return stack_aligned([simulate_room(config, i, RATE) for i in range(config.count)], RATE)


@pytest.mark.parametrize("seconds", [0.25, 0.5, 0.9])
def test_a_room_has_the_reverberation_time_wanted(seconds: float) -> None:
    found = [reverberation(room) for room in rooms(reverberation=(seconds, seconds))]
    assert np.mean(found) == pytest.approx(seconds, rel=0.3)


def test_a_near_source_has_a_stronger_direct_path_than_a_far_one() -> None:
    near, far = rooms(distance=(0.3, 0.4)), rooms(distance=(2.5, 3.5))
    assert min(map(directness, near)) > max(map(directness, far))


def test_every_room_is_another_and_the_seed_decides() -> None:
    first = rooms()
    assert np.array_equal(first, rooms())
    assert not np.array_equal(first[0], first[1])
    other = simulate_room(ROOMS.model_copy(update={"seed": 6}), 0, RATE)
    assert not np.array_equal(first[0], stack_aligned([other], RATE)[0])


@pytest.mark.parametrize("ranges", [{"distance": (20, 30)}, {"reverberation": (1e-4, 1e-3)}])
def test_impossible_rooms_are_an_error_not_an_endless_search(
    ranges: dict[str, tuple[float, float]],
) -> None:
    with pytest.raises(ConfigError, match=r"apart|reverberation"):
        rooms(**ranges)


@given(
    delay=st.integers(0, 3_000),
    gain=st.floats(0.01, 10) | st.floats(-10, -0.01),
    tail=st.integers(1, 2_000),
)
def test_alignment_finds_a_known_direct_path_of_either_polarity(
    delay: int, gain: float, tail: int
) -> None:
    response = np.zeros(delay + tail + 1, np.float32)
    response[delay:] = 0.4 * np.exp(-np.arange(tail + 1) / 300)
    response[delay] = 1
    response *= gain
    assert direct_path(response) == delay
    aligned = stack_aligned([response], 1_000)[0]
    assert np.sign(aligned[0]) == np.sign(gain)
    assert np.sum(np.square(aligned)) == pytest.approx(1, abs=1e-5)
