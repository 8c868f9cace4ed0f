"""Landmarks: places are found by pairs of peaks, however noisy, and never where there are none."""

from pathlib import Path

import numpy as np
import pytest
from library_world import RATE, busy_song, excerpt

from fingerprint.audio.peaks import BLOCK, FRAME_RATE, peaks_of
from fingerprint.errors import LibraryError
from fingerprint.index.landmarks import BIN, Landmarks, candidates, first_of_each, query_landmarks
from fingerprint.types import Clip, Floats, Rows

SONGS = 10


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> tuple[Landmarks, list[int]]:
    """Ten songs, and the frames at which they begin."""
    codes = [peaks_of(Clip(busy_song(seed), RATE)) for seed in range(SONGS)]
    firsts = np.cumsum([0, *map(len, codes)])[:-1]
    path = tmp_path_factory.mktemp("index") / "000001"
    Landmarks.of(np.concatenate(codes), BLOCK, firsts).write(path)
    return Landmarks.open(path), (firsts * BLOCK).tolist()


def cut(samples: Floats, start: float, seconds: float, snr_db: float) -> Clip:
    return excerpt(samples, start, seconds, snr_db=snr_db, seed=2)


@pytest.mark.parametrize("track", [0, 4, 9])
@pytest.mark.parametrize("start", [0.0, 7.123, 14.9])
def test_an_excerpt_in_noise_is_found_where_it_was_cut(
    index: tuple[Landmarks, list[int]], track: int, start: float
) -> None:
    landmarks, firsts = index
    found = landmarks.vote(query_landmarks(cut(busy_song(track), start, 5.0, 0.0)), 5)
    assert found.frame[0] == pytest.approx(firsts[track] + start * FRAME_RATE, abs=2 * BIN)
    assert found.votes[0] > 2 * found.votes[3:].max(initial=0)


@pytest.mark.parametrize("large", [0, 30_000_000])
def test_tracks_that_were_just_added_are_found_beside_a_large_segment(
    index: tuple[Landmarks, list[int]], large: int
) -> None:
    landmarks, firsts = index
    count = firsts[1] // BLOCK  # rows of each song
    segments = [(None, large), (landmarks, SONGS * count)]
    rows = Rows(np.concatenate([[0], large + count * np.arange(SONGS + 1)]))
    for song in (0, 4, 9):
        query = query_landmarks(cut(busy_song(song), 7.0, 5.0, -3.0))
        alive = np.ones(SONGS + 1, np.bool_)
        (found,) = candidates(query, segments, rows, alive, block=BLOCK, most=1)
        assert found.track == 1 + song
        assert found.offset == pytest.approx(7.0, abs=2 * BIN / FRAME_RATE)


def test_unknown_music_and_silence_have_low_confidence(index: tuple[Landmarks, list[int]]) -> None:
    landmarks, _ = index
    own = landmarks.vote(query_landmarks(cut(busy_song(3), 5.0, 5.0, 10.0)), 1).votes[0]
    other = landmarks.vote(query_landmarks(cut(busy_song(77), 5.0, 5.0, 10.0)), 1).votes
    assert other.max(initial=0) < own / 3
    silence = query_landmarks(Clip(np.zeros(5 * RATE, np.float32), RATE))
    assert len(landmarks.vote(silence, 5).votes) == 0


def test_no_landmark_reaches_from_one_track_into_the_next(tmp_path: Path) -> None:
    codes = peaks_of(Clip(busy_song(1, 6.0), RATE))
    for name, firsts in (("whole", [0]), ("parts", range(0, len(codes), 2))):
        Landmarks.of(codes, BLOCK, np.array(firsts)).write(tmp_path / name)
    whole, parts = (Landmarks.open(tmp_path / name) for name in ("whole", "parts"))
    assert len(parts.frames) < len(whole.frames)
    wait = np.repeat(parts.hashes & 63, np.diff(parts.starts))
    begin = np.asarray(parts.frames, np.int64)
    assert ((begin % (2 * BLOCK)) + wait < 2 * BLOCK).all()


@pytest.mark.parametrize("peaks", [0, 3])
def test_a_tiny_landmark_index_is_written_and_queried(tmp_path: Path, peaks: int) -> None:
    codes = np.full((peaks, 8), 0xFFFF, np.uint16)
    Landmarks.of(codes, BLOCK, np.zeros(1, np.int64)).write(tmp_path / "none")
    found = Landmarks.open(tmp_path / "none").vote(
        query_landmarks(Clip(busy_song(1, 3.0), RATE)), 5
    )
    assert len(found.frame) == 0


def test_a_damaged_file_is_refused(index: tuple[Landmarks, list[int]], tmp_path: Path) -> None:
    codes = peaks_of(Clip(busy_song(1, 6.0), RATE))
    Landmarks.of(codes, BLOCK, np.zeros(1, np.int64)).write(tmp_path / "one")
    file = tmp_path / "one.landmarks"
    whole = file.read_bytes()
    for spoilt in (b"", whole[:6], whole[: len(whole) // 8 * 4], b"\xff" * len(whole)):
        file.write_bytes(spoilt)
        with pytest.raises(LibraryError, match="damaged"):
            Landmarks.open(tmp_path / "one")


def test_only_the_first_places_of_each_track_are_kept() -> None:
    assert first_of_each([5, 5, 2, 5, 2, 5, 9], 2).tolist() == [0, 1, 2, 4, 6]
