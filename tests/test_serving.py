"""The HTTP API, asked as a client would, of a server in a process of its own."""

import csv
import io
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
import soundfile
from library_world import RATE, Toy, song, write_song

pytest.importorskip("fastapi", reason="needs fingerprint[serve]")
pytest.importorskip("websockets", reason="needs fingerprint[serve]")

from serving_world import (
    TOKEN,
    Running,
    cli_server,
    snippet,
    toy_library,
    toy_server,
    wav,
)
from websockets.sync.client import connect

from fingerprint.cli.serve import _host_name
from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library
from fingerprint.library.verify import check
from fingerprint.serving.journal import Journal
from fingerprint.serving.places import Places, named
from fingerprint.serving.problems import Problem
from fingerprint.serving.webhooks import signature

PROJECT = Path(__file__).parents[1]
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Song 1 has a cover."""
    folder = toy_library(tmp_path_factory.mktemp("served"))
    song1 = folder.parent / "music" / "0001.wav"
    song1.write_bytes(with_cover(song1))
    return folder


@pytest.fixture(scope="module")
def server(library: Path) -> Iterator[Running]:
    """A server that nothing is changed in."""
    with toy_server(library, token=TOKEN) as running:
        yield running


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    """A server in which tests change something and change it back, and its library."""
    folder = toy_library(tmp_path_factory.mktemp("changing"))
    with toy_server(folder, token=TOKEN) as running:
        yield running, folder


def test_a_snippet_is_named_with_the_object_of_the_command_line(server: Running) -> None:
    answer = server.ask("POST", "/v1/identify?min_confidence=0&top=2&name=a.wav", snippet(2))
    assert answer.status == 200
    found = answer.json
    assert list(found) == ["query", "status", "seconds", "matches", "warnings", "error"]
    assert (found["query"], found["status"], found["error"]) == ("a.wav", "match", None)
    best, *others = found["matches"]
    assert Path(best["path"]).name == "0002.wav"
    assert best["offset"] == pytest.approx(7.3, abs=0.2)
    assert len(others) <= 1


def test_a_snippet_of_something_else_is_an_answer_without_matches(server: Running) -> None:
    found = server.ask("POST", "/v1/identify?min_confidence=1", snippet(9)).json
    assert (found["status"], found["matches"]) == ("no-match", [])


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "unreadable"),
        (b"no audio at all", "unreadable"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "unreadable"),
        (b"[playlist]\nFile1=http://127.0.0.1:9/x\n", "unreadable"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "unreadable"),
        (wav(np.zeros(3 * RATE, np.float32)), "nothing-to-recognise"),
    ],
)
def test_what_cannot_be_answered_is_a_problem_document(
    server: Running, body: bytes, kind: str
) -> None:
    answer = server.ask("POST", "/v1/identify", body)
    assert (answer.status, answer.kind) == (422, kind)
    assert set(answer.json) == {"type", "title", "status", "detail", "hint"}


def test_problems_tell_no_paths_of_the_server(server: Running, library: Path) -> None:
    for path in ("/v1/identify", "/v1/scan", "/v1/tracks"):
        text = server.ask("POST", path, b"no audio", **BEARER).body.decode()
        assert str(library.parent) not in text
        assert "/tmp" not in text  # noqa: S108 - it looks for it


@pytest.mark.parametrize("form", ["json", "csv", "cue", "audacity", "tracklist"])
def test_a_scan_of_what_is_no_recording_is_a_problem(server: Running, form: str) -> None:
    answer = server.ask("POST", f"/v1/scan?format={form}", b"no audio")
    assert (answer.status, answer.kind) == (422, "unreadable")


def test_a_scan_that_breaks_off_says_so_in_its_last_line(library: Path) -> None:
    """It is longer than is allowed, which shows when some of it has been scanned."""
    mix = wav(np.concatenate([song(seed, 20) for seed in (1, *(9,) * 7)]))
    with toy_server(library, limits={"long_seconds": 150.0}) as running:
        answer = running.ask("POST", "/v1/scan?min_confidence=0.01", mix)
    assert answer.status == 200
    assert "at most 150 s" in json.loads(answer.body.splitlines()[-1])["error"]


def test_what_an_answer_rests_on_is_drawn(server: Running) -> None:
    pytest.importorskip("matplotlib", reason="needs fingerprint[explain]")
    drawn = server.ask("POST", "/v1/explain?name=%0Aa.wav", snippet(2))
    assert (drawn.status, drawn.headers["content-type"]) == (200, "image/png")
    assert drawn.body.startswith(b"\x89PNG")
    silence = server.ask("POST", "/v1/explain", wav(np.zeros(3 * RATE, np.float32)))
    assert (silence.status, silence.kind) == (422, "nothing-to-recognise")
    assert server.ask("POST", "/v1/explain", b"no audio").kind == "unreadable"


def test_forms_are_not_read(server: Running) -> None:
    answer = server.ask("POST", "/v1/identify", b"--x", Content_Type="multipart/form-data")
    assert (answer.status, answer.kind) == (415, "not-a-body")


@pytest.mark.parametrize(
    ("form", "kind", "beginning"),
    [
        ("json", "application/x-ndjson", '{"recording": "mix.wav"'),
        ("csv", "text/csv", "recording,start,end"),
        ("cue", "application/x-cue", 'FILE "mix.wav" WAVE'),
        ("audacity", "text/plain", "0."),
        ("tracklist", "text/plain", "00:00 "),
    ],
)
def test_a_recording_is_scanned_in_every_format(
    server: Running, form: str, kind: str, beginning: str
) -> None:
    mix = wav(np.concatenate([song(1, 15), song(3, 15)]))
    answer = server.ask("POST", f"/v1/scan?format={form}&min_confidence=0.01&name=mix.wav", mix)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith(kind)
    assert answer.body.decode().startswith(beginning)
    if form == "json":
        spans = [json.loads(line) for line in answer.body.splitlines()]
        named = [Path(span["match"]["path"]).name for span in spans if span["match"]]
        assert "0001.wav" in named
        assert "0003.wav" in named


def test_tracks_are_listed_in_pages_and_searched(server: Running) -> None:
    first = server.ask("GET", "/v1/tracks?limit=2").json
    rest = server.ask("GET", f"/v1/tracks?limit=2&cursor={first['cursor']}").json
    listed = [*first["tracks"], *rest["tracks"]]
    assert [Path(one["path"]).name for one in listed] == ["0001.wav", "0002.wav", "0003.wav"]
    assert rest["cursor"] is None
    assert server.ask("GET", "/v1/tracks?q=0003.WAV").json["tracks"] == listed[2:]
    assert server.ask("GET", "/v1/tracks?q=0003%20nothing").json["tracks"] == []
    one = server.ask("GET", f"/v1/tracks/{listed[0]['id']}")
    assert one.json == listed[0]
    by_path = server.ask("GET", f"/v1/tracks?path={listed[1]['path']}").json
    assert by_path == {"tracks": [listed[1]], "cursor": None}
    assert server.ask("GET", "/v1/tracks/999").kind == "not-found"


def test_the_cover_is_made_anew(server: Running) -> None:
    found = server.ask("GET", "/v1/tracks/1/cover")
    assert found.status == 200
    assert found.headers["content-type"] == "image/jpeg"
    assert found.body.startswith(b"\xff\xd8")
    assert server.ask("GET", "/v1/tracks/2/cover").kind == "not-found"


def with_cover(file: Path) -> bytes:
    """A WAV file with an ID3 chunk that holds a picture."""
    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", (900, 600), "teal").save(picture, "PNG")
    frame = b"\0image/png\0\3\0" + picture.getvalue()
    size = len(frame).to_bytes(4, "big")
    frame = b"APIC" + size + b"\0\0" + frame
    length = bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0))
    tag = b"ID3\3\0\0" + length + frame
    tag += b"\0" * (len(tag) % 2)
    content = file.read_bytes() + b"id3 " + len(tag).to_bytes(4, "little") + tag
    return content[:4] + (len(content) - 8).to_bytes(4, "little") + content[8:]


def test_uploading_and_removing(changing: tuple[Running, Path], tmp_path: Path) -> None:
    running, folder = changing
    content = write_song(tmp_path / "new.wav", 7).read_bytes()
    path = "/v1/tracks?name=..%2F..%2Fnew%20song.wav"
    assert running.ask("POST", path, content).kind == "token-needed"
    assert running.ask("POST", path, content, Authorization="Bearer x").status == 401
    made = running.ask("POST", path, content, **BEARER)
    assert made.status == 201
    file = Path(made.json["path"])
    assert file.is_relative_to(folder / "uploads")
    assert file.read_bytes() == content
    assert made.headers["location"] == f"/v1/tracks/{made.json['id']}"
    again = running.ask("POST", path, content, **BEARER)
    assert (again.status, again.kind, again.json["track"]) == (
        409,
        "known-recording",
        made.json["id"],
    )
    renamed = running.ask("POST", "/v1/tracks?name=other.wav", content, **BEARER)
    assert (renamed.status, renamed.json["track"]) == (409, made.json["id"])
    found = running.ask("POST", "/v1/identify?min_confidence=0", snippet(7)).json["matches"]
    assert found[0]["path"] == str(file)
    assert running.ask("DELETE", f"/v1/tracks/{made.json['id']}").status == 401
    assert running.ask("DELETE", f"/v1/tracks/{made.json['id']}", **BEARER).status == 204
    assert running.ask("DELETE", f"/v1/tracks/{made.json['id']}", **BEARER).status == 404
    assert list((folder / "uploads").iterdir()) == []


def test_a_library_that_another_process_changes_is_followed(
    changing: tuple[Running, Path], tmp_path: Path
) -> None:
    running, folder = changing
    new = write_song(tmp_path / "later.wav", 8)
    with Library.open(folder, Toy()) as library:
        index_files(library, [new])
        found = running.ask("POST", "/v1/identify?min_confidence=0", snippet(8)).json["matches"]
        assert found[0]["path"] == str(new)
        library.remove([new])
    found = running.ask("POST", "/v1/identify?min_confidence=0", snippet(8)).json["matches"]
    assert all(match["path"] != str(new) for match in found)


def test_a_writer_elsewhere_makes_an_upload_wait(changing: tuple[Running, Path]) -> None:
    running, folder = changing
    with Library.open(folder, Toy()) as library, library.writing():
        answer = running.ask("POST", "/v1/tracks", snippet(7), **BEARER)
    assert (answer.status, answer.kind) == (503, "library-unavailable")
    assert answer.headers["retry-after"] == "1"
    assert not any((folder / "uploads").glob("*/*"))


def test_a_server_that_is_killed_in_an_upload_leaves_a_sound_library(tmp_path: Path) -> None:
    folder = toy_library(tmp_path)
    content = write_song(tmp_path / "new.wav", 7, seconds=60).read_bytes()
    with toy_server(folder, token=TOKEN, delay=0.5) as running:

        def send() -> None:
            with pytest.raises((OSError, HTTPException)):
                running.ask("POST", "/v1/tracks", content, **BEARER)

        sending = threading.Thread(target=send)
        sending.start()
        for _ in range(1_000):
            if any((folder / "uploads").glob("*/*")):
                break
        running.stop(signal.SIGKILL)
        sending.join(60)
    with Library.open(folder, Toy()) as library:
        assert check(library.catalog) == []
        known = {track.path for track in library.tracks()}
    with toy_server(folder, token=TOKEN) as running:
        assert running.ask("GET", "/readyz").json["tracks"] == len(known)
        assert all(path in known for path in (folder / "uploads").glob("*/*"))
        assert running.ask("POST", "/v1/tracks", content, **BEARER).status in (201, 409)


def test_uploads_of_a_library_that_is_moved_stay(tmp_path: Path) -> None:
    """It lists them by the path that they had, until they are uploaded again."""
    folder = toy_library(tmp_path)
    content = write_song(tmp_path / "new.wav", 7).read_bytes()
    with toy_server(folder, token=TOKEN) as running:
        assert running.ask("POST", "/v1/tracks?name=new.wav", content, **BEARER).status == 201
    moved = folder.rename(tmp_path / "moved")
    (half := moved / "uploads" / ".new-1").mkdir()
    (half / "half.wav").write_bytes(content[:1000])
    with toy_server(moved, token=TOKEN) as running:
        assert not half.exists()
        (track,) = running.ask("GET", "/v1/tracks?q=new.wav").json["tracks"]
        again = running.ask("POST", "/v1/tracks?name=new.wav", content, **BEARER).json
        assert (again["id"], Path(again["path"]).exists()) == (track["id"], True)
        assert len(running.ask("GET", "/v1/tracks").json["tracks"]) == 4
    (file,) = (moved / "uploads").glob("*/*")
    assert file.read_bytes() == content


def test_it_stops_on_sigterm_when_what_is_in_flight_is_done(library: Path) -> None:
    with toy_server(library, delay=0.0) as running:
        answers: Queue[int] = Queue()
        asking = [
            threading.Thread(
                target=lambda: answers.put(
                    running.ask("POST", "/v1/identify?min_confidence=0", snippet(1)).status
                )
            )
            for _ in range(4)
        ]
        with connect(f"ws://{running.host}:{running.port}/v1/listen?mode=continuous") as socket:
            socket.send(b"\0\0")
            for thread in asking:
                thread.start()
            statuses = [answers.get(timeout=60) for _ in asking]
            assert running.stop() == 0  # the open WebSocket does not hold it
        assert statuses == [200] * 4


def test_what_takes_too_long_when_it_is_stopped_is_told_so(library: Path) -> None:
    """And its thread, which cannot be ended, keeps the process from nothing."""
    with toy_server(library, delay=600.0, limits={"drain": 3.0}) as running:
        answers: Queue[Any] = Queue()
        asking = threading.Thread(
            target=lambda: answers.put(running.ask("POST", "/v1/identify", snippet(1)))
        )
        asking.start()
        while 'pending{desk="queries"} 1.0' not in running.ask("GET", "/metrics").body.decode():
            pass
        assert running.stop() == 0
        answer = answers.get(timeout=60)
        assert (answer.status, answer.kind) == (503, "stopping")
        asking.join(60)


def test_health_readiness_and_metrics(server: Running) -> None:
    assert server.ask("GET", "/healthz").json["status"] == "alive"
    ready = server.ask("GET", "/readyz").json
    assert (ready["status"], ready["tracks"]) == ("ready", 3)
    text = server.ask("GET", "/metrics").body.decode()
    assert "fingerprint_library_tracks 3.0" in text
    assert 'fingerprint_phase_seconds_count{phase="recognise"}' in text


def test_every_answer_has_headers_that_keep_pages_apart(server: Running) -> None:
    for path in ("/", "/healthz", "/nothing", "/app.js"):
        headers = server.ask("GET", path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe-inline" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_names_that_are_not_ours_are_refused(server: Running) -> None:
    assert server.ask("GET", "/healthz", Host="music.example:80").kind == "wrong-host"
    for host in ("localhost:1", "192.168.1.2", "[::1]:8765", "127.0.0.1"):
        assert server.ask("GET", "/healthz", Host=host).status == 200


def test_pages_of_other_sites_are_refused(server: Running) -> None:
    for headers in (
        {"Origin": "http://music.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
    ):
        assert server.ask("POST", "/v1/identify", snippet(1), **headers).kind == "cross-origin"
    answer = server.ask("POST", "/v1/identify", snippet(1), Origin=server.url)
    assert answer.status == 200
    with pytest.raises(Exception, match="403"):
        connect(f"ws://{server.host}:{server.port}/v1/listen", origin="http://music.example")


def test_errors_of_the_web_are_problem_documents(server: Running) -> None:
    assert server.ask("GET", "/nothing").kind == "not-found"
    answer = server.ask("PUT", "/v1/tracks/1")
    assert (answer.kind, answer.headers["allow"]) == ("method-not-allowed", "DELETE, GET, HEAD")
    assert server.ask("POST", "/v1/identify?top=0", b"x").kind == "invalid-request"


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/v1/tracks", "/v1/tracks/999", "/openapi.json", "/v1/identify"]
)
def test_head_is_get_without_the_body(server: Running, path: str) -> None:
    got, asked = server.ask("GET", path), server.ask("HEAD", path)
    assert (asked.status, asked.body) == (got.status, b"")
    for name in ("content-length", "content-type", "etag"):
        assert asked.headers.get(name) == got.headers.get(name)


def test_head_of_what_never_ends_ends(server: Running) -> None:
    for _ in range(20):  # more than one client may listen at once
        assert server.ask("HEAD", "/v1/log/stream").status == 200
    assert first_lines(server, "/v1/log/stream", 1) == ["retry: 3000"]


def test_files_of_the_page_are_sent_once(server: Running) -> None:
    tag = server.ask("GET", "/app.js").headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):  # W/: by a proxy that compresses
        answer = server.ask("GET", "/app.js", If_None_Match=known)
        assert (answer.status, answer.body) == (304, b"")
    assert server.ask("GET", "/app.js", If_None_Match='"other"').status == 200


def said(server: Running, request: bytes) -> bytes:
    """All that is answered to a request, until the connection is closed."""
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200),  # as monitors ask
        (b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: music.example\r\n\r\n", 400),
        (b"GET http://music.example/healthz HTTP/1.0\r\nHost: localhost\r\n\r\n", 200),
        (b"CONNECT music.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # https, asked of http
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
    ],
)
def test_odd_requests_are_answered_or_are_problems(
    server: Running, request_: bytes, status: int
) -> None:
    head, _, body = said(server, request_).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    if status != 200:
        assert b"content-type: application/problem+json" in head
        assert json.loads(body)["status"] == status


def test_an_offer_of_http2_is_declined(server: Running) -> None:
    """Java's client makes one with every request over plain http."""
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2_Settings": "AAMAAA"}
    for _ in range(2):
        answer = server.ask("POST", "/v1/identify?min_confidence=0", snippet(2), **offer)
        assert answer.status == 200
        assert Path(answer.json["matches"][0]["path"]).name == "0002.wav"


def test_media_types_may_have_parameters(server: Running) -> None:
    kind = "Application/vnd.fingerprint.query; version=1"
    assert server.ask("POST", "/v1/identify", b"FPQY", Content_Type=kind).json["detail"] == (
        "not a query: it is cut off"
    )
    answer = server.ask("POST", "/v1/identify", b"x", Content_Encoding="gzip")
    assert (answer.status, answer.kind) == (415, "not-a-body")


def listened(server: Running, query: str, sound: Any, rate: int, piece: float) -> list[Any]:
    """The events for sound that is sent in pieces of `piece` seconds."""
    size = 2 * max(1, round(piece * rate))
    data = (np.clip(sound, -1, 1) * 32_767).astype("<i2").tobytes()
    with connect(f"ws://{server.host}:{server.port}/v1/listen?rate={rate}&{query}") as socket:
        try:
            for begin in range(0, len(data), size):
                socket.send(data[begin : begin + size])
            socket.send("end")
        except Exception:  # noqa: S110 - it was sure before the end, and has closed
            pass
        return [json.loads(message) for message in socket]


@pytest.mark.parametrize("piece", [0.05, 0.7, 4.0])
def test_what_is_listened_to_is_heard_whatever_the_pieces(server: Running, piece: float) -> None:
    sound = song(2)[3 * RATE : 11 * RATE]
    events = listened(server, "min_confidence=0.001", sound, RATE, piece)
    assert events[-1]["event"] == "heard"
    assert Path(events[-1]["match"]["path"]).name == "0002.wav"
    offset = events[-1]["match"]["offset"] - events[-1]["at"]
    assert offset == pytest.approx(3.0, abs=0.3)  # the place is that of the moment `at`


def test_what_is_not_known_is_unknown_in_the_end(server: Running) -> None:
    sound = song(9)[: 4 * RATE]
    events = listened(server, "min_confidence=1&partial=true", sound, RATE, 0.5)
    assert [event["event"] for event in events][-1] == "unknown"
    assert any(event["event"] == "partial" for event in events)


def test_listening_goes_on_and_tells_what_has_played(server: Running) -> None:
    sound = np.concatenate([song(1, 20), song(3, 20)])
    events = listened(server, "mode=continuous&min_confidence=0.01", sound, RATE, 1.0)
    names = [(one["event"], Path(one["match"]["path"]).name) for one in events]
    assert names[0] == ("heard", "0001.wav")
    assert ("played", "0001.wav") in names
    assert ("heard", "0003.wav") in names
    assert len([name for name in names if name == ("heard", "0001.wav")]) == 1


def test_a_recording_in_pieces_is_listened_to(server: Running) -> None:
    file = io.BytesIO()
    soundfile.write(file, song(3)[2 * RATE : 9 * RATE], RATE, format="OGG", subtype="VORBIS")
    content = file.getvalue()
    address = f"ws://{server.host}:{server.port}/v1/listen"
    with connect(f"{address}?encoding=container&min_confidence=0") as socket:
        for begin in range(0, len(content), 5_000):
            socket.send(content[begin : begin + 5_000])
        socket.send("end")
        events = [json.loads(message) for message in socket]
    assert events[-1]["event"] == "heard"
    assert Path(events[-1]["match"]["path"]).name == "0003.wav"


def check_the_log_is_a_list_and_a_table(running: Running) -> None:
    found = running.ask("GET", "/v1/log?limit=1").json
    assert Path(found["entries"][0]["match"]["path"]).name == "0003.wav"
    older = running.ask("GET", f"/v1/log?cursor={found['cursor']}").json["entries"]
    assert [Path(one["match"]["path"]).name for one in older] == ["0002.wav", "0001.wav"]
    table = running.ask("GET", "/v1/log?format=csv").body.decode()
    assert [row["source"] for row in csv.DictReader(io.StringIO(table))] == ["identify"] * 3


def first_lines(running: Running, path: str, count: int, **headers: str) -> list[str]:
    connection = HTTPConnection(running.host, running.port, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", path, headers=named)
    response = connection.getresponse()
    lines = []
    while len(lines) < count and not any(line.startswith("data:") for line in lines):
        lines.append(response.readline().decode().strip())
    connection.close()
    return lines


def test_old_entries_of_the_log_are_deleted(tmp_path: Path) -> None:
    file = tmp_path / "log.db"
    journal = Journal(file, keep_days=1, webhook=False)
    journal.add("listen", {"path": "a"})
    journal.close()
    assert Journal(file, keep_days=1, webhook=False).entries(limit=5)
    assert not Journal(file, keep_days=1e-9, webhook=False).entries(limit=5)


def test_cells_of_the_csv_are_no_formulas() -> None:
    from fingerprint.serving.log import _csv

    match = {"artist": "=1+1", "title": "a", "path": "b", "offset": -1.0, "confidence": 0.5}
    text = _csv([{"time": "t", "source": "listen", "match": match}])
    assert "'=1+1" in text
    assert ",-1.0," in text


def test_the_log_and_its_webhooks_survive_a_kill(library: Path, tmp_path: Path) -> None:
    calls: Queue[tuple[dict[str, str], bytes]] = Queue()
    refused: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken = not refusing.is_set()
            self.send_response(204 if taken else 503)
            self.end_headers()
            if taken:
                calls.put((dict(self.headers), body))
            else:
                refused.append(self.headers["Webhook-Id"])

        def log_message(self, *_: object) -> None:
            return

    refusing = threading.Event()
    refusing.set()
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    settings = {
        "journal": str(tmp_path / "log.db"),
        "webhook": f"http://127.0.0.1:{receiver.server_port}/",
        "webhook_secret": "secret",
    }
    try:
        with toy_server(library, **settings) as running:
            for seed in (1, 2, 3):
                running.ask("POST", "/v1/identify?min_confidence=0", snippet(seed))
            check_the_log_is_a_list_and_a_table(running)
            # Without a token, and with no word that this machine may:
            assert running.ask("POST", "/v1/tracks", b"x").kind == "changes-off"
            assert running.ask("DELETE", "/v1/tracks/1").kind == "changes-off"
            running.stop(signal.SIGKILL)
        refusing.clear()
        with toy_server(library, **settings) as running:
            taken = [calls.get(timeout=60) for _ in range(3)]
            check_the_log_is_a_list_and_a_table(running)
            lines = first_lines(running, "/v1/log/stream", 8, Last_Event_ID="2")
            assert {"event: recognised", "id: 3"} <= set(lines)
    finally:
        receiver.shutdown()
        receiver.server_close()
    ids = [headers["Webhook-Id"] for headers, _ in taken]
    assert len(set(ids)) == 3
    assert set(refused) <= set(ids)
    for headers, body in taken:
        when = int(headers["Webhook-Timestamp"])
        right = signature("secret", headers["Webhook-Id"], when, body.decode())
        assert headers["Webhook-Signature"] == right
        assert json.loads(body)["id"] == headers["Webhook-Id"]


def test_webhooks_outlast_a_receiver_that_speaks_something_else(
    library: Path, tmp_path: Path
) -> None:
    """It answers the first call with what is no HTTP, and asks for a password, as any may."""
    calls: Queue[str] = Queue()
    with socket.create_server(("127.0.0.1", 0)) as receiver:

        def receive() -> None:
            for answer in (b"hello\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"):
                connection, _ = receiver.accept()
                with connection:
                    calls.put(connection.recv(1 << 16).decode())
                    connection.sendall(answer)

        threading.Thread(target=receive, daemon=True).start()
        settings = {
            "journal": str(tmp_path / "log.db"),
            "webhook": f"http://me:p%40ss@127.0.0.1:{receiver.getsockname()[1]}/hook",
            "webhook_secret": "secret",
        }
        with toy_server(library, **settings) as running:
            running.ask("POST", "/v1/identify?min_confidence=0", snippet(1))
            first, second = calls.get(timeout=60), calls.get(timeout=60)
    assert "Authorization: Basic bWU6cEBzcw==" in first
    ids = [line for call in (first, second) for line in call.splitlines() if "-Id:" in line]
    assert ids[0] == ids[1]


def test_messages_that_a_wrong_clock_has_put_off_are_due(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log.db", keep_days=1, webhook=True)
    journal.add("listen", {"path": "a"})
    now = time.time()
    (message,) = journal.due(now)
    journal.postpone(message, now + 60)
    assert journal.due(now) == []
    journal.postpone(message, now + 10 * 365 * 86_400)
    assert [one.id for one in journal.due(now)] == [message.id]


def test_a_log_that_cannot_be_written_costs_no_answer(library: Path, tmp_path: Path) -> None:
    file = tmp_path / "log.db"
    with toy_server(library, journal=str(file)) as running:
        with sqlite3.connect(file, isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            answer = running.ask("POST", "/v1/identify?min_confidence=0", snippet(1))
            other.execute("ROLLBACK")
        assert answer.json["status"] == "match"
        running.ask("POST", "/v1/identify?min_confidence=0", snippet(2))
        entries = running.ask("GET", "/v1/log").json["entries"]
        assert [Path(one["match"]["path"]).name for one in entries] == ["0002.wav"]


def test_a_log_that_is_damaged_is_a_problem_and_costs_no_answer(
    library: Path, tmp_path: Path
) -> None:
    with toy_server(library, journal=str(tmp_path / "log.db")) as running:
        for file in tmp_path.glob("log.db*"):
            file.write_bytes(b"no database" * 10)
        for path in ("/v1/log", "/v1/log/stream"):
            answer = running.ask("GET", path)
            assert (answer.status, answer.kind) == (503, "log-unavailable")
        assert running.ask("POST", "/v1/identify?min_confidence=0", snippet(1)).status == 200


def test_an_upload_begins_no_library_where_one_is_away(tmp_path: Path) -> None:
    folder, content = toy_library(tmp_path), write_song(tmp_path / "new.wav", 7).read_bytes()
    with toy_server(folder, token=TOKEN) as running:
        folder.rename(tmp_path / "away")
        refused = running.ask("POST", "/v1/tracks", content, **BEARER)
        assert (refused.status, refused.kind) == (503, "library-unavailable")
        assert not folder.exists()
        (tmp_path / "away").rename(folder)
        assert running.ask("POST", "/v1/tracks", content, **BEARER).status == 201


def test_who_follows_the_log_slowly_misses_nothing(library: Path, tmp_path: Path) -> None:
    """Nor who comes back with the number of an entry of a log that was begun anew."""
    with toy_server(library) as running:
        connection = HTTPConnection(running.host, running.port, timeout=30)
        connection.request("GET", "/v1/log/stream")
        response = connection.getresponse()
        for _ in range(3):
            running.ask("POST", "/v1/identify?min_confidence=0", snippet(1))
        ids: list[bytes] = []
        while len(ids) < 3:
            line = response.readline()
            ids += [line.strip()] if line.startswith(b"id:") else []
        connection.close()
        assert ids == [b"id: 1", b"id: 2", b"id: 3"]
        lines = first_lines(running, "/v1/log/stream", 8, Last_Event_ID="57")
        assert "id: 1" in lines


def test_the_description_is_of_this_version_and_names_every_problem(server: Running) -> None:
    found = server.ask("GET", "/openapi.json").json
    assert found["openapi"].startswith("3.1")
    for methods in found["paths"].values():
        for about in methods.values():
            for status, answer in about["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"]


@pytest.mark.slow
def test_the_description_holds_against_made_up_requests(tmp_path: Path) -> None:
    """With schemathesis, where it is installed: pipx install schemathesis."""
    program = os.environ.get("SCHEMATHESIS") or shutil.which("schemathesis")
    if program is None:
        pytest.skip("needs schemathesis: pipx install schemathesis")
    checks = (
        "not_a_server_error,status_code_conformance,content_type_conformance,"
        "response_schema_conformance,unsupported_method"
    )
    with toy_server(toy_library(tmp_path), token=TOKEN) as running:
        command = [program, "run", f"{running.url}/openapi.json", "--checks", checks]
        command += ["--exclude-path", "/v1/log/stream", "--phases", "examples,coverage,fuzzing"]
        command += ["--max-examples", "10", "--request-timeout", "20"]
        command += ["--header", f"Authorization: Bearer {TOKEN}"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=500, check=False, cwd=tmp_path
        )
    assert done.returncode == 0, done.stdout[-3_000:]


def test_the_command_serves_with_the_shipped_model(music_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "library"
    command = [sys.executable, "-m", "fingerprint", "index", str(music_folder)]
    subprocess.run(
        [*command, "--library", str(folder), "--jobs", "1"], check=True, capture_output=True
    )
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    with cli_server(folder, "--token-file", str(token)) as running:
        song1 = (music_folder / "song1.flac").read_bytes()
        found = running.ask("POST", "/v1/identify?min_confidence=0", song1).json["matches"]
        assert found[0]["path"] == str(music_folder / "song1.flac")
        assert running.ask("DELETE", "/v1/tracks/1").status == 401
        assert running.stop() == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--token-file", "short"], "at least 16 letters"),
        (["--host", "203.0.113.7"], "cannot listen on 203.0.113.7"),
        (["--key", "short"], "--certificate and --key go together"),
        (["--webhook", "http://127.0.0.1:9/"], "--webhook-secret-file"),
        (
            ["--webhook", "http://:80/", "--webhook-secret-file", "short"],
            "--webhook needs an address",
        ),
        (
            ["--webhook", "http://a:b/", "--webhook-secret-file", "short"],
            "--webhook needs an address",
        ),
        (["--name", "https://music.example"], "--name takes a host name alone"),
        (["--log", "."], "is a directory"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    library: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    (tmp_path / "short").write_text("short")
    command = [sys.executable, "-m", "fingerprint", "serve", "--library", str(library)]
    done = subprocess.run(
        [*command, "--port", "0", *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        timeout=60,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_client_is_an_address_or_a_network() -> None:
    assert named("192.0.2.7") == "192.0.2.7"
    assert named("2001:db8::1") == named("2001:db8::ffff:1") != named("2001:db8:0:1::1")
    assert named("::ffff:192.0.2.7") == "192.0.2.7"


def test_one_client_leaves_places_for_others() -> None:
    places = Places(4, 3, "all are taken")
    for _ in range(3):
        places.take("a")
    with pytest.raises(Problem, match="from this address"):
        places.take("a")
    places.take("b")
    with pytest.raises(Problem, match="busy"):
        places.check("c")
    places.leave("a")
    places.check("c")


def test_the_image_installs_what_the_extras_name() -> None:
    """Of which `--no-deps` would install nothing."""
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    text = (PROJECT / "deploy" / "Containerfile").read_text()
    for extra in ("ffmpeg", "explain", "serve"):
        for requirement in extras["optional-dependencies"][extra]:
            assert f"'{requirement}'" in text


def test_host_names_are_compared_as_browsers_send_them() -> None:
    assert _host_name("Müsik.local") == "xn--msik-0ra.local"
