"""A server that is left running: shutdown, crashes, its log and webhooks, options and limits.

Limits against hostile clients are in `test_serving_hostile`.
"""

import asyncio
import csv
import io
import json
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import tomllib
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from click.testing import CliRunner
from library_world import Toy, write_song

pytest.importorskip("fastapi", reason="needs fingerprint[serve]")
pytest.importorskip("websockets", reason="needs fingerprint[serve]")

from serving_world import (
    BEARER,
    TOKEN,
    Running,
    cli_server,
    first_lines,
    snippet,
    toy_library,
    toy_server,
)
from websockets.sync.client import connect

from fingerprint.cli import main
from fingerprint.cli.serve import _host_name
from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library
from fingerprint.library.verify import check
from fingerprint.serving.journal import Journal
from fingerprint.serving.problems import Problem
from fingerprint.serving.slots import Slots, client_key
from fingerprint.serving.webhooks import _deliver_due, signature

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_library(tmp_path_factory.mktemp("served"))


# Stopping and crashing


def test_sigterm_waits_for_requests_in_flight(library: Path) -> None:
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


def test_requests_that_outlast_the_drain_time_get_503(library: Path) -> None:
    """A worker thread that is still busy does not keep the process from exiting."""
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


def test_a_kill_during_an_upload_leaves_a_sound_library(tmp_path: Path) -> None:
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


def test_uploads_of_a_moved_library_are_kept(tmp_path: Path) -> None:
    """They are listed by their old path, until they are uploaded again."""
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


def test_upload_does_not_create_a_library_in_place_of_a_missing_one(tmp_path: Path) -> None:
    folder, content = toy_library(tmp_path), write_song(tmp_path / "new.wav", 7).read_bytes()
    with toy_server(folder, token=TOKEN) as running:
        folder.rename(tmp_path / "away")
        refused = running.ask("POST", "/v1/tracks", content, **BEARER)
        assert (refused.status, refused.kind) == (503, "library-unavailable")
        assert not folder.exists()
        (tmp_path / "away").rename(folder)
        assert running.ask("POST", "/v1/tracks", content, **BEARER).status == 201


def test_missing_or_replaced_library_is_noticed(tmp_path: Path) -> None:
    folder = toy_library(tmp_path)
    with toy_server(folder, token=TOKEN) as running:
        identify = "/v1/identify?min_confidence=0"
        folder.rename(tmp_path / "away")
        assert running.ask("GET", "/readyz").kind == "library-unavailable"
        assert running.ask("GET", "/healthz").status == 200
        assert "fingerprint_library_tracks NaN" in running.ask("GET", "/metrics").body.decode()
        with Library.create_or_open(folder, Toy()) as other:
            index_files(other, [write_song(tmp_path / "other.wav", 7)])
        (track,) = running.ask("GET", "/v1/tracks").json["tracks"]
        assert Path(track["path"]).name == "other.wav"
        assert running.ask("GET", "/readyz").json["tracks"] == 1
        matches = running.ask("POST", identify, snippet(7)).json["matches"]
        assert [Path(one["path"]).name for one in matches] == ["other.wav"]
        assert running.ask("DELETE", "/v1/tracks/3", **BEARER).kind == "not-found"
        folder.rename(tmp_path / "other")
        (tmp_path / "away").rename(folder)
        assert running.ask("GET", "/readyz").json["tracks"] == 3
        catalog = (folder / "catalog.db").read_bytes()
        (folder / "catalog.db").write_bytes(b"no catalog" * 100)
        assert running.ask("GET", "/readyz").kind == "library-unavailable"
        assert running.ask("POST", identify, snippet(1)).kind == "library-unavailable"
        (folder / "catalog.db").write_bytes(catalog)
        assert running.ask("POST", identify, snippet(1)).json["status"] == "match"


# The log and its webhooks


def check_the_log_as_json_and_csv(running: Running) -> None:
    found = running.ask("GET", "/v1/log?limit=1").json
    assert Path(found["entries"][0]["match"]["path"]).name == "0003.wav"
    older = running.ask("GET", f"/v1/log?cursor={found['cursor']}").json["entries"]
    assert [Path(one["match"]["path"]).name for one in older] == ["0002.wav", "0001.wav"]
    table = running.ask("GET", "/v1/log?format=csv").body.decode()
    assert [row["source"] for row in csv.DictReader(io.StringIO(table))] == ["identify"] * 3


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
            check_the_log_as_json_and_csv(running)
            # Without a token and `open_writes`, changes are refused:
            assert running.ask("POST", "/v1/tracks", b"x").kind == "changes-off"
            assert running.ask("DELETE", "/v1/tracks/1").kind == "changes-off"
            running.stop(signal.SIGKILL)
        refusing.clear()
        with toy_server(library, **settings) as running:
            taken = [calls.get(timeout=60) for _ in range(3)]
            check_the_log_as_json_and_csv(running)
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


def test_webhooks_survive_a_receiver_that_does_not_speak_http(
    library: Path, tmp_path: Path
) -> None:
    """Its first response is not HTTP; and it requires a user and a password."""
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


def test_webhooks_postponed_by_a_wrong_clock_are_sent(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log.db", keep_days=1, webhook=True)
    journal.add("listen", {"path": "a"})
    now = time.time()
    (message,) = journal.due(now)
    journal.postpone(message, now + 1)
    assert journal.due(now) == []
    assert journal.due(now - 1) == []
    assert [one.id for one in journal.due(now - 60)] == [message.id]  # the clock was put back
    journal.postpone(message, now + 10 * 365 * 86_400)
    assert [one.id for one in journal.due(now)] == [message.id]


def test_unwritable_log_does_not_prevent_answers(library: Path, tmp_path: Path) -> None:
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


def test_full_disk_does_not_prevent_answers_that_write_nothing(
    library: Path, tmp_path: Path
) -> None:
    with toy_server(library, journal=str(tmp_path / "log.db"), token=TOKEN) as running:
        limit = resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE)
        content = snippet(1)
        for size, status in ((len(content), 200), (1000, 507)):  # no room for the log; for a body
            resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (size, limit[1]))
            found = running.ask("POST", "/v1/identify?min_confidence=0", content)
            assert found.status == status
        assert found.kind == "no-room"
        assert running.ask("POST", "/v1/tracks", content, **BEARER).kind == "no-room"
        assert running.ask("GET", "/v1/log").status in (200, 503)
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, limit)
        assert running.ask("POST", "/v1/identify?min_confidence=0", content).status == 200
        assert running.ask("GET", "/v1/log").json["entries"][0]["source"] == "identify"


def test_webhooks_that_were_delivered_while_the_disk_was_full_are_not_sent_again(
    tmp_path: Path,
) -> None:
    sent: Queue[str] = Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            sent.put(self.headers["Webhook-Id"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    url, delivered = f"http://127.0.0.1:{receiver.server_port}/", set[str]()
    journal = Journal(tmp_path / "log.db", keep_days=1, webhook=True)
    journal.add("listen", {"path": "a"})
    try:
        with sqlite3.connect(tmp_path / "log.db", isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            for _ in range(2):
                with pytest.raises(sqlite3.OperationalError):
                    asyncio.run(_deliver_due(journal, url, "secret", delivered))
            other.execute("ROLLBACK")
        asyncio.run(_deliver_due(journal, url, "secret", delivered))
    finally:
        receiver.shutdown()
        receiver.server_close()
    assert sent.qsize() == 1
    assert journal.due(time.time()) == []
    assert delivered == set()


def test_damaged_log_is_a_problem_but_does_not_prevent_answers(
    library: Path, tmp_path: Path
) -> None:
    with toy_server(library, journal=str(tmp_path / "log.db")) as running:
        for file in tmp_path.glob("log.db*"):
            file.write_bytes(b"no database" * 10)
        for path in ("/v1/log", "/v1/log/stream"):
            answer = running.ask("GET", path)
            assert (answer.status, answer.kind) == (503, "log-unavailable")
        assert running.ask("POST", "/v1/identify?min_confidence=0", snippet(1)).status == 200


def test_a_slow_follower_of_the_log_misses_nothing(library: Path, tmp_path: Path) -> None:
    """Nor does one that resumes from an id beyond the log's newest: the log was deleted."""
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


def test_old_entries_of_the_log_are_deleted(tmp_path: Path) -> None:
    file = tmp_path / "log.db"
    journal = Journal(file, keep_days=1, webhook=False)
    journal.add("listen", {"path": "a"})
    journal.close()
    assert Journal(file, keep_days=1, webhook=False).entries(limit=5)
    assert not Journal(file, keep_days=1e-9, webhook=False).entries(limit=5)


def test_long_running_server_deletes_old_log_entries_too(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log.db", keep_days=1, webhook=False)
    journal.add("listen", {"path": "a"})
    with sqlite3.connect(tmp_path / "log.db") as other:
        other.execute("UPDATE log SET time = time - 2 * 86400")
    assert not journal.entries(limit=5)
    journal.add("listen", {"path": "b"})
    assert other.execute("SELECT match FROM log").fetchall() == [('{"path": "b"}',)]
    other.close()
    journal.close()


def test_cells_of_the_csv_are_not_formulas() -> None:
    from fingerprint.serving.log import _csv

    match = {"artist": "=1+1", "title": "a", "path": "b", "offset": -1.0, "confidence": 0.5}
    text = _csv([{"time": "t", "source": "listen", "match": match}])
    assert "'=1+1" in text
    assert ",-1.0," in text


# Health, clients and options


def test_health_readiness_and_metrics(library: Path) -> None:
    with toy_server(library) as running:
        assert running.ask("GET", "/healthz").json["status"] == "alive"
        ready = running.ask("GET", "/readyz").json
        assert (ready["status"], ready["tracks"]) == ("ready", 3)
        assert running.ask("POST", "/v1/identify", snippet(1)).status == 200
        text = running.ask("GET", "/metrics").body.decode()
    assert "fingerprint_library_tracks 3.0" in text
    assert 'fingerprint_phase_seconds_count{phase="recognise"}' in text


def test_a_client_is_an_address_or_a_network() -> None:
    assert client_key("192.0.2.7") == "192.0.2.7"
    assert (
        client_key("2001:db8::1") == client_key("2001:db8::ffff:1") != client_key("2001:db8:0:1::1")
    )
    assert client_key("::ffff:192.0.2.7") == "192.0.2.7"


def test_one_client_leaves_slots_for_others() -> None:
    slots = Slots(4, 3, "all are taken")
    for _ in range(3):
        slots.acquire("a")
    with pytest.raises(Problem, match="from this address"):
        slots.acquire("a")
    slots.acquire("b")
    with pytest.raises(Problem, match="busy"):
        slots.check("c")
    slots.release("a")
    slots.check("c")


def test_the_command_serves_with_the_shipped_model(
    music_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
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
        _leave_during_an_answer(running, "/v1/model/onnx")
        assert running.stop() == 0
    assert capfd.readouterr().err == ""


def _leave_during_an_answer(running: Running, path: str) -> None:
    """As browsers do; asyncio would warn of each piece that is written to a closed connection."""
    for number in range(40):
        with socket.create_connection((running.host, running.port)) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            time.sleep(0.002 * (number % 7))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--token-file", "short"], "at least 16 letters"),
        (["--host", "203.0.113.7"], "cannot listen on 203.0.113.7"),
        (["--token-file", "binary"], "at least 16 letters"),
        (["--token-file", "my token"], "> 'my token'"),
        (["--key", "short"], "--certificate and --key go together"),
        (["--certificate", "short", "--key", "short"], "short and short cannot be used"),
        (["--certificate", "none", "--key", "short"], "none: No such file"),
        (["--webhook", "http://127.0.0.1:9/"], "--webhook-secret-file"),
        (
            ["--webhook", "http://:80/", "--webhook-secret-file", "short"],
            "--webhook needs an address",
        ),
        (
            ["--webhook", "http://a:b/", "--webhook-secret-file", "short"],
            "--webhook needs an address",
        ),
        (
            ["--webhook", "http://a/", "--webhook-secret-file", "no base64"],
            "after whsec_ there must be base64",
        ),
        (["--name", "https://music.example"], "--name takes a host name alone"),
        (["--log", "."], "is a directory"),
    ],
)
def test_wrong_options_are_one_line(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    (tmp_path / "short").write_text("short")
    (tmp_path / "binary").write_bytes(b"\xff" * 32)
    (tmp_path / "no base64").write_text("whsec_not/base64!")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["serve", "--library", str(library), "--port", "0", *options])
    assert done.exit_code in (1, 2)
    assert words in done.stderr
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("password", [b"", b"secret"])
def test_certificates_and_keys_are_checked_before_serving(tmp_path: Path, password: bytes) -> None:
    """A key with a password would be asked for on the terminal, which a service has not."""
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives import serialization

    from fingerprint.serving.server import ServingError, check_certificate
    from fingerprint.serving.tls import certificate

    file, key = certificate(tmp_path / "one", ("localhost",))
    check_certificate(file, key)
    other = certificate(tmp_path / "other", ("localhost",))[1]
    if password:
        kept = serialization.load_pem_private_key(key.read_bytes(), None)
        form, container = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        locked = serialization.BestAvailableEncryption(password)
        other.write_bytes(kept.private_bytes(form, container, locked))
    words = "private key without a password" if password else "is not the key of"
    with pytest.raises(ServingError, match=words):
        check_certificate(file, other)


def test_signatures_are_those_of_standard_webhooks() -> None:
    """The example of https://github.com/standard-webhooks; and a secret that is no base64."""
    secret, message = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek"
    signed = signature(secret, message, 1_614_265_330, '{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature("secret", "id", 1, "{}") != signature("whsec_secret", "id", 1, "{}")


def test_host_names_are_compared_as_browsers_send_them() -> None:
    assert _host_name("Müsik.local") == "xn--msik-0ra.local"


def test_the_image_installs_what_the_extras_name() -> None:
    """The image installs with `--no-deps`, so its Containerfile lists them."""
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    text = (PROJECT / "deploy" / "Containerfile").read_text()
    for extra in ("ffmpeg", "explain", "serve"):
        for requirement in extras["optional-dependencies"][extra]:
            assert f"'{requirement}'" in text
