"""The landmarks that readers of a library in Milvus keep on their own disks."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from library_world import RATE, busy_song, excerpt

from fingerprint.audio.peaks import BLOCK, EMPTY, peaks_of
from fingerprint.index.landmarks import query_landmarks
from fingerprint.milvus import landmarks
from fingerprint.milvus.landmarks import LocalLandmarks
from fingerprint.types import Clip, Ints, PeakCodes

SECONDS = 5.0


@dataclass
class Rows:
    """Stored peaks of busy songs, by number; `read` are the numbers that were asked for."""

    peaks: dict[int, PeakCodes]
    read: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, *seeds: int) -> "Rows":
        return cls({seed: peaks_of(Clip(busy_song(seed, SECONDS), RATE)) for seed in seeds})

    def of_tracks(self, number: Ints, rows: Ints) -> PeakCodes:
        self.read += number.tolist()
        found = [self.peaks[one] for one in number.tolist()]
        assert [len(one) for one in found] == rows.tolist()
        return np.concatenate(found)

    def open(self, folder: Path) -> LocalLandmarks:
        self.read.clear()
        return LocalLandmarks(folder, BLOCK, self.of_tracks)

    def voted(self, opened: LocalLandmarks, seed: int, tracks: list[int]) -> tuple[int, float]:
        """Which of the tracks most landmarks of an excerpt of a song are in, and where."""
        clip = excerpt(busy_song(seed, SECONDS), 1.5, 3.0, snr_db=10)
        rows = np.array([len(self.peaks[one]) for one in tracks])
        found = opened.vote(query_landmarks(clip), 20, np.array(tracks), rows)
        return (tracks[found[0].track], found[0].offset) if found else (0, 0.0)


def test_tracks_are_read_once_and_found_whatever_their_order(tmp_path: Path) -> None:
    rows = Rows.of(*range(1, 9))
    opened = rows.open(tmp_path / "kept")
    for tracks in ([3, 1, 2], [2, 3, 1, 4], [8, 7, 6, 5, 4, 3, 2, 1]):
        for seed in tracks:
            assert rows.voted(opened, seed, tracks) == (seed, pytest.approx(1.5, abs=0.1))
    assert max(rows.read.count(seed) for seed in range(1, 9)) <= 3
    again = rows.open(tmp_path / "kept")
    assert rows.voted(again, 5, [7, 5]) == (5, pytest.approx(1.5, abs=0.1))
    assert rows.read == []


def test_tracks_added_one_by_one_lie_in_few_parts_and_are_seldom_read_again(
    tmp_path: Path,
) -> None:
    rows = Rows.of(*range(1, 33))
    opened = rows.open(tmp_path)
    for last in range(1, 33):
        tracks = list(range(1, last + 1))
        assert rows.voted(opened, last, tracks)[0] == last
        assert len(list(tmp_path.glob("*.tracks"))) <= 6
    assert len(rows.read) <= 32 * 6
    assert len(list(tmp_path.iterdir())) == 2 * len(list(tmp_path.glob("*.tracks")))


def test_removed_tracks_are_never_candidates_and_are_deleted_later(tmp_path: Path) -> None:
    rows = Rows.of(*range(1, 7))
    opened = rows.open(tmp_path)
    assert rows.voted(opened, 1, [1, 2, 3, 4])[0] == 1
    assert rows.voted(opened, 1, [2, 3])[0] != 1
    assert rows.voted(opened, 5, [4, 5]) == (5, pytest.approx(1.5, abs=0.1))
    names = [np.fromfile(path, "<i8").reshape(2, -1)[0] for path in tmp_path.glob("*.tracks")]
    assert sorted(np.concatenate(names).tolist()) == [4, 5]


def test_large_parts_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows.of(*range(1, 7))
    monkeypatch.setattr(landmarks, "FULL_ROWS", 2 * len(rows.peaks[1]))
    opened = rows.open(tmp_path)
    for tracks in ([1, 2, 3, 4], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]):
        for seed in tracks:
            assert rows.voted(opened, seed, tracks)[0] == seed
    assert [rows.read.count(seed) for seed in (1, 2, 3, 4)] == [1, 1, 1, 1]
    assert len(list(tmp_path.glob("*.tracks"))) >= 3


def test_a_larger_library_has_no_landmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows.of(1)
    monkeypatch.setattr(landmarks, "MOST_ROWS", 3)
    assert rows.voted(rows.open(tmp_path), 1, [1]) == (0, 0.0)
    assert rows.read == []


@pytest.mark.parametrize("suffix", ["tracks", "landmarks"])
@pytest.mark.parametrize("spoilt", [b"", b"odd", bytes(64), None])
def test_damaged_files_are_rebuilt(tmp_path: Path, suffix: str, spoilt: bytes | None) -> None:
    rows = Rows.of(1, 2)
    assert rows.voted(rows.open(tmp_path), 2, [1, 2])[0] == 2
    for path in tmp_path.glob(f"*.{suffix}"):
        path.unlink() if spoilt is None else path.write_bytes(spoilt)
    assert rows.voted(rows.open(tmp_path), 2, [1, 2]) == (2, pytest.approx(1.5, abs=0.1))
    assert rows.voted(rows.open(tmp_path), 1, [1, 2])[0] == 1
    assert rows.read == []


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    rows = Rows.of(1, 2)
    opened = rows.open(blocked / "kept")
    for _ in range(2):
        assert rows.voted(opened, 2, [1, 2])[0] == 2
    assert rows.read == [1, 2]


def test_rows_that_are_not_there_yet_are_read_by_the_next_process(tmp_path: Path) -> None:
    rows = Rows.of(1, 2)
    whole = rows.peaks[2]
    rows.peaks[2] = np.full_like(whole, EMPTY)
    opened = rows.open(tmp_path)
    found = (2, pytest.approx(1.5, abs=0.1))
    assert rows.voted(opened, 2, [1, 2]) != found
    rows.peaks[2] = whole
    assert rows.voted(rows.open(tmp_path), 2, [1, 2]) == found


def test_two_processes_can_index_the_same_tracks_at_once(tmp_path: Path) -> None:
    rows = Rows.of(*range(1, 6))
    one, other = rows.open(tmp_path), rows.open(tmp_path)
    for tracks in ([1, 2, 3], [1, 2, 3, 4, 5]):
        assert rows.voted(one, 3, tracks)[0] == 3
        assert rows.voted(other, tracks[-1], tracks)[0] == tracks[-1]
        assert rows.voted(rows.open(tmp_path), 1, tracks)[0] == 1
