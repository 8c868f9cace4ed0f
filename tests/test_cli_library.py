"""The commands that look after a library, with a small embedder in the model's place."""

import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest
import soundfile
from click.testing import CliRunner, Result
from library_world import RATE, Toy, add, song, write_song

from fingerprint.cli import main
from fingerprint.cli.duplicates import page
from fingerprint.library.duplicates import Group, Version
from fingerprint.library.library import Library
from fingerprint.library.records import Stamp
from fingerprint.library.writer import Entry
from fingerprint.types import Tags, Track

pytestmark = pytest.mark.usefixtures("small_model")

EVIL = "\x1b]0;owned\x07\u202e<script>alert(1)</script>\n&amp;"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three songs in two segments, whose files do not exist."""
    with Library.create_or_open(tmp_path / "library", Toy()) as library:
        add(library, 1, 2)
        add(library, 3)
    return tmp_path / "library"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def names_in(folder: Path) -> list[str]:
    lines = run("list", "--json", "--library", folder).stdout.splitlines()
    return [Path(json.loads(line)["path"]).name for line in lines]


def test_tracks_are_removed_by_pattern_number_and_path(folder: Path) -> None:
    would = run("remove", "--dry-run", "/music/*", "--library", folder)
    assert would.stdout.splitlines() == [f"would remove /music/000{n}.wav" for n in (1, 2, 3)]
    number = json.loads(run("list", "--json", "--library", folder).stdout.splitlines()[1])["id"]
    assert run("remove", "--id", number, "--library", folder).exit_code == 0
    assert names_in(folder) == ["0001.wav", "0003.wav"]
    missed = run("remove", "/music/0001.wav", "/none", "--library", folder)
    assert (missed.exit_code, missed.stderr) == (1, "Error: there is no track for /none\n")
    assert names_in(folder) == ["0003.wav"]
    assert run("remove", "--missing", "--library", folder).exit_code == 0
    assert names_in(folder) == []
    assert run("remove", "--library", folder).exit_code == 2


def test_a_library_is_compacted_verified_exported_and_imported(
    folder: Path, tmp_path: Path
) -> None:
    run("remove", "*2.wav", "--library", folder)
    assert json.loads(run("stats", "--json", "--library", folder).stdout)["removed_share"] > 0.2
    assert run("compact", "--library", folder).stdout.startswith("2 segments, ")
    stats = json.loads(run("stats", "--json", "--library", folder).stdout)
    assert (stats["tracks"], stats["segments"], stats["removed_share"]) == (2, 1, 0)
    assert stats["kinds"] == {".wav": 2}
    assert "bytes per hour" in run("stats", "--library", folder).stdout
    assert run("verify", "--library", folder).stdout == f"{folder} is sound.\n"
    file = tmp_path / "one.fplib"
    assert run("export", file, "--library", folder).exit_code == 0
    result = run("import", file, "--library", tmp_path / "new")
    assert result.stdout == f"Imported 2 tracks. Library: {tmp_path / 'new'}\n"
    assert names_in(tmp_path / "new") == names_in(folder)
    again = run("import", file, "--library", tmp_path / "new")
    assert (again.exit_code, again.stderr.count("\n")) == (1, 1)
    assert run("export", tmp_path / "one.zip", "--library", folder).exit_code == 2


def test_verify_names_damage_repairs_it_and_names_lost_tracks(folder: Path) -> None:
    (folder / "segments" / "000001.ann").write_bytes(b"x")
    (folder / "segments" / "000002.npy").unlink()
    found = run("verify", "--library", folder)
    assert found.exit_code == 1
    assert found.stderr.splitlines() == [
        f"damaged: {folder}/segments/000001.ann is not what was written",
        f"damaged: {folder}/segments/000002.npy is missing",
        "  with it: /music/0003.wav",
    ]
    repaired = run("verify", "--repair", "--library", folder)
    assert repaired.exit_code == 1
    assert "lost: cannot read /music/0003.wav: no such file or directory" in repaired.stderr
    assert run("verify", "--library", folder).exit_code == 0
    assert names_in(folder) == ["0001.wav", "0002.wav"]


def test_a_folder_is_synced_and_duplicates_are_shown(tmp_path: Path) -> None:
    music, library = tmp_path / "music", tmp_path / "library"
    music.mkdir()
    write_song(music / "a.wav", 1)
    write_song(music / "b.wav", 2)
    first = run("sync", music, "--library", library, "--jobs", 1)
    assert first.stdout.startswith("Indexed 2 tracks ")
    soundfile.write(music / "c.wav", song(1) + 1e-4, RATE, subtype="PCM_24")
    (music / "b.wav").unlink()
    second = run("sync", music, "--library", library, "--jobs", 1)
    assert second.stdout.splitlines()[1] == f"removed {music}/b.wav"
    assert second.stderr == f"duplicate: {music}/c.wav is another encoding of {music}/a.wav\n"
    table = run("duplicates", "--library", library).stdout.splitlines()
    assert [line.split()[0] for line in table[:2]] == ["best", "2"] or table[0].startswith("best")
    assert table[0].endswith("c.wav")
    assert table[1].endswith("a.wav")
    (group,) = map(
        json.loads, run("duplicates", "--json", "--library", library).stdout.splitlines()
    )
    assert [track["best"] for track in group["tracks"]] == [True, False]
    assert group["tracks"][0]["path"] == f"{music}/c.wav"
    done = run("duplicates", "--html", tmp_path / "page.html", "--library", library)
    assert done.exit_code == 0
    assert f'src="file://{music}/c.wav"' in (tmp_path / "page.html").read_text()
    gone = run("sync", tmp_path / "none", "--library", library, "--jobs", 1)
    assert (gone.exit_code, gone.stderr.count("\n")) == (1, 1)


def test_libraries_are_merged(folder: Path, tmp_path: Path) -> None:
    with Library.create_or_open(tmp_path / "other", Toy()) as other:
        add(other, 3, 4)
    done = run("merge", tmp_path / "other", "--library", folder)
    assert done.stdout == f"Took 1 track from {tmp_path / 'other'}; 1 known already\n"
    assert names_in(folder) == ["0001.wav", "0002.wav", "0003.wav", "0004.wav"]


def test_a_new_library_gets_the_profile_of_what_is_merged_into_it(tmp_path: Path) -> None:
    with Library.create_or_open(tmp_path / "small", Toy(), profile="compact") as small:
        add(small, 1)
    assert run("merge", tmp_path / "small", "--library", tmp_path / "new").exit_code == 0
    info = json.loads(run("info", "--json", "--library", tmp_path / "new").stdout)
    assert (info["profile"], info["tracks"]) == ("compact", 1)
    with Library.create_or_open(tmp_path / "standard", Toy()):
        pass
    refused = run("merge", tmp_path / "small", "--library", tmp_path / "standard")
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize(("before", "now"), [("precise", "standard"), ("balanced", "compact")])
def test_old_profile_name_maps_to_a_new_one_with_a_warning(
    tmp_path: Path, before: str, now: str
) -> None:
    with Library.create_or_open(tmp_path / "old", Toy(), profile=now) as old:
        add(old, 1)
    made = run("merge", tmp_path / "old", "--library", tmp_path / "new", "--profile", before)
    assert made.exit_code == 0
    assert f"Warning: the profile {before} is gone: {now} is made instead." in made.stderr
    assert json.loads(run("info", "--json", "--library", tmp_path / "new").stdout)["profile"] == now


class Tags_(HTMLParser):  # noqa: N801 - a parser of HTML's tags
    """Notes every element and attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_names_are_escaped_in_html() -> None:
    path = Path("/music/" + EVIL + '" onerror="x' + os.fsdecode(b"\xff"))
    versions = tuple(Version(path, n, 1.0, 1, exact=True) for n in (1, 2))
    html = page([Group(versions, 1.0)])
    parser = Tags_()
    parser.feed(html)
    assert {tag for tag, _ in parser.found} <= {
        "html", "head", "meta", "title", "style", "body", "h1", "p", "table", "tr", "th", "td",
        "audio",
    }  # fmt: skip
    assert all(set(attributes) <= {"controls", "preload", "src"} for tag, attributes in parser.found
               if tag == "audio")  # fmt: skip
    assert "\x1b" not in html
    html.encode("utf-8")


def test_no_tag_or_name_reaches_the_terminal_raw(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    entry_ = Toy()
    with Library.create_or_open(folder, entry_) as library, library.writing() as writer:
        for number, title in enumerate([EVIL, ""]):
            vectors = entry_.embed(_clip(number)).vectors
            track = Track(Path(f"/music/{number}{EVIL}"), 20.0, Tags(title, EVIL, EVIL))
            writer.add([Entry(track, Stamp(1, 1), vectors)])
    for command in (["list"], ["stats"], ["duplicates"], ["remove", "--missing", "--dry-run"]):
        for form in ([], ["--json"] if command[0] != "remove" else []):
            done = run(*command, *form, "--library", folder)
            assert done.exit_code == 0, done.output
            shown = done.stdout + done.stderr
            assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def _clip(seed: int):  # type: ignore[no-untyped-def]
    from fingerprint.types import Clip

    return Clip(song(seed + 1), RATE)


def test_add_is_an_alias_of_index() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fingerprint", "add", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Learn the recordings" in done.stdout
    context = click.Context(main)
    assert main.get_command(context, "add") is main.get_command(context, "index")
