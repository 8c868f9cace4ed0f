"""What commands are given: standard input, addresses, lists, playlists, odd numbers, files."""

import io
import json
import os
import pickle
import re
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from library_world import RATE, excerpt, song, stocked, write_song

from fingerprint.audio.decode import load_clip, stream_clip
from fingerprint.audio.files import find_audio, without_password
from fingerprint.audio.playlists import entries
from fingerprint.cli import main
from fingerprint.cli.inputs import listed, recording
from fingerprint.errors import AudioError, LibraryError, ModelError
from fingerprint.library.library import Library, create
from fingerprint.library.profiles import STANDARD
from fingerprint.library.records import Meta
from fingerprint.listening import PcmFormat, network, raw_samples
from fingerprint.listening.listener import first_answer
from fingerprint.model.fingerprinter import Fingerprinter

pytestmark = pytest.mark.usefixtures("small_model")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with stocked(tmp_path_factory.mktemp("library"), range(4), seconds=30.0) as opened:
        yield opened


def run(*arguments: object, **options: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], **options)  # type: ignore[arg-type]


def wav(seed: int, start: float, seconds: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, excerpt(song(seed, 30.0), start, seconds).samples, RATE, format="WAV")
    return file.getvalue()


# Files that are no recordings, under every command that takes one.


@pytest.mark.parametrize("command", ["listen --url", "identify", "scan", "explain"])
@pytest.mark.parametrize(
    ("name", "words"),
    [("pipe", "nothing is written"), ("folder", "is a "), ("a.m3u", "is a playlist|not audio")],
)
def test_inputs_that_are_not_recordings_are_one_line_errors(
    command: str,
    name: str,
    words: str,
    library: Library,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fingerprint.audio.source.SILENT_PIPE", 0.2)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    song = write_song(tmp_path / "song.wav", 2)
    (tmp_path / "a.m3u").write_text(f"#EXTM3U\n{song}\n{song.as_uri()}\n")
    done = run(*command.split(), tmp_path / name, "--library", library.folder)
    assert done.exit_code == (1 if command == "explain" else 2)
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert re.search(words, done.stderr)


@pytest.mark.parametrize("command", ["listen --url", "identify", "scan", "scan --format cue"])
def test_a_file_address_is_a_file(command: str, library: Library, tmp_path: Path) -> None:
    file = tmp_path / "my song.wav"
    file.write_bytes(wav(2, 5, 15))
    done = run(*command.split(), file.as_uri(), "--library", library.folder)
    assert done.exit_code == 0, done.output
    assert "0002" in done.stdout
    if "cue" in command:
        assert "my song.wav" in done.stdout
        assert "file:" not in done.stdout


# Standard input.


@pytest.mark.parametrize("command", ["identify", "scan", "scan --json", "scan --format csv"])
def test_every_command_reads_a_recording_from_standard_input(
    command: str, library: Library
) -> None:
    """marin-m/SongRec#97."""
    done = run(*command.split(), "--library", library.folder, "-", input=wav(2, 5, 15))
    assert done.exit_code == 0, done.output
    assert "0002.wav" in done.stdout


def test_standard_input_is_explained(library: Library, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.html"
    done = run("explain", "-", "--output", page, "--library", library.folder, input=wav(2, 5, 8))
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("standard input: ")


@pytest.mark.parametrize("command", ["identify", "scan", "explain"])
def test_an_empty_standard_input_is_an_error_that_names_it(command: str, library: Library) -> None:
    done = run(command, "--library", library.folder, "-", input=b"")
    assert done.exit_code == (1 if command == "explain" else 2)
    assert done.stderr == "Error: cannot read standard input: the file is empty\n"


def test_a_stream_in_blocks_is_the_stream() -> None:
    content = wav(1, 0, 12)
    whole = load_clip(io.BytesIO(content), RATE)
    blocks = list(stream_clip(io.BytesIO(content), RATE, block=2.5))
    np.testing.assert_array_equal(np.concatenate([b.samples for b in blocks]), whole.samples)


@pytest.mark.parametrize("seconds", [1.5, 2.5, 4.2])
def test_sound_after_the_last_search_is_searched_at_the_end(
    library: Library, seconds: float
) -> None:
    """marin-m/SongRec#97: `listen -` of 1.5 s, which `identify` names, was "nothing known"."""
    clip = excerpt(song(3, 30.0), 7.0, seconds)
    match, at = first_answer([clip], library, min_confidence=0.3)
    assert match is not None
    assert match.track.path.stem == "0003"
    assert at == pytest.approx(seconds)


@given(st.binary(max_size=4_000), st.sampled_from(["s16le", "s32le", "f32le"]))
def test_raw_samples_of_another_encoding_are_refused_in_one_line(
    data: bytes, encoding: str
) -> None:
    """A wrong --encoding gave a warning of Python's; here every warning is an error."""
    form = PcmFormat(RATE, 1, encoding)  # type: ignore[arg-type]
    try:
        clips = list(raw_samples(io.BytesIO(data), form, RATE))
    except AudioError:
        return
    assert all(np.isfinite(clip.samples).all() for clip in clips)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_32", "FLOAT", "PCM_24"])
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
def test_a_wav_header_says_how_raw_samples_are_laid_out(subtype: str, form: str) -> None:
    file = io.BytesIO()
    wave = np.repeat(song(1, 3.0)[:, None], 2, axis=1)
    soundfile.write(file, wave, RATE, subtype=subtype, format=form)
    stream = io.BytesIO(file.getvalue())
    if subtype == "PCM_24":
        with pytest.raises(AudioError, match="16, 32 or floating 32 bits"):
            raw_samples(stream, PcmFormat(), RATE)
        return
    heard = np.concatenate([clip.samples for clip in raw_samples(stream, PcmFormat(), RATE)])
    np.testing.assert_allclose(heard[: 2 * RATE], song(1, 3.0)[: 2 * RATE], atol=1e-3)


def test_listen_to_a_compressed_recording_names_the_command_that_reads_it(library: Library) -> None:
    file = io.BytesIO()
    soundfile.write(file, song(1, 3.0), RATE, format="OGG", subtype="VORBIS")
    done = run("listen", "-", "--library", library.folder, input=file.getvalue())
    assert done.exit_code == 2
    assert "`fingerprint identify -` takes it" in done.stderr


@pytest.mark.parametrize("command", ["identify", "scan"])
def test_without_a_library_programs_get_an_object_for_each_file(
    command: str, tmp_path: Path
) -> None:
    done = run(command, "--json", "--library", tmp_path / "none", "a.wav", "b.wav")
    assert done.exit_code == 2
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one.get("query") or one["recording"] for one in told] == ["a.wav", "b.wav"]
    assert all("there is no library" in one["error"] for one in told)


def test_index_json_reports_that_nothing_was_indexed(tmp_path: Path) -> None:
    done = run("index", "--json", "--library", tmp_path / "new", tmp_path / "none.wav")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert told["added"] == 0
    assert told["failed"] == [f"cannot read {tmp_path}/none.wav: no such file or directory"]


# Addresses.


@pytest.mark.parametrize(
    "command", ["identify", "identify --json", "scan", "scan --json", "explain", "sync"]
)
def test_an_address_is_no_file(command: str, library: Library) -> None:
    address = "http://me:topsecret@example.org/x.mp3?token=hidden"
    done = run(*command.split(), "--library", library.folder, address)
    assert done.exit_code == (1 if command in ("explain", "sync") else 2)
    assert "http://***@example.org/x.mp3?token=*** is an address" in done.output
    assert "fingerprint listen --url" in done.output
    assert "topsecret" not in done.output
    assert "hidden" not in done.output


@pytest.mark.parametrize("command", ["identify", "scan", "explain", "index", "sync", "remove"])
def test_an_empty_name_is_not_the_current_folder(
    command: str, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a variable that is not set: `remove "$WHAT"` forgot all that lay in the current folder."""
    monkeypatch.chdir("/")
    before = library.tracks()
    done = run(command, "--library", library.folder, "")
    assert done.exit_code == (2 if command in ("identify", "scan") else 1)
    assert "empty" in done.stderr
    assert library.tracks() == before


def test_a_file_whose_name_looks_like_an_address_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "http:").mkdir()
    write_song(tmp_path / "http:" / "x.wav", 1, 1.0)
    monkeypatch.chdir(tmp_path)
    assert recording("http://x.wav") == Path("http:/x.wav")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://user:pa:ss@host:1/x", "rtsp://***@host:1/x"),
        ("http://user@host", "http://***@host"),
        ("http://host/a@b?x=1", "http://host/a@b?x=1"),
        ("a http://h/?n=1&a_token=abc#x, http://u:p@h", "a http://h/?n=1&a_token=***#x, http://***@h"),
        ("user:secret@host", "user:secret@host"),
        ("http://me:p@ss@host/x", "http://***@host/x"),
        ("http://me:pa/ss@host/x", "http://***@host/x"),
        ("http://me:a1/2?3#4@host/x", "http://***@host/x"),
        ("http:/me:secret@host/x", "http:/***@host/x"),
        ("http://host:8000/a@b", "http://host:8000/a@b"),
        ("http://me:secret@host:8000/a@b", "http://***@host:8000/a@b"),
        ("cannot read a:/b@c, d://e", "cannot read a:/b@c, d://e"),
    ],
)  # fmt: skip
def test_passwords_are_left_out(text: str, shown: str) -> None:
    """roflcoopter/viseron#294, blakeblackshear/frigate#5798."""
    assert without_password(text) == shown


# Playlists on the network.


class Station(HTTPServer):
    """Serves `pages` by their paths; asked for any other, it is not found."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Desk)
        self.pages: dict[str, bytes] = {}
        self.logins: list[str | None] = []
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class Desk(BaseHTTPRequestHandler):
    server: Station

    def do_GET(self) -> None:
        self.server.logins.append(self.headers["Authorization"])
        page = self.server.pages.get(self.path)
        if page is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def station() -> Iterator[Station]:
    pytest.importorskip("av")
    server = Station()
    file = io.BytesIO()
    soundfile.write(file, song(2, 10.0), RATE, format="OGG", subtype="VORBIS")
    server.pages["/live.ogg"] = file.getvalue()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


LISTS = {
    "pls": "[playlist]\nNumberOfEntries=1\nFile1={}\nLength1=-1\nVersion=2\n",
    "m3u": "#EXTM3U\n#EXTINF:-1,Station\n{}\n",
    "plain.m3u": "{}\r\n",
    "xspf": '<?xml version="1.0"?><playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList>'
    "<track><location>{}</location></track></trackList></playlist>",
    "asx": '<ASX version="3.0"><Entry><Title>x</Title><Ref HREF="{}" /></Entry></ASX>',
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_stations_playlist_is_followed(station: Station, kind: str) -> None:
    """music-assistant/server#3419 and #416, TS3AudioBot#340."""
    station.pages[f"/s.{kind}"] = LISTS[kind].format(f"{station.address}/live.ogg").encode()
    clips = list(network(f"{station.address}/s.{kind}", RATE))
    assert sum(clip.duration for clip in clips) == pytest.approx(10, abs=0.2)


def test_playlists_skip_unusable_entries_and_stop_at_cycles(station: Station) -> None:
    pages, address = station.pages, station.address
    pages["/a.m3u"] = f"#EXTM3U\n{address}/none\nb.pls\n".encode()
    pages["/b.pls"] = (
        f"\ufeff[playlist]\nFile1=file:///etc/passwd\nFile2={address}/live.ogg\n".encode()
    )
    assert len(list(network(f"{address}/a.m3u", RATE))) > 0
    pages["/c.m3u"] = b"#EXTM3U\nc.m3u\n"
    with pytest.raises(AudioError, match="cannot"):
        list(network(f"{address}/c.m3u", RATE))
    pages["/d.m3u"] = b"#EXTM3U\nfile:///etc/passwd\n/dev/zero\n"
    with pytest.raises(AudioError, match="cannot"):
        list(network(f"{address}/d.m3u", RATE))


def test_playlist_request_sends_the_password_and_no_message_shows_it(
    station: Station,
) -> None:
    with_password = station.address.replace("://", "://me:topsecret@")
    with pytest.raises(AudioError) as caught:
        list(network(f"{with_password}/none.pls", RATE))
    assert "topsecret" not in str(caught.value)
    assert "***@" in str(caught.value)
    assert station.logins[-1] == "Basic bWU6dG9wc2VjcmV0"


@given(
    st.text(max_size=300), st.sampled_from(["", "#EXTM3U\n", "[playlist]\n", "<asx>", "<playlist>"])
)
def test_any_text_parses_as_a_playlist_or_as_none(text: str, head: str) -> None:
    found = entries(head + text)
    assert found is None or all(isinstance(one, str) for one in found)


# Lists of files.


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """lists/, lists/music/é 1.wav; the current folder is another one."""
    (tmp_path / "lists" / "music").mkdir(parents=True)
    write_song(tmp_path / "lists" / "music" / "é 1.wav", 1, 1.0)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    return tmp_path / "lists"


CONTENTS = {
    "plain": "music/é 1.wav\n",
    "no end": "music/é 1.wav",
    "from Windows": "music/é 1.wav\r\n\r\n",
    "by find -print0": "music/é 1.wav\0",
    "mark": "\ufeffmusic/é 1.wav\n",
    "m3u": "\ufeff#EXTM3U\n#EXTINF:1,é\nmusic/é 1.wav\n",
    "m3u of Windows": "#EXTM3U\r\nmusic\\é 1.wav\r\n",
    "pls": "[playlist]\nFile1=music/é 1.wav\n",
    "xspf": '<?xml version="1.0"?><playlist><location>music/%C3%A9%201.wav</location></playlist>',
    "xspf, CDATA": "<playlist><location><![CDATA[music/é 1.wav]]></location></playlist>",
    "asx": "<asx version='3'><ref href='music/é 1.wav'/></asx>",
    "wpl": '<?wpl version="1.0"?><smil><seq><media src="music\\é 1.wav"/></seq></smil>',
    "cue": 'REM x\r\nFILE "music/é 1.wav" WAVE\r\n  TRACK 01 AUDIO\r\n    INDEX 01 00:00:00\r\n',
}


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_a_list_names_files_beside_it(place: Path, kind: str, encoding: str) -> None:
    """Unmarked UTF-16 was read as one-letter names, of which the first may be /."""
    text = CONTENTS[kind]
    if encoding == "latin-1" and (kind in ("plain", "no end") or "\ufeff" in text):
        pytest.skip("there is no way to know")
    if "\0" in text and encoding.startswith("utf-16-"):
        pytest.skip("nothing writes that")
    if encoding == "utf-16":
        text = text.removeprefix("\ufeff")  # it writes its own
    (place / "list.txt").write_bytes(text.encode(encoding))
    (name,) = listed(place / "list.txt")
    assert Path(name).samefile(place / "music" / "é 1.wav")


def test_a_list_names_files_in_the_current_folder_and_anywhere(place: Path) -> None:
    here = write_song(place.parent / "other" / "here.wav", 2, 1.0)
    (place / "here.wav").symlink_to(here)
    write_song(place.parent / "other" / "#1.wav", 2, 1.0)
    text = f"here.wav\n# A comment\n#1.wav\n{here}\nhttp://host/x.mp3\n{here.as_uri()}\n"
    (place / "list.txt").write_text(text)
    assert listed(place / "list.txt") == [
        "here.wav", "#1.wav", str(here), "http://host/x.mp3", str(here),
    ]  # fmt: skip
    for ending in ("", "\0"):
        (place / "list.0").write_text("here.wav\0#none.wav" + ending)
        assert listed(place / "list.0") == ["here.wav", "#none.wav"]
    (place / "list.m3u").write_text("#EXTM3U\nhere.wav\n")
    assert listed(place / "list.m3u") == [str(place / "here.wav")]


@pytest.mark.parametrize("by", ["name", "-"])
def test_a_recording_is_not_read_as_a_list(place: Path, tmp_path: Path, by: str) -> None:
    """Each of its lines was taken for a name, and / is one."""
    file = place / "music" / "é 1.wav"
    options = ["--jobs", 1, "--library", tmp_path / "new", "--files-from"]
    done = run("index", *options, file if by == "name" else "-", input=file.read_bytes())
    assert done.exit_code == 1
    assert done.stderr.endswith(" is no list of names, nor a playlist\n")
    assert not (tmp_path / "new").exists()


def test_a_playlist_that_is_named_as_a_recording(place: Path, tmp_path: Path) -> None:
    """The decoder's "invalid data" did not say what to do."""
    (place / "a.m3u8").write_text("music/é 1.wav\n")
    done = run("index", "--library", tmp_path / "new", place / "a.m3u8")
    assert done.exit_code == 1
    assert f"is a playlist: index what it lists with --files-from {place}/a.m3u8" in done.stderr
    with pytest.raises(AudioError, match="is a playlist; name the files in it"):
        recording(str(place / "a.m3u8"))


def test_list_with_odd_names_is_indexed_except_for_missing_files(
    place: Path, tmp_path: Path
) -> None:
    odd = os.fsdecode(b"caf\xe9\x85\x0b.wav")  # some of it ends a line in Unicode
    write_song(tmp_path / "x.wav", 2, 1.0).rename(place / odd)
    (place / "list.txt").write_bytes(os.fsencode(f"{odd}\nnone.wav\nhttp://u:p@host/x\n"))
    done = run(
        "index", "--jobs", 1, "--library", tmp_path / "new", "--files-from", place / "list.txt"
    )
    assert done.exit_code == 1
    assert "Indexed 1 track" in done.stdout
    assert done.stderr.count("\n") == 2
    assert "none.wav: no such file" in done.stderr
    assert "u:p@" not in done.stderr


# Folders.


def test_folders_a_thousand_deep_are_walked(tmp_path: Path) -> None:
    """A RecursionError with a traceback; beyond what a path may be long it is said."""
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        for _ in range(1_200):
            Path("d").mkdir()
            os.chdir("d")
        Path("a.mp3").touch()
    finally:
        os.chdir(before)
    assert [path.name for path in find_audio([tmp_path])] == ["a.mp3"]
    while (tmp_path / "d").exists():  # shutil.rmtree recurses, and pytest uses it
        deepest = tmp_path
        while (deepest / "d").exists():
            deepest = deepest / "d"
        for path in (deepest, *deepest.parents):
            if path == tmp_path:
                break
            for file in path.iterdir():
                file.unlink()
            path.rmdir()


def test_a_folder_and_a_link_to_it_are_indexed_once(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    write_song(tmp_path / "m" / "a.wav", 1, 2.0)
    (tmp_path / "link").symlink_to("m")
    place = ["--jobs", 1, "--library", tmp_path / "new"]
    done = run("index", tmp_path / "m", tmp_path / "link", tmp_path / "m" / "a.wav", *place)
    assert done.stdout.startswith("Indexed 1 track ")
    assert done.stderr == ""


def test_a_library_that_is_a_link_to_nowhere_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "library").symlink_to(tmp_path / "nowhere")
    with pytest.raises(LibraryError, match="is a link to nowhere"):
        create(tmp_path / "library", Meta("m", 4, 0.25, STANDARD))


# Numbers and models.


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "1.5", "x", "1e999"])
@pytest.mark.parametrize("command", ["identify", "scan", "listen", "explain"])
def test_only_a_probability_is_a_confidence(command: str, value: str) -> None:
    done = run(command, "-", "--min-confidence", value)
    assert done.exit_code == 2
    assert "Invalid value for '--min-confidence'" in done.stderr


@pytest.mark.parametrize("value", ["nan", "inf", "0"])
def test_patience_must_be_finite(value: str) -> None:
    assert run("listen", "-", "--patience", value).exit_code == 2


def odd_models(folder: Path) -> Iterator[Path]:
    contents = {
        "empty.pt": b"",
        "text.pt": b"root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1\n",
        "readme.pt": b"# Fingerprint\n\nRecognise recorded music.\n",
        "numbers.pt": bytes(range(256)) * 40,
        "pickle.pt": pickle.dumps({"a": [1, 2, 3]}, protocol=4),
        "evil.pt": b"cposix\nsystem\n(S'touch owned'\ntR.",
        "empty.onnx": b"",
        "text.onnx": b"not a model",
        "wave.onnx": wav(1, 0, 1),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        yield folder / name
    with zipfile.ZipFile(folder / "zip.pt", "w") as archive:
        archive.writestr("a", "b")
    yield folder / "zip.pt"
    (folder / "folder.pt").mkdir()
    yield folder / "folder.pt"


def test_a_model_file_that_is_something_else_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in odd_models(tmp_path):
        with pytest.raises(ModelError) as caught:
            Fingerprinter.load(path, "cpu")
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "owned").exists()
