import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import soundfile
from library_world import RATE, files_in, write_song

from fingerprint.audio import worker
from fingerprint.lab.tables import indexing
from fingerprint.library import decoding
from fingerprint.library.decoding import Decoded, Ended, Part, Undecodable, decode_all
from fingerprint.types import Clip


def _children() -> set[int]:
    found = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    return {int(child) for child in found.split()}


@pytest.fixture
def children() -> Callable[[], set[int]]:
    """The processes that this one has started since the test began."""
    before = _children()
    return lambda: _children() - before


def wait_until_idle(processes: set[int]) -> None:
    """Wait until processes sleep: they wait for a request, or until their answer is read."""
    calm = 0
    while calm < 3:
        threads = [one for number in processes for one in Path(f"/proc/{number}/task").glob("*")]
        states = {(one / "stat").read_text().rpartition(")")[2].split()[0] for one in threads}
        calm = calm + 1 if states <= {"S", "Z"} else 0
        time.sleep(0.01)


def test_slow_consumer_bounds_the_number_of_decoded_recordings(
    tmp_path: Path, children: Callable[[], set[int]]
) -> None:
    paths = [write_song(tmp_path / f"{seed:04d}.wav", seed, 2.0) for seed in range(12)]
    decoded = decode_all(paths, RATE, jobs=1)
    outcomes = [next(decoded)[1]]
    wait_until_idle(children())
    for path in paths:
        path.unlink()
    outcomes += [outcome for _, outcome in decoded]
    assert sum(isinstance(outcome, Decoded) for outcome in outcomes) <= 2
    assert sum(isinstance(outcome, Undecodable) for outcome in outcomes) >= 10


# Longer than is decoded at once.


def test_long_recording_is_not_decoded_only_to_measure_its_length(
    music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_song(music / "long.wav", 8, 150)
    monkeypatch.setattr(decoding, "LONGEST", 100.0)
    decode = decoding.stream_clip
    decoded: list[float] = []

    def counting(source: BinaryIO, rate: int, **options: Any) -> Iterator[Clip]:
        for block in decode(source, rate, **options):
            decoded.append(block.duration)
            yield block

    monkeypatch.setattr(decoding, "stream_clip", counting)
    first = next(decoding.decode(path, 8_000))
    assert isinstance(first, decoding.Part)
    assert decoded == [first.clip.duration]


@pytest.fixture(scope="module")
def long_ones(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two recordings of 22 minutes."""
    folder = tmp_path_factory.mktemp("long")
    return [write_song(folder / f"{seed}.wav", seed, 1_320.0) for seed in (1, 2)]


def test_long_recordings_come_in_parts_side_by_side(
    long_ones: list[Path], children: Callable[[], set[int]]
) -> None:
    decoding_ = decode_all(long_ones, RATE, jobs=2)
    outcomes: list[tuple[Path, object]] = []
    while len({path for path, _ in outcomes}) < 2:
        wait_until_idle(children())  # so that both processes have decoded what they may
        outcomes.append(next(decoding_))
    outcomes += decoding_
    first = [next(i for i, (of, _) in enumerate(outcomes) if of == path) for path in long_ones]
    ended = [i for i, (_, outcome) in enumerate(outcomes) if isinstance(outcome, Ended)]
    assert len(ended) == 2
    assert max(first) < min(ended)
    for path in long_ones:
        parts = [one.clip for of, one in outcomes if of == path and isinstance(one, Part)]
        assert {round(part.duration) for part in parts} == {60}
        samples, _ = soundfile.read(path, dtype="float32")
        np.testing.assert_array_equal(np.concatenate([part.samples for part in parts]), samples)
    assert children() == set()


def test_decoder_killed_between_two_parts_fails_only_its_file(
    long_ones: list[Path], music: Path, children: Callable[[], set[int]]
) -> None:
    short = files_in(music)[0]
    decoding_ = decode_all([long_ones[0], short], RATE, jobs=1)
    assert isinstance(next(decoding_)[1], Part)
    for child in children():
        os.kill(child, signal.SIGKILL)
    *parts, (broken, why), (other, whole) = decoding_
    assert all(path == long_ones[0] and isinstance(one, Part) for path, one in parts)
    assert (broken, other) == (long_ones[0], short)
    assert isinstance(why, Undecodable)
    assert "crashed" in why.reason
    assert isinstance(whole, Decoded)
    assert children() == set()


def test_slow_consumer_does_not_trip_the_decode_timeout(
    long_ones: list[Path], monkeypatch: pytest.MonkeyPatch, children: Callable[[], set[int]]
) -> None:
    now = [0.0]
    for module in (decoding, worker):
        monkeypatch.setattr(module, "monotonic", lambda: now[0])
    decoded = decode_all(long_ones[:1], RATE, jobs=1)
    outcomes = [next(decoded)[1]]
    for _ in range(2):
        wait_until_idle(children())  # the next part waits to be read
        now[0] += 2 * decoding.PATIENCE
        outcomes.append(next(decoded)[1])
    assert all(isinstance(outcome, Part) for outcome in outcomes)
    decoded.close()
    assert children() == set()


def test_the_benchmark_of_indexing_decodes_its_files(tmp_path: Path) -> None:
    files = [write_song(tmp_path / f"{n}.wav", n, seconds=3.0) for n in range(2)]
    assert indexing.decoded(files, jobs=1) == pytest.approx(6.0)
