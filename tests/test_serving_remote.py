"""A library on a server answers as the same library does here, and no sound travels."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import make_song, save_audio
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("fastapi", reason="needs fingerprint[serve]")

from serving_world import TOKEN, Running, cli_server, toy_library, toy_server

from fingerprint.errors import LibraryError
from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.recognition.query import at_speed
from fingerprint.serving import wire
from fingerprint.serving.remote import RemoteLibrary
from fingerprint.types import Clip

RATE = 8_000


@pytest.fixture(scope="module")
def model() -> Fingerprinter:
    return Fingerprinter.default("cpu")


@pytest.fixture(scope="module")
def here(
    model: Fingerprinter, music_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("remote") / "library"
    with Library.create_or_open(folder, model) as library:
        index_files(library, sorted(music_folder.iterdir()))
        yield library


@pytest.fixture(scope="module")
def server(here: Library) -> Iterator[Running]:
    with cli_server(here.folder) as running:
        yield running


@pytest.fixture(scope="module")
def there(server: Running, model: Fingerprinter) -> Iterator[RemoteLibrary]:
    with RemoteLibrary(server.url, model) as library:
        yield library


def queries() -> dict[str, Clip]:
    noise = np.random.default_rng(3).standard_normal(6 * RATE).astype(np.float32)
    clean = Clip(make_song(2)[2 * RATE : 8 * RATE], RATE)
    return {
        "clean": clean,
        "short": Clip(clean.samples[:RATE], RATE),
        "noisy": Clip(clean.samples + 0.1 * noise, RATE),
        "faster": at_speed(clean, 1.05),
        "a little faster": at_speed(clean, 1.02),
        "a little slower": at_speed(clean, 0.97),
        "unknown": Clip(make_song(99)[: 5 * RATE], RATE),
        "long": Clip(np.tile(make_song(4), 5), RATE),
        "silence": Clip(np.zeros(3 * RATE, np.float32), RATE),
        "noise": Clip(0.1 * noise, RATE),
    }


@pytest.mark.parametrize("name", queries())
def test_server_gives_the_answers_of_the_local_library(
    here: Library, there: RemoteLibrary, name: str
) -> None:
    clip = queries()[name]
    near, far = here.recognise(clip), there.recognise(clip)
    assert far.nothing == near.nothing
    if not near.matches:
        assert not far.matches
        return
    first, other = near.matches[0], far.matches[0]
    assert other.confidence == pytest.approx(first.confidence, abs=0.02)
    if first.confidence > 0.5:
        assert (other.track.path, other.track.tags) == (first.track.path, first.track.tags)
        assert other.offset == pytest.approx(first.offset, abs=0.3 if name == "long" else 0.05)
        assert other.rate == pytest.approx(first.rate, abs=0.01)


def test_rows_of_a_track_are_those_that_are_stored(here: Library, there: RemoteLibrary) -> None:
    track = here.tracks()[0]
    near, far = here.fingerprint(track), there.fingerprint(track)
    assert near is not None
    assert far is not None
    assert far.hop == near.hop
    np.testing.assert_allclose(far.vectors, near.vectors, atol=1e-3)


def test_loudness_and_phase_are_not_sent(model: Fingerprinter) -> None:
    """The least that is said of it: loudness and phase cannot be told from what is sent."""
    clip = queries()["clean"]
    one = wire.encode(model.id, {1.0: wire.outline(clip, model)})
    louder = wire.encode(model.id, {1.0: wire.outline(Clip(-clip.samples, RATE), model)})
    assert abs(len(one) - len(louder)) < 10
    same = np.frombuffer(one, np.uint8) == np.frombuffer(louder, np.uint8)
    assert same.mean() > 0.95


def test_query_is_equal_after_encoding_and_decoding(model: Fingerprinter) -> None:
    clip = queries()["clean"]
    views = {speed: wire.outline(clip, model, speed) for speed in (1.0, 1.0594)}
    model_id, found = wire.decode(wire.encode(model.id, views), RATE, model.dim)
    assert model_id == model.id
    assert found.duration == pytest.approx(clip.duration)
    assert set(found.others) == {1.0594}
    np.testing.assert_allclose(found.rows.vectors, views[1.0].rows.vectors, atol=2e-3)
    np.testing.assert_allclose(found.heights, views[1.0].heights, atol=0.02)
    np.testing.assert_array_equal(found.peaks, views[1.0].peaks)


@given(st.data())
def test_damaged_queries_are_refused_or_are_queries(data: st.DataObject) -> None:
    good = _small_query()
    at = data.draw(st.integers(0, len(good) - 1))
    damaged = bytearray(good)
    damaged[at] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(good)))])
    for content in (bytes(damaged), cut, cut + b"\0"):
        try:
            _, query = wire.decode(content, RATE, 16)
        except ValueError:
            continue
        assert np.isfinite(query.rows.vectors).all()
        assert query.duration <= 60


def _small_query() -> bytes:
    from fingerprint.types import Fingerprint, Outline

    rows = Fingerprint(np.eye(3, 16, dtype=np.float32), 0.25)
    samples = np.zeros(RATE, np.float32)
    heights, peaks = np.ones((20, 248), np.float32), np.full((2, 16), 0xFFFF, np.uint16)
    return wire.encode("ab" * 32, {1.0: Outline(samples, RATE, rows, heights, peaks)})


def test_hostile_queries_are_problems(server: Running, model: Fingerprinter) -> None:
    kind = {"Content_Type": wire.MEDIA_TYPE}
    good = wire.encode(model.id, {1.0: wire.outline(queries()["clean"], model)})
    for body in (b"FPQY", good[:-1], good + b"\0", good[:40] + b"\xff" * 80 + good[120:]):
        answer = server.ask("POST", "/v1/identify", body, **kind)
        assert (answer.status, answer.kind) == (422, "unreadable")
    other = server.ask("POST", "/v1/identify", good[:8] + bytes(32) + good[40:], **kind)
    assert (other.status, other.kind) == (409, "other-model")


def run(*arguments: str, stdin: bytes = b"", **environment: str) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "fingerprint", *arguments],
        input=stdin,
        capture_output=True,
        env=os.environ | environment,
        timeout=120,
        check=False,
    )


def test_commands_query_a_server(server: Running, here: Library, tmp_path: Path) -> None:
    file = save_audio(tmp_path / "snippet.wav", make_song(3)[RATE : 8 * RATE], RATE)
    at = {"FINGERPRINT_LIBRARY": server.url}
    done = run("identify", "--json", "--min-confidence", "0", str(file), **at)
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["matches"][0]["path"]).name == "song3.mp3"
    done = run("scan", "--json", "--min-confidence", "0.001", str(file), **at)
    spans = [json.loads(line)["match"] for line in done.stdout.splitlines()]
    assert "song3.mp3" in [Path(match["path"]).name for match in spans if match]
    samples = (make_song(3) * 32_767).astype("<i2").tobytes()
    done = run("listen", "--rate", "8000", "--min-confidence", "0", "-", stdin=samples, **at)
    assert done.returncode == 0, done.stderr
    assert b"song3" in done.stdout
    page = tmp_path / "explanation.html"
    done = run("explain", "--output", str(page), str(file), **at)
    assert done.returncode == 0, done.stderr
    assert "song3" in page.read_text()
    near = run("list", "--json", "--library", str(here.folder))
    far = run("list", "--json", **at)
    assert far.stdout == near.stdout
    near, far = run("stats", "--json", "--library", str(here.folder)), run("stats", "--json", **at)
    assert far.stdout == near.stdout


def test_server_errors_are_one_line(tmp_path: Path, model: Fingerprinter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]  # of nobody, in a moment
    with pytest.raises(LibraryError, match="does not answer: Connection refused"):
        RemoteLibrary(f"http://127.0.0.1:{port}", model)
    with pytest.raises(LibraryError, match="no address of a server"):
        RemoteLibrary("http://:port", model)
    with toy_server(toy_library(tmp_path)) as running:
        with pytest.raises(LibraryError, match="was made with model toy-1, this is model"):
            RemoteLibrary(running.url, model)
        with pytest.raises(LibraryError, match="it does not speak https"):
            RemoteLibrary(running.url.replace("http", "https"), model)
        with pytest.raises(LibraryError, match="refuses: There is no such thing"):
            RemoteLibrary(f"{running.url}/elsewhere", model)


class OneIsUnusable(BaseHTTPRequestHandler):
    """A server of another version: of every two recordings it refuses one."""

    model_id, count = "", 0

    def do_GET(self) -> None:
        self._answer(200, {"model_id": self.model_id})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).count += 1
        refusal = {"detail": "not a recording", "hint": "Send another"}
        self._answer(*((422, refusal) if self.count % 2 else (201, {})))

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *about: object) -> None: ...


def test_a_recording_that_a_server_refuses_does_not_end_the_run(
    music_folder: Path, model: Fingerprinter
) -> None:
    handler = type("Handler", (OneIsUnusable,), {"model_id": model.id})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as stand_in:
        threading.Thread(target=stand_in.serve_forever, daemon=True).start()
        songs = [str(music_folder / name) for name in ("song0.wav", "song1.flac")]
        url = f"http://127.0.0.1:{stand_in.server_address[1]}"
        done = run("index", *songs, "--jobs", "1", "--library", url)
        stand_in.shutdown()
    assert done.returncode == 1
    assert b"Indexed 1 track" in done.stdout
    assert f"failed: {songs[0]}: ".encode() in done.stderr


def test_other_commands_need_the_folder_itself() -> None:
    done = run("verify", "--library", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert b"needs the library's own folder" in done.stderr


def test_certificates_are_made_once_and_trusted_by_name(tmp_path: Path, here: Library) -> None:
    pytest.importorskip("cryptography")
    from fingerprint.serving.tls import addresses, certificate

    folder = tmp_path / "tls"
    files = certificate(folder, addresses("127.0.0.1"))
    made = files[0].read_bytes()
    assert certificate(folder, addresses("127.0.0.1"))[0].read_bytes() == made
    assert files[1].stat().st_mode & 0o77 == 0
    options = ["--certificate", str(files[0]), "--key", str(files[1])]
    with cli_server(here.folder, *options) as running:
        url = f"https://127.0.0.1:{running.port}"
        done = run("stats", "--library", url)
        assert done.returncode == 1
        assert b"is not trusted" in done.stderr
        done = run("stats", "--json", "--library", url, SSL_CERT_FILE=str(files[0]))
        assert json.loads(done.stdout)["tracks"] == 6
    certificate(folder, ("music.example",))
    assert files[0].read_bytes() != made


def test_a_library_on_a_server_is_changed(
    here: Library, tmp_path: Path, model: Fingerprinter
) -> None:
    folder = tmp_path / "library"
    with Library.create_or_open(folder, model):
        pass
    token = tmp_path / "token"
    token.write_text(TOKEN)
    song = save_audio(tmp_path / "my song.flac", make_song(11, 20), RATE)
    odd = tmp_path / "two\nlines.flac"
    with soundfile.SoundFile(odd, "w", RATE, 1) as opened:
        opened.title = "long " * 1_000
        opened.write(make_song(12, 20))
    with cli_server(folder, "--token-file", str(token)) as running:
        at = {"FINGERPRINT_LIBRARY": running.url}
        refused = run("index", str(song), "--jobs", "1", **at)
        assert refused.returncode == 1
        assert b"needs the token" in refused.stderr
        at["FINGERPRINT_TOKEN"] = TOKEN
        done = run("index", str(song), "--jobs", "1", **at)
        assert b"Indexed 1 track" in done.stdout, done.stderr
        assert b"1 unchanged" in run("index", str(song), "--jobs", "1", **at).stdout
        found = json.loads(
            run("identify", "--json", "--min-confidence", "0", str(song), **at).stdout
        )
        path = found["matches"][0]["path"]
        assert path == f"/elsewhere/{socket.gethostname()}{song}"
        assert not list((folder / "uploads").glob("*"))
        kept = run("remove", "--missing", "--library", str(folder))
        assert (kept.returncode, kept.stdout) == (0, b"")
        assert b"kept: 1 track of /elsewhere" in kept.stderr
        done = run("index", str(odd), "--jobs", "1", **at)
        assert b"Indexed 1 track" in done.stdout, done.stderr
        (listed,) = running.ask("GET", "/v1/tracks?q=long").json["tracks"]
        assert (Path(listed["path"]).name, len(listed["title"])) == (odd.name, 499)
        assert run("remove", "*lines.flac", **at).returncode == 0
        nothing = run("remove", "*.mp3", **at)
        assert b"no track for *.mp3" in nothing.stderr
        assert run("remove", "*/my song.flac", **at).stdout.decode() == f"removed {path}\n"
        assert running.ask("GET", "/v1/tracks").json["tracks"] == []
        body = b"FPRC\1\0\0\0" + bytes(20)
        kind = {"Content_Type": "application/vnd.fingerprint.recording"}
        hostile = running.ask("POST", "/v1/tracks", body, Authorization=f"Bearer {TOKEN}", **kind)
        assert hostile.kind == "unreadable"
