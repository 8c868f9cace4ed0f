"""The same recording twice in a library, at different places and off each other's grid."""

import numpy as np
import pytest

from fingerprint.recognition.confidence import RUNNER_UP, evidence_of
from fingerprint.recognition.copies import SAME, likeness
from fingerprint.types import Candidate, Circumstances, Floats, Ints, Level, Rows

HOP = 0.25


def walk(seed: int, count: int, dim: int = 32) -> Floats:
    """A smooth path on the sphere, ten points a row."""
    steps = np.random.default_rng(seed).standard_normal((count * 10 + 40, dim))
    smooth = np.apply_along_axis(lambda x: np.convolve(x, np.hanning(40), "valid"), 0, steps)
    return (smooth / np.linalg.norm(smooth, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def library() -> Floats:
    """Track 0; track 1, the same 0.9 s (3.6 rows) on; track 2, another; track 3, track 0 again."""
    path, other = walk(0, 60), walk(1, 60)
    return np.concatenate([path[0:500:10], path[36:536:10], other[0:500:10], path[0:500:10]])


class Stored:
    hop = HOP
    rows = Rows(np.arange(0, 201, 50))

    def __init__(self, stored: Floats) -> None:
        self._stored = stored

    def vectors(self, rows: Ints) -> Floats:
        return self._stored[rows]


def compare(library: Floats, *places: Candidate) -> list[list[bool]]:
    same = likeness(places, Stored(library), seconds=3.0) >= SAME
    return same.tolist()  # type: ignore[no-any-return]


def place(track: int, offset: float, score: float = 0.8) -> Candidate:
    return Candidate(track, offset, 1.0, score)


def test_copies_are_detected_at_any_offset_between_row_grids(library: Floats) -> None:
    same = compare(library, place(0, 5.03), place(1, 4.13), place(2, 5.03), place(3, 5.03))
    assert same[0] == [True, True, False, True]
    assert same[2] == [False, False, True, False]


def test_another_place_of_the_same_track_is_not_the_same_sound(library: Floats) -> None:
    assert compare(library, place(0, 2.0), place(3, 7.0))[0] == [True, False]


def test_places_that_overrun_a_track_never_look_beyond_it(library: Floats) -> None:
    same = compare(library, place(0, 11.5), place(3, 11.5), place(1, -2.0), place(2, 99.0))
    assert same[0] == [True, True, False, False]


def test_copies_do_not_lower_each_other_s_margin() -> None:
    candidates = [place(0, 5.0, 0.8), place(1, 4.1, 0.79), place(2, 5.0, 0.45)]
    copies = np.eye(3, dtype=bool)
    copies[0, 1] = copies[1, 0] = True
    here = Circumstances(5.0, Level(0.1, 0.05), 1_000)
    alone, with_copy = evidence_of(candidates, here), evidence_of(candidates, here, copies)
    assert alone[0].margin == pytest.approx(0.01)
    assert [e.margin for e in with_copy] == pytest.approx([0.35, 0.34, -0.35])
    only = evidence_of(candidates[:2], here, copies[:2, :2])
    assert only[0].margin == pytest.approx(0.8 - (0.1 + RUNNER_UP * 0.05))
