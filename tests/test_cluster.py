"""Indexing on a Ray cluster: whatever dies, every track is there, and once."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from library_world import files_in, write_song

from fingerprint.cli import main
from fingerprint.cluster import LOCAL, Plan, check, index_on_ray, share_of
from fingerprint.errors import LibraryError
from fingerprint.lab.tables.cluster import kill_a_worker
from fingerprint.library import shards
from fingerprint.library.embedding import Failure, Recording, embed_files
from fingerprint.library.indexing import Progress, Report, index_files
from fingerprint.library.library import Library
from fingerprint.library.records import Stamp
from fingerprint.library.shards import Shard
from fingerprint.milvus.address import Address
from fingerprint.milvus.library import MilvusLibrary
from fingerprint.model.fingerprinter import Fingerprinter

SONGS = 6
INDEX = """
import os, signal, sys
from pathlib import Path
from fingerprint.cluster import Plan, index_on_ray
from fingerprint.library import shards
from fingerprint.library.library import Library
from fingerprint.model.fingerprinter import Fingerprinter

def tell(now):
    if now.done >= 2:
        os.kill(os.getpid(), signal.SIGKILL)

shards.MOST_FILES = 1
files = sorted(Path(sys.argv[1]).iterdir())
with Library.create_or_open(Path(sys.argv[2]), Fingerprinter.default("cpu")) as library:
    index_on_ray(library, files, Plan(workers=2), on_progress=tell)
"""


@pytest.fixture(scope="module")
def model() -> Fingerprinter:
    return Fingerprinter.default("cpu")


@pytest.fixture
def music(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    folder.mkdir()
    for seed in range(SONGS):
        write_song(folder / f"{seed}.wav", seed, 5.0)
    (folder / "bad.mp3").write_bytes(b"no audio")
    return folder


def test_killed_worker_causes_no_lost_or_double_tracks(
    tmp_path: Path, music: Path, model: Fingerprinter, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(shards, "MOST_FILES", 1)  # in a shard
    killed: list[int] = []

    def kill_one(now: Progress) -> None:
        if now.done >= 2 and not killed:
            killed.append(kill_a_worker())

    with Library.create_or_open(tmp_path / "ray", model) as library:
        report = index_on_ray(library, files_in(music), Plan(workers=2), on_progress=kill_one)
        assert killed
        assert_same(library, report, tmp_path / "plain", music, model)
        assert not (library.folder / "shards").exists()
        again = index_on_ray(library, files_in(music)[:SONGS], Plan())  # needs no cluster
    assert (again.added, again.skipped) == (0, SONGS)


def test_rerun_completes_the_run_of_a_killed_driver(
    tmp_path: Path, music: Path, model: Fingerprinter
) -> None:
    pytest.importorskip("ray")
    command = [sys.executable, "-c", INDEX, str(music), str(tmp_path / "ray")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with Library.create_or_open(tmp_path / "ray", model) as library:
        assert 1 <= len(library.tracks()) < SONGS
        report = index_on_ray(library, files_in(music), Plan(workers=2))
        assert_same(library, report, tmp_path / "plain", music, model)


def assert_same(
    library: Library, report: Report, plain: Path, music: Path, model: Fingerprinter
) -> None:
    """The same tracks, rows and failures as a plain run."""
    with Library.create_or_open(plain, model) as other:
        expected = index_files(other, files_in(music))
        assert report.failed == expected.failed
        ours, theirs = library.catalog.listed(), other.catalog.listed()
        assert len(ours) == SONGS
        assert [(one.track, one.content) for one in ours] == [
            (one.track, one.content) for one in theirs
        ]
        for one in ours:
            mine, wanted = library.fingerprint(one.track), other.fingerprint(one.track)
            assert mine is not None
            assert wanted is not None
            np.testing.assert_array_equal(mine.vectors, wanted.vectors)


# Without Ray


def embedded(music: Path, model: Fingerprinter) -> tuple[Shard, list[Recording | Failure]]:
    files = {path: Stamp.of(path) for path in files_in(music)}
    return Shard(files, model.id), list(embed_files(files, model, jobs=0))


def test_shard_gives_back_what_was_written(
    tmp_path: Path, music: Path, model: Fingerprinter
) -> None:
    shard, results = embedded(music, model)
    shards.write(tmp_path, shard, results)
    assert [file.name for file in shards.files_in(tmp_path)] == [shard.name]
    found = shards.read(tmp_path / shard.name, model.id, None)
    assert found is not None
    assert [one for one in found if isinstance(one, Failure)] == [
        one for one in results if isinstance(one, Failure)
    ]
    recordings = [one for one in results if isinstance(one, Recording)]
    for read, written in zip(found, recordings, strict=False):
        assert isinstance(read, Recording)
        assert (read.path, read.stamp, read.content) == (
            written.path,
            written.stamp,
            written.content,
        )
        np.testing.assert_array_equal(read.vectors, written.vectors)
        np.testing.assert_array_equal(read.peaks, written.peaks)


def test_shard_that_is_damaged_or_of_another_model_is_not_read(
    tmp_path: Path, music: Path, model: Fingerprinter
) -> None:
    shard, results = embedded(music, model)
    shards.write(tmp_path, shard, results)
    file = tmp_path / shard.name
    assert shards.read(file, "another", None) is None
    assert shards.read(file, model.id, 2) is None
    whole = file.read_bytes()
    for damaged in (whole[:-100], whole[: len(whole) // 2] + b"\1" + whole[len(whole) // 2 + 1 :]):
        file.write_bytes(damaged)
        assert shards.read(file, model.id, None) is None


def test_shard_on_a_full_disk_leaves_nothing(
    tmp_path: Path, music: Path, model: Fingerprinter, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard, results = embedded(music, model)
    with little_space(1 << 12), pytest.raises(OSError, match="too large"):
        shards.write(tmp_path, shard, results)
    assert [path.name for path in tmp_path.iterdir()] == ["music"]


@contextmanager
def little_space(size: int) -> Iterator[None]:
    """No file may be larger, for as long as it lasts."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_shards_are_cut_by_number_and_size() -> None:
    files = {Path(f"/{number}"): Stamp(1, 1) for number in range(shards.MOST_FILES + 1)}
    assert [len(one.files) for one in shards.cut(files, "m", None)] == [shards.MOST_FILES, 1]
    large = {Path(f"/{number}"): Stamp(shards.MOST_BYTES, 1) for number in range(3)}
    cut = list(shards.cut(large, "m", None))
    assert [len(one.files) for one in cut] == [1, 1, 1]
    assert len({one.name for one in cut}) == 3


def test_left_shards_are_imported_without_a_cluster(
    tmp_path: Path, music: Path, model: Fingerprinter
) -> None:
    files = {path: Stamp.of(path) for path in files_in(music)[:SONGS]}
    with Library.create_or_open(tmp_path / "library", model) as library:
        folder = library.folder / "shards"
        folder.mkdir()
        results = list(embed_files(files, model, jobs=0))
        shards.write(folder, Shard(files, model.id), results)
        report = index_on_ray(library, list(files), Plan(address="nowhere:1"))
        assert report.added == len(library.tracks()) == SONGS
        assert not folder.exists()


def test_left_shards_are_imported_into_milvus(
    tmp_path: Path, music: Path, model: Fingerprinter
) -> None:
    pytest.importorskip("milvus_lite")
    files = {path: Stamp.of(path) for path in files_in(music)[:3]}
    folder = tmp_path / "shards"
    place = Address.parse(f"milvus://{tmp_path / 'songs.db'}/music")
    with MilvusLibrary.create_or_open_at(place, model) as library:
        for _ in range(2):  # the second time, they are known by their paths
            folder.mkdir()
            shards.write(folder, Shard(files, model.id), list(embed_files(files, model, jobs=0)))
            index_on_ray(library, list(files), Plan(address="nowhere:1", shards=folder))
            assert [track.path for track in library.tracks()] == list(files)
            assert not folder.exists()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "cannot reach a Ray cluster at 127.0.0.1:1: Connection refused"),
        ("ray://127.0.0.1:1", "cannot reach a Ray cluster at ray://127.0.0.1:1: Conn"),
        ("http://127.0.0.1:1", "as in ray://host:10001 or host:6379"),
        ("host:notaport", "cannot reach a Ray cluster"),
    ],
)
def test_cluster_out_of_reach_is_one_line(address: str, words: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(LibraryError, match=words):
        check(address)


def test_missing_ray_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fingerprint.cluster.find_spec", lambda _name: None)
    with pytest.raises(LibraryError, match=r"pip install 'fingerprint\[ray\]'"):
        check(LOCAL)


@pytest.mark.parametrize(
    ("plan", "cluster", "workers", "device", "decoders"),
    [
        (Plan(), {"CPU": 16}, 16, "cpu", 1),
        (Plan(workers=2), {"CPU": 16}, 2, "cpu", 1),
        (Plan(), {"CPU": 64, "GPU": 4}, 4, "cuda", 16),
        (Plan(workers=1), {"CPU": 64, "GPU": 4}, 1, "cuda", 64),
        (Plan(device="cpu"), {"CPU": 64, "GPU": 4}, 64, "cpu", 1),
        (Plan(), {"CPU": 4, "GPU": 4}, 4, "cuda", 1),
    ],
)
def test_workers_reserve_processors_for_their_decoders(
    plan: Plan, cluster: dict[str, float], workers: int, device: str, decoders: int
) -> None:
    share = share_of(plan, cluster, 1_000)
    assert (share.workers, share.device, share.decoders) == (workers, device, decoders)
    assert share.decoding == 0 or share.resources["num_cpus"] == 0


def test_cluster_without_the_gpu_that_is_asked_for() -> None:
    with pytest.raises(LibraryError, match="no GPU"):
        share_of(Plan(device="cuda"), {"CPU": 4}, 10)


def test_the_file_that_deploys_a_cluster_is_sound() -> None:
    file = Path(__file__).parent.parent / "deploy" / "ray-cluster.yaml"
    cluster, claim = yaml.safe_load_all(file.read_text())
    assert (cluster["kind"], claim["kind"]) == ("RayCluster", "PersistentVolumeClaim")
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        (volume,) = pod["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        for container in pod["containers"]:
            assert {one["name"] for one in container["volumeMounts"]} == {volume["name"]}
            assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ray", "MUSIC"], "is no address of a Ray cluster"),
        (["MUSIC", "--shards", "x"], "--shards is for --ray"),
        (["MUSIC", "--ray", "--library", "http://127.0.0.1:1"], "not on a server"),
    ],
)
def test_wrong_usage(music: Path, arguments: list[str], words: str) -> None:
    named = [str(music) if one == "MUSIC" else one for one in arguments]
    result = CliRunner().invoke(main, ["index", *named])
    assert result.exit_code == 2
    assert words in result.output
