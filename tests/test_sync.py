"""A library follows its folders, and gives nothing up unless it is proven to be gone."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from click.testing import CliRunner, Result
from library_world import RATE, Toy, add, names_in, place_of, song, write_song
from privileges import heeding_permissions

from fingerprint.audio import files
from fingerprint.audio.files import Presence, find_audio, presence
from fingerprint.cli import main, opening
from fingerprint.errors import AudioError, LibraryError
from fingerprint.library.duplicates import find_duplicates
from fingerprint.library.exchange import export_library, import_library
from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library
from fingerprint.library.selecting import select_all
from fingerprint.library.sync import sync
from fingerprint.library.verify import check, repair

SHORT = 3.0  # s of a song


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library.create_or_open(tmp_path / "library", Toy())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """music/A/1.wav, music/B/2.wav"""
    music = tmp_path / "music"
    for number, name in enumerate("AB", start=1):
        (music / name).mkdir(parents=True)
        write_song(music / name / f"{number}.wav", number, SHORT)
    return music


def stems(library: Library) -> set[str]:
    return {track.path.stem for track in library.tracks()}


# What cannot be reached.


@pytest.mark.parametrize("mode", [0o000, 0o600, 0o300])
def test_tracks_of_an_unreadable_folder_are_kept(library: Library, folder: Path, mode: int) -> None:
    """music-assistant/server#3647, Clementine#3032: gone for a moment is not gone."""
    sync(library, [folder])
    (folder / "B").chmod(mode)
    try:
        with heeding_permissions():
            done = sync(library, [folder])
    finally:
        (folder / "B").chmod(0o700)
    assert stems(library) == {"1", "2"}
    assert done.removed == []
    assert [path.name for path, _ in done.report.failed] == ["B"]  # once, not once a file
    assert "ermission denied" in done.report.failed[0][1]
    assert sync(library, [folder]).report.skipped == 2


def test_tracks_behind_a_dangling_link_are_kept(library: Library, folder: Path) -> None:
    """Clementine#3894: a drive that a link leads to is not there."""
    drive = (folder / "B").rename(folder.parent / "drive")
    (folder / "B").symlink_to(drive)
    sync(library, [folder])
    away = drive.rename(folder.parent / "unplugged")
    done = sync(library, [folder])
    assert stems(library) == {"1", "2"}
    assert [(one.path.name, one.presence) for one in done.kept] == [("2.wav", Presence.UNREACHABLE)]
    assert [path for path, _ in done.report.failed] == [folder / "B"]
    away.rename(drive)
    assert sync(library, [folder]).kept == []


def test_tracks_of_an_empty_mount_point_are_kept_without_confirmation(
    library: Library, folder: Path
) -> None:
    """owntone#1897: the mount point is there, its drive is not."""
    sync(library, [folder])
    (folder / "B").rename(folder.parent / "away")
    (folder / "B").mkdir()
    (folder / "B" / ".nothing").touch()
    done = sync(library, [folder])
    assert (stems(library), done.removed) == ({"1", "2"}, [])
    assert [one.presence for one in done.kept] == [Presence.EMPTIED]
    asked: list[tuple[int, int]] = []

    def sure(removed: int, of: int) -> bool:
        asked.append((removed, of))
        return True

    assert len(sync(library, [folder], sure=sure).removed) == 1
    assert (stems(library), asked) == ({"1"}, [(1, 2)])


def test_tracks_of_an_unplugged_drive_are_kept_without_confirmation(
    library: Library, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system deletes its folder beside those of other drives, as in /media/USER."""
    monkeypatch.setattr(files, "DRIVES", (str(folder),))
    write_song(folder / "A" / "3.wav", 3, SHORT)
    sync(library, [folder])
    (folder / "A" / "3.wav").unlink()
    shutil.rmtree(folder / "B")
    done = sync(library, [folder])
    assert [path.name for path in done.removed] == ["3.wav"]
    assert [one.presence for one in done.kept] == [Presence.EMPTIED]
    assert stems(library) == {"1", "2"}
    sync(library, [folder], sure=lambda _removed, _of: True)
    assert stems(library) == {"1"}


def test_tracks_of_a_deleted_folder_are_removed(library: Library, folder: Path) -> None:
    sync(library, [folder])
    shutil.rmtree(folder / "B")
    assert [path.name for path in sync(library, [folder]).removed] == ["2.wav"]
    assert stems(library) == {"1"}


def test_removing_most_tracks_needs_confirmation(library: Library, folder: Path) -> None:
    for seed in range(3, 7):
        write_song(folder / "B" / f"{seed}.wav", seed, SHORT)
    sync(library, [folder])
    for seed in range(2, 6):
        (folder / "B" / f"{seed}.wav").unlink()
    done = sync(library, [folder])
    assert (done.removed, len(done.kept), len(library.tracks())) == ([], 4, 6)
    assert {one.presence for one in done.kept} == {Presence.GONE}
    assert len(sync(library, [folder], sure=lambda _removed, _of: True).removed) == 4


def test_empty_folder_removes_nothing_without_confirmation(library: Library, folder: Path) -> None:
    sync(library, [folder])
    for path in find_audio([folder]):
        path.unlink()
    with pytest.raises(AudioError, match="nothing was changed"):
        sync(library, [folder])
    assert len(library.tracks()) == 2
    assert len(sync(library, [folder], sure=lambda _removed, _of: True).removed) == 2


@pytest.mark.parametrize("kind", ["folder", "pipe", "folder's place"])
def test_file_replaced_by_something_else_counts_as_gone(folder: Path, kind: str) -> None:
    path = folder / "B" / "2.wav"
    assert presence(path) is Presence.THERE
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        (folder / "B").rmdir()
        (folder / "B").write_text("a file")
    assert presence(path) is Presence.GONE


def test_remove_missing_selects_only_tracks_that_are_certainly_gone(
    library: Library, folder: Path
) -> None:
    """The same suspicion in `remove --missing`."""
    sync(library, [folder])
    (folder / "B").rename(folder.parent / "away")
    (folder / "B").symlink_to(folder.parent / "nowhere")
    assert select_all(library.catalog.listed(), (), [], missing=True).tracks == []
    (folder / "B").unlink()
    found = select_all(library.catalog.listed(), (), [], missing=True).tracks
    assert [one.track.path.name for one in found] == ["2.wav"]


# Damage, and what only looks like it.


def test_unreadable_segments_are_not_reported_as_damaged(library: Library, folder: Path) -> None:
    """FastCopyLab/FastCopy#304, HeroicGamesLauncher#5591: no permission is taken for damage."""
    sync(library, [folder])
    library.close()
    files = sorted((library.folder / "segments").iterdir())
    folder.rename(folder.parent / "unmounted")
    for file in files:
        file.chmod(0)
    with heeding_permissions():
        for act in (
            lambda: check(Library.open(library.folder, Toy()).catalog),
            lambda: repair(library.folder, Toy()),
        ):
            with pytest.raises(LibraryError, match="ermission denied"):
                act()
    for file in files:
        file.chmod(0o600)
    again = Library.open(library.folder, Toy())
    assert stems(again) == {"1", "2"}
    assert check(again.catalog) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_place_of_a_music_file_is_not_music(library: Library, folder: Path) -> None:
    """`verify --repair` waited for ever for somebody who writes into it."""
    sync(library, [folder])
    library.close()
    for file in (library.folder / "segments").glob("*.npy"):
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    (folder / "A" / "1.wav").unlink()
    os.mkfifo(folder / "A" / "1.wav")
    done = repair(library.folder, Toy())
    assert [path.name for path in done.embedded] == ["2.wav"]
    assert [path.name for path, _ in done.lost] == ["1.wav"]


def test_segments_behind_a_dangling_link_are_not_reported_as_damaged(
    library: Library, folder: Path
) -> None:
    sync(library, [folder])
    library.close()
    kept = (library.folder / "segments").rename(folder.parent / "segments")
    (library.folder / "segments").symlink_to(folder.parent / "nowhere")
    for act in (
        lambda: check(Library.open(library.folder, Toy()).catalog),
        lambda: repair(library.folder, Toy()),
    ):
        with pytest.raises(LibraryError, match="may be whole"):
            act()
    (library.folder / "segments").unlink()
    kept.rename(library.folder / "segments")
    assert stems(Library.open(library.folder, Toy())) == {"1", "2"}


def test_a_catalog_without_tables_is_damaged(library: Library) -> None:
    library.close()
    (library.folder / "catalog.db").write_bytes(b"")
    with pytest.raises(LibraryError, match="the catalog is damaged: restore it"):
        Library.open(library.folder, Toy())


def test_repair_keeps_tracks_whose_music_is_unreachable(library: Library, folder: Path) -> None:
    """The same suspicion in `verify --repair`: damaged embeddings, and the drive is not there."""
    sync(library, [folder])
    library.close()
    drive = (folder / "B").rename(folder.parent / "drive")
    (folder / "B").symlink_to(folder.parent / "nowhere")
    (library.folder / "segments" / "000001.npy").unlink()
    done = repair(library.folder, Toy())
    assert (done.lost, done.embedded) == ([], [])
    assert [path.name for path, _ in done.waiting] == ["2.wav"]
    (folder / "B").unlink()
    drive.rename(folder / "B")
    assert len(repair(library.folder, Toy()).embedded) == 2
    assert stems(Library.open(library.folder, Toy())) == {"1", "2"}


def test_other_files_among_the_segments_are_left_alone(library: Library, folder: Path) -> None:
    sync(library, [folder])
    for name in ("notes.txt", "000001.npy.bak.txt", "backup-000001.npy"):
        (library.folder / "segments" / name).write_text("mine")
    (library.folder / "segments" / "000099.npy").write_text("left by a killed run")
    with library.writing():
        pass
    names = {path.name for path in (library.folder / "segments").iterdir()}
    assert {"notes.txt", "000001.npy.bak.txt", "backup-000001.npy"} < names
    assert "000099.npy" not in names


# Odd values.


@pytest.mark.parametrize("seconds", [-(2**31), 0, 2**33, 10_413_792_000, 2**34])
def test_a_file_of_any_year_is_indexed_and_exported(
    library: Library, folder: Path, tmp_path: Path, seconds: int
) -> None:
    """One file of the year 2300 cost a whole run, and the catalog was blamed."""
    os.utime(folder / "A" / "1.wav", (seconds, seconds))
    assert len(sync(library, [folder]).report.failed) == 0
    assert sync(library, [folder]).report.skipped == 2
    export_library(library.folder, tmp_path / "one.fplib")
    import_library(tmp_path / "one.fplib", tmp_path / "new")
    assert stems(Library.open(tmp_path / "new", Toy())) == {"1", "2"}


# Names.


def test_folder_and_a_link_to_it_are_indexed_once(library: Library, folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    (folder / "A" / "up").symlink_to(folder)
    done = sync(library, [folder, folder.parent / "link"])
    assert (done.report.added, done.report.duplicates) == (2, [])
    assert {track.path for track in library.tracks()} == set(find_audio([folder]))


@pytest.mark.parametrize("link_first", [False, True])
@pytest.mark.parametrize("by", [index_files, sync])
def test_folder_and_a_link_to_it_are_still_one_in_the_next_run(
    library: Library, folder: Path, by: Callable[..., object], *, link_first: bool
) -> None:
    """Each track was there twice."""
    link = folder.parent / "link"
    link.symlink_to(folder)
    names = [link, folder] if link_first else [folder, link]
    for name in names:
        by(library, [name] if by is sync else sorted(find_audio([name])))
    assert {track.path for track in library.tracks()} == set(find_audio([names[0]]))
    changed = next(iter(find_audio([folder])))
    write_song(changed, 9, 7.0)
    by(library, [names[0]] if by is sync else sorted(find_audio([names[0]])))
    assert len(library.tracks()) == 2


def test_new_link_to_an_indexed_file_changes_nothing(library: Library, folder: Path) -> None:
    sync(library, [folder])
    (folder / "0").symlink_to("B")
    (folder / "A" / "0.wav").symlink_to("../B/2.wav")
    done = sync(library, [folder])
    assert (done.report.added, done.report.skipped, done.removed) == (0, 2, [])


def test_track_with_an_unknown_suffix_is_kept_and_updated(library: Library, folder: Path) -> None:
    odd = (folder / "B" / "2.wav").rename(folder / "B" / "2.sound")
    index_files(library, [odd])
    sync(library, [folder])
    write_song(folder / "x.wav", 9, SHORT).rename(odd)
    done = sync(library, [folder])
    assert (done.removed, done.report.added) == ([], 1)
    assert place_of(library, 9, 0.0)[0] == "2.sound"


@pytest.mark.parametrize("name", ["Song [1].wav", "Take [a-c].wav", "What?.wav", "*.wav"])
def test_a_files_name_is_no_pattern(
    library: Library, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """beetbox/beets#3040, andreafrancia/trash-cli#162."""
    names = ["Song [1].wav", "Song 1.wav", "Take [a-c].wav", "Take b.wav", "What?.wav",
             "Whatx.wav", "*.wav"]  # fmt: skip
    place = tmp_path / "old [2001]*"
    place.mkdir()
    for seed, one in enumerate(names):
        write_song(place / one, seed + 1, 1.0)
    index_files(library, sorted(place.iterdir()))
    listed = library.catalog.listed()
    monkeypatch.chdir(place)
    for spelling in (name, str(place / name)):
        found = select_all(listed, (), [spelling])
        assert ([one.track.path.name for one in found.tracks], found.patterns) == ([name], {})
    library.remove([place / name])
    assert select_all(library.catalog.listed(), (), [name]).tracks == []  # it is on the disk
    found = select_all(listed, (), ["S*g*.wav"])  # the folder's own brackets mean themselves
    assert found.patterns == {"S*g*.wav": 2}


def test_tracks_are_selected_through_links(library: Library, folder: Path) -> None:
    """A folder and a link to it are one when they are indexed, and when they are removed."""
    index_files(library, [folder / "A" / "1.wav"])
    (folder / "link").symlink_to(folder / "B")
    index_files(library, [folder / "link" / "2.wav"])
    (folder.parent / "other").symlink_to(folder)
    listed = library.catalog.listed()
    for name, number in (("other", 2), ("other/A/1.wav", 1), ("music/B/2.wav", 1), ("music/B", 1)):
        assert len(select_all(listed, (), [str(folder.parent / name)]).tracks) == number


# Copies.


def encodings(folder: Path, seed: int = 1) -> list[Path]:
    """Four files with the same sound, of which no two hold the same samples."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.wav" for number in range(4)]
    for number, path in enumerate(paths):
        soundfile.write(path, song(seed) + number * 1e-4, RATE, subtype="PCM_24")
    return paths


def test_exact_copies_are_reported_however_short(library: Library, folder: Path) -> None:
    """They were found by their embeddings alone, which too few rows do not tell apart."""
    write_song(folder / "3.wav", 3, 0.6)
    shutil.copy(folder / "3.wav", folder / "4.wav")
    sync(library, [folder])
    shutil.copy(folder / "3.wav", folder / "5.wav")
    (later,) = sync(library, [folder]).report.duplicates
    assert (later.path.name, later.exact) == ("5.wav", True)


def test_hard_links_to_one_file_are_marked_as_the_same_file(library: Library, folder: Path) -> None:
    """A hard link, or a folder that is mounted twice: deleting a "copy" may delete both."""
    os.link(folder / "A" / "1.wav", folder / "link.wav")
    shutil.copy(folder / "A" / "1.wav", folder / "copy.wav")
    sync(library, [folder])
    (group,) = find_duplicates(library)
    assert {one.path.name: one.same_file for one in group.versions} == {
        "1.wav": False, "copy.wav": False, "link.wav": True
    }  # fmt: skip


def test_the_best_of_many_encodings_is_settled_in_one_run(library: Library, tmp_path: Path) -> None:
    """firepear/thrasher-music-catalog#3, LMS slimserver#547: every run replaced the track again."""
    paths = encodings(tmp_path / "music")
    sync(library, [tmp_path / "music"], on_duplicate="replace")
    before = library.catalog.listed()
    again = sync(library, [tmp_path / "music"], on_duplicate="replace")
    assert (again.report.skipped, again.report.added) == (4, 0)
    assert library.catalog.listed() == before
    (group,) = find_duplicates(library)
    assert {version.path for version in group.versions} == set(paths)
    # ... and one run at a time, each with one file more.
    with Library.create_or_open(tmp_path / "other", Toy()) as other:
        for number in range(1, 5):
            index_files(other, paths[:number], on_duplicate="replace")
        assert set(other.catalog.stamps()) == set(paths)
        assert len(other.tracks()) == 1


@pytest.mark.parametrize("policy", ["skip", "replace"])
def test_exact_copies_are_settled_in_one_run(library: Library, tmp_path: Path, policy: str) -> None:
    folder = tmp_path / "music"
    folder.mkdir()
    first = write_song(folder / "0.wav", 1, SHORT)
    sync(library, [folder], on_duplicate=policy)  # type: ignore[arg-type]
    for number in range(1, 4):
        shutil.copy(first, folder / f"{number}.wav")
    sync(library, [folder], on_duplicate=policy)  # type: ignore[arg-type]
    assert len(library.catalog.stamps()) == 4
    assert len(library.tracks()) == 1
    again = sync(library, [folder], on_duplicate=policy)  # type: ignore[arg-type]
    assert (again.report.skipped, again.report.duplicates) == (4, [])


def test_deleted_copies_are_no_longer_listed(library: Library, tmp_path: Path) -> None:
    paths = encodings(tmp_path / "music")
    sync(library, [tmp_path / "music"], on_duplicate="skip")
    (track,) = library.tracks()
    copies = [path for path in paths if path != track.path]
    copies[0].unlink()
    assert copies[0] not in {v.path for group in find_duplicates(library) for v in group.versions}
    sync(library, [tmp_path / "music"], on_duplicate="skip")
    assert set(library.catalog.copies()) == set(copies[1:])


@pytest.mark.parametrize("policy", ["skip", "replace"])
def test_another_encoding_takes_over_and_is_reported_where_it_cannot(
    library: Library, tmp_path: Path, policy: str
) -> None:
    """What a run finds out about the copies of a track that is gone was dropped from its report."""
    paths = encodings(tmp_path / "music")
    sync(library, [tmp_path / "music"], on_duplicate=policy)  # type: ignore[arg-type]
    (track,) = library.tracks()
    rest = [path for path in paths if path != track.path]
    track.path.unlink()
    rest[0].write_bytes(b"spoilt")
    done = sync(library, [tmp_path / "music"], on_duplicate=policy)  # type: ignore[arg-type]
    assert [path for path, _ in done.report.failed] == [rest[0]]
    assert len(done.report.duplicates) == 1
    assert set(library.catalog.stamps()) == set(rest[1:])
    assert len(library.tracks()) == 1
    assert place_of(library, 1)[0] in {path.name for path in rest[1:]}


def test_file_with_new_content_is_not_a_copy_of_the_moved_old_content(
    library: Library, tmp_path: Path
) -> None:
    """In one run a file gets another song, and the song that it had comes back elsewhere."""
    folder = tmp_path / "music"
    one, *_ = encodings(folder)
    for path in folder.iterdir():
        if path != one:
            path.unlink()
    for order in ("a.wav", "z.wav"):
        index_files(library, [one], on_duplicate="replace")
        soundfile.write(folder / order, song(1) + 5e-4, RATE, subtype="PCM_24")
        write_song(one, 2)
        index_files(library, sorted(folder.iterdir()), on_duplicate="replace")
        assert {track.path.name for track in library.tracks()} == {one.name, order}
        assert place_of(library, 2)[0] == one.name
        library.remove([folder / order])
        (folder / order).unlink()
        soundfile.write(one, song(1), RATE, subtype="PCM_24")


# The command.


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_sync_lists_the_tracks_it_keeps_and_removes_them_with_yes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "open_model", lambda _file, _device: Toy())
    place = ["--library", tmp_path / "library", "--jobs", 1]
    assert run("sync", folder, *place).exit_code == 0
    (folder / "B" / "2.wav").unlink()
    kept = run("sync", folder, *place)
    assert kept.exit_code == 1
    assert kept.stderr == (
        f"kept: 1 track of {folder}/B: the folder is empty or gone, as if its drive were not "
        "there; --yes removes them\n"
    )
    removed = run("sync", "--yes", folder, *place)
    assert removed.exit_code == 0
    assert removed.stdout.splitlines()[1:] == [f"removed {folder}/B/2.wav"]
    lines = run("list", "--json", "--library", tmp_path / "library").stdout.splitlines()
    assert [Path(json.loads(line)["path"]).name for line in lines] == ["1.wav"]


def test_copies_can_be_removed_like_tracks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Library.create_or_open(tmp_path / "library", Toy()) as library:
        paths = encodings(tmp_path / "music")
        index_files(library, paths, on_duplicate="skip")
        add(library, 8)
        copy = next(iter(library.catalog.copies()))
        done = run("remove", copy, "--library", tmp_path / "library")
        assert (done.exit_code, done.stdout) == (0, f"removed {copy}\n")
        assert copy not in library.catalog.stamps()
        assert len(names_in(library)) == 2
