"""A Milvus server that is slow, refuses, restarts, loses its loaded collections or has a full disk.

It is Milvus Lite behind a port, so errors are pymilvus's own. Pauses are recorded, not waited for.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from library_world import Toy, names_in, place_of, write_song

pytest.importorskip("pymilvus", reason="needs fingerprint[milvus]")

import grpc
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import MilvusLite
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc

from fingerprint.errors import LibraryError
from fingerprint.library import indexing
from fingerprint.milvus import server
from fingerprint.milvus.address import Address
from fingerprint.milvus.library import MilvusLibrary

Fault = Callable[[str, Callable[[], Any], Any], Any]  # of: an RPC, what answers it, its context
PAUSES = [0.5, 1, 2, 4, *[5] * 10]  # s, of a call that fails for good
ROWS = [{"id": number, "vector": [1.0, float(number)]} for number in range(5)]
CALLS: dict[str, tuple[Callable[[server.Server], Any], Any]] = {  # with their results
    "Upsert": (lambda one: one.upsert("plain", ROWS), None),
    "Query": (lambda one: one.query("plain", "id > 2", ["id"]), [{"id": 3}, {"id": 4}]),
    "Search": (lambda one: one.nearest("plain", np.ones((1, 2), "f4"), 1, {}), [[(4, 5.0)]]),
}


def aborts(code: str, words: str, *, late: bool = False) -> Fault:
    """A gRPC error; if `late`, after the server has done what was requested."""
    return lambda _, act, context: (late and act(), context.abort(grpc.StatusCode[code], words))


def reports(code: int, words: str) -> Fault:
    """An answer with an error of Milvus."""
    kinds = {"Upsert": milvus_pb2.MutationResult, "Query": milvus_pb2.QueryResults}
    status = common_pb2.Status(code=code, error_code=1, reason=words)
    return lambda rpc, *_: kinds.get(rpc, milvus_pb2.SearchResults)(status=status)


TEMPORARY = {
    "late": aborts("DEADLINE_EXCEEDED", "Deadline Exceeded", late=True),
    "loading": reports(103, "collection not fully loaded[collection=7]"),
    "away": aborts("UNAVAILABLE", "Socket closed"),
    "lost": aborts("UNAVAILABLE", "Connection reset by peer", late=True),
    "limited": reports(8, "request is rejected by grpc RateLimiter: rate limit exceeded"),
    "throttled": reports(9, "quota exceeded[reason=rate type: DMLInsert]"),
}
REPEATED = ("away", "lost", "limited")  # by pymilvus itself, until the call's deadline
LASTING = {
    "full": (reports(1, "[Errno 28] No space left on device"), "reports: [Errno 28] No space left"),
    "quota": (reports(9, "quota exceeded[reason=disk quota exceeded]"), "reports: quota exceeded"),
    "wordy": (reports(1, "no token:\n hush-hush" + "!" * 900), "reports: no token: ***!!!"),
    "user": (aborts("UNAUTHENTICATED", "auth check failure"), "refuses the user: set FINGERPRINT"),
    "role": (reports(65535, "permission deny to user root"), "refuses the user: set FINGERPRINT"),
}


class Milvus:
    """A server. `seen` counts requests, and `pauses` are the client's, in s, since `fail`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.seen, self.pauses = folder, 0, Counter[str](), list[float]()
        self.faults: dict[str, list[Fault | None]] = {}
        self.start()
        self.address = Address.parse(f"milvus://127.0.0.1:{self.port}/music?index=FLAT")
        self.client = server.Server(self.address)

    def start(self) -> None:
        self.db = MilvusLite(str(self.folder))
        self.server = grpc.server(ThreadPoolExecutor(8))
        milvus_pb2_grpc.add_MilvusServiceServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        self.server.start()

    def __getattr__(self, rpc: str) -> Callable[[Any, Any], Any]:
        return partial(self.answer, rpc)

    def answer(self, rpc: str, request: Any, context: Any) -> Any:
        self.seen[rpc] += 1
        good = partial(getattr(MilvusServicer(self.db), rpc), request, context)
        fault = (self.faults.get(rpc) or [None]).pop(0)
        return fault(rpc, good, context) if fault else good()

    def restarts(self, _rpc: str, _answer: Callable[[], Any], context: Any) -> None:
        """A fault: connections break, and the new server has loaded nothing."""
        old = self.server
        self.db.close()
        self.start()  # on the same port: gRPC sets SO_REUSEPORT
        old.stop(None)
        context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    def fail(self, rpc: str, fault: Fault, times: int = 1_000, *, after: int = 0) -> None:
        """Let some requests fail, after some that do not."""
        self.faults[rpc] = [*[None] * after, *[fault] * times]
        self.seen.clear()
        self.pauses.clear()


@pytest.fixture
def milvus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Milvus]:
    monkeypatch.setenv(server.TOKEN, "hush-hush")
    running = Milvus(tmp_path / "songs.db")
    clock = SimpleNamespace(monotonic=lambda: sum(running.pauses), sleep=running.pauses.append)
    monkeypatch.setattr(server, "time", clock)
    monkeypatch.setattr(indexing, "BATCH_ROWS", 100)
    fields = (("id", "INT64", 0), ("vector", "FLOAT_VECTOR", 2))
    running.client.create("plain", fields, server.INDICES["FLAT"])
    running.client.upsert("plain", ROWS)
    yield running
    running.client.close()
    running.server.stop(None)
    running.db.close()


def error_of(call: Callable[..., Any], *values: Any, **named: Any) -> str:
    """The message of a call that fails: one short line without the password."""
    line = r"\AMilvus at milvus://127.0.0.1:\d+/music (?!.*(hush|RpcError)).{,320}\Z"
    with pytest.raises(LibraryError, match=line) as caught:
        call(*values, **named)
    return str(caught.value)


@pytest.mark.parametrize("kind", TEMPORARY)
def test_call_is_repeated_for_a_minute(milvus: Milvus, kind: str) -> None:
    for rpc, (call, result) in CALLS.items():
        milvus.fail(rpc, TEMPORARY[kind], times=3)
        assert call(milvus.client) == result
        assert (milvus.seen[rpc], milvus.pauses) == (4, [] if kind in REPEATED else PAUSES[:3])
    milvus.fail("Query", TEMPORARY[kind])
    wait = 0.02 if kind in REPEATED else server.TIMEOUT
    assert "not answer" in error_of(milvus.client.call, "query", "plain", ids=[1], timeout=wait)
    assert (milvus.seen["Query"] == 15 or kind in REPEATED, milvus.pauses) == (True, PAUSES)


@pytest.mark.parametrize("kind", LASTING)
def test_lasting_failure_is_not_repeated(milvus: Milvus, kind: str) -> None:
    fault, words = LASTING[kind]
    for rpc, (call, _) in CALLS.items():
        milvus.fail(rpc, fault)
        assert words in error_of(call, milvus.client)
        assert (milvus.seen[rpc], milvus.pauses) == (1, [])
    if kind == "user":  # is refused when it connects to a server that has restarted
        milvus.fail("Connect", fault)
        milvus.fail("Query", milvus.restarts)
        assert words in error_of(CALLS["Query"][0], milvus.client)
        assert (milvus.seen["Connect"], milvus.pauses) == (1, [])


def test_slow_answer_is_requested_again(milvus: Milvus) -> None:
    over = Event()  # when the client has given up
    milvus.fail("Query", lambda *one: one[2].add_callback(over.set) and over.wait(), times=1)
    assert len(milvus.client.call("query", "plain", ids=[1], timeout=1.0)) == 1
    assert (milvus.seen["Query"], milvus.pauses) == (2, [0.5])


def test_a_write_that_fails_after_two_minutes_is_repeated(milvus: Milvus) -> None:
    def hangs(_rpc: str, _answer: Callable[[], Any], context: Any) -> None:
        milvus.pauses.append(server.WRITE_TIMEOUT)
        context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    milvus.fail("Upsert", hangs, times=1)
    milvus.client.upsert("plain", ROWS)
    assert (milvus.seen["Upsert"], milvus.pauses) == (2, [server.WRITE_TIMEOUT, 0.5])


def test_unloaded_collection_is_loaded_again(milvus: Milvus) -> None:
    query, result = CALLS["Query"]
    fault = reports(server.NOT_LOADED, "collection not loaded[collection=449888229865560632]")
    milvus.fail("Query", fault, times=1)
    assert query(milvus.client) == result
    assert (milvus.seen["Query"], milvus.seen["LoadCollection"], milvus.pauses) == (2, 1, [])
    milvus.fail("Query", fault)
    assert "not answer: collection not loaded" in error_of(query, milvus.client)
    assert (milvus.seen["Query"], milvus.seen["LoadCollection"], milvus.pauses) == (30, 15, PAUSES)


@pytest.mark.parametrize("after", range(4, 8))
@pytest.mark.parametrize("kind", ["full", "late", "restart"])
def test_broken_run_is_completed(milvus: Milvus, tmp_path: Path, kind: str, after: int) -> None:
    """A run commits two of four songs at a time, each time with four writes."""
    music = [write_song(tmp_path / f"{seed:04d}.wav", seed) for seed in range(1, 5)]
    fault = {"full": LASTING["full"][0], "late": TEMPORARY["late"]}.get(kind, milvus.restarts)
    kept = 0 if kind == "restart" else 4 if (kind, after) == ("late", 7) else 2
    with MilvusLibrary.create_or_open_at(milvus.address, Toy()) as library:
        milvus.fail("Upsert", fault, 1_000 if kept else 1, after=after)
        if kept:
            error_of(indexing.index_files, library, music)
            assert names_in(library) == [path.name for path in music[:kept]]
            milvus.fail("Upsert", fault, times=0)
        report = indexing.index_files(library, music)
        assert (report.added, report.skipped, milvus.faults["Upsert"]) == (4 - kept, kept, [])
        milvus.fail("Search", milvus.restarts, times=1)
        assert place_of(library, 4)[0] == "0004.wav"
        assert names_in(library) == [path.name for path in music]
        assert len(library._place.entries("id > 0")) == 4
        assert milvus.client.count("music_rows") == 4 * 78 - 1  # one is silent
