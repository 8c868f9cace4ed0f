"""Recordings are known by their sound: moved, renamed, retagged and copied files."""

from pathlib import Path

import pytest
import soundfile
from library_world import RATE, Toy, files_in, names_in, place_of, song

from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library.create_or_open(tmp_path / "library", Toy())


def ids_in(library: Library) -> dict[str, int]:
    return {listed.track.path.name: listed.id for listed in library.catalog.listed()}


def never(*_arguments: object) -> None:
    raise AssertionError("embedded again")


@pytest.fixture
def indexed(library: Library, music: Path) -> Library:
    index_files(library, files_in(music))
    return library


def test_a_moved_file_keeps_its_entry_and_is_not_embedded_again(
    indexed: Library, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ids_in(indexed)
    (music / "0001.wav").rename(music / "moved.wav")
    monkeypatch.setattr(Toy, "embed", never)
    report = index_files(indexed, files_in(music))
    assert (report.added, report.relabelled, report.skipped) == (0, 1, 2)
    assert ids_in(indexed) == {
        "moved.wav": before["0001.wav"],
        "0002.wav": before["0002.wav"],
        "0003.wav": before["0003.wav"],
    }


def test_files_that_swap_their_names_keep_their_entries(indexed: Library, music: Path) -> None:
    before = ids_in(indexed)
    (music / "0001.wav").rename(music / "x")
    (music / "0002.wav").rename(music / "0001.wav")
    (music / "x").rename(music / "0002.wav")
    assert index_files(indexed, files_in(music)).relabelled == 2
    assert ids_in(indexed) == {
        "0001.wav": before["0002.wav"],
        "0002.wav": before["0001.wav"],
        "0003.wav": before["0003.wav"],
    }
    assert place_of(indexed, 1)[0] == "0002.wav"


def test_new_tags_are_taken_over_without_embedding(
    library: Library, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = music / "song.flac"
    for title in ("before", "after"):
        with soundfile.SoundFile(path, "w", RATE, 1) as file:
            file.title = title
            file.write(song(5))
        report = index_files(library, [path])
        monkeypatch.setattr(Toy, "embed", never)
    assert (report.added, report.relabelled) == (0, 1)
    assert [track.tags.title for track in library.tracks()] == ["after"]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_copy_is_reported_and_left_out_added_or_put_in_the_others_place(
    tmp_path: Path, music: Path, exact: bool, at_once: bool
) -> None:
    copy = music / "9.wav"
    if exact:
        copy.write_bytes((music / "0002.wav").read_bytes())
    else:  # another encoding
        soundfile.write(copy, song(2) + 1e-4, RATE, subtype="PCM_24")
    old, new = "0002.wav", "9.wav"
    expected = {"skip": [old], "add": [old, new], "replace": [new]}
    for policy, names in expected.items():
        library = Library.create_or_open(tmp_path / policy, Toy())
        if not at_once:
            index_files(library, [path for path in files_in(music) if path != copy])
        report = index_files(library, files_in(music), on_duplicate=policy)  # type: ignore[arg-type]
        (found,) = report.duplicates
        assert (found.path.name, found.of.name, found.exact) == (new, old, exact)
        assert names_in(library) == sorted(["0001.wav", "0003.wav", *names])
        assert place_of(library, 2)[0] in names
        # Next time there is nothing to do, whatever the policy was.
        again = index_files(library, files_in(music), on_duplicate=policy)  # type: ignore[arg-type]
        assert (again.skipped, again.added, again.duplicates) == (4, 0, [])


def test_an_excerpt_of_a_recording_is_no_copy_of_it(indexed: Library, music: Path) -> None:
    part = music / "part.wav"
    soundfile.write(part, song(2)[: 12 * RATE], RATE)
    assert index_files(indexed, [part]).duplicates == []
    assert len(indexed.tracks()) == 4
