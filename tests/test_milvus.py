"""What is of Milvus alone: addresses, refusals, the order of writing, the command line."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from library_world import Toy, add, entry, excerpt, names_in, place_of, song, three_songs

pytest.importorskip("pymilvus", reason="needs fingerprint[milvus]")

from click.testing import CliRunner
from milvus_world import drop, new_address

from fingerprint.cli import main
from fingerprint.errors import LibraryError
from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library
from fingerprint.library.merge import merge_library
from fingerprint.milvus import catalog, server
from fingerprint.milvus import library as milvus
from fingerprint.milvus.address import Address
from fingerprint.milvus.catalog import COPY, REMOVED, TRACK
from fingerprint.milvus.library import MilvusLibrary, MilvusWriter, publish
from fingerprint.milvus.server import INDICES, SUITABLE, Server, suitable
from fingerprint.milvus.snapshot import Known
from fingerprint.model.fingerprinter import Fingerprinter

DEPLOY = Path(__file__).parent.parent / "deploy"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"milvus://{tmp_path_factory.mktemp('lite')}/songs.db"


@pytest.fixture
def address(root: str) -> Iterator[Address]:
    chosen = new_address(root)
    yield chosen
    drop(chosen)


@pytest.fixture
def library(address: Address) -> Iterator[MilvusLibrary]:
    with MilvusLibrary.create_or_open_at(address, Toy()) as opened:
        add(opened, 1, 2, 3)
        yield opened


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fingerprint", *map(str, arguments)]
    world = os.environ | environment
    return subprocess.run(command, capture_output=True, text=True, check=False, env=world)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


# Addresses.


@pytest.mark.parametrize(
    ("text", "uri", "collection", "index"),
    [
        ("milvus://host/music", "http://host:19530", "music", ""),
        ("milvus://host:1/music_2?index=hnsw", "http://host:1", "music_2", "HNSW"),
        ("milvus+tls://h.example:443/m", "https://h.example:443", "m", ""),
        ("milvus://[::1]:9/m", "http://[::1]:9", "m", ""),
        ("milvus:///a/b.db/m", "/a/b.db", "m", ""),
        ("milvus:///a/my%20songs.db/m?index=FLAT", "/a/my songs.db", "m", "FLAT"),
    ],
)
def test_an_address_says_where_a_library_is(
    text: str, uri: str, collection: str, index: str
) -> None:
    found = Address.parse(text)
    assert (found.uri, found.collection, found.index) == (uri, collection, index)
    assert Address.parse(str(found)) == replace(found, index="")


@pytest.mark.parametrize(
    "text",
    [
        "milvus://host",
        "milvus://host/",
        "milvus://host/no spaces",
        "milvus://host/a/b",
        "milvus://host:port/m",
        "milvus://host/m?colour=red",
        "milvus:///a/b/m",
        "milvus+tls:///a/b.db/m",
        "milvus:songs.db/m",
        "milvus://me:secret@host/m",
    ],
)
def test_a_wrong_address_is_refused_with_an_example_and_no_password(text: str) -> None:
    with pytest.raises(LibraryError, match="as in milvus://host:19530/music") as caught:
        Address.parse(text)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_library_of_any_size_has_an_index_that_exists() -> None:
    assert {name for _, names in SUITABLE for name in names} <= set(INDICES)
    assert [most for most, _ in SUITABLE] == sorted(most for most, _ in SUITABLE)


# Refusals.


def test_another_collection_is_refused_and_left_alone(library: MilvusLibrary, root: str) -> None:
    rows = Address.parse(f"{root}/{library._place.rows}")
    before = library._place.server.count(library._place.rows)
    for act in (MilvusLibrary.at, MilvusLibrary.create_or_open_at):
        with pytest.raises(LibraryError, match="is no fingerprint library"):
            act(rows, Toy())
    assert library._place.server.count(library._place.rows) == before
    assert place_of(library, 2)[0] == "0002.wav"


def test_a_library_that_is_not_there_is_refused_and_not_made(address: Address) -> None:
    with pytest.raises(LibraryError, match="there is no library"):
        MilvusLibrary.at(address, Toy())
    with pytest.raises(LibraryError, match="there is no library"):
        MilvusLibrary.at(address, Toy())


def test_a_library_of_another_format_is_refused(
    library: MilvusLibrary, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "FORMAT", catalog.FORMAT + 1)
    with pytest.raises(LibraryError, match=f"this version reads format {catalog.FORMAT}"):
        MilvusLibrary.create_or_open_at(address, Toy())


def test_another_profile_is_refused(library: MilvusLibrary, address: Address) -> None:
    with pytest.raises(LibraryError, match="has the profile"):
        MilvusLibrary.create_or_open_at(address, Toy(), profile="compact")


def test_an_unknown_index_is_refused_with_the_ones_there_are(address: Address) -> None:
    with pytest.raises(LibraryError, match="choose FLAT"):
        MilvusLibrary.create_or_open_at(replace(address, index="MAGIC"), Toy())


def test_unreachable_server_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FIRST_PATIENCE", 1.0)
    with pytest.raises(LibraryError, match="does not answer") as caught:
        Server(Address.parse(f"milvus://127.0.0.1:{free_port()}/music"))
    assert "\n" not in str(caught.value)


def test_a_user_who_is_refused_is_not_kept_waiting() -> None:
    """It is the cause of a failure to connect, and causes may go in circles."""
    error = ConnectionError("Fail connecting to server")
    error.__cause__ = error
    assert server._is_temporary(error)
    error.__cause__ = ValueError("StatusCode.UNAUTHENTICATED: auth check failure")
    error.__cause__.__cause__ = error
    assert not server._is_temporary(error)


def test_commands_show_connection_errors_in_one_line_without_the_password() -> None:
    place = f"milvus://127.0.0.1:{free_port()}/music"
    secret = {"FINGERPRINT_MILVUS_USER": "root", "FINGERPRINT_MILVUS_TOKEN": "hush-hush"}
    done = run("list", "--library", place, **secret)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: Milvus at milvus://127.0.0.1:")
    assert done.stderr.count("\n") == 1
    assert "hush" not in done.stdout + done.stderr


def test_database_file_open_in_another_process_is_a_one_line_error(library: MilvusLibrary) -> None:
    done = run("list", "--library", library._place.address)
    assert done.returncode == 1
    assert "another process has it open" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_in_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="there is no folder"):
        Server(Address.parse(f"milvus://{tmp_path}/none/songs.db/music"))


# The order of writing.


def test_rows_without_an_entry_are_invisible_and_deleted_later(
    library: MilvusLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = library._place
    before = place.server.count(place.rows)
    MilvusWriter(place)._write_rows([entry(4)])  # and then it is killed
    assert place.server.count(place.rows) > before
    assert names_in(library) == ["0001.wav", "0002.wav", "0003.wav"]
    assert place_of(library, 4)[0] != "0004.wav"
    with library.writing():
        pass
    assert place.entries(f"state == {REMOVED}")  # it may still be written by another
    monkeypatch.setattr(milvus, "KEPT", -1.0)
    with library.writing():
        pass
    assert place.server.count(place.rows) == before
    assert not place.entries(f"state == {REMOVED}")


def test_an_interrupted_track_is_completed_by_a_rerun(library: MilvusLibrary) -> None:
    MilvusWriter(library._place)._write_rows([entry(4)])
    stored = library._place.server.count(library._place.rows)
    add(library, 4)
    assert place_of(library, 4)[0] == "0004.wav"
    assert library._place.server.count(library._place.rows) == stored


def test_the_latest_of_two_tracks_of_one_file_is_used(library: MilvusLibrary) -> None:
    """As when a writer is killed after it wrote the new one and before it removed the old one."""
    writer = MilvusWriter(library._place)
    new = replace(entry(9), track=entry(1).track)
    writer._upsert(writer._write_rows([new]))
    with MilvusLibrary.at(library._place.address, Toy()) as reader:
        assert names_in(reader) == ["0001.wav", "0002.wav", "0003.wav"]
        assert place_of(reader, 9)[0] == "0001.wav"
        assert len(reader.snapshot().rows) == 3
    with library.writing() as again:
        again.add([new])
    assert len(library._place.entries("state == 1")) == 3


def test_tracks_with_the_same_number_are_renumbered(
    library: MilvusLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(content: bytes, path: Path, salt: int) -> int:
        return 1 + (len(path.name) + salt) % 7

    monkeypatch.setattr(milvus, "number_of", few)
    add(library, 4, 5)
    add(library, 6)
    assert names_in(library) == [f"{seed:04d}.wav" for seed in range(1, 7)]
    for seed in range(1, 7):
        assert place_of(library, seed)[0] == f"{seed:04d}.wav"


def test_more_tracks_than_one_answer_holds_are_all_read(
    library: MilvusLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(library, *range(4, 30))
    monkeypatch.setattr(server, "MOST", 7)
    found = library._place.entries("state == 1")
    assert len(found) == 29
    assert [one.id for one in found] == sorted(one.id for one in found)
    assert len(names_in(library)) == 29


@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from([REMOVED, TRACK, COPY]), st.integers(1, 4)),
        max_size=12,
    )
)
def test_readers_state_equals_the_entries_after_random_changes(
    changes: list[tuple[int, int, int]],
) -> None:
    known, entries = Known.of({}), dict[int, dict[str, int]]()
    for moment, (number, state, place) in enumerate(changes):
        new = {"id": number, "state": state, "rows": 9, "added": moment, "place": place}
        entries[number] = new
        known = known.updated([new])
        assert known.updated(list(entries.values())) is known
        alive = sorted(
            (one for one in entries.values() if one["state"] == TRACK), key=lambda one: one["added"]
        )
        latest = {one["place"]: one["id"] for one in alive}
        shown = known.number[known.latest].tolist()
        assert shown == [one["id"] for one in alive if latest[one["place"]] == one["id"]]


# Aliases, indices, other libraries.


def test_readers_of_an_alias_follow_publish(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milvus, "LOOK_AGAIN", 0.0)
    alias, first, second = (new_address(root) for _ in range(3))
    with (
        MilvusLibrary.create_or_open_at(first, Toy()) as old,
        MilvusLibrary.create_or_open_at(second, Toy()) as new,
    ):
        add(old, 1, 2)
        add(new, 2, 3)
        publish(first, alias.collection)
        with MilvusLibrary.at(alias, Toy()) as reader:
            assert names_in(reader) == ["0001.wav", "0002.wav"]
            publish(second, alias.collection)
            assert place_of(reader, 3)[0] == "0003.wav"
            assert names_in(reader) == ["0002.wav", "0003.wav"]
        with pytest.raises(LibraryError, match="not an alias"):
            publish(second, first.collection)
        old._place.server.call("drop_alias", alias.collection)
    drop(first)
    drop(second)


def test_compact_chooses_the_index(library: MilvusLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    place = library._place
    assert place.server.index(place.rows).name == "FLAT"
    monkeypatch.setattr(server, "SUITABLE_IN_FILE", ((2, ("FLAT",)), (100, ("IVF_FLAT",))))
    monkeypatch.setattr(server, "LITE_LISTS", 4)
    with library.writing() as writer:
        writer.compact()
    assert place.server.index(place.rows).name == "IVF_FLAT"
    with MilvusLibrary.at(place.address, Toy()) as again:
        for seed in (1, 2, 3):
            assert place_of(again, seed)[0] == f"{seed:04d}.wav"
    assert [kind.build["nlist"] for kind in suitable(place.server, 50)] == [4]


def test_a_folder_is_merged_without_its_music_and_answers_the_same(
    address: Address, tmp_path: Path
) -> None:
    music = three_songs(tmp_path / "music")
    with Library.create_or_open(tmp_path / "library", Toy()) as folder:
        index_files(folder, sorted(music.iterdir()))
        with MilvusLibrary.create_or_open_at(address, Toy()) as there:
            assert merge_library(there, tmp_path / "library").added == 3
            assert merge_library(there, tmp_path / "library").added == 0
            for seed in (1, 2, 3):
                clip = excerpt(song(seed), 7.3, 4.0, snr_db=10)
                one, other = folder.recognise(clip), there.recognise(clip)
                assert one.matches[0].track == other.matches[0].track
                assert one.matches[0].offset == pytest.approx(other.matches[0].offset)
                assert one.matches[0].evidence == other.matches[0].evidence


# The command line.


@pytest.mark.parametrize(
    "command",
    [
        "sync {music}",
        "duplicates",
        "verify",
        "import file.fplib",
        "export file.fplib",
    ],
)
def test_commands_of_a_folder_refuse_milvus_in_one_line(command: str, tmp_path: Path) -> None:
    words = [word.format(music=tmp_path) for word in command.split()]
    done = CliRunner().invoke(main, [*words, "--library", "milvus://host/music"])
    assert done.exit_code == 2
    assert "needs a library in a folder, not one in Milvus" in done.output


def test_commands_answer_from_milvus(music_folder: Path, address: Address) -> None:
    place = ("--library", str(address))
    indexed = run("index", "--jobs", 1, *place, music_folder)
    assert indexed.returncode == 0, indexed.stderr
    assert indexed.stdout.startswith("Indexed 6 tracks")
    assert run("index", *place, music_folder).stdout.startswith("Indexed 0 tracks, 6 unchanged")
    found = run("identify", "--json", *place, music_folder / "song2.ogg")
    assert found.returncode == 0, found.stderr
    (match, *_) = json.loads(found.stdout)["matches"]
    assert match["path"] == str(music_folder / "song2.ogg")
    assert (found.stderr, indexed.stderr) == ("", "")
    spans = run("scan", "--json", *place, music_folder / "song3.mp3")
    assert spans.returncode == 0, spans.stderr
    assert json.loads(spans.stdout.splitlines()[0])["match"]["path"].endswith("song3.mp3")
    listed = [json.loads(line) for line in run("list", "--json", *place).stdout.splitlines()]
    assert [Path(one["path"]).name for one in listed] == sorted(
        path.name for path in music_folder.iterdir()
    )
    assert json.loads(run("stats", "--json", *place).stdout)["tracks"] == 6
    assert json.loads(run("info", "--json", *place).stdout)["path"] == str(address)
    number = str(listed[0]["id"])
    assert run("remove", "--id", number, *place).stdout == f"removed {listed[0]['path']}\n"
    assert run("remove", f"{music_folder}/*.mp3", *place).returncode == 0
    assert json.loads(run("stats", "--json", *place).stdout)["tracks"] == 4
    assert run("compact", *place).returncode == 0
    assert run("identify", *place, music_folder / "song3.mp3").returncode == 1


def test_a_server_answers_from_milvus(music_folder: Path, address: Address) -> None:
    pytest.importorskip("fastapi", reason="needs fingerprint[serve]")
    from serving_world import cli_server

    with MilvusLibrary.create_or_open_at(address, Fingerprinter.default("cpu")) as library:
        index_files(library, sorted(music_folder.iterdir()))
    with cli_server(address) as running:  # type: ignore[arg-type]
        assert running.ask("GET", "/readyz").json["tracks"] == 6
        tracks = running.ask("GET", "/v1/tracks?limit=4").json
        rest = running.ask("GET", f"/v1/tracks?cursor={tracks['cursor']}").json
        assert len(tracks["tracks"]) + len(rest["tracks"]) == 6
        sound = (music_folder / "song1.flac").read_bytes()
        found = running.ask("POST", "/v1/identify", sound).json
        assert found["matches"][0]["path"].endswith("song1.flac")
        assert running.ask("GET", "/v1/stats").json["tracks"] == 6
        number = tracks["tracks"][0]["id"]
        assert running.ask("GET", f"/v1/tracks/{number}/fingerprint").status == 200
        assert running.ask("GET", f"/v1/tracks/{number}").json["id"] == number
        assert running.ask("DELETE", f"/v1/tracks/{number}").status == 204
        assert running.ask("GET", f"/v1/tracks/{number}").status == 404


def test_the_files_that_deploy_it_are_sound() -> None:
    import yaml

    services = yaml.safe_load((DEPLOY / "milvus-compose.yaml").read_text())["services"]
    assert {"etcd", "minio", "milvus"} <= set(services)
    assert all("image" in one for one in services.values())
    assert set(services["milvus"]["depends_on"]) <= set(services)
    assert services["milvus"]["ports"] == ["127.0.0.1:19530:19530"]
    values = yaml.safe_load((DEPLOY / "milvus-values.yaml").read_text())
    assert values["cluster"]["enabled"] is True
    own = yaml.safe_load(values["extraConfigFiles"]["user.yaml"])
    assert own["common"]["security"]["authorizationEnabled"] is True
