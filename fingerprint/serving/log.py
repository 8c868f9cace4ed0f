"""`/v1/log`: the log of recognised tracks, as pages of JSON, as CSV, and as server-sent events."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from fingerprint.answers import json_line
from fingerprint.serving import records
from fingerprint.serving.problems import Problem, documented
from fingerprint.serving.service import Served, Service
from fingerprint.serving.slots import Slots, client_of

router = APIRouter(prefix="/v1/log", tags=["log"])
COLUMNS = ("time", "source", "artist", "title", "path", "offset", "confidence")
HEARTBEAT = 15.0  # s
FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")  # spreadsheets take such cells for formulas
MAX_ID = (1 << 62) - 1
PAGE = 100  # entries that are read from the journal at a time


@router.get(
    "",
    summary="List what was recognised",
    response_class=Response,
    responses={
        200: {
            "model": records.Log,
            "content": {
                "application/json": {"example": {"entries": [records.ENTRY], "cursor": None}},
                "text/csv": {"schema": {"type": "string"}},
            },
        },
        **documented("log-unavailable"),
    },
)
def entries(
    service: Served,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[
        int, Query(ge=1, le=MAX_ID, description="The `cursor` of the previous page.")
    ] = MAX_ID,
    form: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
) -> Response:
    """The newest entries first; pass the answer's `cursor` to get older ones."""
    found = service.journal.entries(before=cursor, limit=limit)
    if form == "csv":
        disposition = {"Content-Disposition": 'attachment; filename="log.csv"'}
        return Response(_csv(found), media_type="text/csv; charset=utf-8", headers=disposition)
    more = found[-1]["id"] if len(found) == limit else None
    return records.json_response({"entries": found, "cursor": more})


@router.get(
    "/stream",
    summary="Follow what is recognised",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events named `recognised`, one for each log entry.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **documented("log-unavailable"),
    },
)
async def stream(
    request: Request,
    service: Served,
    last_event_id: Annotated[str, Header(max_length=20)] = "",
) -> Response:
    """With `Last-Event-ID` the stream resumes after that entry."""
    if service.stopping.is_set():
        raise Problem("stopping")
    after = int(last_event_id) if last_event_id.isdecimal() else None
    _ = service.journal.newest  # raises if the log cannot be read, before the stream begins
    return _Stream(service.listeners, client_of(request), _events(service, after))


class _Stream(StreamingResponse):
    """Server-sent events to one client, which holds a listener's slot meanwhile."""

    def __init__(self, slots: Slots, client: str, events: AsyncIterator[str]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._slots, self._client = slots, client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._slots.held(self._client):
            await super().__call__(scope, receive, send)


async def _events(service: Service, after: int | None) -> AsyncIterator[str]:
    """Entries after id `after`, or new ones only if it is None, until the server stops.

    They are read from the journal by id, so a slow client misses none.
    """
    stopping = asyncio.create_task(service.stopping.wait())
    journal = service.journal
    with journal.subscribe() as added:
        newest = journal.newest
        last = newest if after is None else after
        if last > newest:  # the log was deleted, and ids start again from 1
            last = 0
        try:
            yield "retry: 3000\n\n"
            while not stopping.done():
                added.clear()
                for entry in journal.entries(after=last, limit=PAGE, newest=False):
                    last = entry["id"]
                    yield _event(entry)
                    added.set()  # there may be another page
                waiting = asyncio.create_task(added.wait())
                try:
                    done, _ = await asyncio.wait(
                        [waiting, stopping], timeout=HEARTBEAT, return_when=asyncio.FIRST_COMPLETED
                    )
                finally:
                    waiting.cancel()
                if not done:
                    yield ": still here\n\n"
        finally:
            stopping.cancel()


def _event(entry: dict[str, object]) -> str:
    return f"id: {entry['id']}\nevent: recognised\ndata: {json_line(entry)}\n\n"


def _csv(found: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")
    table.writerow(COLUMNS)
    for entry in found:
        match = entry["match"]
        row = [entry["time"], entry["source"], *(match[name] for name in COLUMNS[2:])]
        table.writerow([_escape_formula(cell) for cell in row])
    return text.getvalue()


def _escape_formula(cell: object) -> object:
    """Prefix text that a spreadsheet would evaluate: tags are untrusted (CSV injection)."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_PREFIXES) else cell
