"""Looking after a library: verify and repair, export and import, merge, sync, duplicates."""

import math
import os
import threading
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from library_world import RATE, Toy, add, entry, excerpt, place_of, song, write_song

from fingerprint.errors import AudioError, LibraryError
from fingerprint.index import ivf_pq
from fingerprint.library import writer
from fingerprint.library.duplicates import find_duplicates
from fingerprint.library.exchange import export_embeddings, export_library, import_library
from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library
from fingerprint.library.merge import merge_library
from fingerprint.library.profiles import PROFILES
from fingerprint.library.records import SegmentInfo, Spans, Stamp
from fingerprint.library.selecting import select
from fingerprint.library.snapshot import place_rows
from fingerprint.library.stats import count
from fingerprint.library.sync import Watch, sync, watch
from fingerprint.library.verify import check, repair
from fingerprint.types import Track

EVERY = sorted(PROFILES)
INDEX = {"standard": {".ann", ".json", ".landmarks"}, "large": {".faiss"}}


@pytest.fixture(autouse=True)
def _lists_of_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ivf_pq, "LEAST_ROWS", 20)
    monkeypatch.setattr(ivf_pq, "LEAST_SAMPLE", 1_000)  # so that training takes a tenth


@pytest.fixture
def library(tmp_path: Path, music: Path) -> Library:
    """Three songs in two segments."""
    library = Library.create_or_open(tmp_path / "library", Toy())
    index_files(library, sorted(music.iterdir())[:2])
    index_files(library, sorted(music.iterdir()))
    return library


def names_in(library: Library) -> list[str]:
    return [track.path.name for track in library.tracks()]


# Profiles.


@pytest.mark.parametrize("profile", EVERY)
def test_every_profile_finds_excerpts_after_changes_and_compaction(
    tmp_path: Path, profile: str
) -> None:
    library = Library.create_or_open(tmp_path / "library", Toy(), profile=profile)
    for seed in range(1, 13, 2):
        add(library, seed, seed + 1)
    library.remove([Path("/music/0003.wav"), Path("/music/0007.wav")])
    before = count(library.folder)
    assert before.removed_share > 0.1
    with library.writing() as now:
        now.compact()
    after = count(library.folder)
    assert (after.segments, after.removed_share) == (1, 0)
    assert after.bytes < before.bytes
    for seed in (1, 2, 8, 12):
        assert place_of(library, seed) == (f"{seed:04d}.wav", pytest.approx(7.3, abs=0.4))
    numbers = {info.id for info in library.catalog.layout()[0]}
    with library.writing() as now:
        now.compact()  # nothing is left to do
    assert {info.id for info in library.catalog.layout()[0]} == numbers
    assert check(library.catalog) == []


def test_a_library_keeps_its_profile(tmp_path: Path) -> None:
    Library.create_or_open(tmp_path / "library", Toy(), profile="compact").close()
    assert Library.create_or_open(tmp_path / "library", Toy()).meta.profile.name == "compact"
    with pytest.raises(LibraryError, match="has the profile compact"):
        Library.create_or_open(tmp_path / "library", Toy(), profile="standard")


# Damage.


@pytest.mark.parametrize("profile", EVERY)
def test_any_altered_byte_is_found_and_named(tmp_path: Path, profile: str) -> None:
    library = Library.create_or_open(tmp_path / "library", Toy(), profile=profile)
    add(library, 1, 2)
    folder = library.folder / "segments"
    rng = np.random.default_rng(1)
    assert {path.suffix for path in folder.iterdir()} == {".npy", ".peaks", *INDEX.get(profile, ())}
    for path in folder.iterdir():
        whole = path.read_bytes()
        for place in rng.integers(0, len(whole), 5):
            spoilt = bytearray(whole)
            spoilt[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(spoilt)
            assert [fault.path for fault in check(library.catalog)] == [path]
        path.write_bytes(whole)
    assert check(library.catalog) == []


@pytest.mark.parametrize("suffix", ["npy", "peaks", "ann", "json", "landmarks"])
@pytest.mark.parametrize("missing", [False, True])
def test_repair_rebuilds_damaged_segment_files(
    library: Library, suffix: str, missing: bool
) -> None:
    path = library.folder / "segments" / f"000001.{suffix}"
    whole = path.read_bytes()
    path.unlink() if missing else path.write_bytes(whole[: len(whole) // 2])
    (fault,) = check(library.catalog)
    lost = ["0001.wav", "0002.wav"] if suffix in ("npy", "peaks") else []
    assert [one.track.path.name for one in fault.tracks] == lost
    library.close()
    with pytest.raises(LibraryError, match="verify --repair"):
        Library.open(library.folder, Toy())
    done = repair(library.folder, Toy())
    assert [path.name for path in done.embedded] == lost
    assert (done.rebuilt, done.lost) == (0 if lost else 2, [])
    again = Library.open(library.folder, Toy())
    assert check(again.catalog) == []
    for seed in (1, 2, 3):
        assert place_of(again, seed)[0] == f"{seed:04d}.wav"


def test_a_track_whose_music_is_gone_too_is_named_and_removed(
    library: Library, music: Path
) -> None:
    (library.folder / "segments" / "000001.npy").unlink()
    (music / "0001.wav").unlink()
    done = repair(library.folder, Toy())
    assert [path.name for path, _ in done.lost] == ["0001.wav"]
    assert "no such file" in done.lost[0][1]
    assert names_in(library) == ["0002.wav", "0003.wav"]
    assert check(library.catalog) == []


def test_a_damaged_catalog_is_named_and_not_repaired(library: Library) -> None:
    library.close()
    path = library.folder / "catalog.db"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = b"\xa5" * (len(content) - len(content) // 2)
    path.write_bytes(content)
    with pytest.raises(LibraryError) as caught:
        repair(library.folder, Toy())
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("spans", "reason"),
    [([(1, 40), (1, 40)], "lies in two places"), ([(1, 999)], "not as long"), ([(1, 1)], "not as")],
)
def test_tracks_at_impossible_rows_are_refused(
    library: Library, spans: list[tuple[int, int]], reason: str
) -> None:
    first = library.catalog.layout()[0][0]
    if len(spans) == 2:
        spans = [(1, 1), (1, first.rows - 1)]
    with library.catalog.transaction():
        held = Spans.of(*zip(*spans, strict=True))
        library.catalog.insert_segment(replace(first, id=99, files=()), held)
    assert reason in check(library.catalog)[0].reason
    with pytest.raises(LibraryError, match=reason):
        Library.open(library.folder, Toy())


def test_a_track_that_lies_in_no_segment_is_found(library: Library) -> None:
    with library.catalog.transaction():
        track = Track(Path("/music/nowhere.wav"), 1.0)
        library.catalog.insert_track(track, Stamp(0, 0), b"", added=0.0)
    assert "lies in no segment" in check(library.catalog)[0].reason


# One file.


@pytest.mark.parametrize("profile", EVERY)
def test_an_exported_library_is_imported_as_it_was(tmp_path: Path, profile: str) -> None:
    library = Library.create_or_open(tmp_path / "library", Toy(), profile=profile)
    add(library, 1, 2)
    add(library, 3)
    library.remove([Path("/music/0001.wav")])
    export_library(library.folder, tmp_path / "one.fplib")
    import_library(tmp_path / "one.fplib", tmp_path / "new")
    again = Library.open(tmp_path / "new", Toy())
    assert [(one.track, one.stamp, one.content, one.added) for one in again.catalog.listed()] == [
        (one.track, one.stamp, one.content, one.added) for one in library.catalog.listed()
    ]
    assert check(again.catalog) == []
    clip = excerpt(song(2), 4, 4, snr_db=10)
    assert again.identify(clip, top=1, min_confidence=0) == library.identify(
        clip, top=1, min_confidence=0
    )
    assert {p.name for p in tmp_path.iterdir()} == {"library", "new", "one.fplib"}


def test_copies_survive_export_merge_and_repair(tmp_path: Path) -> None:
    """They were left out without a word: the next run would have made tracks of them."""
    (tmp_path / "music").mkdir()
    paths = [write_song(tmp_path / "music" / f"{name}.wav", 1) for name in "abc"]
    with Library.create_or_open(tmp_path / "library", Toy()) as library:
        index_files(library, paths, on_duplicate="skip")
        before = library.catalog.stamps()
        export_library(library.folder, tmp_path / "one.fplib")
        import_library(tmp_path / "one.fplib", tmp_path / "imported")
        with Library.open(tmp_path / "imported", Toy()) as imported:
            assert imported.catalog.stamps() == before
        with Library.create_or_open(tmp_path / "merged", Toy()) as merged:
            merge_library(merged, library.folder)
            assert merged.catalog.stamps() == before
    (codes,) = (tmp_path / "library" / "segments").glob("*.npy")
    damage(codes)
    repair(tmp_path / "library", Toy())
    with Library.open(tmp_path / "library", Toy()) as library:
        assert library.catalog.stamps() == before
    damage(*(tmp_path / "library" / "segments").glob("*.npy"))
    paths[0].unlink()  # a copy takes its place
    done = repair(tmp_path / "library", Toy())
    assert (done.embedded, done.lost) == ([paths[1]], [])
    with Library.open(tmp_path / "library", Toy()) as library:
        assert names_in(library) == ["b.wav"]
        assert set(library.catalog.copies()) == {paths[2]}


def damage(*files: Path) -> None:
    for file in files:
        file.write_bytes(file.read_bytes()[:-1] + b"x")


def test_name_that_is_not_text_survives_export_and_import(tmp_path: Path) -> None:
    library = Library.create_or_open(tmp_path / "library", Toy())
    path = write_song(tmp_path / "song.wav", 1)
    path = path.rename(tmp_path / os.fsdecode(b"caf\xe9\xff%2e\n.wav"))
    index_files(library, [path])
    export_library(library.folder, tmp_path / "one.fplib")
    import_library(tmp_path / "one.fplib", tmp_path / "new")
    assert Library.open(tmp_path / "new", Toy()).tracks() == library.tracks()


def test_an_import_writes_nothing_but_its_folder(library: Library, tmp_path: Path) -> None:
    """Members that climb out, or that nothing asks for, are not unpacked."""
    export_library(library.folder, tmp_path / "one.fplib")
    with zipfile.ZipFile(tmp_path / "one.fplib", "a") as archive:
        for name in ("../evil", "/evil", "segments/../../evil.npy", "extra"):
            archive.writestr(name, b"x")
    place = tmp_path / "deep" / "place"
    place.mkdir(parents=True)
    import_library(tmp_path / "one.fplib", place / "new")
    assert {p.name for p in place.iterdir()} == {"new"}
    assert {p.name for p in place.parent.iterdir()} == {"place"}
    assert {p.name for p in (place / "new").iterdir()} == {"catalog.db", "segments", "writer.lock"}
    assert not list(tmp_path.rglob("*evil*"))


def test_a_damaged_export_is_refused_and_leaves_nothing(library: Library, tmp_path: Path) -> None:
    file = tmp_path / "one.fplib"
    export_library(library.folder, file)
    whole = file.read_bytes()
    rng = np.random.default_rng(1)
    for place in rng.integers(0, len(whole), 60):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(spoilt)
        with suppress(LibraryError):  # some bytes, such as the archive's times, mean nothing
            import_library(file, tmp_path / "new")
            Library.open(tmp_path / "new", Toy()).close()
            (tmp_path / "new").rename(tmp_path / f"done{place}")
        assert not (tmp_path / "new").exists()


def test_peaks_where_there_can_be_none_are_refused(library: Library, tmp_path: Path) -> None:
    """A bin beyond the spectrum would end every query that meets it."""
    library.remove([one.path for one in library.tracks()][1:])
    with library.writing() as now:
        now.compact()
    export_library(library.folder, tmp_path / "one.fplib")
    with (
        zipfile.ZipFile(tmp_path / "one.fplib") as old,
        zipfile.ZipFile(tmp_path / "new.fplib", "w") as new,
    ):
        for name in old.namelist():
            content = bytearray(old.read(name))
            if name.endswith("peaks"):
                content[-2:] = b"\xfa\x00"  # frame 0, bin 250
            new.writestr(name, bytes(content))
    with pytest.raises(LibraryError, match="peaks where there can be none"):
        import_library(tmp_path / "new.fplib", tmp_path / "new")
    kept = library.meta.peaks_kept
    peaks = np.full((len(entry(9).vectors), kept), 250, np.uint16)
    with library.writing() as now, pytest.raises(ValueError, match="peaks where there can be none"):
        now.add([replace(entry(9), peaks=peaks)])


@pytest.mark.parametrize("where", [".", "drive", "new/folder/..", "drive/lost+found/.."])
def test_an_import_fills_an_empty_folder_that_stays_where_it_is(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """`import --library .` was a ValueError; a mount point cannot be replaced."""
    export_library(library.folder, tmp_path / "one.fplib")
    place = tmp_path / "place"
    (place / "drive" / "lost+found").mkdir(parents=True)
    empty = place / "drive" if where != "new/folder/.." else place
    monkeypatch.chdir(empty if where == "." else place)
    before = Path(where).stat().st_ino if Path(where).exists() else None
    import_library(tmp_path / "one.fplib", Path(where))
    made = Path(os.path.abspath(where))  # noqa: PTH100
    assert before in (None, made.stat().st_ino)
    assert {"catalog.db", "segments"} <= {one.name for one in made.iterdir()}
    with Library.open(made, Toy()) as there:
        assert there.tracks() == library.tracks()
        assert check(there.catalog) == []


def test_a_folder_is_no_export(library: Library, tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="Is a directory"):
        import_library(library.folder, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_import_into_a_folder_with_something_is_refused(
    library: Library, tmp_path: Path
) -> None:
    export_library(library.folder, tmp_path / "one.fplib")
    with pytest.raises(LibraryError, match="new or an empty"):
        import_library(tmp_path / "one.fplib", tmp_path / "music")
    assert len(list((tmp_path / "music").iterdir())) == 3


def test_embeddings_are_written_for_other_tools(library: Library, tmp_path: Path) -> None:
    rows = export_embeddings(library.snapshot(), library.catalog, tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as found:
        assert found["vectors"].shape == (rows, 48)
        assert [Path(path).name for path in found["paths"]] == ["0001.wav", "0002.wav", "0003.wav"]
        first = found["track"] == 0
        np.testing.assert_allclose(np.diff(found["time"][first]), library.meta.row_hop)
    parquet = pytest.importorskip("pyarrow.parquet")
    assert export_embeddings(library.snapshot(), library.catalog, tmp_path / "e.parquet") == rows
    table = parquet.read_table(tmp_path / "e.parquet")
    assert table.num_rows == rows
    assert table.column_names == ["path", "title", "artist", "time", "vector"]
    assert len(table["vector"][0].as_py()) == 48


# Several libraries.


def test_libraries_are_merged_without_their_music(tmp_path: Path) -> None:
    first, second = (Library.create_or_open(tmp_path / name, Toy()) for name in "ab")
    add(first, 1, 2)
    add(second, 2, 3)
    done = merge_library(first, second.folder)
    assert (done.added, done.known) == (1, 1)
    assert names_in(first) == ["0001.wav", "0002.wav", "0003.wav"]
    assert place_of(first, 3)[0] == "0003.wav"
    assert merge_library(first, second.folder).added == 0
    other = Library.create_or_open(tmp_path / "c", Toy(id="toy-2"))
    for folder in (other.folder, first.folder, tmp_path / "none"):
        with pytest.raises(LibraryError):
            merge_library(first, folder)


# Folders.


def test_a_synced_library_equals_the_folder(library: Library, music: Path, tmp_path: Path) -> None:
    add(library, 8)  # from elsewhere
    (music / "0001.wav").unlink()
    (music / "0002.wav").rename(music / "moved.wav")
    write_song(music / "0003.wav", 5)
    write_song(music / "0004.wav", 4)
    done = sync(library, [music])
    assert [path.name for path in done.removed] == ["0001.wav"]
    assert (done.report.added, done.report.relabelled) == (2, 1)
    assert names_in(library) == ["0008.wav", "0003.wav", "0004.wav", "moved.wav"]
    assert place_of(library, 5)[0] == "0003.wav"
    again = sync(library, [music])
    assert (again.removed, again.report.added, again.report.skipped) == ([], 0, 3)


def test_a_folder_on_a_missing_drive_removes_nothing(library: Library, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(AudioError):
            sync(library, [folder])
    assert len(library.tracks()) == 3


def test_a_copy_takes_over_when_the_original_is_gone(library: Library, music: Path) -> None:
    (music / "copy.wav").write_bytes((music / "0002.wav").read_bytes())
    sync(library, [music], on_duplicate="skip")
    assert names_in(library) == ["0001.wav", "0002.wav", "0003.wav"]
    (music / "0002.wav").unlink()
    sync(library, [music], on_duplicate="skip")
    assert names_in(library) == ["0001.wav", "0003.wav", "copy.wav"]
    assert place_of(library, 2)[0] == "copy.wav"


def test_a_watched_folder_is_acted_on_once_it_is_quiet(
    music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("watchdog")
    acted, watching = threading.Event(), threading.Event()

    class Watched(Watch):
        def wait(self, at_most: float = math.inf) -> None:
            watching.set()
            super().wait(at_most)

    monkeypatch.setattr("fingerprint.library.sync.QUIET", 0.5)
    monkeypatch.setattr("fingerprint.library.sync.Watch", Watched)

    def act() -> None:
        assert (music / "new.wav").exists()
        acted.set()
        raise KeyboardInterrupt

    def change() -> None:
        watching.wait(60)
        write_song(music / "new.wav", 9)

    thread = threading.Thread(target=change)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        watch([music], act)
    thread.join()
    assert acted.is_set()


def test_tracks_are_chosen_by_path_folder_pattern_and_number(
    library: Library, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = library.catalog.listed()
    monkeypatch.chdir(music)

    def names(*what: str, **options: object) -> list[str]:
        chosen, unknown = select(listed, what, **options)  # type: ignore[arg-type]
        return [one.track.path.stem.lstrip("0") for one in chosen] + unknown

    assert names("0001.wav") == names(str(music / "0001.wav")) == ["1"]
    assert names(".") == names("*/music/*") == names("000?.wav") == ["1", "2", "3"]
    assert names("*2.wav", ids=[listed[0].id]) == ["1", "2"]
    assert names("none.wav", "000", ids=[99]) == ["number 99", "none.wav", "000"]
    (music / "0003.wav").unlink()
    assert names(missing=True) == ["3"]


# The same recordings.


def test_duplicates_are_grouped_and_the_best_comes_first(library: Library, music: Path) -> None:
    soundfile.write(music / "better.wav", song(2) + 1e-4, RATE, subtype="PCM_24")
    soundfile.write(music / "part.wav", song(3)[: 10 * RATE], RATE)
    index_files(library, sorted(music.iterdir()))
    (music / "copy.wav").write_bytes((music / "0002.wav").read_bytes())
    index_files(library, [music / "copy.wav"], on_duplicate="skip")
    (group,) = find_duplicates(library)
    found = [(version.path.name, version.track_id is None) for version in group.versions]
    assert found == [("better.wav", False), ("0002.wav", False), ("copy.wav", True)]
    assert group.versions[0].bit_rate > group.versions[1].bit_rate
    assert group.cosine > 0.99


# Damage that is meant.


@given(st.lists(st.tuples(st.integers(-1, 9), st.integers(-9, 60)), min_size=1, max_size=5))
def test_invalid_spans_never_lead_to_reads_outside_a_segment(
    places: list[tuple[int, int]],
) -> None:
    owners, rows = zip(*places, strict=True)
    try:
        placed, found = place_rows([SegmentInfo(1, 50, ())], [Spans.of(owners, rows)])
    except LibraryError:
        assert sum(rows) != 50 or min(rows) < 1 or len(set(owners) - {-1}) < len(owners)
        return
    assert 0 == placed.starts[0] < placed.starts[-1] == 50
    assert len(found) == len(placed.starts) - 1


def test_the_lock_is_free_again_after_a_failure(library: Library) -> None:
    with pytest.raises(ZeroDivisionError), library.writing():
        raise ZeroDivisionError
    with library.writing() as now:
        assert isinstance(now, writer.Writer)
