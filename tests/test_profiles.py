"""The codes of embeddings: how much they lose, and that merging loses nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fingerprint.errors import LibraryError
from fingerprint.index.quantisation import decode, encode
from fingerprint.lab.robustness.scenario import embeddings
from fingerprint.library.profiles import PROFILES, Profile, profile_of

# Distortion of the best quantisers of a Gaussian (Max 1960, table I), as a share of its energy.
DISTORTION = {1: 0.3634, 2: 0.1175, 4: 0.009497}


def coding(bits: int) -> Profile:
    return Profile("test", 1, bits, None)


@pytest.mark.parametrize("bits", DISTORTION)
def test_a_code_loses_what_the_best_quantiser_loses(bits: int) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((2_000, 128))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    decoded = decode(encode(vectors, bits), bits, 128)
    length = np.linalg.norm(decoded, axis=1)
    cosine = np.sum(vectors * decoded, axis=1) / length
    assert cosine.mean() == pytest.approx(np.sqrt(1 - DISTORTION[bits]), abs=0.003)
    # And so cosines with others are what they were, on average.
    assert np.sum(vectors * decoded, axis=1).mean() == pytest.approx(1, abs=0.003)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("dim", [1, 3, 48, 128])
def test_codes_take_the_room_that_is_promised_and_keep_silence(bits: int, dim: int) -> None:
    profile = coding(bits)
    vectors = embeddings(1, 9, dim)
    vectors[4] = 0
    codes = encode(vectors, profile.bits)
    assert codes.shape == (9, profile.width(dim))
    assert codes.nbytes == 9 * (dim if bits == 8 else bits * 8 * -(-dim // 64))
    decoded = decode(codes, profile.bits, dim)
    assert decoded.shape == (9, dim)
    assert not decoded[4].any()


@given(st.integers(0, 1000), st.sampled_from(sorted(PROFILES)))
def test_decoded_rows_all_have_one_length(seed: int, name: str) -> None:
    profile = PROFILES[name]
    decoded = decode(encode(embeddings(seed, 20, 128), profile.bits), profile.bits, 128)
    length = np.linalg.norm(decoded, axis=1)
    np.testing.assert_allclose(length, length[0], atol=2e-3)
    assert length[0] >= 0.998


def test_a_profile_of_another_version_is_refused_by_name() -> None:
    with pytest.raises(LibraryError, match="'dense'"):
        profile_of("dense")
