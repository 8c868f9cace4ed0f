"""Truth by construction: tracks are smooth walks on the sphere, queries are cut out of them."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fingerprint.config import Range
from fingerprint.recognition.alignment import POWER
from fingerprint.recognition.matcher import rank, settle
from fingerprint.types import Candidate, Fingerprint, Floats, Hits, Ints, Rows

HOP = 0.256  # s between library rows
QUERY_HOP = 0.064  # s between query windows
GRAIN = 0.016  # s between the points of a walk
WINDOW = 1.0  # s over which a walk forgets where it was, as overlapping windows do
DIM = 48
NEIGHBOURS = 20
MOST = 50  # places
RATES = (0.8, 1.2)
STILL = (1.0, 1.0)
FEW = settings(deadline=None, derandomize=True, max_examples=40)

Walk = NDArray[np.float64]


def normalised(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length == 0, 1, length)


def walk(rng: np.random.Generator, seconds: float, *, memory: float = WINDOW) -> Walk:
    """A sliding mean of white noise, projected on the sphere: (T, DIM), a point a grain."""
    count, width = round(seconds / GRAIN), round(memory / GRAIN)
    total = np.cumsum(rng.standard_normal((count + width, DIM)), axis=0)
    return normalised(total[width:] - total[:-width])


def sampled(points: Walk, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """The walk at any times (s), between its points by interpolation; zero outside of it."""
    position = times / GRAIN
    left = np.clip(np.floor(position).astype(int), 0, len(points) - 2)
    part = (position - left)[:, None]
    values = normalised(points[left] * (1 - part) + points[left + 1] * part)
    values[(position < 0) | (position > len(points) - 1)] = 0
    return values


class World:
    """A library of walks, searched exactly."""

    hop = HOP

    def __init__(self, tracks: Sequence[Walk]) -> None:
        self.tracks = tracks
        step = round(HOP / GRAIN)
        parts = [track[::step] for track in tracks]
        self.stored = np.concatenate(parts).astype(np.float16)
        self.rows = Rows(np.cumsum([0] + [len(part) for part in parts]))
        self.reads: list[Ints] = []

    def vectors(self, rows: Ints) -> Floats:
        self.reads.append(rows)
        return self.stored[rows]  # type: ignore[return-value]

    def hits(self, query: Fingerprint) -> Hits:
        cosine = query.vectors @ self.stored.astype(np.float32).T
        k = min(NEIGHBOURS, cosine.shape[1])
        near = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
        number = np.repeat(np.arange(len(near)), k)
        heard = query.vectors.any(axis=1)[number]
        row = near.ravel()
        return Hits(number[heard], row[heard], cosine[number, row][heard])

    def ask(self, query: Fingerprint, *, rates: Range = RATES) -> list[Candidate]:
        return best_of_each(rank(query, self.hits(query), self, rates=rates, most=MOST))


def best_of_each(places: Sequence[Candidate]) -> list[Candidate]:
    """The best place of each track, of the best five tracks."""
    best: dict[int, Candidate] = {}
    for place in places:
        best.setdefault(place.track, place)
    return list(best.values())[:5]


def cut(
    track: Walk, offset: float, seconds: float, *, rate: float = 1.0, start: float = 0.0
) -> Fingerprint:
    """What a query hears whose time 0 falls on `offset`; `seconds` from first to last window."""
    times = start + np.arange(round(seconds / QUERY_HOP) + 1) * QUERY_HOP
    vectors = sampled(track, offset + rate * times).astype(np.float32)
    return Fingerprint(vectors, QUERY_HOP, start)


def with_noise(query: Fingerprint, rng: np.random.Generator, level: float) -> Fingerprint:
    noise = sampled(walk(rng, 60), np.arange(len(query.vectors)) * QUERY_HOP)
    vectors = normalised(query.vectors + level * noise).astype(np.float32)
    return Fingerprint(vectors, query.hop, query.start)


@pytest.fixture(scope="module")
def world() -> World:
    rng = np.random.default_rng(0)
    return World([walk(rng, seconds) for seconds in (40, 25, 60, 33.3, 50, 21)])


numbers = st.integers(0, 5)
places = st.floats(0, 1)


@FEW
@given(numbers, places, st.floats(1.5, 9), st.floats(-0.9, 4))
def test_an_excerpt_is_found_where_it_was_cut(
    world: World, number: int, place: float, seconds: float, start: float
) -> None:
    track = world.tracks[number]
    offset = 1 - start + place * (len(track) * GRAIN - seconds - 2)
    best, *others = world.ask(cut(track, offset, seconds, start=start))
    assert best.track == number
    assert best.offset == pytest.approx(offset, abs=QUERY_HOP)
    assert best.rate == 1.0
    assert 0.93 < best.score <= 1.0
    assert all(other.score < 0.8 for other in others)


def test_offsets_are_finer_than_the_query_hop(world: World) -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(1, 30, 40)
    found = [world.ask(cut(world.tracks[0], offset, 6.0))[0].offset for offset in truth]
    # Whole query hops would be wrong by a quarter of one on average.
    assert np.mean(np.abs(np.array(found) - truth)) < QUERY_HOP / 8


@FEW
@given(
    numbers,
    places,
    st.one_of(st.floats(0.93, 0.98), st.floats(1.02, 1.07)),
    st.sampled_from([0.0, -0.7, 5.0]),
)
@example(2, 0.5, 0.93, 0.0)
@example(2, 0.5, 1.07, 0.0)
def test_the_speed_is_found_with_the_place(
    world: World, number: int, place: float, rate: float, start: float
) -> None:
    track = world.tracks[number]
    offset = 1 - rate * start + place * (len(track) * GRAIN - 12)
    best = world.ask(cut(track, offset, 9.0, rate=rate, start=start))[0]
    assert best.track == number
    assert best.rate == pytest.approx(rate, abs=0.01)
    middle = start + 4.5
    assert best.offset + best.rate * middle == pytest.approx(offset + rate * middle, abs=QUERY_HOP)
    assert best.score > 0.9


def test_speed_and_place_are_finer_than_what_was_tried(world: World) -> None:
    rng = np.random.default_rng(13)
    wrong_rates, wrong_places = [], []
    for rate in (0.94, 0.957, 0.97, 0.981, 1.023, 1.036, 1.049, 1.064) * 3:
        offset, start = rng.uniform(1, 40), -6.0
        best = world.ask(cut(world.tracks[2], offset - start, 9.0, rate=rate, start=start))[0]
        wrong_rates.append(best.rate - rate)
        wrong_places.append(best.offset + best.rate * (start + 4.5) - offset + start)
        wrong_places[-1] -= rate * (start + 4.5)
    # The best of the steps that are tried is wrong by 0.0038 on average.
    assert np.mean(np.abs(wrong_rates)) < 0.0015
    assert np.mean(np.abs(wrong_places)) < QUERY_HOP / 8


@pytest.mark.parametrize("rate", [0.9, 1.1])
def test_the_most_extreme_speed_is_followed_to_both_ends_of_the_query(
    world: World, rate: float
) -> None:
    best = world.ask(cut(world.tracks[2], 8.0, 25.0, rate=rate))[0]
    assert best.rate == pytest.approx(rate, abs=0.004)
    assert best.score > 0.96


def test_no_rate_outside_the_configured_range_is_given(world: World) -> None:
    query = cut(world.tracks[2], 10.0, 9.0, rate=1.06)
    assert {candidate.rate for candidate in world.ask(query, rates=STILL)} == {1.0}
    assert max(candidate.rate for candidate in world.ask(query, rates=(0.9, 1.0))) <= 1.0


def test_noise_alone_does_not_change_the_speed(world: World) -> None:
    rng = np.random.default_rng(2)
    rates = [
        world.ask(with_noise(cut(world.tracks[i % 6], 5.0, 9.0), rng, 1.0))[0].rate
        for i in range(24)
    ]
    assert rates == [1.0] * 24


@FEW
@given(numbers, st.floats(2, 6), st.booleans())
def test_a_query_that_overruns_the_track_scores_by_the_part_that_is_there(
    world: World, number: int, over: float, end: bool
) -> None:
    track, seconds = world.tracks[number], 8.0
    offset = len(track) * GRAIN - seconds + over if end else -over
    query = cut(track, offset, seconds)
    strange = sampled(walk(np.random.default_rng(100 + number), 60), np.arange(200) * QUERY_HOP)
    outside = ~query.vectors.any(axis=1)
    query.vectors[outside] = strange[: outside.sum()]  # Another track goes on there.
    # At a rate of its own, a start that is not in the track is extrapolated from what is.
    for rates, near in ((STILL, QUERY_HOP), (RATES, 1.5 * HOP)):
        best = world.ask(query, rates=rates)[0]
        assert best.track == number
        assert best.offset == pytest.approx(offset, abs=near)
        assert best.score == pytest.approx(1 - over / seconds, abs=0.08)


@pytest.mark.parametrize("over", [1.5, 2.0, 2.5, 3.0])
@pytest.mark.parametrize("end", [False, True])
def test_a_query_that_overruns_the_track_is_also_placed_at_the_tracks_own_speed(
    over: float, end: bool
) -> None:
    """Another rate may score more, because fewer rows are past the edge; the peaks decide later."""
    rng = np.random.default_rng(5)
    slow = World([walk(rng, 40, memory=6.0) for _ in range(6)])  # music that changes slowly
    for number, track in enumerate(slow.tracks):
        offset = len(track) * GRAIN - 8 + over if end else -over
        query = with_noise(cut(track, offset, 8.0), np.random.default_rng(200 + number), 0.5)
        found = rank(query, slow.hits(query), slow, rates=RATES, most=MOST)
        plain = [one.offset for one in found if one.track == number and one.rate == 1]
        assert min(abs(one - offset) for one in plain) <= HOP


def test_neighbouring_tracks_never_lend_each_other_rows() -> None:
    # One walk, split between two tracks: of a query across the seam each has its share of rows.
    rng = np.random.default_rng(3)
    whole = walk(rng, 160 * HOP)
    half = len(whole) // 2
    world = World([whole[:half], whole[half:]])
    found = world.ask(cut(whole, 64 * HOP, 32 * HOP), rates=STILL)
    assert sorted(candidate.track for candidate in found) == [0, 1]
    for candidate in found:
        offset, share = ((64 * HOP, 16 / 33), (-16 * HOP, 17 / 33))[candidate.track]
        assert candidate.offset == pytest.approx(offset, abs=QUERY_HOP)
        assert candidate.score == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("where", [0, 1])
def test_the_first_and_last_rows_belong_to_their_own_track(where: int) -> None:
    rng = np.random.default_rng(4)
    world = World([walk(rng, 10.24) for _ in range(3)])
    offset = (0.0, 10.24 - 2.0)[where]
    for number in range(3):
        best = world.ask(cut(world.tracks[number], offset, 1.7))[0]
        assert best.track == number
        assert best.offset == pytest.approx(offset, abs=QUERY_HOP)


def test_a_track_without_rows_is_stepped_over() -> None:
    rng = np.random.default_rng(5)
    track = walk(rng, 20)
    world = World([walk(rng, 20), track[:0], track[:0], track])
    best = world.ask(cut(track, 3.0, 5.0))[0]
    assert (best.track, round(best.offset, 1)) == (3, 3.0)


def test_silent_query_rows_do_not_change_the_score(world: World) -> None:
    query = cut(world.tracks[4], 12.3, 8.0)
    query.vectors[20:70] = 0
    query.vectors[:5] = 0
    best = world.ask(query)[0]
    assert best.track == 4
    assert best.offset == pytest.approx(12.3, abs=QUERY_HOP)
    assert best.score > 0.95


def test_silence_in_the_library_counts_as_no_match() -> None:
    rng = np.random.default_rng(6)
    world = World([walk(rng, 30), walk(rng, 30)])
    query = cut(world.tracks[1], 5.0, 8.0)
    first = world.rows.starts[1]
    world.stored[first + round(5.0 / HOP) : first + round(9.0 / HOP)] = 0
    best = world.ask(query, rates=STILL)[0]
    assert best.track == 1
    assert best.offset == pytest.approx(5.0, abs=QUERY_HOP)
    assert best.score == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("windows", [1, 2, 3, 4, 5, 8])
def test_a_query_shorter_than_a_hop_is_still_placed(world: World, windows: int) -> None:
    for offset in np.linspace(7.0, 8.0, 17):
        best = world.ask(cut(world.tracks[3], offset, (windows - 1) * QUERY_HOP))[0]
        assert best.track == 3
        assert best.offset == pytest.approx(offset, abs=HOP)
        assert 0.8 < best.score <= 1


def test_of_a_query_shorter_than_a_window_only_rows_that_the_track_has_count() -> None:
    """A track as short has one row, and the query one window more for every row before it."""
    rng = np.random.default_rng(11)
    short = World([walk(rng, HOP), walk(rng, 20)])
    assert np.diff(short.rows.starts)[0] == 1
    windows = np.concatenate([walk(rng, 1.0)[::4][:12], short.tracks[0][:1]]).astype(np.float32)
    query = Fingerprint(windows, QUERY_HOP, -12 * QUERY_HOP)  # the last begins with the sound
    best = short.ask(query, rates=STILL)[0]
    assert (best.track, best.offset) == (0, pytest.approx(0, abs=QUERY_HOP))
    assert best.score > 0.99
    whole = replace(query, start=0.0)  # one that lasts a window or more overruns the track
    assert short.ask(whole, rates=STILL)[0].score < 0.6


@FEW
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_hits_does_not_matter(world: World, seed: int) -> None:
    rng = np.random.default_rng(seed)
    query = with_noise(cut(world.tracks[0], 9.0, 3.0), rng, 2.0)
    hits = world.hits(query)
    order = rng.permutation(len(hits.row))
    shuffled = Hits(hits.query[order], hits.row[order], hits.similarity[order])
    one, two = (rank(query, h, world, rates=RATES, most=MOST) for h in (hits, shuffled))
    assert [c.track for c in one] == [c.track for c in two]
    np.testing.assert_allclose([c.offset for c in one], [c.offset for c in two])
    np.testing.assert_allclose([c.score for c in one], [c.score for c in two])


def test_each_track_is_listed_once_and_best_first(world: World) -> None:
    found = world.ask(with_noise(cut(world.tracks[0], 9.0, 3.0), np.random.default_rng(7), 3.0))
    assert len({candidate.track for candidate in found}) == len(found) == 5
    scores = [candidate.score for candidate in found]
    assert scores == sorted(scores, reverse=True)


def test_at_most_the_wanted_number_of_places_is_returned(world: World) -> None:
    query = cut(world.tracks[0], 9.0, 3.0)
    hits = world.hits(query)
    assert len(rank(query, hits, world, rates=RATES, most=1)) == 1


def test_settle_finds_the_best_offset_near_the_candidate(world: World) -> None:
    query = cut(world.tracks[2], 9.0, 3.0)
    (found,) = settle(query, [Candidate(2, 9.1, 1.0, 0.0)], world)
    assert found.offset == pytest.approx(9.0, abs=QUERY_HOP)
    assert found.score > 0.95
    assert settle(query, [], world) == []


def test_a_library_of_one_track_answers() -> None:
    """audio-detect#12, Panako#59: a library of the one jingle that is looked for."""
    track = walk(np.random.default_rng(8), 20)
    (only,) = World([track]).ask(cut(track, 6.0, 4.0))
    assert (only.track, round(only.offset, 1)) == (0, 6.0)


def test_without_hits_there_are_no_candidates(world: World) -> None:
    none = Hits(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    query = cut(world.tracks[0], 9.0, 3.0)
    assert rank(query, none, world, rates=RATES, most=MOST) == []
    silence = Fingerprint(np.zeros((9, DIM), np.float32), QUERY_HOP)
    assert world.ask(silence) == []


def test_of_a_repeated_passage_the_earliest_is_named() -> None:
    rng = np.random.default_rng(9)
    passage = walk(rng, 12.8)
    track = np.concatenate([walk(rng, 10.24), passage, walk(rng, 5.12), passage, passage])
    world = World([walk(rng, 30), track, track])
    found = world.ask(cut(passage, 2.0, 6.0))
    assert [candidate.track for candidate in found[:2]] == [1, 2]
    assert found[0].offset == pytest.approx(10.24 + 2.0, abs=QUERY_HOP)
    assert found[0].score == pytest.approx(found[1].score, abs=1e-5)


def hits_of(*places: tuple[int, int, float]) -> Hits:
    """A hit for each (query row, library row, similarity)."""
    query, row, similarity = zip(*places, strict=True)
    return Hits(np.array(query), np.array(row), np.array(similarity, np.float32))


def test_votes_for_one_place_that_fall_into_several_bins_are_one_place(world: World) -> None:
    # The true place has weaker hits, spread over a hop; the false one's all fall into one bin.
    query = cut(world.tracks[0], 40 * HOP, 31 * QUERY_HOP)
    true = [(i, 40 + i // 4, 0.5) for i in range(32)]
    false = [(i, world.rows.starts[2] + 80 + i // 4, 0.8) for i in range(0, 32, 4)]
    hits = hits_of(*true, *false)
    (best,) = rank(query, hits, world, rates=RATES, most=1)
    assert best.track == 0


def test_votes_do_not_spill_into_the_next_track(world: World) -> None:
    # The last place of one track and the first of the next.
    query = cut(world.tracks[0], 0.0, 0.0)
    seam = int(world.rows.starts[1])
    hits = hits_of((0, seam - 1, 0.9), (0, seam, 0.8))
    found = rank(query, hits, world, rates=RATES, most=MOST)
    assert {candidate.track for candidate in found} == {0, 1}


def test_a_chorus_that_comes_back_does_not_crowd_out_another_track(world: World) -> None:
    query = cut(world.tracks[1], 40 * HOP, 0.0)
    chorus = [(0, 10 * i, 0.9) for i in range(10)]
    hits = hits_of(*chorus, (0, world.rows.starts[1] + 40, 0.8))
    best = rank(query, hits, world, rates=RATES, most=6)[0]
    assert best.track == 1


def test_hits_with_negative_similarity_do_not_vote(world: World) -> None:
    query = cut(world.tracks[1], 40 * HOP, 0.0)
    hits = hits_of((0, 40, -0.9))
    assert rank(query, hits, world, rates=RATES, most=MOST) == []


def test_stored_vectors_are_read_once_without_repeats(world: World) -> None:
    world.reads.clear()
    world.ask(cut(world.tracks[2], 9.0, 8.0))
    (rows,) = world.reads
    assert len(np.unique(rows)) == len(rows)
    assert rows.min() >= 0
    assert rows.max() < len(world.stored)


def test_the_score_is_the_mean_cosine_with_the_rows_it_covers(world: World) -> None:
    # By definition, row by row, at an offset that puts query windows right on library rows.
    track, number = world.tracks[2], 2
    query = with_noise(cut(track, 40 * HOP, 32 * HOP), np.random.default_rng(11), 1.0)
    best = world.ask(query, rates=STILL)[0]
    first = world.rows.starts[number] + 40
    stored = world.stored[first : first + 33].astype(np.float32)
    expected = float(np.mean(np.sum(stored * query.vectors[::4], axis=1)))
    assert best.track == number
    assert best.offset == pytest.approx(40 * HOP, abs=QUERY_HOP / 2)
    assert best.score == pytest.approx(expected, abs=1e-5)


def test_the_clearer_a_window_the_more_it_counts(world: World) -> None:
    # By definition again; then two thirds of the query are of another track, but hardly heard.
    rng = np.random.default_rng(12)
    query = with_noise(cut(world.tracks[2], 40 * HOP, 32 * HOP), rng, 1.0)
    clearness = rng.uniform(1, 5, len(query.vectors)).astype(np.float32)
    best = world.ask(replace(query, clearness=clearness), rates=STILL)[0]
    first = world.rows.starts[2] + 40
    stored = world.stored[first : first + 33].astype(np.float32)
    cosines, weights = np.sum(stored * query.vectors[::4], axis=1), clearness[::4] ** POWER
    assert best.score == pytest.approx(np.sum(cosines * weights) / weights.sum(), abs=1e-5)

    other = cut(world.tracks[4], 20 * HOP, 32 * HOP).vectors
    masked = query.vectors.copy()
    masked[:86] = other[:86]
    clearness = np.where(np.arange(len(masked)) < 86, 1, 4).astype(np.float32)
    both = replace(query, vectors=masked)
    assert world.ask(both, rates=STILL)[0].track == 4
    assert world.ask(replace(both, clearness=clearness), rates=STILL)[0].track == 2
    assert world.ask(replace(both, clearness=7 * clearness), rates=STILL) == world.ask(
        replace(both, clearness=clearness), rates=STILL
    )


def test_ten_seconds_are_matched_in_milliseconds() -> None:
    rng = np.random.default_rng(12)
    world = World([walk(rng, 60) for _ in range(40)])
    query = with_noise(cut(world.tracks[7], 20.0, 8.2), rng, 1.5)
    hits = world.hits(query)
    times = []
    for _ in range(7):
        begin = time.process_time()
        rank(query, hits, world, rates=RATES, most=MOST)
        times.append(time.process_time() - begin)
    assert min(times) < 0.05  # About 0.005 on a quiet core; the rest is for crowded machines.
