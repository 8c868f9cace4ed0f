"""`/v1/identify` and `/v1/scan`: which tracks are in what a client sends?"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError as FutureCancelledError
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from fingerprint.answers import json_line, query_record, span_record
from fingerprint.audio.report import DecodeReport
from fingerprint.errors import LibraryError
from fingerprint.recognition.recognise import SPOKEN, Speeds, recognise
from fingerprint.scanning import Span, formats, scan
from fingerprint.serving import records, wire
from fingerprint.serving.bodies import check, media_type, received
from fingerprint.serving.places import client_of
from fingerprint.serving.problems import Problem, documented
from fingerprint.serving.service import Served, Service
from fingerprint.serving.work import Bounds, blocks, whole
from fingerprint.types import Clip, Outline, SpeedWanted

router = APIRouter(tags=["recognition"])
LEAST = 0.98
RECORDING: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A recording in any container, as it is: no form, no base64.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
OF_A_BODY = (  # problems of every route that takes a recording
    "unreadable",
    "too-large",
    "too-long",
    "too-slow",
    "not-a-body",
    "bad-request",
    "library-unavailable",
)
BINARY = {"schema": {"type": "string", "format": "binary"}}
QUERY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A recording in any container, as it is: no form, no base64. Or a query of "
        "which the client has computed embeddings and spectral peaks itself.",
        "content": {"application/octet-stream": BINARY, wire.MEDIA_TYPE: BINARY},
    }
}
Name = Annotated[
    str, Query(max_length=200, description="What to call the recording in the answer.")
]
Sure = Annotated[
    float, Query(ge=0, le=1, description="Below this probability a candidate is no match.")
]
Form = Literal["json", "csv", "cue", "audacity", "tracklist"]
MEDIA = {
    "json": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "cue": "application/x-cue; charset=utf-8",
    "audacity": "text/plain; charset=utf-8",
    "tracklist": "text/plain; charset=utf-8",
}


@router.post(
    "/v1/identify",
    summary="Name the recording that a snippet is from",
    openapi_extra=QUERY,
    response_class=Response,
    responses={
        200: {
            "model": records.Identified,
            "content": {"application/json": {"example": records.IDENTIFIED}},
        },
        **documented(*OF_A_BODY, "nothing-to-recognise", "other-model"),
    },
)
async def identify(
    request: Request,
    service: Served,
    top: Annotated[int, Query(ge=1, le=50, description="At most so many matches.")] = 5,
    min_confidence: Sure = LEAST,
    name: Name = "body",
    speeds: Annotated[
        Literal["in-doubt", "as-it-is"],
        Query(description="When it is tried at other playback speeds."),
    ] = "in-doubt",
) -> Response:
    """The object of `fingerprint identify --json`; no match is an answer as well."""
    limits = service.settings.limits
    asked = Asked(top, min_confidence, "as it is" if speeds == "as-it-is" else "in doubt")
    service.queries.check(client_of(request))  # before a body that would be in vain
    if media_type(request) == wire.MEDIA_TYPE:
        return await _identify_outline(request, service, asked, name)
    file = await receive(request, service, limits.body)

    def job() -> dict[str, Any]:
        with file:
            begin = perf_counter()
            bounds = Bounds(limits.seconds, limits.decoding)
            rate = service.library.model.sample_rate
            clip, damage = whole(service.decoders, file, rate, name, bounds)
            decoded = perf_counter()
            service.metrics.phase.labels("decode").observe(decoded - begin)
            matches = recognised(service, clip, asked)
            service.metrics.phase.labels("recognise").observe(perf_counter() - decoded)
            return query_record(name, perf_counter() - begin, matches, damage)

    record = await service.queries.run(client_of(request), job)
    if matches := record["matches"]:
        service.journal.add("identify", matches[0])
    return Response(json_line(record), media_type="application/json")


async def _identify_outline(
    request: Request, service: Service, asked: "Asked", name: str
) -> Response:
    """A query that a client has outlined; in doubt, at which other speeds it is wanted too."""
    file = await receive(request, service, min(wire.LARGEST, service.settings.limits.body))

    def job() -> dict[str, Any]:
        begin, model = perf_counter(), service.library.model
        with file:
            data = file.read()
        try:
            model_id, query = wire.decode(data, model.sample_rate, model.dim)
        except ValueError as error:
            raise Problem("unreadable", f"not a query: {error}") from error
        if model_id != model.id:
            told = f"with {model_id[:12]}; the library is of {model.id[:12]}"
            raise Problem("other-model", f"it was made {told}")
        try:
            matches = recognised(service, query, asked)
        except SpeedWanted as wanted:
            record = query_record(name, perf_counter() - begin)
            return {**record, "status": "doubtful", "speeds": _speeds(service, wanted.speed)}
        return query_record(name, perf_counter() - begin, matches)

    record = await service.queries.run(client_of(request), job)
    matches = record["matches"]
    if matches and matches[0]["confidence"] >= LEAST:  # clients ask for candidates, too
        service.journal.add("identify", matches[0])
    return Response(json_line(record), media_type="application/json")


def _speeds(service: Service, wanted: float) -> list[float]:
    """The speed that is wanted, and with it all that are tried in the same look."""
    config = service.library.config
    names = [name for name in type(config).model_fields if name.endswith("semitones")]
    for semitones in (getattr(config, name) for name in names):
        planned = [2 ** (one / 12) for one in semitones]
        if any(abs(one - wanted) < 1e-9 for one in planned):
            return planned
    return [wanted]


@dataclass(frozen=True, slots=True)
class Asked:
    """How many matches of a query, how sure at least, and when other speeds are tried."""

    top: int
    least: float
    speeds: Speeds


def recognised(service: Service, clip: Clip, asked: Asked) -> list[Any]:
    """The matches of a clip, or of the outline of one; counts its outcome.

    Raises:
        Problem: there is nothing to recognise in it, or the library is out of order.
        SpeedWanted: the outline is wanted at other speeds.
    """
    library = service.library
    model = wire.OutlineModel(library.model) if isinstance(clip, Outline) else library.model
    try:
        result = recognise(
            library.snapshot(),
            clip,
            model,
            top=asked.top,
            config=library.config,
            speeds=asked.speeds,
            parts=True,
        )
    except (LibraryError, OSError) as error:
        raise unavailable(error) from error
    if result.nothing not in (None, "nothing near enough"):
        service.metrics.answers.labels("nothing").inc()
        raise Problem("nothing-to-recognise", SPOKEN[result.nothing])
    matches = result.at_least(asked.least)
    service.metrics.answers.labels("match" if matches else "no-match").inc()
    return matches


def unavailable(error: Exception) -> Problem:
    """The problem that an error of the library is; its own words name folders of the server."""
    held = "another program" in str(error) or "another run" in str(error)
    return Problem(
        "library-unavailable",
        "another program is writing to the library" if held else "the library cannot be read",
    )


async def receive(request: Request, service: Service, most: int) -> BinaryIO:
    """The body, as one of a bounded number that are received at once.

    Raises:
        Problem: as `bodies.received`, or there are too many.
    """
    if service.stopping.is_set():
        raise Problem("stopping")
    check(request, most)
    limits = service.settings.limits
    begin = perf_counter()
    try:
        with (service.long_bodies if most > limits.body else service.bodies).taken(
            client_of(request)
        ):
            return await received(request, most, limits)
    finally:
        service.metrics.phase.labels("receive").observe(perf_counter() - begin)


@router.post(
    "/v1/scan",
    summary="Name everything that plays in a long recording",
    openapi_extra=RECORDING,
    response_class=Response,
    responses={
        200: {
            "description": "JSON Lines as spans are found, or another format.",
            "content": {
                "application/x-ndjson": {"schema": {"type": "string"}, "example": records.SPAN},
                "text/csv": {"schema": {"type": "string"}},
                "application/x-cue": {"schema": {"type": "string"}},
                "text/plain": {"schema": {"type": "string"}},
            },
        },
        **documented(*OF_A_BODY),
    },
)
async def scan_recording(
    request: Request,
    service: Served,
    form: Annotated[Form, Query(alias="format")] = "json",
    min_confidence: Sure = LEAST,
    name: Name = "body",
) -> Response:
    """The lines of `fingerprint scan`, while the recording is being read.

    Where it breaks off after the first line, the last line of JSON Lines is an object with `error`.
    """
    limits = service.settings.limits
    service.scans.check(client_of(request))
    file = await receive(request, service, limits.long_body)
    lines = _Lines(
        service, client_of(request), lambda: _scanned(service, file, name, form, min_confidence)
    )
    first = await lines.begin()
    return StreamingResponse(lines.rest(first), media_type=MEDIA[form])


def _scanned(
    service: Service, file: BinaryIO, name: str, form: Form, least: float
) -> Iterator[str]:
    library, limits = service.library, service.settings.limits
    report = DecodeReport()
    bounds = Bounds(limits.long_seconds, limits.long_decoding)
    with file:
        decoded = blocks(service.decoders, file, library.model.sample_rate, name, bounds, report)
        spans = scan(file, library, name=name, min_confidence=least, blocks=decoded)
        first = list(islice(spans, 1))  # before a header: what cannot be read is a problem
        yield from (f"{line}\n" for line in _lines(name, chain(first, spans), form))
        if report.damage and form == "json":
            warnings = [one.as_record() for one in report.damage]
            yield json_line({"recording": name, "warnings": warnings}) + "\n"


def _lines(name: str, spans: Iterator[Span], form: Form) -> Iterator[str]:
    if form == "json":
        yield from (json_line(span_record(name, span)) for span in spans)
    elif form == "csv":
        yield formats.csv_header()
        yield from (formats.csv_line(name, span) for span in spans)
    elif form == "cue":
        yield from formats.cue_sheet(Path(name), spans)
    elif form == "audacity":
        yield from map(formats.audacity_line, spans)
    else:
        yield from map(formats.tracklist_line, spans)


class _Lines:
    """Lines that a thread makes and a client takes: one waits for the other."""

    def __init__(self, service: Service, client: str, make: Callable[[], Iterator[str]]) -> None:
        self._service, self._client, self._make = service, client, make
        self._queue: asyncio.Queue[str | Exception | None] = asyncio.Queue(8)
        self._loop = asyncio.get_running_loop()
        self._left = False

    async def begin(self) -> str | None:
        """Start, and give the first line; None if there is none.

        Raises:
            Problem: there is not even a first line.
        """
        self._task = asyncio.create_task(self._service.scans.run(self._client, self._work))
        waiting = asyncio.create_task(self._queue.get())
        await asyncio.wait([waiting, self._task], return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done() and self._task.done() and self._task.exception() is not None:
            waiting.cancel()
            await self._task  # raises: there was no place at the desk
        first = await waiting
        if isinstance(first, Exception):
            raise first
        return first

    async def rest(self, first: str | None) -> AsyncIterator[str]:
        """All lines. Where the client leaves, the work ends."""
        try:
            line: str | Exception | None = first
            while line is not None:
                if isinstance(line, Problem):
                    yield json_line({"error": line.detail}) + "\n"
                    return
                if isinstance(line, Exception):
                    raise line
                yield line
                line = await self._queue.get()
        finally:
            self._left = True
            while not self._queue.empty():
                self._queue.get_nowait()  # so that the thread is not kept waiting

    def _work(self) -> None:
        end: Exception | None = None
        try:
            with closing(self._make()) as lines:  # type: ignore[type-var]
                for line in lines:
                    if self._left or self._service.stopping.is_set():
                        return
                    self._put(line)
        except (LibraryError, OSError) as error:
            end = unavailable(error)
        except Exception as error:
            end = error
        finally:
            self._put(end)

    def _put(self, what: str | Exception | None) -> None:
        if not self._left:
            try:
                asyncio.run_coroutine_threadsafe(self._queue.put(what), self._loop).result(60)
            except (TimeoutError, FutureCancelledError, RuntimeError):
                self._left = True  # a client that takes nothing
