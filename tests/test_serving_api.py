"""The HTTP API, used by a client against a server in a process of its own.

First what each route answers, then what HTTP itself asks of it: headers, origins, errors, HEAD,
caching and malformed requests. How the server runs is in `test_serving_operation`.
"""

import io
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from library_world import RATE, Toy, song, write_song

pytest.importorskip("fastapi", reason="needs fingerprint[serve]")
pytest.importorskip("websockets", reason="needs fingerprint[serve]")

from serving_world import (
    BEARER,
    TOKEN,
    Running,
    first_lines,
    snippet,
    toy_library,
    toy_server,
    wav,
)
from websockets.sync.client import connect

from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library
from fingerprint.search import SearchConfig
from fingerprint.serving.page import STATIC


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Song 1 has a cover."""
    folder = toy_library(tmp_path_factory.mktemp("served"))
    song1 = folder.parent / "music" / "0001.wav"
    song1.write_bytes(with_cover(song1))
    return folder


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


@pytest.fixture(scope="module")
def server(library: Path) -> Iterator[Running]:
    """A server whose library no test changes."""
    with toy_server(library, token=TOKEN) as running:
        yield running


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    """A server and its library, which tests change and restore."""
    folder = toy_library(tmp_path_factory.mktemp("changing"))
    with toy_server(folder, token=TOKEN) as running:
        yield running, folder


# Recognition


def test_identify_gives_the_same_object_as_the_command_line(server: Running) -> None:
    answer = server.ask("POST", "/v1/identify?min_confidence=0&top=2&name=a.wav", snippet(2))
    assert answer.status == 200
    found = answer.json
    assert list(found) == ["query", "status", "seconds", "matches", "warnings", "error"]
    assert (found["query"], found["status"], found["error"]) == ("a.wav", "match", None)
    best, *others = found["matches"]
    assert Path(best["path"]).name == "0002.wav"
    assert best["offset"] == pytest.approx(7.3, abs=0.2)
    assert len(others) <= 1


def test_an_unknown_snippet_is_an_answer_without_matches(server: Running) -> None:
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
def test_an_unreadable_body_is_a_problem_document(server: Running, body: bytes, kind: str) -> None:
    answer = server.ask("POST", "/v1/identify", body)
    assert (answer.status, answer.kind) == (422, kind)
    assert set(answer.json) == {"type", "title", "status", "detail", "hint"}


def test_forms_are_refused(server: Running) -> None:
    answer = server.ask("POST", "/v1/identify", b"--x", Content_Type="multipart/form-data")
    assert (answer.status, answer.kind) == (415, "not-a-body")


def test_media_types_may_have_parameters(server: Running) -> None:
    kind = "Application/vnd.fingerprint.query; version=1"
    assert server.ask("POST", "/v1/identify", b"FPQY", Content_Type=kind).json["detail"] == (
        "not a query: it is cut off"
    )
    answer = server.ask("POST", "/v1/identify", b"x", Content_Encoding="gzip")
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


@pytest.mark.parametrize("form", ["json", "csv", "cue", "audacity", "tracklist"])
def test_a_scan_of_an_unreadable_body_is_a_problem(server: Running, form: str) -> None:
    answer = server.ask("POST", f"/v1/scan?format={form}", b"no audio")
    assert (answer.status, answer.kind) == (422, "unreadable")


def test_a_scan_that_fails_midway_reports_it_in_its_last_line(library: Path) -> None:
    """It is too long, which is found only after some of it has been scanned."""
    mix = wav(np.concatenate([song(seed, 20) for seed in (1, *(9,) * 7)]))
    with toy_server(library, limits={"long_seconds": 150.0}) as running:
        answer = running.ask("POST", "/v1/scan?min_confidence=0.01", mix)
    assert answer.status == 200
    assert "at most 150 s" in json.loads(answer.body.splitlines()[-1])["error"]


def test_explain_draws_a_picture(server: Running) -> None:
    pytest.importorskip("matplotlib", reason="needs fingerprint[explain]")
    drawn = server.ask("POST", "/v1/explain?name=%0Aa.wav", snippet(2))
    assert (drawn.status, drawn.headers["content-type"]) == (200, "image/png")
    assert drawn.body.startswith(b"\x89PNG")
    silence = server.ask("POST", "/v1/explain", wav(np.zeros(3 * RATE, np.float32)))
    assert (silence.status, silence.kind) == (422, "nothing-to-recognise")
    assert server.ask("POST", "/v1/explain", b"no audio").kind == "unreadable"


# Listening over a WebSocket


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
def test_listening_does_not_depend_on_message_sizes(server: Running, piece: float) -> None:
    sound = song(2)[3 * RATE : 11 * RATE]
    events = listened(server, "min_confidence=0.001", sound, RATE, piece)
    assert events[-1]["event"] == "heard"
    assert Path(events[-1]["match"]["path"]).name == "0002.wav"
    offset = events[-1]["match"]["offset"] - events[-1]["at"]
    assert offset == pytest.approx(3.0, abs=0.3)  # the event has the offset at the moment `at`


def test_unknown_music_ends_with_unknown(server: Running) -> None:
    sound = song(9)[: 4 * RATE]
    events = listened(server, "min_confidence=1&partial=true", sound, RATE, 0.5)
    assert [event["event"] for event in events][-1] == "unknown"
    assert any(event["event"] == "partial" for event in events)


def test_continuous_listening_reports_every_track(server: Running) -> None:
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
    assert events[-1]["at"] == pytest.approx(7.0, abs=0.1)  # though it came at once
    assert events[-1]["match"]["offset"] == pytest.approx(9.0, abs=0.3)


# The library


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


def test_the_cover_is_re_encoded(server: Running) -> None:
    found = server.ask("GET", "/v1/tracks/1/cover")
    assert found.status == 200
    assert found.headers["content-type"] == "image/jpeg"
    assert found.body.startswith(b"\xff\xd8")
    none = server.ask("GET", "/v1/tracks/2/cover")
    assert (none.kind, none.headers["cache-control"]) == ("not-found", "private, max-age=3600")


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


def test_changes_by_another_process_are_followed(
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


def test_an_upload_has_to_wait_for_another_writer(
    changing: tuple[Running, Path],
) -> None:
    running, folder = changing
    with Library.open(folder, Toy()) as library, library.writing():
        answer = running.ask("POST", "/v1/tracks", snippet(7), **BEARER)
    assert (answer.status, answer.kind) == (503, "library-unavailable")
    assert answer.headers["retry-after"] == "1"
    assert not any((folder / "uploads").glob("*/*"))


# HTTP


def test_problems_show_no_paths_of_the_server(server: Running, library: Path) -> None:
    for path in ("/v1/identify", "/v1/scan", "/v1/tracks"):
        text = server.ask("POST", path, b"no audio", **BEARER).body.decode()
        assert str(library.parent) not in text
        assert "/tmp" not in text  # noqa: S108 - it looks for it


def test_every_answer_has_security_headers(server: Running) -> None:
    for path in ("/", "/healthz", "/nothing", "/app.js"):
        headers = server.ask("GET", path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe-inline" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_unknown_host_names_are_refused(server: Running) -> None:
    assert server.ask("GET", "/healthz", Host="music.example:80").kind == "wrong-host"
    for host in ("localhost:1", "192.168.1.2", "[::1]:8765", "127.0.0.1"):
        assert server.ask("GET", "/healthz", Host=host).status == 200


def test_cross_origin_requests_are_refused(server: Running) -> None:
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


def test_errors_of_http_are_problem_documents(server: Running) -> None:
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


def test_head_of_an_endless_response_ends(server: Running) -> None:
    for _ in range(20):  # more than one client may listen at once
        assert server.ask("HEAD", "/v1/log/stream").status == 200
    assert first_lines(server, "/v1/log/stream", 1) == ["retry: 3000"]


def test_files_of_the_page_have_etags(server: Running) -> None:
    tag = server.ask("GET", "/app.js").headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):  # W/: by a proxy that compresses
        answer = server.ask("GET", "/app.js", If_None_Match=known)
        assert (answer.status, answer.body) == (304, b"")
    assert server.ask("GET", "/app.js", If_None_Match='"other"').status == 200


def raw_response(server: Running, request: bytes) -> bytes:
    """The raw response to a raw request."""
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200),  # as some monitors ask
        (b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: music.example\r\n\r\n", 400),
        (b"GET http://music.example/healthz HTTP/1.0\r\nHost: localhost\r\n\r\n", 200),
        (b"CONNECT music.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS on the http port
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
    ],
)
def test_malformed_requests_are_answered_with_problems(
    server: Running, request_: bytes, status: int
) -> None:
    head, _, body = raw_response(server, request_).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    if status != 200:
        assert b"content-type: application/problem+json" in head
        assert json.loads(body)["status"] == status


def test_an_offer_of_http2_is_declined(server: Running) -> None:
    """Java's client sends one with every request over plain http."""
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2_Settings": "AAMAAA"}
    for _ in range(2):
        answer = server.ask("POST", "/v1/identify?min_confidence=0", snippet(2), **offer)
        assert answer.status == 200
        assert Path(answer.json["matches"][0]["path"]).name == "0002.wav"


# Its description


def test_one_confidence_is_the_default_of_every_route(server: Running) -> None:
    paths = server.ask("GET", "/openapi.json").json["paths"]
    defaults = [
        one["schema"]["default"]
        for path in ("/v1/identify", "/v1/scan", "/v1/explain")
        for one in paths[path]["post"]["parameters"]
        if one["name"] == "min_confidence"
    ]
    default = SearchConfig().min_confidence
    assert defaults == 3 * [default]
    assert server.ask("GET", "/v1/model").json["min_confidence"] == default
    for file in STATIC.glob("*.js"):  # the page has it from /v1/model
        assert str(default) not in file.read_text(encoding="utf-8"), file.name


def test_openapi_documents_every_problem(server: Running) -> None:
    found = server.ask("GET", "/openapi.json").json
    assert found["openapi"].startswith("3.1")
    for methods in found["paths"].values():
        for about in methods.values():
            for status, answer in about["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"]


@pytest.mark.slow
def test_openapi_holds_against_generated_requests(tmp_path: Path) -> None:
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
