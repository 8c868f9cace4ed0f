"""Libraries of other sizes: some tracks searched exactly, many tracks by their best impostors."""

from pathlib import Path

import numpy as np
import pytest

from fingerprint.index.landmarks import Query as Landmarks
from fingerprint.lab.calibration.cases import grown
from fingerprint.lab.calibration.large_libraries import (
    IMPOSTORS,
    Impostors,
    SomeTracks,
    Stretch,
    Without,
    best_two,
)
from fingerprint.types import (
    Candidate,
    Circumstances,
    Evidence,
    Floats,
    Hits,
    Ints,
    Level,
    PeakCodes,
    Rows,
    Track,
)


def unit(count: int, seed: int) -> Floats:
    vectors = np.random.default_rng(seed).standard_normal((count, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Whole:
    """A library in memory."""

    def __init__(self) -> None:
        self.stored, self.hop = unit(90, 0), 0.25
        self.rows = Rows(np.array([0, 20, 50, 90]))
        self.block = 16
        self.cohort = self.stored

    def track(self, number: int) -> Track:
        return Track(Path(f"{number}.wav"), 1.0)

    def vectors(self, rows: Ints) -> Floats:
        return self.stored[rows]

    def peaks(self, rows: Ints) -> PeakCodes:
        return np.zeros((len(rows), 8), np.uint16)

    def vote(self, query: Landmarks, most: int) -> list[Candidate]:
        return [Candidate(track, 1.0, 1.0, 0.0) for track in (1, 0, 2)][:most]

    def search(self, vectors: Floats, *, neighbours: int, search_k: int) -> Hits:
        raise NotImplementedError


def test_search_in_a_subset_of_tracks_is_exact() -> None:
    whole = Whole()
    some = SomeTracks.of(whole, [2, 0])
    assert some.rows.starts.tolist() == [0, 40, 60]
    np.testing.assert_array_equal(some.vectors(np.array([0, 40])), whole.stored[[50, 0]])
    query = unit(4, 1)
    query[2] = 0  # silence
    hits = some.search(query, neighbours=5, search_k=0)
    assert set(hits.query.tolist()) == {0, 1, 3}
    cosines = query @ some.stored.T
    for number in (0, 1, 3):
        own = hits.row[hits.query == number]
        assert set(own.tolist()) == set(np.argsort(-cosines[number])[:5].tolist())


def test_landmark_votes_of_a_subset_use_its_own_track_numbers() -> None:
    query = Landmarks(np.zeros(0, np.int64), np.zeros(0, np.int64))
    some = SomeTracks.of(Whole(), [2, 0])
    assert [one.track for one in some.vote(query, 5)] == [1, 0]
    hidden = Without(Whole(), frozenset([1]))
    assert [one.track for one in hidden.vote(query, 5)] == [0, 2]


def test_shortened_tracks_equal_tracks_of_shortened_files() -> None:
    whole = Whole()
    some = SomeTracks.cut(whole, {1: Stretch(5, 15), 0: Stretch(2, 4)}, tail=3)
    assert some.rows.starts.tolist() == [0, 10, 12]
    np.testing.assert_array_equal(some.stored[:7], whole.stored[25:32])
    assert not some.stored[7:10].any()  # windows that would reach beyond the end
    np.testing.assert_array_equal(some.stored[10], whole.stored[2])  # but for a file's first
    assert len(some.stored_peaks) == 12
    found = some.vote(Landmarks(np.zeros(0, np.int64), np.zeros(0, np.int64)), 5)
    assert [(one.track, one.offset) for one in found] == [(0, 1.0 - 5 * 0.25), (1, 1.0 - 2 * 0.25)]


def test_simulated_impostor_scores_match_those_of_a_larger_library() -> None:
    """500 normal scores against 10,000 of the same: drawn and real best agree on average."""
    rng = np.random.default_rng(2)
    drawn, real = [], []
    for _ in range(400):
        few = np.sort(rng.normal(0.3, 0.08, 500))[::-1]
        drawn.append(best_two(few[:IMPOSTORS].tolist(), 500, 10_000, rng, largest=1.0))
        real.append(np.sort(rng.normal(0.3, 0.08, 10_000))[::-1][:2])
    np.testing.assert_allclose(np.mean(drawn, axis=0), np.mean(real, axis=0), atol=0.012)
    assert all(first >= second for first, second in drawn)
    assert max(first for first, _ in drawn) <= 1


def test_without_enough_scores_simulated_impostors_never_win() -> None:
    rng = np.random.default_rng(0)
    assert best_two([0.5], 10, 100, rng) == (-1.0, -1.0)
    assert best_two([0.5, 0.4, 0.3], 10, 0, rng) == (-1.0, -1.0)


HERE = Circumstances(5.0, Level(0.05, 0.07), 1_000)


@pytest.mark.parametrize(
    ("impostors", "score", "margin"),
    [
        ((0.5, 0.4), 0.8, 0.1),  # the runner-up that was there is better
        ((0.75, 0.4), 0.8, 0.05),
        ((0.9, 0.4), 0.9, 0.1),
        ((0.9, 0.88), 0.9, 0.02),
    ],
)
def test_a_grown_library_is_larger_and_its_impostors_count(
    impostors: tuple[float, float], score: float, margin: float
) -> None:
    found = grown(Evidence(0.8, 0.1, HERE), Impostors(impostors, (0.0, 0.0)), 200.0)
    assert found.score == score
    assert found.margin == pytest.approx(margin)
    assert found.given.rows == 200_000
    assert found.given.level == HERE.level
