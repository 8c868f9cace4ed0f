"""`/v1/log`: what was recognised, as a list, as CSV and as it happens."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response, StreamingResponse

from fingerprint.answers import json_line
from fingerprint.serving import records
from fingerprint.serving.problems import documented
from fingerprint.serving.service import Served, Service

router = APIRouter(prefix="/v1/log", tags=["log"])
COLUMNS = ("time", "source", "artist", "title", "path", "offset", "confidence")
HEARTBEAT = 15.0  # s
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute
GREATEST = (1 << 62) - 1


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
        **documented(),
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
        **documented("stopping"),
    },
)
async def stream(
    request: Request,
    service: Served,
    last_event_id: Annotated[str, Header(max_length=20)] = "",
) -> Response:
    """With `Last-Event-ID` it goes on behind that entry."""
    place = service.listener(request.client)
    after = int(last_event_id) if last_event_id.isdecimal() else None
    return StreamingResponse(_events(service, after, place), media_type="text/event-stream")


async def _events(service: Service, after: int | None, place: ExitStack) -> AsyncIterator[str]:
    stopping = asyncio.create_task(service.stopping.wait())
    with place, service.journal.reader() as queue:
        try:
            yield "retry: 3000\n\n"
            if after is not None and after <= GREATEST:
                for entry in service.journal.entries(after=after, limit=1000, newest=False):
                    yield _event(entry)
            while not stopping.done():
                coming = asyncio.create_task(queue.get())
                done, _ = await asyncio.wait(
                    [coming, stopping], timeout=HEARTBEAT, return_when=asyncio.FIRST_COMPLETED
                )
                if coming in done:
                    yield _event(coming.result())
                else:
                    coming.cancel()
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
