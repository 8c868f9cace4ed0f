"""Recordings in object storage: known by their addresses, indexed like files."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from click.testing import CliRunner, Result
from library_world import Toy, write_song

from fingerprint.audio.files import Presence, display_name, presence
from fingerprint.audio.objects import address_of, fetched, find_objects, is_object, look, path_of
from fingerprint.cli import main
from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library
from fingerprint.library.records import Stamp


@pytest.fixture
def bucket() -> str:
    """The address of a place of its own in this process's memory."""
    return f"memory://{uuid4().hex}"


def put(address: str, content: bytes) -> None:
    fsspec.filesystem("memory").pipe_file(address.removeprefix("memory:/"), content)


def song(tmp_path: Path, seed: int) -> bytes:
    return write_song(tmp_path / f"{seed}.wav", seed, 5.0).read_bytes()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.mark.parametrize(
    "address", ["s3://bucket/a song.mp3", "https://host:8443/x.mp3?a=1", "gs://b/\u00e9/x.flac"]
)
def test_path_stands_for_an_address(address: str) -> None:
    path = path_of(address)
    assert is_object(address)
    assert path.is_absolute()
    assert address_of(path) == address == display_name(path)
    assert presence(path) is Presence.UNREACHABLE  # nobody has proven that it is gone


@pytest.mark.parametrize("name", ["/music/s3/x.mp3", "x.mp3", "rtsp://host/x", "s3:x"])
def test_other_names_are_paths_of_their_own(name: str) -> None:
    assert not is_object(name)
    assert path_of(name) == Path(name)
    assert address_of(Path(name)) is None


def test_objects_are_found_as_in_a_folder(bucket: str) -> None:
    for name in ("b/2.wav", "a.mp3", "b/.hidden.wav", "notes.txt", ".trash/x.wav"):
        put(f"{bucket}/{name}", b"x")
    found = [address_of(path) for path in find_objects(bucket)]
    assert found == [f"{bucket}/a.mp3", f"{bucket}/b/2.wav"]
    assert list(find_objects(f"{bucket}/notes.txt")) == [path_of(f"{bucket}/notes.txt")]
    with pytest.raises(FileNotFoundError):
        list(find_objects(f"{bucket}/none"))


@pytest.mark.parametrize("rest", ["a//b.mp3", "a/../b.mp3", "./b.mp3"])
def test_address_that_no_path_can_hold_is_refused(bucket: str, rest: str) -> None:
    with pytest.raises(ValueError, match="no empty part"):
        list(find_objects(f"{bucket}/{rest}"))


def test_stamp_tells_versions_of_an_object_apart(bucket: str) -> None:
    put(f"{bucket}/a.wav", b"one")
    path = path_of(f"{bucket}/a.wav")
    before = Stamp.of(path)
    assert before == Stamp.of(path)
    put(f"{bucket}/a.wav", b"two")
    assert before.size == Stamp.of(path).size
    assert before != Stamp.of(path)
    with pytest.raises(OSError, match="directory"):
        look(path_of(bucket))


def test_failure_of_a_store_is_an_os_error(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(f"{bucket}/a.wav", b"one")

    def fail(*_args: Any, **_options: Any) -> None:
        raise RuntimeError("503 slow down")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "open", fail)
    with pytest.raises(OSError, match="503 slow down"), fetched(path_of(f"{bucket}/a.wav")):
        pass


@pytest.mark.parametrize("jobs", [0, 1])
def test_objects_are_indexed_and_skipped(tmp_path: Path, bucket: str, jobs: int) -> None:
    for seed in (1, 2):
        put(f"{bucket}/{seed}.wav", song(tmp_path, seed))
    put(f"{bucket}/bad.wav", b"no audio")
    paths = list(find_objects(bucket))
    with Library.create_or_open(tmp_path / "library", Toy()) as library:
        report = index_files(library, paths, jobs=jobs)
        assert [address_of(track.path) for track in library.tracks()] == [
            f"{bucket}/1.wav",
            f"{bucket}/2.wav",
        ]
        assert [reason[: len(bucket) + 21] for _, reason in report.failed] == [
            f"cannot read {bucket}/bad.wav:"
        ]
        assert index_files(library, paths[:2], jobs=jobs).skipped == 2
        local = tmp_path / "1.wav"  # the same sound: a track of its own, for the object is not gone
        assert index_files(library, [local]).added == 1
        assert len(library.tracks()) == 3


def test_command_takes_and_shows_addresses(tmp_path: Path, bucket: str) -> None:
    put(f"{bucket}/1.wav", song(tmp_path, 1))
    library = tmp_path / "library"
    gone = f"{bucket}/none.wav"
    listed = tmp_path / "list.txt"
    listed.write_text(f"{gone}\nhttp://me:topsecret@host/x.wav\n")
    done = run("index", bucket, "--files-from", listed, "--library", library, "--jobs", 1)
    assert done.exit_code == 1
    assert "Indexed 1 track" in done.stdout
    assert f"cannot read {gone}: no such file" in done.stderr
    assert "cannot read http://***@host/x.wav: a user or a password" in done.stderr
    assert "topsecret" not in done.output
    shown = run("list", "--library", library, "--json")
    assert json.loads(shown.stdout)["path"] == f"{bucket}/1.wav"
    assert run("remove", f"{bucket}/1.wav", "--library", library).exit_code == 0
    assert run("list", "--library", library).stdout.strip() == ""


def test_missing_package_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    done = run("index", "s3://bucket/x", "--library", tmp_path / "library")
    assert done.exit_code == 1
    assert "cannot read s3://bucket/x: " in done.stderr
    assert done.stderr.count("\n") == 1
