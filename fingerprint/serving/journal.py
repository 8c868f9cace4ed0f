"""What was recognised, kept for a while, and passed on to those who listen or have a webhook.

One SQLite file holds the log and the outbox of webhooks, so that an entry and its message are
written together or not at all: a process that is killed loses neither.
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
MOST_ENTRIES = 200_000
SWEEP_EVERY = 500  # entries, after which old ones are deleted
LONGEST_PAUSE = 3600.0  # s between two attempts to deliver a message
PATIENCE = 1.0  # s that another process may keep the file locked
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
    """A webhook's call that is still to be made."""

    id: str
    body: str
    attempts: int


class Journal:
    """The log; `file` is None for one that a process keeps to itself.

    With `webhook`, every entry leaves a message in the outbox. `keep_days` 0 keeps nothing.

    Raises:
        LibraryError: the file cannot be written, or is none of ours.
    """

    def __init__(self, file: Path | None, *, keep_days: float, webhook: bool) -> None:
        self._keep, self._webhook, self._lock = keep_days * 86_400, webhook, Lock()
        self._readers: set[asyncio.Event] = set()
        self._added = 0
        self.news = asyncio.Event()  # the outbox has something new
        name = str(file) if file else ":memory:"
        try:
            self._db = sqlite3.connect(
                name, PATIENCE, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(_SCHEMA)
            self._sweep()
        except sqlite3.DatabaseError as error:
            raise LibraryError(
                f"cannot keep a log in {name}: {error}; name another file with --log"
            ) from error

    def close(self) -> None:
        self._db.close()

    def add(self, source: Source, match: dict[str, object]) -> None:
        """Write down what was recognised, and tell all readers. Called on the event loop.

        A disk that is full costs the entry, and not the answer that it is about.
        """
        if not self._keep:
            return
        try:
            self._insert(source, match)
        except sqlite3.Error as error:
            log.error("what was recognised could not be logged, nor passed on: %s", error)
            return
        self.news.set()
        for reader in self._readers:
            reader.set()

    def _insert(self, source: Source, match: dict[str, object]) -> None:
        now = time.time()
        with self._transaction():
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
        self._added += 1
        if self._added % SWEEP_EVERY == 0:
            self._sweep()

    def entries(
        self, *, before: int | None = None, after: int = 0, limit: int, newest: bool = True
    ) -> list[dict[str, Any]]:
        """Entries with numbers between two, the newest or the oldest of them first."""
        order = "DESC" if newest else "ASC"
        with self._lock:
            rows = self._db.execute(
                f"SELECT id, time, source, match FROM log WHERE id > ? AND id < ? "  # noqa: S608
                f"ORDER BY id {order} LIMIT ?",
                (after, (1 << 62) if before is None else before, limit),
            ).fetchall()
        return [_entry(row) for row in rows]

    @property
    def newest(self) -> int:
        """The number of the newest entry; 0 if there is none."""
        found = self.entries(limit=1)
        return int(found[0]["id"]) if found else 0

    @contextmanager
    def reader(self) -> Iterator[asyncio.Event]:
        """What is set when there are new entries."""
        news = asyncio.Event()
        self._readers.add(news)
        try:
            yield news
        finally:
            self._readers.discard(news)

    def due(self, now: float, most: int = 20) -> list[Message]:
        """Messages whose time has come, the oldest first.

        Those that are due later than they can be, were put off when the clock was wrong.
        """
        with self._lock:
            rows = self._db.execute(
                "SELECT id, body, attempts FROM outbox WHERE due <= ? OR due > ? "
                "ORDER BY written LIMIT ?",
                (now, now + LONGEST_PAUSE + 1, most),
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

    def _sweep(self) -> None:
        with self._transaction():
            self._db.execute("DELETE FROM log WHERE time < ?", (time.time() - self._keep,))
            self._db.execute(
                "DELETE FROM log WHERE id <= (SELECT max(id) FROM log) - ?", (MOST_ENTRIES,)
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
