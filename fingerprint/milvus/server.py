"""A Milvus server, a cluster or a file of Milvus Lite: the only module that imports pymilvus.

Every call has a deadline and is repeated, with growing pauses, while the server is absent, refuses
or restarts. What still fails then is one LibraryError that says what to do.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any

from fingerprint.errors import LibraryError
from fingerprint.milvus.address import Address
from fingerprint.types import Floats

TIMEOUT = 30.0  # s for one call
WRITE_TIMEOUT = 120.0  # s for one write: a busy server slows writers down
LONG_TIMEOUT = 600.0  # s to build an index or to load a collection
PATIENCE = 60.0  # s from its first failure for which a call is repeated: the server may restart
FIRST_TIMEOUT = 10.0  # s to connect
FIRST_PATIENCE = 20.0  # s from its first failure for which connecting is repeated
PAUSE, LONGEST_PAUSE = 0.5, 5.0  # s between attempts
MOST = 16_384  # entities that Milvus returns in one answer, at most
USER, TOKEN = "FINGERPRINT_MILVUS_USER", "FINGERPRINT_MILVUS_TOKEN"  # environment variables
LONGEST_TEXT = 65_535  # bytes of a VARCHAR
LONGEST_REASON = 300  # characters of the server's own words in a message

NOT_LOADED = 101  # the error code of a collection that is not in memory
_REFUSED = ("UNAUTHENTICATED", "PERMISSION_DENIED", "auth check failure", "permission deny")


@dataclass(frozen=True, slots=True)
class Index:
    """A kind of index. `widening`: hits taken from it for each one returned after reranking."""

    name: str
    build: dict[str, int | str]
    widening: int = 1

    def search(self, effort: int, limit: int) -> dict[str, int]:
        """Parameters of a search for `limit` rows that inspects about `effort` rows a vector."""
        if self.name.startswith("IVF"):
            lists = int(self.build["nlist"])
            return {"nprobe": min(lists, max(16, effort // 100))}
        most = max(limit, min(1_000, effort // 20))
        return {"search_list": most} if self.name == "DISKANN" else {"ef": most}


_LISTS = 1_024  # of each of a server's segments, which are about a million rows
INDICES = {
    index.name: index
    for index in (
        Index("FLAT", {}),
        Index("IVF_FLAT", {"nlist": _LISTS}),
        Index("IVF_SQ8", {"nlist": _LISTS}),
        Index("IVF_PQ", {"nlist": _LISTS, "m": 32, "nbits": 8}, widening=5),
        Index("IVF_RABITQ", {"nlist": _LISTS, "refine": "true", "refine_type": "SQ8"}, widening=2),
        Index("HNSW", {"M": 16, "efConstruction": 200}),
        Index("HNSW_SQ", {"M": 16, "efConstruction": 200, "sq_type": "SQ8"}),
        Index("DISKANN", {}),
    )
}
LITE_LISTS = 128
SUITABLE = (  # on a server
    (100_000, ("IVF_SQ8", "IVF_FLAT")),
    (1_000_000, ("IVF_RABITQ", "IVF_PQ", "IVF_SQ8")),
    (10**12, ("DISKANN", "IVF_PQ", "IVF_SQ8")),
)  # up to so many tracks: the kinds that suit, the best first; a server may lack some
SUITABLE_IN_FILE = ((100, ("FLAT",)), (10**12, ("IVF_SQ8",)))  # with Milvus Lite


class Server:
    """A connection. Threads may share it."""

    def __init__(self, address: Address) -> None:
        """Connect.

        Raises:
            LibraryError: pymilvus is not installed, or the server does not answer or refuses.
        """
        self.address = address
        self.wrote = False
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC reports every attempt on stderr
        try:
            from pymilvus import MilvusClient
            from pymilvus.exceptions import MilvusException
        except ImportError as error:
            raise LibraryError(
                f"{address} needs pymilvus: pip install 'fingerprint[milvus]'"
            ) from error
        for name in ("pymilvus", "milvus_lite"):  # they log every error with its traceback
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        self._failure = MilvusException
        self._secret = os.environ.get(TOKEN, "")
        user = os.environ.get(USER, "")
        token = f"{user}:{self._secret}" if user else self._secret
        if address.embedded:
            _require_lite(address)
        self._client = self._repeated(
            lambda: MilvusClient(uri=address.uri, token=token, timeout=FIRST_TIMEOUT),
            patience=FIRST_PATIENCE,
        )
        if address.embedded:
            with _lock:
                _open_files[address.uri] += 1

    def close(self) -> None:
        self._client.close()
        if self.address.embedded:
            with _lock:
                _open_files[self.address.uri] -= 1
                last = not _open_files[self.address.uri]
            if last:
                from milvus_lite.server_manager import server_manager_instance

                server_manager_instance.release_server(self.address.uri)

    def call(self, method: str, *values: object, timeout: float = TIMEOUT, **named: Any) -> Any:
        """What a method of MilvusClient returns.

        Raises:
            LibraryError: the server is away, or refuses.
        """
        act = getattr(self._client, method)

        def once() -> Any:
            try:
                return act(*values, timeout=timeout, **named)
            except self._failure as error:
                if getattr(error, "code", None) != NOT_LOADED:
                    raise
            # As after a restart of the server.
            self._client.load_collection(values[0], timeout=LONG_TIMEOUT)
            return act(*values, timeout=timeout, **named)

        return self._repeated(once)

    def _repeated(self, act: Callable[[], Any], patience: float = PATIENCE) -> Any:
        """What `act` returns, repeated after temporary failures.

        The patience (s) begins with the first failure, so that a call which fails late, after a
        long timeout, is repeated as well.
        """
        import grpc

        end, pause = None, PAUSE
        while True:
            try:
                return act()
            except (self._failure, grpc.RpcError, OSError) as error:
                now = time.monotonic()
                end = now + patience if end is None else end
                if now + pause > end or not _is_temporary(error):
                    raise self._error(error) from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _error(self, error: Exception) -> LibraryError:
        words = _words(error)
        if self._secret:
            words = words.replace(self._secret, "***")
        where = f"Milvus at {self.address}"
        if _is_refused(error):
            return LibraryError(f"{where} refuses the user: set {USER} and {TOKEN}")
        if self.address.embedded and "Open local milvus failed" in words:
            return LibraryError(
                f"cannot open {self.address.uri}: another process has it open, or it cannot be "
                "written; a file of Milvus Lite serves one process at a time"
            )
        if _is_temporary(error):
            return LibraryError(f"{where} does not answer: {words[:LONGEST_REASON]}")
        return LibraryError(f"{where} reports: {words[:LONGEST_REASON]}")

    # Collections.

    def real_name(self, collection: str) -> str | None:
        """The collection with this name or alias; None if there is none."""
        if not self.call("has_collection", collection):
            return None
        return str(self.call("describe_collection", collection)["collection_name"])

    def fields(self, collection: str) -> dict[str, int]:
        """The names of a collection's fields, and the dimension of those that are vectors or 0."""
        found = self.call("describe_collection", collection)["fields"]
        return {one["name"]: int(one.get("params", {}).get("dim", 0)) for one in found}

    def create(self, collection: str, fields: Sequence[tuple[str, str, int]], index: Index) -> None:
        """Make a collection, unless there is one.

        Args:
            collection: its name.
            fields: the name, the type and the length of each; the first is the primary key.
            index: of its vectors.

        Raises:
            LibraryError: the server refuses.
        """
        from pymilvus import DataType, MilvusClient

        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        for number, (name, kind, length) in enumerate(fields):
            sized = {"FLOAT_VECTOR": {"dim": length}, "VARCHAR": {"max_length": length}}
            schema.add_field(name, DataType[kind], is_primary=number == 0, **sized.get(kind, {}))
        vector = next(name for name, kind, _ in fields if kind == "FLOAT_VECTOR")
        if self.call("has_collection", collection):
            return
        try:
            self.call(
                "create_collection",
                collection,
                schema=schema,
                index_params=self._index_of(vector, index),
                consistency_level="Bounded",
                timeout=LONG_TIMEOUT,
            )
        except LibraryError:
            if not self.call("has_collection", collection):  # another writer made it
                raise

    def _index_of(self, field: str, index: Index) -> Any:
        parameters = self._client.prepare_index_params()
        parameters.add_index(
            field, index_type=index.name, metric_type="IP", params=dict(index.build)
        )
        return parameters

    def drop(self, collection: str) -> None:
        self.call("drop_collection", collection)

    def index(self, collection: str) -> Index:
        """The index of a collection's vectors."""
        names = self.call("list_indexes", collection)
        found = self.call("describe_index", collection, names[0]) if names else {}
        name = str(found.get("index_type", "FLAT"))
        known = INDICES.get(name, Index(name, {"nlist": _LISTS}))
        return _sized(known, embedded=self.address.embedded)

    def rebuild(self, collection: str, index: Index) -> None:
        """Replace a collection's index; until it is built, queries fail."""
        self.call("release_collection", collection)
        for name in self.call("list_indexes", collection):
            self.call("drop_index", collection, name)
        parameters = self._index_of("vector", index)
        self.call("create_index", collection, parameters, timeout=LONG_TIMEOUT)
        self.call("load_collection", collection, timeout=LONG_TIMEOUT)

    def load(self, collection: str) -> None:
        """Load a collection into memory, as after a restart of the server."""
        self.call("load_collection", collection, timeout=LONG_TIMEOUT)

    def point(self, alias: str, collection: str) -> None:
        """Point an alias to a collection."""
        change = "alter_alias" if self.call("has_collection", alias) else "create_alias"
        self.call(change, collection, alias)

    # Entities.

    def upsert(self, collection: str, entities: list[dict[str, Any]], batch: int = 2_000) -> None:
        """Write entities; they replace those with the same keys."""
        self.wrote = True
        for first in range(0, len(entities), batch):
            self.call("upsert", collection, entities[first : first + batch], timeout=WRITE_TIMEOUT)

    def settle(self, collection: str) -> None:
        """Index what was written. A server does so by itself; Milvus Lite when it is flushed."""
        if self.address.embedded:
            self.call("flush", collection, timeout=LONG_TIMEOUT)

    def delete(self, collection: str, which: str) -> None:
        """Delete the entities that match an expression."""
        self.wrote = True
        self.call("delete", collection, filter=which)

    def query(
        self, collection: str, which: str, fields: Sequence[str], *, strong: bool = False
    ) -> list[dict[str, Any]]:
        """At most `MOST` entities that match an expression."""
        found: list[dict[str, Any]] = self.call(
            "query",
            collection,
            filter=which,
            output_fields=list(fields),
            limit=MOST,
            consistency_level=self._consistency(strong=strong),
        )
        return found

    def every(
        self,
        collection: str,
        which: str,
        fields: Sequence[str],
        *,
        bits: int,
        after: int = -1,
        strong: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """All entities that match an expression, by their keys.

        The keys, of `bits` bits, are hashes and so evenly spread: if there are too many entities
        for one answer, they are queried in ranges of keys. (The iterator of pymilvus has no
        consistency level.)

        Args:
            collection: its name.
            which: the expression.
            fields: what is returned of each.
            bits: of the greatest key.
            after: only keys above this one.
            strong: whether to include what another writer has just written.
        """
        whole = f"id > {after} and {which}"
        found = self.query(collection, whole, fields, strong=strong)
        bounds = [after + 1, 1 << bits]
        if len(found) == MOST:
            parts = 1 + 2 * self.count(collection, whole) // MOST
            bounds = [after + 1 + ((1 << bits) - after) * i // parts for i in range(parts)]
            bounds.append(1 << bits)
            found = []
        for low, high in pairwise(bounds):
            some = found
            if len(bounds) > 2:
                inside = f"id >= {low} and id < {high} and {which}"
                some = self.query(collection, inside, fields, strong=strong)
            yield from sorted(some, key=lambda one: int(one["id"]))

    def count(self, collection: str, which: str = "") -> int:
        found = self.call(
            "query",
            collection,
            filter=which,
            output_fields=["count(*)"],
            consistency_level=self._consistency(strong=False),
        )
        return int(found[0]["count(*)"])

    def nearest(
        self, collection: str, vectors: Floats, limit: int, parameters: dict[str, int]
    ) -> list[list[tuple[int, float]]]:
        """The keys of the nearest entities of each vector, with their inner products."""
        found = self.call(
            "search",
            collection,
            data=list(vectors),
            limit=limit,
            search_params={"metric_type": "IP", "params": parameters},
            consistency_level=self._consistency(strong=False),
        )
        return [[(int(one["id"]), float(one["distance"])) for one in some] for some in found]

    def _consistency(self, *, strong: bool) -> str:
        """A reader may lag some seconds behind writers; a writer sees what it wrote itself."""
        return "Strong" if strong else "Session" if self.wrote else "Bounded"


def suitable(server: Server, tracks: int) -> Sequence[Index]:
    """The kinds of index for a number of tracks, the best first."""
    embedded, named = server.address.embedded, server.address.index
    if named and named not in INDICES:
        raise LibraryError(f"there is no index {named!r}: choose {', '.join(INDICES)}")
    table = SUITABLE_IN_FILE if embedded else SUITABLE
    names = next(names for most, names in table if tracks <= most)
    return [_sized(INDICES[name], embedded=embedded) for name in ((named,) if named else names)]


def _sized(index: Index, *, embedded: bool) -> Index:
    """The index with a number of lists for the small segments of Milvus Lite."""
    if not embedded or "nlist" not in index.build:
        return index
    return replace(index, build={**index.build, "nlist": LITE_LISTS})


def _words(error: Exception) -> str:
    """The message of an error of pymilvus or gRPC, in one line."""
    details = getattr(error, "details", None)  # str() of a gRPC error is a dump of its fields
    said = getattr(error, "message", "") or (details() if callable(details) else "") or error
    return " ".join(str(said).split())


def _is_refused(error: BaseException) -> bool:
    """Whether the server rejects this user, according to the causes of a failed connection."""
    seen: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or any(one is other for other in seen):
            continue
        if any(word in str(one) for word in _REFUSED):
            return True
        seen.append(one)
        todo += [one.__cause__, one.__context__]  # pymilvus makes errors causes of themselves
    return False


def _is_temporary(error: Exception) -> bool:
    """Whether the same call may succeed if repeated."""
    words = str(error)
    if _is_refused(error) or "Open local milvus failed" in words:
        return False
    if isinstance(error, ConnectionError) or getattr(error, "retriable", False):
        return True
    code = getattr(error, "code", None)
    code = code() if callable(code) else code
    if getattr(code, "name", "") in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "CANCELLED"):
        return True
    return any(one in words for one in _TEMPORARY)


_TEMPORARY = (
    "Fail connecting",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "Retry timeout",
    "Retry run out",
    "rate type:",  # a rate limit of Milvus 2.4, which has the code of a lasting quota
    "not ready",
    "not loaded",
    "not fully loaded",
    "no available",
    "node not found",
    "channel not available",
    "rate limit",
)  # of messages: a server that starts, stops or is busy says so in many ways

_open_files: Counter[str] = Counter()  # of Milvus Lite, in this process
_lock = Lock()


def _require_lite(address: Address) -> None:
    try:
        import milvus_lite  # noqa: F401 - pymilvus imports it by itself
    except ImportError as error:
        raise LibraryError(
            f"{address} needs Milvus Lite: pip install 'fingerprint[milvus]'"
        ) from error
    folder = Path(address.uri).parent
    if not folder.is_dir():
        raise LibraryError(f"cannot open {address.uri}: there is no folder {folder}")
