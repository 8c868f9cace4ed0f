import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from library_world import RATE, Toy, add, entry, excerpt, place_of, song

from fingerprint.errors import LibraryError
from fingerprint.library.exchange import export_library, import_library
from fingerprint.library.library import Library, library_info
from fingerprint.library.merge import merge_library
from fingerprint.library.records import Stamp
from fingerprint.library.store import FORMAT
from fingerprint.library.writer import Entry
from fingerprint.types import Clip, Tags, Track


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three songs in two segments."""
    folder = tmp_path_factory.mktemp("stock")
    with Library.create_or_open(folder, Toy()) as library:
        add(library, 1, 2)
        add(library, 3)
    return folder


@pytest.fixture
def library(stock: Path, tmp_path: Path) -> Library:
    """The test's own copy of the stock."""
    shutil.copytree(stock, folder_of(tmp_path))
    return Library.open(folder_of(tmp_path), Toy())


def folder_of(tmp_path: Path) -> Path:
    return tmp_path / "library"


def bytes_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def refusal(folder: Path, model: Toy | None = None) -> str:
    with pytest.raises(LibraryError) as caught:
        Library.open(folder, model or Toy()).identify(excerpt(song(1), 3, 4), min_confidence=0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("start", [0.0, 7.3, 15.9])
def test_a_noisy_excerpt_is_found_at_its_place(library: Library, seed: int, start: float) -> None:
    name, offset = place_of(library, seed, start)
    assert name == f"{seed:04d}.wav"
    assert offset == pytest.approx(start, abs=0.1)


def test_matches_are_ranked_and_have_all_fields(library: Library) -> None:
    matches = library.identify(excerpt(song(2), 5, 5), top=3, min_confidence=0)
    assert matches[0].track == Track(Path("/music/0002.wav"), 20.0)
    assert [m.score for m in matches] == sorted((m.score for m in matches), reverse=True)
    assert matches[0].confidence > 0.9 > max(m.confidence for m in matches[1:])
    assert matches[0].rate == pytest.approx(1, abs=0.02)


def test_the_best_match_does_not_depend_on_the_number_of_matches_wanted(library: Library) -> None:
    clip = excerpt(song(3), 5, 3, snr_db=5)
    assert (
        library.identify(clip, top=1, min_confidence=0)
        == library.identify(clip, top=5, min_confidence=0)[:1]
    )


def test_silence_matches_nothing(library: Library) -> None:
    assert library.identify(Clip(np.zeros(5 * RATE, np.float32), RATE), min_confidence=0) == []


def test_an_empty_library_matches_nothing(tmp_path: Path) -> None:
    library = Library.create_or_open(tmp_path / "new" / "library", Toy())
    assert library.identify(excerpt(song(1), 5, 5), min_confidence=0) == []
    assert library.tracks() == []
    assert library.info().tracks == 0


def test_the_offset_of_a_long_query_is_that_of_its_start(tmp_path: Path) -> None:
    library = Library.create_or_open(tmp_path, Toy())
    with library.writing() as writer:
        writer.add([entry(1, seconds=120), entry(2)])
    best = library.identify(excerpt(song(1, 120), 11.0, 100.0), min_confidence=0)[0]
    assert best.track.path.name == "0001.wav"
    assert best.offset == pytest.approx(11.0, abs=0.1)


def test_a_reopened_library_gives_the_same_answers(library: Library, tmp_path: Path) -> None:
    clip = excerpt(song(1), 5, 4, snr_db=5)
    assert Library.open(folder_of(tmp_path), Toy()).identify(
        clip, min_confidence=0
    ) == library.identify(clip, min_confidence=0)


def test_opening_and_identifying_change_nothing_on_disk(library: Library, tmp_path: Path) -> None:
    library.close()
    before = bytes_of(folder_of(tmp_path))
    with Library.open(folder_of(tmp_path), Toy()) as again:
        place_of(again, 1)
    assert bytes_of(folder_of(tmp_path)) == before


def test_a_track_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    library = Library.create_or_open(tmp_path, Toy())
    name = Path(os.fsdecode(b"/music/caf\xe9 \xff\n\xf0\x9f\x8e\xb5.flac"))
    tags = Tags("Título", "アーティスト", "", "GBAYE0601498", "a" * 36, "b" * 36)
    track = Track(name, 20.0, tags)
    with library.writing() as writer:
        writer.add([Entry(track, Stamp(2**40, 2**60), entry(5).vectors)])
        assert writer.stamps_of([name]) == {name: Stamp(2**40, 2**60)}
    assert library.tracks() == [track]
    assert library.identify(excerpt(song(5), 5, 5), min_confidence=0)[0].track == track


def test_a_tag_that_is_not_text_is_stored_all_the_same(tmp_path: Path) -> None:
    library = Library.create_or_open(tmp_path, Toy())
    track = Track(Path("/x.wav"), 20.0, Tags(title="broken \udce9 tag"))
    with library.writing() as writer:
        writer.add([Entry(track, Stamp(1, 1), entry(5).vectors)])
    assert library.tracks()[0].tags.title == "broken ? tag"


def test_the_numbers_of_a_library_add_up(library: Library, tmp_path: Path) -> None:
    info = library_info(folder_of(tmp_path))
    assert info == library.info()
    assert (info.tracks, info.segments, info.model_id, info.format) == (3, 2, "toy-1", FORMAT)
    assert info.hours == pytest.approx(3 * 20 / 3600)
    on_disk = sum(p.stat().st_size for p in folder_of(tmp_path).rglob("*") if p.is_file())
    assert info.bytes == on_disk


def test_open_libraries_are_independent(tmp_path: Path) -> None:
    first = Library.create_or_open(tmp_path / "a", Toy())
    second = Library.create_or_open(tmp_path / "b", Toy())
    add(first, 1)
    add(second, 2)
    assert [t.path.name for t in first.tracks()] == ["0001.wav"]
    assert {
        m.track.path.name for m in second.identify(excerpt(song(1), 5, 5), min_confidence=0)
    } <= {"0002.wav"}


# Adding and removing.


def test_a_removed_track_is_not_found_and_nothing_is_rewritten(
    library: Library, tmp_path: Path
) -> None:
    segments = folder_of(tmp_path) / "segments"
    before = bytes_of(segments)
    assert library.remove([Path("/music/0001.wav"), Path("/music/none.wav")]) == 1
    assert bytes_of(segments) == before
    assert "0001.wav" not in {
        m.track.path.name for m in library.identify(excerpt(song(1), 5, 5), min_confidence=0)
    }
    assert place_of(library, 2)[0] == "0002.wav"
    assert [t.path.name for t in library.tracks()] == ["0002.wav", "0003.wav"]


def test_a_segment_goes_with_its_last_track(library: Library, tmp_path: Path) -> None:
    library.remove([Path("/music/0003.wav")])
    assert library.info().segments == 1
    assert {p.name for p in (folder_of(tmp_path) / "segments").iterdir()} == {
        "000001.npy",
        "000001.peaks",
        "000001.ann",
        "000001.json",
        "000001.landmarks",
    }


def test_all_tracks_can_be_removed_and_others_added(library: Library) -> None:
    assert library.remove([track.path for track in library.tracks()]) == 3
    assert library.identify(excerpt(song(1), 5, 5), min_confidence=0) == []
    add(library, 4)
    assert place_of(library, 4)[0] == "0004.wav"


def test_a_track_of_the_same_path_is_replaced(library: Library) -> None:
    new = entry(9)
    with library.writing() as writer:
        writer.add([Entry(Track(Path("/music/0001.wav"), 20.0), new.stamp, new.vectors)])
    assert len(library.tracks()) == 3
    assert place_of(library, 9)[0] == "0001.wav"
    assert library.identify(excerpt(song(1), 5, 5), min_confidence=0)[0].confidence < 0.5


def test_open_library_sees_the_changes_of_another_writer(library: Library, tmp_path: Path) -> None:
    other = Library.open(folder_of(tmp_path), Toy())
    add(library, 4)
    assert place_of(other, 4)[0] == "0004.wav"
    library.remove([Path("/music/0004.wav")])
    assert "0004.wav" not in {
        m.track.path.name for m in other.identify(excerpt(song(4), 5, 5), min_confidence=0)
    }


def test_embeddings_of_the_wrong_size_are_a_bug(library: Library) -> None:
    with library.writing() as writer, pytest.raises(ValueError, match="shape"):
        writer.add([Entry(Track(Path("/x"), 1.0), Stamp(1, 1), np.ones((4, 7), np.float32))])


def test_a_failed_change_leaves_the_library_as_it_was(library: Library, tmp_path: Path) -> None:
    before = bytes_of(folder_of(tmp_path))
    bad = Entry(Track(Path("/x\0"), float("nan")), Stamp(1, 1), entry(4).vectors)  # NaN: not NULL
    with library.writing() as writer, pytest.raises(LibraryError):
        writer.add([entry(5), bad])
    assert bytes_of(folder_of(tmp_path)) == before
    assert place_of(library, 1)[0] == "0001.wav"


def test_a_second_writer_is_refused_and_readers_are_not(library: Library, tmp_path: Path) -> None:
    other = Library.open(folder_of(tmp_path), Toy())
    with (
        library.writing(),
        pytest.raises(LibraryError, match="being written by another run") as caught,
    ):
        other.remove([])
    assert "\n" not in str(caught.value)
    with library.writing():
        assert place_of(Library.open(folder_of(tmp_path), Toy()), 1)[0] == "0001.wav"
    assert other.remove([Path("/music/0001.wav")]) == 1


def test_files_that_a_killed_writer_left_are_deleted(library: Library, tmp_path: Path) -> None:
    segments = folder_of(tmp_path) / "segments"
    before = bytes_of(segments)
    for name in ("000003.npy", "000003.ann.tmp", "000017.json"):
        (segments / name).write_bytes(b"half")
    assert place_of(Library.open(folder_of(tmp_path), Toy()), 3)[0] == "0003.wav"
    add(library)
    assert bytes_of(segments) == before
    add(library, 4)
    assert place_of(library, 4)[0] == "0004.wav"


def test_a_reader_is_right_at_every_moment_of_many_changes(
    library: Library, tmp_path: Path
) -> None:
    stop = threading.Event()
    wrong: list[str] = []

    def read() -> None:
        reader = Library.open(folder_of(tmp_path), Toy())
        while not stop.is_set():
            wrong.extend(
                name for seed in (1, 2) if (name := place_of(reader, seed)[0])[3] != str(seed)
            )
            with Library.open(folder_of(tmp_path), Toy()) as fresh:
                wrong.extend(n for n in [place_of(fresh, 1)[0]] if n != "0001.wav")

    readers = [threading.Thread(target=_noting(read, wrong)) for _ in range(2)]
    for reader in readers:
        reader.start()
    for seed in range(10, 40):
        with library.writing() as writer:
            writer.add([entry(seed, seconds=5)])
            if seed % 3 == 0:
                writer.remove([Path(f"/music/{seed - 1:04d}.wav")])
            writer.merge()
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert library.info().segments <= 10


def _noting(task, wrong):  # type: ignore[no-untyped-def]
    def run() -> None:
        try:
            task()
        except Exception as error:
            wrong.append(repr(error))

    return run


def test_a_library_that_may_not_be_written_identifies_and_refuses_changes() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "library"
        with Library.create_or_open(folder, Toy()) as made:
            add(made, 1, 2)
        Path(place).chmod(0o755)
        for path in [*folder.rglob("*"), folder]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        with Library.open(folder, Toy()) as warm:
            place_of(warm, 1)  # imports everything that the child below may not read
        child = os.fork() if os.getuid() == 0 else None
        if child:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            folder.chmod(0o755)
            return
        if child == 0:
            os.setuid(65534)
        try:
            library = Library.open(folder, Toy())
            right = place_of(library, 2)[0] == "0002.wav"
            try:
                library.remove([Path("/music/0001.wav")])
            except LibraryError as error:
                right = right and "\n" not in str(error) and str(folder) in str(error)
            else:
                right = False
        except BaseException:
            right = False
        if child == 0:
            os._exit(0 if right else 1)
        assert right


# What is not this library.


def test_a_missing_library_is_refused_and_not_made(tmp_path: Path) -> None:
    assert "fingerprint index" in refusal(tmp_path / "none")
    with pytest.raises(LibraryError, match="not a fingerprint library"):
        library_info(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_folder_of_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "song.mp3").write_bytes(b"music")
    assert "not a fingerprint library" in refusal(tmp_path)
    with pytest.raises(LibraryError, match="new or an empty folder"):
        Library.create_or_open(tmp_path, Toy())
    with pytest.raises(LibraryError, match="is a file"):
        Library.create_or_open(tmp_path / "song.mp3", Toy())
    assert [p.name for p in tmp_path.iterdir()] == ["song.mp3"]


def test_interrupted_creation_is_completed_on_the_next_open(tmp_path: Path) -> None:
    (tmp_path / "catalog.db.new").write_bytes(b"half")
    (tmp_path / "writer.lock").touch()
    assert Library.create_or_open(tmp_path, Toy()).tracks() == []


def test_a_library_of_another_model_is_refused(library: Library, tmp_path: Path) -> None:
    other = Toy(id="toy-2")
    assert "made with model toy-1, this is model toy-2" in refusal(folder_of(tmp_path), other)
    with pytest.raises(LibraryError, match="made with model"):
        Library.create_or_open(folder_of(tmp_path), other)


def test_a_library_of_another_format_is_refused(library: Library, tmp_path: Path) -> None:
    library.close()
    with sqlite3.connect(folder_of(tmp_path) / "catalog.db") as db:
        db.execute("UPDATE meta SET value = 7 WHERE key = 'format'")
    db.close()
    assert f"has format 7, this version reads format {FORMAT}" in refusal(folder_of(tmp_path))
    with pytest.raises(LibraryError, match="format 7"):
        library_info(folder_of(tmp_path))


@pytest.mark.parametrize("name", ["000001.npy", "000001.ann", "000001.json", "000002.npy"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "altered", "swapped"])
def test_a_damaged_segment_is_refused_by_name(
    library: Library, tmp_path: Path, name: str, damage: str
) -> None:
    path = folder_of(tmp_path) / "segments" / name
    content = path.read_bytes()
    other = path.with_name(name.replace("1", "2") if "1" in name else name.replace("2", "1"))
    if damage == "missing":
        path.unlink()
    else:
        middle = len(content) // 2
        path.write_bytes(
            {
                "empty": b"",
                "cut": content[: middle // 4096 * 4096],
                "altered": content[:middle] + b"\xff\xff" + content[middle + 2 :],
                "swapped": other.read_bytes(),
            }[damage]
        )
    assert f"00000{name[5]}" in refusal(folder_of(tmp_path))


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000, None])
def test_a_damaged_catalog_is_refused(
    library: Library, tmp_path: Path, content: bytes | None
) -> None:
    library.close()
    path = folder_of(tmp_path) / "catalog.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:5000] if content is None else content)
    assert str(path) in refusal(folder_of(tmp_path))


def test_a_writer_that_was_killed_while_committing_is_rolled_back(
    library: Library, tmp_path: Path
) -> None:
    """The child dies with its journal on the disk and half a change in the catalog."""
    script = (
        "import os, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('PRAGMA cache_size = 1')\n"
        "db.execute('BEGIN IMMEDIATE')\n"
        "db.execute('CREATE TABLE big (x)')\n"
        "db.executemany('INSERT INTO big VALUES (?)', [('x' * 3000,)] * 100)\n"
        "db.execute('DELETE FROM tracks')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = folder_of(tmp_path) / "catalog.db"
    killed = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert killed.returncode == -9
    assert path.with_name("catalog.db-journal").stat().st_size > 0
    reopened = Library.open(folder_of(tmp_path), Toy())
    assert len(reopened.tracks()) == 3
    assert place_of(reopened, 1)[0] == "0001.wav"


def test_a_library_can_be_copied_and_moved(library: Library, tmp_path: Path) -> None:
    shutil.copytree(folder_of(tmp_path), tmp_path / "copy")
    shutil.rmtree(folder_of(tmp_path))
    assert place_of(Library.open(tmp_path / "copy", Toy()), 3)[0] == "0003.wav"


def test_a_library_lives_in_a_folder_of_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "mu sic?#%20 é"
    library = Library.create_or_open(folder, Toy())
    add(library, 1)
    assert place_of(Library.open(folder, Toy()), 1)[0] == "0001.wav"


def test_a_catalog_whose_schema_is_no_text_is_refused(library: Library, tmp_path: Path) -> None:
    """SQLite quotes the damage in its message, which Python then cannot decode."""
    library.close()
    path = folder_of(tmp_path) / "catalog.db"
    path.write_bytes(
        path.read_bytes().replace(b"CREATE TABLE meta (key", b"CREATE TABLE \xb7\xb7\xb7\xb7 (key")
    )
    assert str(path) in refusal(folder_of(tmp_path))


@pytest.mark.parametrize("profile", ["standard", "compact"])
def test_index_has_the_dimensions_of_the_model(tmp_path: Path, profile: str) -> None:
    model = Toy(dim=96, matryoshka=32)
    with Library.create_or_open(tmp_path / "library", model, profile=profile) as library:
        with library.writing() as writer:
            writer.add([entry(seed, model=model) for seed in (1, 2, 3)])
        export_library(library.folder, tmp_path / "file")
    import_library(tmp_path / "file", tmp_path / "again")
    for folder in (tmp_path / "library", tmp_path / "again"):
        with Library.open(folder, model) as library:
            assert (library.meta.dim, library.meta.indexed_dims) == (96, 32)
            for seed in (1, 2, 3):
                clip = excerpt(song(seed), 5, 4)
                best = library.identify(clip, top=1, min_confidence=0)[0]
                assert best.track.path.stem == f"{seed:04d}"
        with pytest.raises(LibraryError, match="indexes 32 dimensions") as caught:
            Library.open(folder, Toy(dim=96))
        assert "this model has 96 for it: index into a new folder" in str(caught.value)
        assert "\n" not in str(caught.value)
    with Library.create_or_open(tmp_path / "other", Toy(dim=96)) as other:
        with pytest.raises(LibraryError, match="index its music into this library"):
            merge_library(other, tmp_path / "library")
        assert other.meta.indexed_dims == 96


def test_library_of_the_default_dimensions_does_not_store_them(tmp_path: Path) -> None:
    for dim in (48, 256):
        folder = tmp_path / str(dim)
        Library.create_or_open(folder, Toy(dim=dim)).close()
        with sqlite3.connect(folder / "catalog.db") as db:
            keys = {key for (key,) in db.execute("SELECT key FROM meta")}
        assert keys == {"format", "model", "dim", "hop", "profile"}
        with Library.open(folder, Toy(dim=dim)) as library:
            assert library.meta.indexed_dims == min(dim, 128)
