"""Copies of a recording are found by what they sound like, and the right one stays."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fingerprint.lab.corpus.assemble import duplicate_reasons
from fingerprint.lab.corpus.config import Role
from fingerprint.lab.corpus.duplicates import duplicate_groups, similarity
from fingerprint.lab.corpus.manifest import CorpusFile
from fingerprint.lab.corpus.probe import ENVELOPE_RATE, PROBE_RATE, Probe, envelope, to_int16
from fingerprint.types import Floats

SEEDS = st.integers(0, 2**31)
TRAINING = {"train", "sounds-train", "responses-train"}
HELD_OUT = {"validation", "test", "sounds-test", "responses-test"}


def loudness(seed: int, seconds: float = 30) -> Floats:
    """A random walk of loudness with beats, at the envelope's rate."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.standard_normal(round(seconds * ENVELOPE_RATE)))
    return (3_000 + 300 * walk - 300 * walk.min()).astype(np.float32)


def probe(digest: str, frames: Floats) -> Probe:
    return Probe(
        path=f"{digest}.ogg",
        seconds=len(frames) / ENVELOPE_RATE,
        digest=digest,
        envelope=tuple(int(v) for v in frames),
    )


def corpus_file(role: Role, digest: str) -> CorpusFile:
    return CorpusFile(Path(f"/{role}/{digest}"), role, role, "music", 30.0, 44_100, "", digest)


@given(seed=SEEDS, gain=st.floats(0.2, 2), shift=st.integers(-4, 4))
def test_a_louder_and_later_copy_is_the_same_recording(seed: int, gain: float, shift: int) -> None:
    whole = loudness(seed, 32)
    one, other = whole[4:124], gain * whole[4 + shift : 124 + shift]
    assert similarity(tuple(map(int, one)), tuple(map(int, other))) > 0.99
    assert duplicate_groups([probe("a", one), probe("b", other)]) == [[0, 1]]


@given(seed=SEEDS)
def test_other_music_of_equal_length_is_another_recording(seed: int) -> None:
    assert duplicate_groups([probe("a", loudness(seed)), probe("b", loudness(seed + 1))]) == []


@given(seed=SEEDS)
def test_lengths_that_differ_by_more_than_the_tolerance_are_never_compared(seed: int) -> None:
    whole = loudness(seed, 40)
    assert duplicate_groups([probe("a", whole), probe("b", whole[: 36 * ENVELOPE_RATE])]) == []


def test_short_sounds_are_duplicates_only_when_their_sound_is_equal() -> None:
    beep = loudness(0, 5)
    probes = [probe("a", beep), probe("b", beep), probe("a", beep)]
    assert duplicate_groups(probes) == [[0, 2]]


def test_copies_of_copies_are_one_group() -> None:
    tune = loudness(1)
    probes = [probe("a", tune), probe("b", loudness(2)), probe("c", 0.5 * tune), probe("a", tune)]
    assert duplicate_groups(probes) == [[0, 2, 3]]


@given(roles=st.lists(st.sampled_from(get_args(Role)), min_size=2, max_size=5))
def test_nothing_held_out_is_in_another_split(roles: list[Role]) -> None:
    files = [corpus_file(role, "same") for role in roles]
    probes = [probe("same", loudness(3))] * len(roles)
    reasons = duplicate_reasons(files, probes)
    stay = [roles[i] for i in range(len(roles)) if i not in reasons]
    assert len(stay) <= 1
    if len(set(roles)) == 1:
        assert stay == roles[:1]
    if len(set(roles)) > 1:
        assert not set(stay) & HELD_OUT
    if set(roles) & TRAINING:
        assert len(stay) == 1
    if "train" in roles:
        assert stay == ["train"]


def test_the_envelope_of_a_sine_is_its_effective_value() -> None:
    time = np.arange(2 * PROBE_RATE + 100) / PROBE_RATE
    sine = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    assert envelope(sine) == pytest.approx([5_000 / np.sqrt(2)] * 2 * ENVELOPE_RATE, abs=1)


@given(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=50))
def test_sixteen_bits_keep_every_sample_and_clip_beyond_full_scale(values: list[float]) -> None:
    samples = np.array(values, np.float32)
    back = to_int16(samples) / 32_768
    assert np.max(np.abs(back - np.clip(samples, -1, 32_767 / 32_768))) <= 0.5 / 32_768 + 1e-6
