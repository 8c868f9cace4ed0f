import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import soundfile
from library_world import RATE, Toy, excerpt, files_in, names_in, place_of, song, write_song

from fingerprint.errors import LibraryError
from fingerprint.library import decoding, indexing
from fingerprint.library.indexing import Progress, index_files
from fingerprint.library.library import Library
from fingerprint.types import Clip

WORLD = Path(__file__).with_name("library_world.py")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library.create_or_open(tmp_path / "library", Toy())


@pytest.mark.parametrize("jobs", [0, 2])
def test_indexed_songs_are_found_at_their_places(library: Library, music: Path, jobs: int) -> None:
    report = index_files(library, files_in(music), jobs=jobs)
    assert (report.added, report.skipped, report.failed) == (3, 0, [])
    assert report.seconds_of_audio == pytest.approx(60)
    assert [track.path for track in library.tracks()] == files_in(music)
    assert [track.duration for track in library.tracks()] == pytest.approx([20] * 3)
    for seed in (1, 2, 3):
        assert place_of(library, seed) == (f"{seed:04d}.wav", pytest.approx(7.3, abs=0.1))


def test_tags_are_read(library: Library, music: Path) -> None:
    path = music / "tagged.flac"
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        file.title, file.artist, file.album = "A title", "An artist", "An album"
        file.write(song(5))
    index_files(library, [path])
    tags = library.identify(excerpt(song(5), 3, 4), min_confidence=0)[0].track.tags
    assert (tags.title, tags.artist, tags.album) == ("A title", "An artist", "An album")


def test_a_rerun_skips_what_has_not_changed(library: Library, music: Path) -> None:
    index_files(library, files_in(music))
    write_song(music / "0004.wav", 4)
    again = index_files(library, files_in(music))
    assert (again.added, again.skipped, again.failed) == (1, 3, [])
    assert again.seconds_of_audio == pytest.approx(20)
    assert len(library.tracks()) == 4


def test_a_path_is_the_same_however_it_is_written(
    library: Library, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(music)
    report = index_files(library, [Path("0001.wav"), music / "0001.wav", Path("../music/0001.wav")])
    assert (report.added, report.skipped) == (1, 0)
    assert [track.path for track in library.tracks()] == [music / "0001.wav"]
    assert library.remove([Path("../music/./0001.wav")]) == 1


def test_a_changed_file_is_replaced(library: Library, music: Path) -> None:
    index_files(library, files_in(music))
    write_song(music / "0001.wav", 9)
    report = index_files(library, files_in(music))
    assert (report.added, report.skipped) == (1, 2)
    assert len(library.tracks()) == 3
    assert place_of(library, 9)[0] == "0001.wav"
    assert library.identify(excerpt(song(1), 7, 4), min_confidence=0)[0].confidence < 0.5


def test_a_changed_file_that_is_broken_now_leaves_the_old_track(
    library: Library, music: Path
) -> None:
    index_files(library, files_in(music))
    (music / "0001.wav").write_bytes(b"broken")
    assert len(index_files(library, files_in(music)).failed) == 1
    assert place_of(library, 1)[0] == "0001.wav"


def test_a_track_whose_file_is_gone_stays(library: Library, music: Path) -> None:
    index_files(library, files_in(music))
    (music / "0002.wav").unlink()
    report = index_files(library, files_in(music))
    assert (report.added, report.skipped, report.failed) == (0, 2, [])
    assert place_of(library, 2)[0] == "0002.wav"


def test_file_name_that_is_not_valid_text_is_indexed(library: Library, music: Path) -> None:
    path = music / os.fsdecode(b"caf\xe9\xff \n.wav")
    (music / "0001.wav").rename(path)
    assert index_files(library, files_in(music), jobs=1).added == 3
    assert library.identify(excerpt(song(1), 7, 4), min_confidence=0)[0].track.path == path
    assert index_files(library, files_in(music)).skipped == 3


def test_unusable_files_are_reported_and_the_others_are_indexed(
    library: Library, music: Path
) -> None:
    (music / "junk.mp3").write_bytes(b"junk" * 1000)
    (music / "empty.wav").touch()
    soundfile.write(music / "nothing.wav", np.zeros(0), RATE)
    soundfile.write(music / "one.wav", np.full(1, 0.5), RATE)
    soundfile.write(music / "silent.wav", np.zeros(5 * RATE), RATE)
    soundfile.write(music / "nan.wav", np.full(5 * RATE, np.nan), RATE, subtype="FLOAT")
    report = index_files(library, [*files_in(music), music / "none.wav", music], jobs=1)
    assert report.added == 3
    reasons = {path.name: reason for path, reason in report.failed}
    assert len(reasons) == len(report.failed) == 8
    assert all(name in reason and "\n" not in reason for name, reason in reasons.items())
    assert "silent" in reasons["silent.wav"]
    assert "too short" in reasons["one.wav"]
    assert "No such file" in reasons["none.wav"]
    assert names_in(library) == ["0001.wav", "0002.wav", "0003.wav"]


def test_music_shorter_than_a_window_is_indexed(library: Library, music: Path) -> None:
    path = write_song(music / "jingle.wav", 6, 0.8)
    assert index_files(library, [path]).added == 1
    assert library.identify(Clip(song(6, 0.8), RATE), min_confidence=0)[0].track.path == path


def test_progress_counts_up_to_the_whole(library: Library, music: Path) -> None:
    (music / "junk.mp3").write_bytes(b"junk" * 1000)
    index_files(library, [music / "0001.wav"])
    told: list[Progress] = []
    index_files(library, files_in(music), on_progress=told.append)
    assert [now.done for now in told] == [1, 2, 3, 4]
    assert {now.total for now in told} == {4}
    assert (told[-1].failed, told[-1].seconds_of_audio) == (1, pytest.approx(40))
    assert all(a.elapsed <= b.elapsed for a, b in pairwise(told))


def test_a_long_recording_is_streamed_to_the_same_embeddings(
    tmp_path: Path, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_song(music / "long.wav", 8, 150)
    told: list[Progress] = []
    found = []
    for longest in (1e9, 100.0):
        monkeypatch.setattr(decoding, "LONGEST", longest)
        library = Library.create_or_open(tmp_path / str(longest), Toy())
        index_files(library, [path], on_progress=told.append)
        found.append(library.snapshot().segments[0].codes)
        assert library.tracks()[0].duration == pytest.approx(150)
    np.testing.assert_array_equal(*found)
    assert [now.seconds_of_audio for now in told[-4:]] == pytest.approx([60, 120, 150, 150])


def test_a_recording_in_parts_has_its_whole_length(
    tmp_path: Path, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_song(music / "long.wav", 8, 150)
    monkeypatch.setattr(decoding, "LONGEST", 100.0)
    library = Library.create_or_open(tmp_path / "library", Toy())
    index_files(library, [path])
    assert library.tracks()[0].duration == pytest.approx(150)


def test_long_run_is_committed_in_batches_and_segments_are_merged(
    tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "BATCH_ROWS", 20)
    music = [write_song(tmp_path / f"{seed:04d}.wav", seed, 6.0) for seed in range(20)]
    reader = Library.open(tmp_path / "library", Toy())
    seen: list[int] = []
    index_files(library, music, on_progress=lambda _: seen.append(len(reader.tracks())))
    assert seen == [0, *range(20)]
    assert library.info().segments <= 8
    assert place_of(library, 7, 1.0)[0] == "0007.wav"


def test_the_real_model_is_an_embedder(tmp_path: Path, music: Path) -> None:
    """It knows a clean excerpt again. (Untrained, its embeddings all have the same signs.)"""
    from fingerprint.library.library import Embedder
    from fingerprint.model.fingerprinter import Fingerprinter

    model: Embedder = Fingerprinter.default("cpu")
    library = Library.create_or_open(tmp_path / "library", model)
    assert index_files(library, files_in(music)).added == 3
    best = library.identify(excerpt(song(2), 7.3, 5.0), min_confidence=0)[0]
    assert (best.track.path.name, best.offset) == ("0002.wav", pytest.approx(7.3, abs=0.2))
    assert library.identify(Clip(np.zeros(5 * RATE, np.float32), RATE), min_confidence=0) == []
    soundfile.write(music / "silent.wav", np.zeros(5 * RATE), RATE)
    assert "silent" in index_files(library, files_in(music)).failed[0][1]


# Interruptions.


def test_ctrl_c_keeps_what_is_done(library: Library, music: Path) -> None:
    def interrupt(now: Progress) -> None:
        if now.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_files(library, files_in(music), jobs=1, on_progress=interrupt)
    assert len(library.tracks()) == 2
    assert active_children() == []
    rest = index_files(library, files_in(music))
    assert (rest.added, rest.skipped) == (1, 2)


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def _until(true: Callable[[], bool], seconds: float = 15) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


def test_a_killed_run_leaves_a_library_and_no_processes_and_a_rerun_completes_it(
    tmp_path: Path, music: Path
) -> None:
    for seed in range(4, 12):
        write_song(music / f"{seed:04d}.wav", seed)
    folder = tmp_path / "library"
    command = [sys.executable, str(WORLD), str(folder), str(music), "2"]
    run = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(WORLD.parent.parent)},
    )
    assert run.stdout is not None
    for line in run.stdout:
        if int(line) == 5:
            break
    workers = _children(run.pid)
    with pytest.raises(LibraryError, match="being written by another run"):
        index_files(Library.open(folder, Toy()), files_in(music))
    run.kill()
    run.wait()
    run.stdout.close()
    assert len(workers) >= 2
    assert _until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers))
    library = Library.open(folder, Toy())
    done = len(library.tracks())
    assert 3 <= done < 11
    rest = index_files(library, files_in(music))
    assert (rest.added, rest.skipped) == (11 - done, done)
    assert len(names_in(library)) == 11
    assert place_of(library, 1)[0] == "0001.wav"


def test_killed_decoder_fails_only_the_file_it_was_decoding(library: Library, music: Path) -> None:
    def kill(now: Progress) -> None:
        if now.done == 1:
            for child in active_children():
                os.kill(child.pid, signal.SIGKILL)

    for seed in range(4, 9):
        write_song(music / f"{seed:04d}.wav", seed)
    report = index_files(library, files_in(music), jobs=2, on_progress=kill)
    assert report.added + len(report.failed) == 8
    assert len(report.failed) <= 2
    assert all("crashed" in reason for _, reason in report.failed)
    assert index_files(library, files_in(music)).added == len(report.failed)


@pytest.mark.parametrize(
    ("blow", "reason"), [(signal.SIGKILL, "crashed"), (signal.SIGSTOP, "takes over")]
)
def test_decoder_that_dies_or_hangs_fails_only_its_file(
    library: Library, music: Path, monkeypatch: pytest.MonkeyPatch, blow: int, reason: str
) -> None:
    long = write_song(music / "0000.wav", 8, 1_320.0)
    monkeypatch.setattr(decoding, "PATIENCE", 2.0)
    begun: list[float] = []
    others = set(_children(os.getpid()))

    def strike(now: Progress) -> None:
        if now.seconds_of_audio and not begun:  # the first part of the long one has come
            begun.append(now.seconds_of_audio)
            for child in set(_children(os.getpid())) - others:
                os.kill(child, blow)

    report = index_files(library, [long, *files_in(music)], jobs=1, on_progress=strike)
    assert report.added == 3
    assert [(path, reason in why) for path, why in report.failed] == [(long, True)]
    assert set(_children(os.getpid())) == others


# A full disk.


def _index_with_little_room(folder: Path, path: Path, most: int) -> None:
    """In a child: files may not grow over `most` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    try:
        index_files(Library.open(folder, Toy()), [path])
    except LibraryError as error:
        os._exit(3 if "\n" not in str(error) and "space" in str(error) else 4)
    os._exit(0)


@pytest.mark.parametrize("most", [5_000, 20_000])  # too little for the embeddings; the index
def test_no_room_for_a_segment_leaves_the_library_as_it_was(
    tmp_path: Path, library: Library, music: Path, most: int
) -> None:
    index_files(library, [music / "0001.wav"])
    before = {p: p.read_bytes() for p in (tmp_path / "library").rglob("*") if p.is_file()}
    long = write_song(tmp_path / "long.wav", 5, 200)
    script = (
        "import sys; from pathlib import Path; import test_indexing as t;"
        "t._index_with_little_room(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))"
    )
    places = f"{WORLD.parent.parent}{os.pathsep}{WORLD.parent}"
    child = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "library"), str(long), str(most)],
        env={**os.environ, "PYTHONPATH": places},
        check=False,
    )
    assert child.returncode == 3
    assert {p: p.read_bytes() for p in before} == before
    assert len(list((tmp_path / "library").rglob("*.*"))) == len(before)
    assert place_of(library, 1)[0] == "0001.wav"
    assert index_files(library, [long]).added == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB, where one may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("file systems cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("spare", [0, 8_000, 25_000, 50_000])
def test_a_full_disk_leaves_the_library_as_it_was(
    small_disk: Path, tmp_path: Path, music: Path, spare: int
) -> None:
    library = Library.create_or_open(small_disk / "library", Toy())
    index_files(library, [music / "0001.wav"])
    with (small_disk / "ballast").open("wb") as file:
        free = os.statvfs(small_disk)
        file.write(b"x" * max(0, free.f_bavail * free.f_frsize - spare))
    before = {p: p.read_bytes() for p in (small_disk / "library").rglob("*.*") if p.is_file()}
    with pytest.raises(LibraryError, match="space") as caught:
        index_files(library, [write_song(tmp_path / "long.wav", 5, 120)])
    assert "\n" not in str(caught.value)
    now = {p: p.read_bytes() for p in (small_disk / "library").rglob("*.*") if p.is_file()}
    assert now == before
    assert place_of(library, 1)[0] == "0001.wav"
    (small_disk / "ballast").unlink()
    assert index_files(library, [music / "0002.wav"]).added == 1


# Files that mean harm.


@pytest.mark.parametrize("jobs", [0, 1])
def test_pipes_and_devices_are_refused_at_once(library: Library, music: Path, jobs: int) -> None:
    os.mkfifo(music / "0002b.wav")  # nobody ever writes into it
    (music / "0002c.wav").symlink_to("/dev/zero")
    report = index_files(library, files_in(music), jobs=jobs)
    assert report.added == 3
    reasons = {path.name: why for path, why in report.failed}
    assert "it is a pipe, not a file" in reasons["0002b.wav"]
    assert "it is a device" in reasons["0002c.wav"]
