"""Degradations against real recordings: what the statistics see, and what the classifier says."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import save_audio
from corpus_world import make_corpus

from fingerprint.errors import CorpusError
from fingerprint.lab.__main__ import main
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.real.folder import RealSet
from fingerprint.lab.real.realism import (
    LAYOUT,
    PAST,
    Measured,
    Passage,
    degraded,
    measure,
    real_passages,
    told_apart,
)
from fingerprint.lab.training.batches import load_material
from fingerprint.lab.training.config import DegradeConfig
from fingerprint.lab.training.pairs import Studio
from fingerprint.types import Floats

RATE = LAYOUT.sample_rate
BEFORE = round(PAST * RATE)  # samples
SONGS = [str(n // 3) for n in range(120)]  # 40, of three queries each
NOTHING = DegradeConfig(
    tempo=0, speed=0, device=0, loudspeaker=0, wall=0, room=0, noise=0, microphone=0,
    gain_control=0, suppression=0, clip=0, codec=0,
)  # fmt: skip
NOISY = NOTHING.model_copy(update={"noise": 1.0, "snr_db": (-6.0, -5.0)})


@pytest.fixture(scope="module")
def passages(song: Callable[..., Floats]) -> list[Passage]:
    """Four seconds of each of twelve songs, heard as they are."""
    tracks = [song(seed, 5, RATE) for seed in range(12)]
    return [Passage(str(n), track, track[BEFORE:]) for n, track in enumerate(tracks)]


@pytest.fixture(scope="module")
def corpus(song: Callable[..., Floats], tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    sounds = {str(n): ("validation", "music", song(50 + n, 8, RATE)) for n in range(12)}
    sounds["effect"] = ("sounds-test", "effect", song(99, 8, RATE))
    return make_corpus(tmp_path_factory.mktemp("corpus"), sounds, RATE)


@pytest.fixture(scope="module")
def studio(corpus: Corpus) -> Studio:
    return Studio.of(load_material(corpus, RATE, "validation"), torch.device("cpu"))


def drawn(seed: int, shift: float = 0.0) -> Floats:
    """Three statistics of 120 queries."""
    values = np.random.default_rng(seed).standard_normal((120, 3))
    values[:, 1] += shift
    return values.astype(np.float32)


def everything(one: Measured) -> Floats:
    return np.hstack([*one.statistics.values()])


def test_two_draws_of_one_distribution_are_not_told_apart() -> None:
    areas = [told_apart(drawn(n), drawn(100 + n), SONGS, SONGS) for n in range(8)]
    assert np.mean([area.value for area in areas]) == pytest.approx(0.5, abs=0.05)
    assert all(area.interval[0] < area.value < area.interval[1] for area in areas)


def test_the_area_is_that_of_the_distance_between_two_distributions() -> None:
    assert told_apart(drawn(0), drawn(1, shift=6.0), SONGS, SONGS).value > 0.99
    half = told_apart(drawn(0), drawn(1, shift=1.0), SONGS, SONGS)
    assert half.value == pytest.approx(0.76, abs=0.06)  # of two normal distributions: 0.76
    assert half.interval[0] < 0.76 < half.interval[1]


def test_a_song_that_a_fit_has_seen_gives_nothing_away() -> None:
    """Each song is recognisable, and all its queries are of one kind: a leak without groups."""
    rng = np.random.default_rng(2)
    areas = []
    for _ in range(16):
        of_song = np.repeat(rng.standard_normal((40, 60)), 3, axis=0)
        values = (of_song + 0.01 * rng.standard_normal(of_song.shape)).astype(np.float32)
        areas.append(told_apart(values[:60], values[60:], SONGS[:60], SONGS[60:]).value)
    assert np.mean(areas) == pytest.approx(0.5, abs=0.1)


def test_the_interval_does_not_shrink_with_repeated_queries_of_a_song() -> None:
    values, songs = (drawn(0), drawn(1, shift=0.5)), SONGS
    once = told_apart(*values, songs, songs).interval
    real, made = (np.repeat(one, 5, axis=0) for one in values)
    often = told_apart(real, made, [*np.repeat(songs, 5)], [*np.repeat(songs, 5)]).interval
    assert often[1] - often[0] == pytest.approx(once[1] - once[0], rel=0.3)


def test_a_query_that_is_its_passage_has_all_the_music_and_nothing_else(
    passages: list[Passage],
) -> None:
    same = measure(passages)
    np.testing.assert_allclose(same.correlation, 1, atol=1e-4)
    for kind, values in same.statistics.items():
        np.testing.assert_allclose(values, kind == "music left", atol=1e-4)


def test_statistics_do_not_depend_on_the_level(passages: list[Passage]) -> None:
    quiet = [replace(one, query=0.1 * one.query) for one in passages]
    for kind, values in measure(quiet).statistics.items():
        np.testing.assert_allclose(values, kind == "music left", atol=1e-3)


def test_each_statistic_sees_what_it_is_for(passages: list[Passage]) -> None:
    def seen(kind: str, change: Callable[[Floats], Floats]) -> Floats:
        changed = [replace(one, query=change(one.query).astype(np.float32)) for one in passages]
        return np.median(measure(changed).statistics[kind], axis=0)

    def noisy(x: Floats) -> Floats:
        return x + x.std() * np.random.default_rng(0).standard_normal(len(x)).astype(np.float32)

    def low_cut(x: Floats) -> Floats:
        spectrum = np.fft.rfft(x)
        spectrum[np.fft.rfftfreq(len(x), 1 / RATE) < 400] *= 0.1
        return np.fft.irfft(spectrum, len(x)).astype(np.float32)

    def in_a_room(x: Floats) -> Floats:
        time = np.arange(RATE) / RATE
        tail = np.random.default_rng(1).standard_normal(RATE) * np.exp(-3 * time)
        return np.convolve(x, tail)[: len(x)].astype(np.float32)

    assert (seen("music left", noisy) < 0.9).all()
    assert (seen("spread of the level", noisy) < -0.1).all()
    colour = seen("colour", low_cut)
    assert colour[0] < -2 < 0 < colour[1:].min()
    assert (seen("reverberation", in_a_room) > 0.05).all()
    assert seen("peaks", lambda x: np.clip(x, -0.5 * x.std(), 0.5 * x.std())) < -5  # dB


def test_degraded_passages_are_as_many_and_as_long_as_wanted(
    passages: list[Passage], studio: Studio
) -> None:
    made = degraded(passages, studio, NOTHING, 30)
    assert [one.song for one in made] == 3 * [one.song for one in passages]
    for one, source in zip(made, 3 * passages, strict=True):
        np.testing.assert_allclose(one.query, source.query, atol=1e-6)


def test_degradations_are_told_from_recordings_without_any_and_not_from_themselves(
    passages: list[Passage], studio: Studio
) -> None:
    noisy = degraded(passages, studio, NOISY, 48)
    one, other = measure(noisy[:24]), measure(noisy[24:])
    clean = measure(passages)
    assert told_apart(everything(clean), everything(other), clean.songs, other.songs).value > 0.95
    assert told_apart(everything(one), everything(other), one.songs, other.songs).value < 0.75


def real_set(root: Path, song: Callable[..., Floats], offsets: dict[str, float]) -> Path:
    """A recording of each song, of 4 s; its track begins `offset` seconds before it."""
    lines = []
    for seed, (name, offset) in enumerate(offsets.items()):
        sound = song(seed, 10, RATE)
        begin = round(offset * RATE)
        heard = np.pad(sound, (max(0, -begin), 0))[max(0, begin) :][: 4 * RATE]
        save_audio(root / f"{name}.flac", sound, RATE)
        save_audio(root / f"query-{name}.flac", heard, RATE)
        lines.append({
            "query": f"query-{name}.flac", "reference": f"{name}.flac", "offset_s": offset,
            "song": name, "role": "tune",
        })  # fmt: skip
    (root / "manifest.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    return root


def test_recordings_are_aligned_with_their_tracks(
    song: Callable[..., Floats], tmp_path: Path
) -> None:
    """In the middle, near the beginning, before it, and over the end."""
    root = real_set(tmp_path, song, {"a": 3.0, "b": 0.5, "c": -0.5, "d": 7.5})
    found = real_passages(RealSet.open(root), "tune")
    assert [len(one.query) / RATE for one in found] == [4.0, 4.0, 3.5, 2.5]
    assert all(len(one.track) == BEFORE + len(one.query) for one in found)
    for one in found:
        np.testing.assert_allclose(one.query, one.track[BEFORE:], atol=1e-3)
    assert np.abs(found[1].track[: BEFORE // 2]).max() == 0  # there is no track before its start
    with pytest.raises(CorpusError, match="two songs with role report"):
        real_passages(RealSet.open(root), "report")


def test_the_command_prints_both_tables_and_equal_stages_once(
    song: Callable[..., Floats], corpus: Corpus, tmp_path: Path
) -> None:
    root = real_set(tmp_path, song, dict.fromkeys("abcd", 2.0))
    (tmp_path / "recipe.yaml").write_text(
        "stages:\n  one: {}\n  two: {degrade: {noise: 0.5}}\n  three: {steps: 5}\n"
    )
    done = CliRunner().invoke(main, [
        "realism", str(tmp_path / "recipe.yaml"), "--real", str(root), "--corpus",
        str(corpus.root), "--clips", "8",
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    left, _, areas = done.stdout.partition("\n\n")
    first = [[row.split(" | ")[0][2:] for row in part.splitlines()[2:]] for part in (left, areas)]
    assert first == [["real recordings, role tune", "one", "two, three"], ["one", "two, three"]]
