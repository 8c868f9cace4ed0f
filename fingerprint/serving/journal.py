"""The log of recognised tracks, with subscribers and an outbox for webhooks.

One SQLite file holds both the log and the outbox (a transactional outbox): an entry and its webhook
message are written in one transaction, so a crash loses neither.
"""

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Literal
from uuid import uuid4

from fingerprint.errors import LibraryError

Source = Literal["identify", "listen"]
MAX_ENTRIES = 200_000
MAX_BACKOFF = 3600.0  # s between two attempts to deliver a message
LOCK_TIMEOUT = 1.0  # s to wait while another process locks the file
log = logging.getLogger("fingerprint.journal")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,  -- s since 1970
    source TEXT NOT NULL,
    match TEXT NOT NULL  -- JSON
);
CREATE INDEX IF NOT EXISTS log_by_time ON log (time);
CREATE TABLE IF NOT EXISTS outbox (
    id TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    written REAL NOT NULL,
    attempts INTEGER NOT NULL,
    due REAL NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Message:
    """A webhook message that has not been delivered yet."""

    id: str
    body: str
    attempts: int


class Journal:
    """The log and the outbox, in a SQLite file, or in memory if `file` is None.

    With `webhook`, every entry also writes a message to the outbox. Entries are deleted after
    `keep_days`; 0 disables the log.

    Raises:
        LibraryError: the file cannot be written, or is not a log.
    """

    def __init__(self, file: Path | None, *, keep_days: float, webhook: bool) -> None:
        self._keep, self._webhook, self._lock = keep_days * 86_400, webhook, Lock()
        self._subscribers: set[asyncio.Event] = set()
        self.outbox_changed = asyncio.Event()  # a message was added
        name = str(file) if file else ":memory:"
        try:
            self._db = sqlite3.connect(
                name, LOCK_TIMEOUT, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(_SCHEMA)
            with self._transaction():
                self._expire(time.time())
        except sqlite3.DatabaseError as error:
            raise LibraryError(
                f"cannot keep a log in {name}: {error}; name another file with --log"
            ) from error

    def close(self) -> None:
        self._db.close()

    def add(self, source: Source, match: dict[str, object]) -> None:
        """Insert an entry and notify all subscribers. Must be called on the event loop.

        A failure (a full disk, say) is logged, not raised: the client still gets its answer.
        """
        if not self._keep:
            return
        try:
            self._insert(source, match)
        except sqlite3.Error as error:
            log.error("what was recognised could not be logged, nor passed on: %s", error)
            return
        self.outbox_changed.set()
        for subscriber in self._subscribers:
            subscriber.set()

    def _insert(self, source: Source, match: dict[str, object]) -> None:
        now = time.time()
        with self._transaction():
            self._expire(now)
            done = self._db.execute(
                "INSERT INTO log VALUES (NULL, ?, ?, ?)", (now, source, json.dumps(match))
            )
            entry = _entry((done.lastrowid, now, source, json.dumps(match)))
            if self._webhook:
                message = str(uuid4())
                body = json.dumps({"id": message, "type": "recognised", "data": entry})
                self._db.execute(
                    "INSERT INTO outbox VALUES (?, ?, ?, 0, ?)", (message, body, now, now)
                )

    def entries(
        self, *, before: int | None = None, after: int = 0, limit: int, newest: bool = True
    ) -> list[dict[str, Any]]:
        """At most `limit` entries with `after` < id < `before`, the newest or the oldest first.

        Entries that are to be deleted with the next insertion are left out.
        """
        order = "DESC" if newest else "ASC"
        with self._lock:
            rows = self._db.execute(
                "SELECT id, time, source, match FROM log WHERE id > ? AND id < ? AND time >= ? "  # noqa: S608
                f"ORDER BY id {order} LIMIT ?",
                (after, (1 << 62) if before is None else before, time.time() - self._keep, limit),
            ).fetchall()
        return [_entry(row) for row in rows]

    @property
    def newest(self) -> int:
        """The id of the newest entry; 0 if there is none."""
        found = self.entries(limit=1)
        return int(found[0]["id"]) if found else 0

    @contextmanager
    def subscribe(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever an entry is added."""
        added = asyncio.Event()
        self._subscribers.add(added)
        try:
            yield added
        finally:
            self._subscribers.discard(added)

    def due(self, now: float, limit: int = 20) -> list[Message]:
        """Messages that are due for delivery, the oldest first.

        A due time further away than the pause after the last attempt was set before the clock was
        put back, so such messages count as due, too.
        """
        with self._lock:
            rows = self._db.execute(
                "SELECT id, body, attempts FROM outbox "
                "WHERE due <= ?1 OR due > ?1 + 1 + min(?2, 1 << min(attempts, 30)) "
                "ORDER BY written LIMIT ?3",
                (now, MAX_BACKOFF, limit),
            ).fetchall()
        return [Message(*row) for row in rows]

    def next_due(self) -> float | None:
        """When the next message is due; None if there is none."""
        with self._lock:
            (found,) = self._db.execute("SELECT min(due) FROM outbox").fetchone()
        return None if found is None else float(found)

    def postpone(self, message: Message, due: float) -> None:
        with self._transaction():
            self._db.execute(
                "UPDATE outbox SET attempts = attempts + 1, due = ? WHERE id = ?",
                (due, message.id),
            )

    def drop(self, messages: Iterable[Message]) -> None:
        with self._transaction():
            self._db.executemany(
                "DELETE FROM outbox WHERE id = ?", [(message.id,) for message in messages]
            )

    def _expire(self, now: float) -> None:
        self._db.execute("DELETE FROM log WHERE time < ?", (now - self._keep,))
        self._db.execute(
            "DELETE FROM log WHERE id <= (SELECT max(id) FROM log) - ?", (MAX_ENTRIES,)
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise


def _entry(row: tuple[Any, ...]) -> dict[str, Any]:
    number, when, source, match = row
    shown = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds")
    return {"id": number, "time": shown, "source": source, "match": json.loads(match)}
