"""Clients that mean ill, or are broken: refused within their limits while another is served."""

import gzip
import io
import select
import socket
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Thread
from time import sleep

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings

pytest.importorskip("fastapi", reason="needs fingerprint[serve]")
pytest.importorskip("websockets", reason="needs fingerprint[serve]")

from serving_world import Running, snippet, toy_library, toy_server
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from fingerprint.lab.robustness.hostile_input import Damage, damages

LIMITS = {
    "body": 2 << 20,
    "long_body": 2 << 20,
    "seconds": 60.0,
    "long_seconds": 120.0,
    "idle": 1.0,
    "grace": 1.0,
    "silent": 2.0,
    "stalled": 2.0,
    "client_sockets": 60,
    "client_listeners": 8,
    "waiting": 2,
    "decoding": 10.0,
}
PATIENCE = 20.0  # s
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
UPGRADE = (
    b"GET /v1/listen HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with toy_server(toy_library(tmp_path_factory.mktemp("hostile")), limits=LIMITS) as running:
        yield running
        assert running.stop() == 0


@pytest.fixture(autouse=True)
def _another_is_served(server: Running) -> Iterator[None]:
    """And no limit is used up afterwards."""
    yield
    answer = server.ask("POST", "/v1/identify?min_confidence=0", snippet(1))
    assert answer.status == 200
    assert Path(answer.json["matches"][0]["path"]).name == "0001.wav"


def raw(server: Running, head: bytes) -> socket.socket:
    connection = socket.create_connection((server.host, server.port), timeout=PATIENCE)
    connection.sendall(head)
    return connection


def said(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    data = b""
    with suppress(ConnectionError):
        while piece := connection.recv(1 << 16):
            data += piece
    return data


def head(length: str) -> bytes:
    return (
        f"POST /v1/identify HTTP/1.1\r\nHost: 127.0.0.1\r\n{length}\r\n"
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()


def test_a_body_that_announces_too_much_is_refused_at_once(server: Running) -> None:
    with raw(server, head("Content-Length: 99999999999999999999999")) as connection:
        assert b" 400 " in said(connection)[:20]
    with raw(server, head("Content-Length: 9999999999")) as connection:
        answer = said(connection)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"urn:fingerprint:problem:too-large" in answer


def test_an_endless_body_is_refused_at_the_limit(server: Running) -> None:
    with raw(server, head("Transfer-Encoding: chunked")) as connection:
        sent = 0
        chunk = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
        with suppress(ConnectionError):
            while sent < 64 << 20:
                connection.sendall(chunk)
                sent += 1 << 16
        said(connection)
    assert sent < 16 << 20


def test_slow_sender_times_out(server: Running) -> None:
    with raw(server, head("Content-Length: 100000")) as connection:
        with suppress(ConnectionError):
            for _ in range(200):
                connection.sendall(b"x")
                sleep(0.05)
                connection.settimeout(0.001)
                with suppress(TimeoutError):
                    if connection.recv(1, socket.MSG_PEEK):
                        break
        connection.settimeout(PATIENCE)
        assert said(connection).startswith(b"HTTP/1.1 408 ")


def test_stalled_sender_times_out(server: Running) -> None:
    with raw(server, head("Content-Length: 100000") + b"RIFF") as connection:
        assert said(connection).startswith(b"HTTP/1.1 408 ")


def test_refused_upload_still_receives_its_error_response(server: Running) -> None:
    """Closing with unread data would reset the connection, and lose it."""
    refused = head("Content-Length: 600000").replace(b"application/octet-stream", b"multipart/x")
    with raw(server, refused) as connection:
        assert connection.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 415"
        for _ in range(6):
            connection.sendall(bytes(100_000))
        answer = said(connection)
    assert b"urn:fingerprint:problem:not-a-body" in answer
    assert b"\r\nconnection: close\r\n" in answer


@pytest.mark.parametrize("more", [b"\r\n", GET[:30]])
def test_a_kept_connection_without_another_request_is_closed(server: Running, more: bytes) -> None:
    with raw(server, GET + b"\r\n") as connection:
        assert connection.recv(12) == b"HTTP/1.1 200"
        connection.sendall(more)
        said(connection)


def test_client_that_does_not_read_responses_is_disconnected(server: Running) -> None:
    with raw(server, b"") as connection:
        connection.sendall((b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n") * 1_000)
        poll = select.poll()
        poll.register(connection, 0)  # for the reset alone
        assert poll.poll(PATIENCE * 1_000)


@pytest.mark.parametrize("beginning", [b"", b"POST /v1/identify HT", b"GET / HTTP/1.1\r\nHost: "])
def test_unfinished_request_head_times_out(server: Running, beginning: bytes) -> None:
    with raw(server, beginning) as connection:
        assert said(connection) == b""


CHUNKED = b"POST /v1/identify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (b"GET /", b"a" * 4096),
        (GET + b"X-Long: ", b"a" * 4096),
        (GET, b"X-Many: x\r\n" * 400),
        (b"", b"\r\n" * 2048),
        (CHUNKED + b"1;", b"a" * 4096),
        (CHUNKED + b"1\r\nx\r\n0\r\nX-Trailer: ", b"a" * 4096),
    ],
)
def test_headers_trailers_and_chunk_extensions_are_bounded(
    server: Running, beginning: bytes, piece: bytes
) -> None:
    sent = 0
    with raw(server, beginning) as connection, suppress(ConnectionError):
        while sent < 64 << 20:
            connection.sendall(piece)
            sent += len(piece)
    assert sent < 16 << 20


def test_a_long_head_is_a_problem(server: Running) -> None:
    with raw(server, GET + b"X-Long: " + b"a" * (65 << 10)) as connection:
        answer = said(connection)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"urn:fingerprint:problem:head-too-large" in answer


def test_connections_that_are_closed_hold_no_memory(server: Running) -> None:
    """Nor is what was being received on them kept until a timer runs out."""
    refused, body = {"Host": "elsewhere.example"}, bytes(200 << 10)
    before = 0
    for number in range(300):
        assert server.ask("POST", "/v1/identify", body, **refused).status == 421
        before = before or (server.memory if number == 20 else 0)
    assert server.memory - before < 10 << 20


def test_connections_of_one_address_are_bounded(server: Running) -> None:
    with ExitStack() as stack:
        for _ in range(LIMITS["client_sockets"] + 20):  # type: ignore[operator]
            with suppress(OSError):
                stack.enter_context(raw(server, b"GET"))
        connection = HTTPConnection(server.host, server.port, timeout=PATIENCE)
        with suppress(ConnectionError):
            connection.request("GET", "/healthz")
        with pytest.raises((HTTPException, ConnectionError)):
            connection.getresponse()
        connection.close()
    served_again(server)


def served_again(server: Running) -> None:
    for _ in range(100):
        with suppress(HTTPException, ConnectionError):
            assert server.ask("GET", "/healthz").status == 200
            return
        sleep(0.05)
    pytest.fail("nobody is served any more")


def test_idle_web_sockets_are_bounded_and_closed(server: Running) -> None:
    open_, refused = [], 0
    with ExitStack() as stack:
        for _ in range(200):
            try:
                address = f"ws://{server.host}:{server.port}/v1/listen"
                open_.append(stack.enter_context(connect(address, open_timeout=PATIENCE)))
            except (InvalidStatus, ConnectionError, ConnectionClosed):
                refused += 1
        assert len(open_) + refused == 200
        assert refused >= 100  # those that were open for `silent` seconds have made room
        ends = [message for one in open_ for message in one]
        assert all('"unknown"' in message for message in ends)


def test_audio_faster_than_real_time_is_refused(server: Running) -> None:
    address = f"ws://{server.host}:{server.port}/v1/listen?rate=4000&mode=continuous"
    with connect(address) as listening:
        with suppress(ConnectionClosed):
            for _ in range(400):
                listening.send(bytes(1 << 15))  # 4 s each
        messages = []
        with suppress(ConnectionClosed):
            messages.extend(listening)
        assert "comes faster" in str(messages[-1])


def test_a_web_socket_takes_no_huge_messages(server: Running) -> None:
    with connect(f"ws://{server.host}:{server.port}/v1/listen", max_size=None) as listening:
        with suppress(ConnectionClosed):
            listening.send(bytes(8 << 20))
        with suppress(ConnectionClosed):
            list(listening)
        # The goodbye is lost where the connection is reset while the message is still being sent.
        assert listening.close_code in (1009, 1006)


def test_invalid_utf8_text_message_ends_the_audio(server: Running) -> None:
    with raw(server, UPGRADE + b"\r\n") as connection:
        connection.sendall(b"\x81\x82" + bytes(4) + b"\xff\xfe")
        assert b'"unknown"' in connection.recv(1 << 16) + connection.recv(1 << 16)


@pytest.mark.parametrize(
    "more", [b"X-Long: " + b"a" * 9_000, b"\r\n".join([b"X-Many: x"] * 200), b"Content-Length: 1"]
)
def test_invalid_web_socket_handshake_is_refused(server: Running, more: bytes) -> None:
    with raw(server, UPGRADE + more + b"\r\n\r\n") as connection:
        assert said(connection).startswith(b"HTTP/1.1 400 ")


def test_server_stops_reading_pings_when_pongs_are_not_read(server: Running) -> None:
    pings = (b"\x89\xfd" + bytes(4 + 125)) * 500
    sent = 0
    with raw(server, UPGRADE + b"\r\n") as connection, suppress(OSError):
        assert connection.recv(12) == b"HTTP/1.1 101"
        connection.settimeout(1)
        while sent < 64 << 20:
            connection.sendall(pings)
            sent += len(pings)
    assert sent < 64 << 20


def test_a_web_socket_behind_an_unfinished_answer_is_refused(server: Running) -> None:
    """Or the answer would never learn that its client has left, and keep its place for ever."""
    stream = b"GET /v1/log/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for _ in range(LIMITS["client_listeners"] + 1):  # type: ignore[operator]
        with raw(server, stream) as connection:
            connection.recv(12)
            connection.sendall(UPGRADE + b"\r\n")
            said(connection)
    for _ in range(100):
        with raw(server, stream) as connection:
            if connection.recv(12) == b"HTTP/1.1 200":
                return
        sleep(0.05)
    pytest.fail("nobody may follow the log any more")


def bombs() -> dict[str, bytes]:
    """Small bodies that want to be large, or lead elsewhere."""
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(8_000 * 1_500, np.float32), 8_000, format="FLAC")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("song.wav", bytes(50 << 20))
    liar = bytearray(snippet(1))
    liar[40:44] = b"\x00\x00\x00\x70"  # no size that programs write into a pipe
    return {
        "half an hour of silence": silence.getvalue(),
        "zip": packed.getvalue(),
        "gzip": gzip.compress(bytes(50 << 20)),
        "header that promises": bytes(liar[:44]) + bytes(100),
        "m3u": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n",
        "concat": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        "dash": b'<?xml version="1.0"?><MPD><BaseURL>file:///etc/</BaseURL></MPD>',
        "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\nc=IN IP4 127.0.0.1\n",
        "image": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    }


@pytest.mark.parametrize("name", bombs())
def test_bombs_and_playlists_are_refused(server: Running, name: str) -> None:
    for path in ("/v1/identify", "/v1/scan"):
        answer = server.ask("POST", path, bombs()[name])
        assert answer.status in (413, 422) or b'"warnings": [{' in answer.body
        assert b"root:" not in answer.body


def test_damaged_recordings_are_answered_or_refused(server: Running) -> None:
    """Those that `python -m fingerprint.lab fuzz` feeds to the decoders."""
    statuses = set()

    @settings(max_examples=15, suppress_health_check=list(HealthCheck))
    @given(damages)
    def send(damage: Damage) -> None:
        content = damage.done_to(snippet(1))
        for path in ("/v1/identify?min_confidence=0", "/v1/scan"):
            statuses.add(server.ask("POST", path, content).status)

    send()
    assert statuses <= {200, 422}


def test_addresses_in_uploads_are_never_connected_to(server: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        port = trap.getsockname()[1]
        for text in (f"#EXTM3U\nhttp://127.0.0.1:{port}/a.mp3\n", f"http://127.0.0.1:{port}/"):
            server.ask("POST", "/v1/identify", text.encode())
            server.ask("POST", "/v1/scan", text.encode())
        with pytest.raises(TimeoutError):
            trap.accept()


def test_too_many_queries_get_429_with_retry_after(server: Running) -> None:
    answers: list[tuple[int, str]] = []

    def ask() -> None:
        found = server.ask("POST", "/v1/identify?min_confidence=0", snippet(2, seconds=12))
        answers.append((found.status, found.headers.get("retry-after", "")))

    threads = [Thread(target=ask) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert {status for status, _ in answers} == {200, 429}
    assert all(again == ("1" if status == 429 else "") for status, again in answers)
