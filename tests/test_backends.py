"""Every back end keeps the same promises: Annoy and faiss in a folder, Milvus in a file or afar."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from library_world import (
    RATE,
    Toy,
    add,
    best,
    busy_song,
    entry,
    excerpt,
    names_in,
    song,
    three_songs,
    write_song,
)
from library_world import place_of as place_in

from fingerprint.audio.report import Damage
from fingerprint.errors import LibraryError
from fingerprint.index.landmarks import query_landmarks
from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library
from fingerprint.library.records import Stamp
from fingerprint.library.writer import Entry
from fingerprint.scanning import scan
from fingerprint.types import Clip, Tags, Track

PATIENCE = 60.0  # s within which a reader must see what another has written
Opener = Callable[[Toy], Library]


@dataclass(frozen=True)
class Backend:
    """A place for one library; `named` is what a process of its own opens."""

    open: Opener
    named: str


@pytest.fixture(scope="session")
def lite_root(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("pymilvus", reason="needs fingerprint[milvus]")
    return f"milvus://{tmp_path_factory.mktemp('lite')}/songs.db"


@pytest.fixture(scope="session")
def afar_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("pymilvus", reason="needs fingerprint[milvus]")
    from milvus_world import server_root

    with server_root(tmp_path_factory.mktemp("milvus")) as root:
        yield root


@pytest.fixture(
    params=[
        "annoy",
        "faiss",
        "milvus-lite",
        pytest.param("milvus", marks=[pytest.mark.milvus_server, pytest.mark.timeout(1800)]),
    ]
)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    kind: str = request.param
    if kind in ("annoy", "faiss"):
        if kind == "faiss":
            pytest.importorskip("faiss", reason="needs fingerprint[faiss]")
        profile = {"annoy": "standard", "faiss": "large"}[kind]
        place = tmp_path / "library"

        def in_folder(model: Toy) -> Library:
            return Library.create_or_open(place, model, profile=profile)

        yield Backend(in_folder, str(place))
        return
    root = request.getfixturevalue("lite_root" if kind == "milvus-lite" else "afar_root")
    from milvus_world import drop, new_address

    from fingerprint.milvus.library import MilvusLibrary

    address = new_address(root)
    yield Backend(lambda model: MilvusLibrary.create_or_open_at(address, model), str(address))
    drop(address)


@pytest.fixture
def library(backend: Backend) -> Iterator[Library]:
    """Three songs, added in two goes."""
    with backend.open(Toy()) as opened:
        add(opened, 1, 2)
        add(opened, 3)
        yield opened


def test_noisy_excerpts_are_found_at_their_places(library: Library) -> None:
    for seed, start in ((1, 0.0), (2, 7.3), (3, 15.9)):
        name, offset = place_in(library, seed, start)
        assert name == f"{seed:04d}.wav"
        assert offset == pytest.approx(start, abs=0.1)


def test_silence_and_an_empty_library_match_nothing(backend: Backend) -> None:
    with backend.open(Toy()) as library:
        assert best(library, excerpt(song(1), 3, 4)) == []
        add(library, 1)
        assert best(library, Clip(np.zeros(4 * RATE, np.float32), RATE)) == []


def test_a_removed_track_is_not_found(library: Library) -> None:
    assert library.remove([Path("/music/0002.wav"), Path("/music/none.wav")]) == 1
    assert names_in(library) == ["0001.wav", "0003.wav"]
    assert place_in(library, 2)[0] != "0002.wav"
    assert place_in(library, 3)[0] == "0003.wav"
    assert library.counts().tracks == 2


def test_all_tracks_can_be_removed_and_others_added(library: Library) -> None:
    assert library.remove(track.path for track in library.tracks()) == 3
    assert best(library, excerpt(song(1), 3, 4)) == []
    add(library, 4)
    add(library, 1)
    assert names_in(library) == ["0001.wav", "0004.wav"]
    assert place_in(library, 1)[0] == "0001.wav"


def test_a_track_of_the_same_path_is_replaced(library: Library) -> None:
    new = entry(9, seconds=12.0)
    path = Path("/music/0001.wav")
    with library.writing() as writer:
        writer.add([Entry(Track(path, 12.0), Stamp(9, 9), new.vectors)])
    assert names_in(library) == ["0001.wav", "0002.wav", "0003.wav"]
    name, offset = place_in(library, 9, 5.0)
    assert (name, offset) == ("0001.wav", pytest.approx(5.0, abs=0.1))
    assert place_in(library, 1)[0] != "0001.wav" or place_in(library, 1)[1] != 7.3


def test_adding_a_track_again_makes_no_second_entry(library: Library) -> None:
    add(library, 2, 3)
    assert names_in(library) == ["0001.wav", "0002.wav", "0003.wav"]
    assert len(library.snapshot().rows) >= 3
    found = best(library, excerpt(song(3), 5, 4))
    assert [match.track.path.name for match in found].count("0003.wav") == 1


def test_a_writer_sees_its_own_changes_at_once(backend: Backend) -> None:
    with backend.open(Toy()) as library:
        for seed in range(1, 6):
            add(library, seed)
            assert place_in(library, seed)[0] == f"{seed:04d}.wav"
            library.remove([Path(f"/music/{seed:04d}.wav")])
            assert names_in(library) == []


def test_another_reader_sees_the_change(backend: Backend, library: Library) -> None:
    with backend.open(Toy()) as reader:
        assert place_in(reader, 3)[0] == "0003.wav"
        add(library, 7)
        library.remove([Path("/music/0003.wav")])
        end = time.monotonic() + PATIENCE
        while place_in(reader, 7)[0] != "0007.wav" or place_in(reader, 3)[0] == "0003.wav":
            assert time.monotonic() < end
            time.sleep(0.2)
        assert names_in(reader) == ["0001.wav", "0002.wav", "0007.wav"]


def test_a_reopened_library_gives_the_same_answers(backend: Backend, library: Library) -> None:
    clips = [excerpt(song(seed), 6.1, 4, snr_db=5) for seed in (2, 4)]  # 4 is unknown
    before = [best(library, clip) for clip in clips]
    with backend.open(Toy()) as again:
        assert [best(again, clip) for clip in clips] == before


@pytest.mark.parametrize("model", [Toy(id="toy-2"), Toy(dim=32)])
def test_another_model_or_dimension_is_refused_and_changes_nothing(
    backend: Backend, library: Library, model: Toy
) -> None:
    if isinstance(library, Library) and type(library) is Library and model.dim == 32:
        pytest.skip("a folder is pinned to the model's id, from which the dimension follows")
    with pytest.raises(LibraryError, match="index into a new") as caught:
        backend.open(model)
    assert "\n" not in str(caught.value)
    assert names_in(library) == ["0001.wav", "0002.wav", "0003.wav"]
    with pytest.raises(ValueError, match="shape"), library.writing() as writer:
        writer.add([entry(5, model=Toy(dim=32))])
    assert names_in(library) == ["0001.wav", "0002.wav", "0003.wav"]


def test_a_track_comes_back_as_it_was_stored(backend: Backend) -> None:
    odd = os.fsdecode(b'/music/it\'s "\xff\\ {}\nsong".wav')
    track = Track(Path(odd), 20.0, Tags("Tïtle", "bro\udcffken", "a" * 500, isrc="X"))
    lost = (Damage("truncated", "ends early", 1.5),)
    with backend.open(Toy()) as library:
        rows = entry(1).vectors
        with library.writing() as writer:
            writer.add([Entry(track, Stamp(5, 1 << 62), rows, b"0123456789abcdef", damage=lost)])
        (found,) = library.catalog.listed()
        assert found.track.path == track.path
        assert found.track.tags == Tags("Tïtle", "bro?ken", "a" * 500, isrc="X")
        assert (found.stamp, found.content) == (Stamp(5, 1 << 62), b"0123456789abcdef")
        assert library.catalog.by_path(track.path) == found
        assert library.catalog.by_id(found.id) == found
        assert library.catalog.by_content(b"0123456789abcdef") == [found]
        assert library.catalog.damage_of(found.id) == lost
        assert library.catalog.stamps() == {track.path: Stamp(5, 1 << 62)}
        stored = library.fingerprint(track)
        assert stored is not None
        assert len(stored.vectors) == -(-len(rows) // library.meta.profile.step)


def test_tracks_are_searched_by_words_and_page_by_page(library: Library) -> None:
    found = library.catalog.search("MUSIC wav", after=0, limit=2)
    rest = library.catalog.search("", after=found[-1].id, limit=2)
    names = sorted(one.track.path.name for one in [*found, *rest])
    assert names == ["0001.wav", "0002.wav", "0003.wav"]
    assert library.catalog.search("0002 nothing", after=0, limit=9) == []


def test_files_are_indexed_once_and_follow_a_move(backend: Backend, tmp_path: Path) -> None:
    folder = three_songs(tmp_path / "music")
    with backend.open(Toy()) as library:
        assert index_files(library, sorted(folder.iterdir())).added == 3
        again = index_files(library, sorted(folder.iterdir()))
        assert (again.added, again.skipped) == (0, 3)
        number = library.catalog.track_id(folder / "0002.wav")
        (folder / "0002.wav").rename(folder / "moved.wav")
        moved = index_files(library, sorted(folder.iterdir()))
        assert (moved.added, moved.relabelled) == (0, 1)
        assert library.catalog.track_id(folder / "moved.wav") == number
        assert names_in(library) == ["0001.wav", "0003.wav", "moved.wav"]


def test_a_changed_file_replaces_its_track(backend: Backend, tmp_path: Path) -> None:
    folder = three_songs(tmp_path / "music")
    with backend.open(Toy()) as library:
        index_files(library, sorted(folder.iterdir()))
        write_song(folder / "0001.wav", 8, seconds=15.0)
        assert index_files(library, sorted(folder.iterdir())).added == 1
        assert names_in(library) == ["0001.wav", "0002.wav", "0003.wav"]
        assert place_in(library, 8)[0] == "0001.wav"


@pytest.mark.parametrize("policy", ["add", "skip", "replace"])
def test_a_copy_is_reported_added_or_replaced_by_option(
    backend: Backend, tmp_path: Path, policy: str
) -> None:
    folder = three_songs(tmp_path / "music")
    with backend.open(Toy()) as library:
        index_files(library, sorted(folder.iterdir()))
        shutil.copy(folder / "0001.wav", folder / "copy.wav")
        report = index_files(library, sorted(folder.iterdir()), on_duplicate=policy)  # type: ignore[arg-type]
        names = {"0001.wav", "0002.wav", "0003.wav"}
        names |= {"copy.wav"} if policy == "add" else set()
        names ^= {"0001.wav", "copy.wav"} if policy == "replace" else set()
        assert set(names_in(library)) == names
        assert len(report.duplicates) == 1
        assert len(library.catalog.copies()) == (policy != "add")
        again = index_files(library, sorted(folder.iterdir()), on_duplicate=policy)  # type: ignore[arg-type]
        assert (again.added, again.skipped) == (0, 4)


def test_a_scan_names_what_plays(backend: Backend) -> None:
    with backend.open(Toy()) as library:
        songs = {seed: busy_song(seed, 30.0) for seed in (1, 2)}
        with library.writing() as writer:
            for seed, samples in songs.items():
                rows = Toy().embed(Clip(samples, RATE)).vectors
                path = Path(f"/music/{seed:04d}.wav")
                writer.add([Entry(Track(path, 30.0), Stamp(seed, seed), rows)])
        mix = Clip(np.concatenate([songs[2], songs[1]]), RATE)
        spans = scan(Path("mix"), library, blocks=iter([mix]), min_confidence=0.5)
        names = [span.match.track.path.name for span in spans if span.match]
        assert names == ["0002.wav", "0001.wav"]


def test_landmarks_are_updated_when_tracks_are_added_replaced_and_removed(
    backend: Backend, tmp_path: Path
) -> None:
    files = {seed: tmp_path / f"{seed:04d}.wav" for seed in (1, 2, 3)}
    with backend.open(Toy()) as library:

        def index(path: Path, seed: int) -> None:
            soundfile.write(path, busy_song(seed, 12.0 + seed), RATE, subtype="PCM_16")
            index_files(library, [path])

        def voted(seed: int) -> tuple[str, float]:
            reference = library.snapshot()
            clip = excerpt(busy_song(seed, 12.0 + seed), 5.2, 4.0, snr_db=5)
            found = reference.vote(query_landmarks(clip), 20)
            track = reference.track(found[0].track) if found else None
            return (track.path.name, found[0].offset) if track else ("none", 0.0)

        for seed, path in files.items():
            index(path, seed)
            if not library.meta.profile.landmarks:
                assert voted(seed) == ("none", 0.0)
                return
            assert voted(seed) == (path.name, pytest.approx(5.2, abs=0.1))
        index(files[1], 4)
        assert voted(4) == ("0001.wav", pytest.approx(5.2, abs=0.1))
        library.remove([files[2]])
        assert voted(2)[0] != "0002.wav"
        assert voted(3) == ("0003.wav", pytest.approx(5.2, abs=0.1))
    with backend.open(Toy()) as library:
        assert voted(4) == ("0001.wav", pytest.approx(5.2, abs=0.1))


def test_killed_run_is_completed_without_double_entries(backend: Backend, tmp_path: Path) -> None:
    folder = three_songs(tmp_path / "music")
    for seed in range(4, 9):
        write_song(folder / f"{seed:04d}.wav", seed)
    backend.open(Toy()).close()  # so that the run finds a library of this kind
    world = "milvus_world" if backend.named.startswith("milvus:") else "library_world"
    command = [sys.executable, str(Path(__file__).parent / f"{world}.py"), backend.named]
    command += [str(folder)] + (["0"] if world == "library_world" else [])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if int(line) >= 4:
                run.kill()
                break
    with backend.open(Toy()) as library:
        index_files(library, sorted(folder.iterdir()))
        assert names_in(library) == [f"{seed:04d}.wav" for seed in range(1, 9)]
        for seed in range(1, 9):
            assert place_in(library, seed)[0] == f"{seed:04d}.wav"


def test_index_has_the_dimensions_that_the_model_names(backend: Backend) -> None:
    model = Toy(dim=96, matryoshka=32)
    with backend.open(model) as library, library.writing() as writer:
        writer.add([entry(seed, model=model) for seed in (1, 2, 3)])
    with backend.open(model) as library:
        assert library.meta.indexed_dims == 32
        for seed in (1, 2, 3):
            assert place_in(library, seed, 5.0)[0] == f"{seed:04d}.wav"
    with pytest.raises(LibraryError, match=r"indexes 32 dimensions .* index into a new") as caught:
        backend.open(Toy(dim=96))
    assert "\n" not in str(caught.value)
