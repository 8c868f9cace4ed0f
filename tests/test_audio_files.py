import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fingerprint.audio.files import AUDIO_SUFFIXES, display_name, find_audio
from fingerprint.errors import AudioError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def names(folder, *paths):
    return [str(path.relative_to(folder)) for path in find_audio(paths or [folder])]


def test_folders_are_walked_in_sorted_order_files_first(tmp_path):
    touch(tmp_path, "b/2.mp3", "b/1.flac", "a/x.ogg", "z.wav", "y.wav", "a/deep/er/q.opus")
    expected = ["y.wav", "z.wav", "a/x.ogg", "a/deep/er/q.opus", "b/1.flac", "b/2.mp3"]
    assert names(tmp_path) == expected


def test_only_known_suffixes_are_taken_in_folders_in_any_case(tmp_path):
    touch(tmp_path, "a.MP3", "b.txt", "c.jpg", "d.m4a", "e", "f.mp4", "g.Wav ", "h.txt ", "wav")
    assert names(tmp_path) == ["a.MP3", "d.m4a", "f.mp4", "g.Wav "]


def test_every_suffix_is_a_lower_case_extension():
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in AUDIO_SUFFIXES)


def test_a_named_file_is_taken_whatever_its_suffix(tmp_path):
    touch(tmp_path, "b.txt", ".hidden")
    paths = [tmp_path / "b.txt", tmp_path / ".hidden"]
    assert list(find_audio(paths)) == paths


def test_hidden_files_and_folders_are_left_out(tmp_path):
    touch(tmp_path, ".a.mp3", ".trash/b.mp3", "c.mp3", "._c.mp3")
    assert names(tmp_path) == ["c.mp3"]


def test_a_hidden_folder_that_is_named_is_walked(tmp_path):
    touch(tmp_path, ".music/b.mp3")
    assert names(tmp_path, tmp_path / ".music") == [".music/b.mp3"]


def test_a_file_found_twice_is_taken_once(tmp_path):
    touch(tmp_path, "a.mp3", "sub/b.mp3")
    paths = [tmp_path / "sub" / "b.mp3", tmp_path, tmp_path / "sub" / ".." / "a.mp3", tmp_path]
    assert list(find_audio(paths)) == [paths[0], tmp_path / "a.mp3"]


def test_links_are_followed_once(tmp_path):
    touch(tmp_path, "music/a.mp3", "elsewhere/b.mp3")
    (tmp_path / "music/c.mp3").symlink_to(tmp_path / "elsewhere/b.mp3")
    (tmp_path / "music/d.mp3").symlink_to(tmp_path / "elsewhere/b.mp3")
    (tmp_path / "music/more").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path, tmp_path / "music") == ["music/a.mp3", "music/c.mp3"]


def test_links_in_a_circle_end(tmp_path):
    touch(tmp_path, "a.mp3", "sub/b.mp3")
    (tmp_path / "sub/up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert names(tmp_path) == ["a.mp3", "sub/b.mp3"]


def test_links_to_nowhere_in_a_folder_are_left_out(tmp_path):
    (tmp_path / "gone.mp3").symlink_to(tmp_path / "nowhere")
    assert names(tmp_path) == []


def test_folder_named_like_a_recording_is_walked(tmp_path):
    touch(tmp_path, "live.mp3/a.mp3")
    assert names(tmp_path) == ["live.mp3/a.mp3"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.mp3", "no such file or directory"),
        ("a\0b", "embedded null byte"),
        ("x" * 5_000, "file name too long"),
    ],
)
def test_a_missing_path_is_named(name, words, tmp_path):
    with pytest.raises(AudioError, match=f"cannot read .*: {words}"):
        list(find_audio([tmp_path / name]))


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_names_of_any_bytes_are_found(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n.mp3"))
    path.touch()
    assert list(find_audio([tmp_path])) == [path]


@given(st.text())
def test_a_shown_name_is_one_printable_line(text):
    shown = display_name(Path(text.encode(errors="replace").decode()))
    assert len(shown.splitlines()) == 1
    assert shown.encode()  # nothing that a terminal cannot take
    assert not any(unicodedata.category(character) in {"Cc", "Cs"} for character in shown)


def test_an_ordinary_name_is_shown_as_it_is():
    assert display_name(Path("Música/Ĝoja 日本 (live).mp3")) == "Música/Ĝoja 日本 (live).mp3"
    assert display_name(os.fsdecode(b"\xff\n\x1b[0m.mp3")) == r"\xff\n\x1b[0m.mp3"
    assert display_name("evil\u202e3pm.exe") == r"evil\u202e3pm.exe"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_folder_is_left_out_unless_it_is_named(tmp_path):
    touch(tmp_path, "a.mp3", "lost+found/b.mp3")
    (tmp_path / "lost+found").chmod(0)
    try:
        assert names(tmp_path) == ["a.mp3"]
        with pytest.raises(AudioError, match="permission denied"):
            list(find_audio([tmp_path / "lost+found"]))
        with pytest.raises(AudioError, match="permission denied"):
            list(find_audio([tmp_path / "lost+found" / "b.mp3"]))
    finally:
        (tmp_path / "lost+found").chmod(0o700)
