"""The made-up broadcast is what it says it is, and its score counts seconds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fingerprint.lab.benchmark.broadcast import Aired, make_broadcast, score
from fingerprint.lab.benchmark.material import FULL_SCALE, WORKING_RATE, Material, cut
from fingerprint.lab.corpus import CorpusFile, Recordings, Responses
from fingerprint.scanning.spans import Span
from fingerprint.types import Floats, Match, Track


def recordings(song: Callable[..., Floats], seeds: range, folder: str) -> Recordings:
    sounds = [(song(s, 60.0, WORKING_RATE) * FULL_SCALE).astype(np.int16) for s in seeds]
    files = tuple(
        CorpusFile(Path(f"/{folder}/{s}.ogg"), folder, "test", "music", 60.0, WORKING_RATE, "", "")
        for s in seeds
    )
    starts = np.cumsum([0, *map(len, sounds)])
    return Recordings(np.concatenate(sounds), starts, files)


@pytest.fixture(scope="module")
def material(song: Callable[..., Floats]) -> Material:
    rng = np.random.default_rng(0)
    noises = tuple((3_000 * rng.standard_normal(WORKING_RATE * 3)).astype(np.int16) for _ in "abc")
    return Material(
        "test",
        known=recordings(song, range(3), "known"),
        unknown=recordings(song, range(10, 12), "unknown"),
        speech=noises,
        effects=noises,
        responses=Responses(np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32)),
    )


def test_ground_truth_of_a_broadcast_matches_its_sound(material: Material, tmp_path: Path) -> None:
    path = tmp_path / "broadcast.ogg"
    rng = np.random.default_rng(1)
    aired = make_broadcast(material, path, seconds=200, scale=0.05, rng=rng)
    assert len(aired) == 3
    assert sum(item.known for item in aired) == 2
    sound, rate = soundfile.read(path, dtype="float32")
    assert rate == WORKING_RATE
    assert len(sound) / rate == pytest.approx(200, abs=40)
    assert [item.start for item in aired] == sorted(item.start for item in aired)
    for item in (item for item in aired if item.known):
        number = int(item.path.stem)
        begin, seconds = item.start + 10, 3.0
        heard = sound[round(begin * rate) : round((begin + seconds) * rate)]
        where = round((item.offset + 10) * rate)
        played = cut(material.known.recording(number), where, round(seconds * rate))
        ours, theirs = (np.abs(np.fft.rfft(x)) ** 0.5 for x in (heard, played))
        assert np.corrcoef(ours, theirs)[0, 1] > 0.4


def test_the_same_seed_makes_the_same_broadcast(material: Material, tmp_path: Path) -> None:
    made = [
        make_broadcast(
            material, tmp_path / name, seconds=60, scale=0.02, rng=np.random.default_rng(3)
        )
        for name in ("a.ogg", "b.ogg")
    ]
    assert made[0] == made[1]


def span(start: float, end: float, path: str) -> Span:
    return Span(start, end, Match(Track(Path(path), 100.0), 0.0, 1.0, 0.99, 0.8))


AIRED = [
    Aired(10, 60, Path("/a"), 0.0, known=True),
    Aired(60, 90, Path("/u"), 0.0, known=False),
    Aired(90, 140, Path("/b"), 0.0, known=True),
]


def test_a_perfect_scan_scores_one() -> None:
    found = score([span(10, 60, "/a"), Span(60, 90, None), span(90, 140, "/b")], AIRED)
    assert (found.precision, found.recall, found.f1) == (1, 1, 1)
    assert (found.found, found.known, found.boundary_median) == (2, 2, 0)


def test_precision_and_recall_count_seconds() -> None:
    """/a is named for 40 of its 50 s and 5 s too long, /b not at all, /u once as /c for 20 s."""
    found = score([span(20, 65, "/a"), span(65, 85, "/c")], AIRED)
    assert found.precision == pytest.approx(40 / 65)
    assert found.recall == pytest.approx(40 / 100)
    assert (found.found, found.known) == (1, 2)
    assert found.boundary_median == pytest.approx(7.5)


def test_wrong_track_at_the_right_time_lowers_precision_and_recall() -> None:
    found = score([span(10, 60, "/b")], AIRED)
    assert found.precision == 0
    assert found.recall == 0
    assert found.f1 == 0
    assert found.found == 0
