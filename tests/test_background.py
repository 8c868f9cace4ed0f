"""Small libraries are searched together with other music: songs are made up, so truth is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from library_world import RATE, Toy, busy_song, excerpt

from fingerprint.audio.peaks import EMPTY, peaks_of
from fingerprint.errors import ModelError
from fingerprint.index.landmarks import query_landmarks
from fingerprint.lab.calibration.large_libraries import SomeTracks
from fingerprint.model.network import pack_background, unpack_background
from fingerprint.recognition.cohort import ROWS_WITHOUT_BACKGROUND, with_background
from fingerprint.recognition.recognise import recognise
from fingerprint.types import Background, Clip, Floats, Rows, Track

BLOCK = 16
ROWS = 40
OTHERS = range(100, 116)  # songs of the background


def passage(song: Floats) -> tuple[Floats, Floats]:
    """Rows of embeddings and of peaks, as many of each."""
    clip = Clip(song, RATE)
    vectors, peaks = Toy().embed(clip).vectors, peaks_of(clip, block=BLOCK)
    return vectors[:ROWS], peaks[:ROWS]


@pytest.fixture(scope="module")
def background() -> Background:
    made = [passage(busy_song(seed)) for seed in OTHERS]
    vectors, peaks = (np.stack(parts) for parts in zip(*made, strict=True))
    return Background(vectors, peaks, Toy().hop)


@pytest.fixture(scope="module")
def model(background: Background) -> Toy:
    return replace(Toy(), background=background)


def shelf(*songs: Floats) -> SomeTracks:
    """A library in memory."""
    rows = [passage(song) for song in songs]
    return SomeTracks(
        np.concatenate([vectors for vectors, _ in rows]),
        Rows(np.cumsum([0, *(len(vectors) for vectors, _ in rows)])),
        Toy().hop,
        tuple(Track(Path(f"{number}.wav"), 9.0) for number in range(len(songs))),
        np.concatenate([peaks[: len(vectors)] for vectors, peaks in rows]),
        BLOCK,
    )


def test_large_libraries_and_models_without_background_get_no_passages(
    background: Background,
) -> None:
    small = shelf(busy_song(0))
    assert with_background(small, None) is small
    large = replace(small, rows=Rows(np.array([0, ROWS_WITHOUT_BACKGROUND])))
    assert with_background(large, background) is large
    empty = replace(small, rows=Rows(np.array([0])))
    assert with_background(empty, background) is empty


def test_the_passages_lie_behind_the_tracks_and_have_no_names(background: Background) -> None:
    small = shelf(busy_song(0), busy_song(1))
    both = with_background(small, background)
    assert both.rows.starts.tolist() == [0, 40, 80, *(80 + ROWS * np.arange(1, 17)).tolist()]
    assert [both.track(n) for n in (0, 1, 2, 17)] == [small.track(0), small.track(1), None, None]
    mixed = np.array([3, 85, 41, 120])
    wanted = [small.stored[3], background.vectors[0, 5], small.stored[41], background.vectors[1, 0]]
    np.testing.assert_array_equal(both.vectors(mixed), np.stack(wanted))
    np.testing.assert_array_equal(both.peaks(mixed)[1], background.peaks[0, 5])
    assert len(both.cohort) == 80 + 16 * ROWS
    query = Toy().embed(Clip(busy_song(100)[:RATE], RATE)).vectors
    hits = both.search(query, neighbours=3, search_k=0)
    assert np.bincount(hits.query).tolist() == [6] * len(query)
    assert hits.row[np.argmax(hits.similarity)] >= 80
    assert both.vote(query_landmarks(Clip(busy_song(0), RATE)), 9) == []


def test_a_sparser_library_gets_every_other_row_and_the_peaks_of_both(
    background: Background,
) -> None:
    small = replace(shelf(busy_song(0)), hop=2 * Toy().hop, block=2 * BLOCK)
    small = replace(small, stored_peaks=np.full((40, 16), EMPTY))
    both = with_background(small, background)
    np.testing.assert_array_equal(both.vectors(np.array([41])), background.vectors[0, 2:3])
    first, second = background.peaks[0, 2:4]
    later = second[second != EMPTY] + (BLOCK << 8)
    found = both.peaks(np.array([41]))[0]
    assert set(found[found != EMPTY].tolist()) == {*first[first != EMPTY].tolist(), *later.tolist()}


@pytest.mark.parametrize("seconds", [2.5, 7.0])
def test_the_only_track_is_recognised_and_other_music_is_not(model: Toy, seconds: float) -> None:
    for seed in range(3):
        small = shelf(busy_song(seed))
        own = recognise(small, excerpt(busy_song(seed), 1.0, seconds, snr_db=20), model)
        assert own.matches[0].confidence > 0.98
        assert own.matches[0].offset == pytest.approx(1.0, abs=0.1)
        other = recognise(small, excerpt(busy_song(seed + 50), 1.0, seconds), model)
        assert all(match.confidence < 0.5 for match in other.matches)


def test_music_of_the_background_is_not_in_the_library(model: Toy) -> None:
    small = shelf(busy_song(0))
    found = recognise(small, excerpt(busy_song(OTHERS[0]), 1.0, 4.0), model)
    assert all(match.confidence < 0.1 for match in found.matches)
    assert all(match.track.path == Path("0.wav") for match in found.matches)


def test_music_that_is_in_both_is_recognised(model: Toy) -> None:
    small = shelf(busy_song(OTHERS[3]), busy_song(0))
    found = recognise(small, excerpt(busy_song(OTHERS[3]), 2.0, 4.0, snr_db=20), model)
    assert found.matches[0].track.path == Path("0.wav")
    assert found.matches[0].confidence > 0.98


def test_background_is_equal_after_a_round_trip_through_bytes(background: Background) -> None:
    content = pack_background(background)
    found = unpack_background(content, background.hop)
    assert np.sum(found.vectors * background.vectors, axis=2).mean() > 0.98
    np.testing.assert_array_equal(found.peaks, background.peaks)
    assert found.hop == background.hop


def test_damaged_bytes_are_an_error(background: Background) -> None:
    content = pack_background(background)
    for spoilt in (content[:-9], b"", b"x" + content[1:]):
        with pytest.raises(ModelError, match="damaged"):
            unpack_background(spoilt, 0.25)
