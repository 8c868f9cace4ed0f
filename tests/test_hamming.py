"""Nearest rows by signs, against counting them one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fingerprint.index import hamming
from fingerprint.index.hamming import nearest, signs_of, words


@given(
    st.integers(0, 1000), st.integers(1, 200), st.integers(1, 60), st.integers(1, 8),
    st.sampled_from([7, 16, 1 << 17]),
)  # fmt: skip
def test_the_nearest_agree_in_most_signs(
    seed: int, dim: int, count: int, k: int, block: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, dim)).astype(np.float32)
    queries = rng.standard_normal((3, dim)).astype(np.float32)
    queries[1] = 0  # silence
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hamming, "BLOCK", block)
        hits = nearest(signs_of(rows), queries, k)
    assert signs_of(rows).shape == (count, words(dim))
    for number in range(3):
        mine = hits.query == number
        if number == 1:
            assert not mine.any()
            continue
        agree = np.mean((rows > 0) == (queries[number] > 0), axis=1)
        expected = np.sort(agree)[::-1][: min(k, count)]
        np.testing.assert_allclose(hits.similarity[mine], -np.cos(np.pi * expected), atol=1e-6)
        np.testing.assert_allclose(agree[hits.row[mine]], expected, atol=1e-6)


def test_the_similarity_is_the_cosine_on_average() -> None:
    rng = np.random.default_rng(1)
    row = rng.standard_normal(4096)
    other = 0.6 * row + 0.8 * rng.standard_normal(4096)
    cosine = float(row @ other / np.linalg.norm(row) / np.linalg.norm(other))
    hits = nearest(signs_of(row[None].astype(np.float32)), other[None].astype(np.float32), 1)
    assert hits.similarity[0] == pytest.approx(cosine, abs=0.03)


def test_empty_index_has_no_hits() -> None:
    empty = nearest(np.zeros((0, 2), np.uint64), np.ones((1, 128), np.float32), 5)
    assert len(empty.row) == 0


@given(st.integers(0, 1000), st.integers(1, 200))
def test_bits_of_further_dimensions_do_not_count(seed: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((40, 200)).astype(np.float32)
    queries = rng.standard_normal((2, dim)).astype(np.float32)
    whole, part = (
        nearest(signs_of(some)[:, : words(dim)], queries, 5) for some in (rows, rows[:, :dim])
    )
    np.testing.assert_array_equal(whole.row, part.row)
    np.testing.assert_array_equal(whole.similarity, part.similarity)
