"""Which part of a query is of its track: rows of walks on the sphere, cut and joined by hand."""

import numpy as np
import pytest

from fingerprint.recognition.overlap import Part, best_stretches, part_in_track
from fingerprint.types import Candidate, Fingerprint, Floats, Ints, Rows

HOP, QUERY_HOP, WINDOW = 0.256, 0.064, 1.9  # s
SHIFTS = 4  # query rows to a library row
TRACK = 100  # rows


def walk(seed: int, count: int) -> Floats:
    """Rows a query hop apart; windows that overlap are alike, others are not."""
    noise = np.random.default_rng(seed).standard_normal((count + 30, 64))
    total = np.cumsum(noise, axis=0)
    rows = total[30:] - total[:-30]
    unit: Floats = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


DENSE = walk(0, SHIFTS * TRACK)


class Stored:
    """One track after another."""

    hop = HOP
    rows = Rows(np.array([0, 50, 50 + TRACK]))

    def vectors(self, rows: Ints) -> Floats:
        return np.concatenate([walk(1, 200)[::SHIFTS], DENSE[::SHIFTS]])[rows]


def joined(*pieces: Floats) -> tuple[Fingerprint, float]:
    """Pieces one after the other, and how long a query of them lasts (s)."""
    rows = np.concatenate(pieces)
    return Fingerprint(rows, QUERY_HOP), (len(rows) - 1) * QUERY_HOP + WINDOW


def found(query: tuple[Fingerprint, float], offset: float, rate: float) -> Part | None:
    rows, seconds = query
    line = Candidate(1, offset, rate, 0.5)
    return part_in_track(
        rows, line, Stored(), impostor=0.0, window=WINDOW, seconds=seconds, rate_known=False
    )


@pytest.mark.parametrize("rate", [1.0, 0.93, 1.1])
@pytest.mark.parametrize("first", [True, False])
def test_a_hard_cut_leaves_the_part_of_the_track_at_its_own_rate(rate: float, first: bool) -> None:
    own, other = DENSE[40:120], walk(2, 80)
    query = joined(own, other) if first else joined(other, own)
    offset = 40 * QUERY_HOP - (0.0 if first else 80 * QUERY_HOP)
    middle = 40 * QUERY_HOP if first else 120 * QUERY_HOP
    part = found(query, offset + (1 - rate) * middle, rate)  # a line bent by what is not its own
    assert part is not None
    assert part.line.rate == 1
    assert part.line.offset == pytest.approx(offset, abs=QUERY_HOP)
    cut = 80 * QUERY_HOP + WINDOW / 2
    wanted = (0.0, cut) if first else (cut, query[1])
    assert (part.begin, part.end) == pytest.approx(wanted, abs=0.8)


def test_a_query_past_the_tracks_end_keeps_the_part_before_it() -> None:
    """soundfingerprinting#111, dejavu#108, audfprint#75: an advert within a longer recording."""
    query = joined(DENSE[-80:], walk(3, 100))
    part = found(query, (SHIFTS * TRACK - 80) * QUERY_HOP, 1.0)
    assert part is not None
    assert part.begin == 0
    assert part.end == pytest.approx(80 * QUERY_HOP + WINDOW, abs=0.8)


def test_a_query_that_begins_before_the_track_keeps_the_part_in_it() -> None:
    query = joined(walk(3, 100), DENSE[:80])
    part = found(query, -100 * QUERY_HOP, 1.0)
    assert part is not None
    assert part.begin == pytest.approx(100 * QUERY_HOP, abs=0.8)
    assert part.end == pytest.approx(query[1])


def test_query_wholly_of_the_track_has_no_part() -> None:
    assert found(joined(DENSE[40:200]), 40 * QUERY_HOP, 1.0) is None


def test_a_change_of_tempo_over_the_whole_query_is_measured() -> None:
    faster = DENSE[np.round(40 + 1.1 * np.arange(160)).astype(int)]
    assert found(joined(faster), 40 * QUERY_HOP, 1.1) is None


def test_query_without_the_track_has_no_part() -> None:
    assert found(joined(walk(4, 12)), 3.0, 1.0) is None


def test_best_stretches_agree_with_brute_force() -> None:
    gains = np.random.default_rng(5).standard_normal((40, 17))
    first, last, sums = best_stretches(gains)
    for gain, a, b, total in zip(gains, first, last, sums, strict=True):
        every = [gain[i : j + 1].sum() for i in range(17) for j in range(i, 17)]
        assert total == pytest.approx(max(every))
        assert gain[a : b + 1].sum() == pytest.approx(total)
