"""`/v1/log`: what was recognised, as a list, as CSV and as it happens."""

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
from fingerprint.serving.places import Places, client_of
from fingerprint.serving.problems import Problem, documented
from fingerprint.serving.service import Served, Service

router = APIRouter(prefix="/v1/log", tags=["log"])
COLUMNS = ("time", "source", "artist", "title", "path", "offset", "confidence")
HEARTBEAT = 15.0  # s
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute
GREATEST = (1 << 62) - 1
PAGE = 100  # entries that are read at a time


@router.get(
    "",
    summary="What was recognised",
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
    cursor: Annotated[int, Query(ge=1, le=GREATEST, description="Of the page before.")] = GREATEST,
    form: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
) -> Response:
    """The newest first; `cursor` of an answer is for older ones."""
    found = service.journal.entries(before=cursor, limit=limit)
    if form == "csv":
        disposition = {"Content-Disposition": 'attachment; filename="log.csv"'}
        return Response(_csv(found), media_type="text/csv; charset=utf-8", headers=disposition)
    more = found[-1]["id"] if len(found) == limit else None
    return Response(json_line({"entries": found, "cursor": more}), media_type="application/json")


@router.get(
    "/stream",
    summary="What is being recognised",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events `recognised`, each an entry of the log.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **documented("stopping", "log-unavailable"),
    },
)
async def stream(
    request: Request,
    service: Served,
    last_event_id: Annotated[str, Header(max_length=20)] = "",
) -> Response:
    """With `Last-Event-ID` it goes on behind that entry."""
    if service.stopping.is_set():
        raise Problem("stopping")
    after = int(last_event_id) if last_event_id.isdecimal() else None
    _ = service.journal.newest  # a log that cannot be read is a problem, and no stream
    return _Stream(service.listeners, client_of(request), _events(service, after))


class _Stream(StreamingResponse):
    """Server-sent events to one client, which has a place for as long."""

    def __init__(self, places: Places, client: str, events: AsyncIterator[str]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._places, self._client = places, client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._places.taken(self._client):
            await super().__call__(scope, receive, send)


async def _events(service: Service, after: int | None) -> AsyncIterator[str]:
    """Read from the journal behind what was sent last: who is slow misses nothing."""
    stopping = asyncio.create_task(service.stopping.wait())
    journal = service.journal
    with journal.reader() as news:
        newest = journal.newest
        last = newest if after is None else after
        if last > newest:  # the log has begun anew
            last = 0
        try:
            yield "retry: 3000\n\n"
            while not stopping.done():
                news.clear()
                for entry in journal.entries(after=last, limit=PAGE, newest=False):
                    last = entry["id"]
                    yield _event(entry)
                    news.set()  # there may be another page
                coming = asyncio.create_task(news.wait())
                try:
                    done, _ = await asyncio.wait(
                        [coming, stopping], timeout=HEARTBEAT, return_when=asyncio.FIRST_COMPLETED
                    )
                finally:
                    coming.cancel()
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
        table.writerow([_harmless(cell) for cell in row])
    return text.getvalue()


def _harmless(cell: object) -> object:
    """Tags are strangers' text: a spreadsheet must not take one for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
