"""Queries at another speed, pitch or tempo, against a library of made-up songs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fingerprint.lab.benchmark.queries import change_pitch, change_tempo
from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.recognition.query import Query, at_speed
from fingerprint.recognition.speed import at_its_place, at_its_speed
from fingerprint.types import Candidate, Clip, Floats, Match

RATE = 16_000  # Hz, at which evaluation changes playback
SONGS = 8
BEGIN, END = 6.0, 14.0  # s of the passage


@pytest.fixture(scope="module")
def songs(song: Callable[..., Floats]) -> list[Floats]:
    return [song(seed, 20.0, RATE) for seed in range(SONGS)]


@pytest.fixture(scope="module")
def library(
    songs: list[Floats], write_audio: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("songs")
    paths = [write_audio(folder / f"{i}.wav", x, RATE) for i, x in enumerate(songs)]
    with Library.create_or_open(folder / "library", Fingerprinter.default("cpu")) as library:
        index_files(library, paths)
        yield library


def best(library: Library, samples: Floats) -> Match:
    clip = Clip(samples[::2].copy(), RATE // 2)  # the songs have nothing above 4 kHz to alias
    return library.identify(clip, min_confidence=0)[0]


def passage(songs: list[Floats]) -> Floats:
    return songs[3][round(BEGIN * RATE) : round(END * RATE)]


@pytest.mark.parametrize("speed", [0.9, 0.96, 1.0, 1.04, 1.1])
def test_a_passage_at_another_speed_is_named_with_its_rate_and_place(
    library: Library, songs: list[Floats], speed: float
) -> None:
    match = best(library, at_speed(Clip(passage(songs), RATE), speed).samples)
    assert match.track.path.name == "3.wav"
    assert match.rate == pytest.approx(speed, rel=0.005)
    assert match.offset == pytest.approx(BEGIN, abs=0.1)


@pytest.mark.parametrize("semitones", [-2, 2])
def test_a_passage_at_another_pitch_is_named_at_rate_one(
    library: Library, songs: list[Floats], semitones: int
) -> None:
    match = best(library, change_pitch(passage(songs), semitones))
    assert match.track.path.name == "3.wav"
    assert match.rate == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("tempo", [0.85, 1.15])
def test_a_passage_at_another_tempo_is_named_with_its_rate(
    library: Library, songs: list[Floats], tempo: float
) -> None:
    match = best(library, change_tempo(passage(songs), tempo))
    assert match.track.path.name == "3.wav"
    assert match.rate == pytest.approx(tempo, rel=0.005)


@pytest.mark.parametrize("speed", [0.71, 0.77, 0.84, 1.17, 1.23, 1.29])
def test_a_passage_at_a_speed_far_off_is_answered_with_its_rate_and_place(
    library: Library, songs: list[Floats], speed: float
) -> None:
    match = best(library, at_speed(Clip(passage(songs), RATE), speed).samples)
    assert match.track.path.name == "3.wav"
    assert match.confidence > 0.9
    assert match.rate == pytest.approx(speed, rel=0.005)
    assert match.offset == pytest.approx(BEGIN, abs=0.1)


@pytest.mark.parametrize("semitones", [-4, -3, 3, 4])
def test_a_passage_at_a_pitch_far_off_is_named_at_rate_one_and_its_place(
    library: Library, songs: list[Floats], semitones: int
) -> None:
    match = best(library, change_pitch(passage(songs), semitones))
    assert match.track.path.name == "3.wav"
    assert match.rate == pytest.approx(1.0, abs=0.005)
    assert match.offset == pytest.approx(BEGIN, abs=0.2)


@pytest.mark.parametrize("tempo", [0.6, 0.7, 1.3, 1.4])
def test_a_passage_at_a_tempo_far_off_is_named_with_its_rate_and_place(
    library: Library, songs: list[Floats], tempo: float
) -> None:
    match = best(library, change_tempo(passage(songs), tempo))
    assert match.track.path.name == "3.wav"
    assert match.rate == pytest.approx(tempo, rel=0.01)
    assert match.offset == pytest.approx(BEGIN, abs=0.2)


def test_of_two_songs_at_once_both_are_answered_with_their_places(
    library: Library, songs: list[Floats]
) -> None:
    other = songs[6][round(2 * RATE) : round(10 * RATE)]
    both = passage(songs) + other
    matches = library.identify(Clip(both[::2] / 2, RATE // 2), top=3)
    found = {match.track.path.name: match.offset for match in matches}
    assert found == pytest.approx({"3.wav": BEGIN, "6.wav": 2.0}, abs=0.1)


def test_one_song_alone_is_answered_alone(library: Library, songs: list[Floats]) -> None:
    matches = library.identify(Clip(passage(songs)[::2].copy(), RATE // 2), top=3)
    assert [match.track.path.name for match in matches] == ["3.wav"]


@pytest.mark.parametrize("over", [1.6, 2.4, -1.6, -2.4])
def test_a_query_over_an_edge_has_the_place_and_the_rate_of_the_part_within(
    library: Library, songs: list[Floats], over: float
) -> None:
    """5 s, of which `over` s lie before the track (if negative: after it), in noise."""
    for number, whole in enumerate(songs):
        rng = np.random.default_rng(number)
        beyond = np.zeros(round(abs(over) * RATE), np.float32)
        inside = round(5 * RATE) - len(beyond)
        parts = [beyond, whole[:inside]] if over > 0 else [whole[-inside:], beyond]
        query = np.concatenate(parts)
        query += 1.0 * query.std() * rng.standard_normal(len(query)).astype(np.float32)
        match = best(library, query)
        assert match.track.path.name == f"{number}.wav"
        assert match.rate == pytest.approx(1, abs=0.005)
        assert match.offset == pytest.approx(-over if over > 0 else 20 - inside / RATE, abs=0.1)


def test_the_speed_of_a_part_is_not_compared_with_the_score_of_the_whole_query(
    library: Library, songs: list[Floats]
) -> None:
    """A query half of which is past the track's edge scores half as much as its part within."""
    clip = Clip(songs[3][:: RATE // 8_000][: 3 * 8_000].copy(), 8_000)
    model, snapshot = library.model, library.snapshot()
    query = Query(clip, model.embed_query(clip), model, snapshot, library.config)
    track = next(n for n in range(SONGS) if snapshot.track(n).path.name == "3.wav")
    whole = Candidate(track, 0.0, 1.0, score=0.5)
    assert at_its_speed(query, whole, of_part=True) == whole  # nothing has changed its speed
    assert at_its_speed(query, whole) != whole


def test_another_speed_and_back_is_the_same_sound(songs: list[Floats]) -> None:
    clip = Clip(passage(songs), RATE)
    there = at_speed(clip, 1.25)
    assert there.duration == pytest.approx(clip.duration / 1.25, abs=1e-3)
    back = at_speed(there, 0.8).samples
    n = min(len(back), len(clip.samples))
    assert np.corrcoef(back[:n], clip.samples[:n])[0, 1] > 0.99


def test_a_passage_over_a_repeated_accompaniment_is_placed_where_its_melody_plays(
    song: Callable[..., Floats], write_audio: Callable[..., Path], tmp_path: Path
) -> None:
    """By embeddings the query resembles both halves of the track; the peaks tell them apart."""
    band, *melodies = (song(seed, 8.0, RATE) for seed in (20, 21, 22))
    track = np.concatenate([band + 0.5 * melody for melody in melodies]) / 2
    path = write_audio(tmp_path / "track.wav", track, RATE)
    model = Fingerprinter.default("cpu")
    with Library.create_or_open(tmp_path / "library", model) as library:
        index_files(library, [path])
        clip = Clip(track[9 * RATE : 15 * RATE : 2].copy(), RATE // 2)
        query = Query(clip, model.embed_query(clip), model, library.snapshot(), library.config)
        rows = query.reference.vectors(np.arange(query.reference.rows.starts[1]))
        for begin in (1.0, 9.0):
            moved = at_its_place(query, Candidate(0, begin, 1.0, 0.8), rows)
            assert moved.offset == pytest.approx(9.0, abs=0.05)
