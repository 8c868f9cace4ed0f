"""`/v1/identify` and `/v1/scan`: recognise the tracks in an uploaded snippet or recording."""

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
from fingerprint.search import SearchConfig
from fingerprint.serving import records, wire
from fingerprint.serving.bodies import BODY_PROBLEMS, RECORDING_BODY, media_type, receive
from fingerprint.serving.pools import DecodeLimits, decode_blocks, decode_whole
from fingerprint.serving.problems import Problem, documented, library_unavailable
from fingerprint.serving.records import BINARY, json_response
from fingerprint.serving.service import Served, Service
from fingerprint.serving.slots import client_of
from fingerprint.types import Clip, Outline, SpeedWanted

router = APIRouter(tags=["recognition"])
MIN_CONFIDENCE = SearchConfig().min_confidence  # where a request names none
QUERY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A recording in any container, as it is: no form, no base64. Or a query "
        "whose embeddings and spectral peaks the client has computed.",
        "content": {"application/octet-stream": BINARY, wire.MEDIA_TYPE: BINARY},
    }
}
Name = Annotated[
    str, Query(max_length=200, description="What to call the recording in the answer.")
]
MinConfidence = Annotated[
    float, Query(ge=0, le=1, description="Candidates below this confidence are not matches.")
]
Form = Literal["json", "csv", "cue", "audacity", "tracklist"]
MEDIA_TYPES = {
    "json": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "cue": "application/x-cue; charset=utf-8",
    "audacity": "text/plain; charset=utf-8",
    "tracklist": "text/plain; charset=utf-8",
}


@router.post(
    "/v1/identify",
    summary="Identify the recording that a snippet is from",
    openapi_extra=QUERY_BODY,
    response_class=Response,
    responses={
        200: {
            "model": records.Identified,
            "content": {"application/json": {"example": records.IDENTIFIED}},
        },
        **documented(*BODY_PROBLEMS, "nothing-to-recognise", "other-model"),
    },
)
async def identify(
    request: Request,
    service: Served,
    top: Annotated[int, Query(ge=1, le=50, description="Greatest number of matches.")] = 5,
    min_confidence: MinConfidence = MIN_CONFIDENCE,
    name: Name = "body",
    speeds: Annotated[
        Literal["in-doubt", "as-it-is"],
        Query(description="When the query is searched at other playback speeds, too."),
    ] = "in-doubt",
) -> Response:
    """The same object as `fingerprint identify --json`; no match is status 200, too."""
    limits = service.settings.limits
    options = QueryOptions(top, min_confidence, "as it is" if speeds == "as-it-is" else "in doubt")
    service.queries.check(client_of(request))  # refuse before the body is received
    if media_type(request) == wire.MEDIA_TYPE:
        return await _identify_outline(request, service, options, name)
    file = await receive(request, service, limits.body)

    def job() -> dict[str, Any]:
        with file:
            begin = perf_counter()
            bounds = DecodeLimits(limits.seconds, limits.decoding)
            rate = service.library.model.sample_rate
            clip, damage = decode_whole(service.decoders, file, rate, name, bounds)
            decoded = perf_counter()
            service.metrics.phase.labels("decode").observe(decoded - begin)
            matches = find_matches(service, clip, options)
            service.metrics.phase.labels("recognise").observe(perf_counter() - decoded)
            return query_record(name, perf_counter() - begin, matches, damage)

    record = await service.queries.run(client_of(request), job)
    if matches := record["matches"]:
        service.journal.add("identify", matches[0])
    return json_response(record)


async def _identify_outline(
    request: Request, service: Service, options: "QueryOptions", name: str
) -> Response:
    """Answer a computed query (`wire`).

    If recognition needs the query at other speeds that it does not hold, the status is `doubtful`,
    and `speeds` lists them.
    """
    file = await receive(request, service, min(wire.MAX_BYTES, service.settings.limits.body))

    def job() -> dict[str, Any]:
        begin, model = perf_counter(), service.library.model
        with file:
            data = file.read()
        try:
            model_id, query = wire.decode(data, model.sample_rate, model.dim)
        except ValueError as error:
            raise Problem("unreadable", f"not a query: {error}") from error
        if model_id != model.id:
            raise Problem(
                "other-model",
                f"it was made with {model_id[:12]}; the library is of {model.id[:12]}",
            )
        try:
            matches = find_matches(service, query, options)
        except SpeedWanted as wanted:
            record = query_record(name, perf_counter() - begin)
            return {**record, "status": "doubtful", "speeds": _speeds(service, wanted.speed)}
        return query_record(name, perf_counter() - begin, matches)

    record = await service.queries.run(client_of(request), job)
    matches = record["matches"]
    # Remote libraries request candidates at any confidence; only sure ones are logged.
    if matches and matches[0]["confidence"] >= MIN_CONFIDENCE:
        service.journal.add("identify", matches[0])
    return json_response(record)


def _speeds(service: Service, wanted: float) -> list[float]:
    """All speeds of the search step that needs the speed `wanted`: it will need the others, too."""
    config = service.library.config
    for semitones in (config.semitones, config.far_semitones):
        step = [2 ** (one / 12) for one in semitones]
        if any(abs(one - wanted) < 1e-9 for one in step):
            return step
    return [wanted]


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """The parameters of a query."""

    top: int
    min_confidence: float
    speeds: Speeds


def find_matches(service: Service, clip: Clip, options: QueryOptions) -> list[Any]:
    """The matches of a clip or of a computed query (`Outline`); the outcome is counted.

    Raises:
        Problem: there is nothing to recognise in it, or the library cannot be read.
        SpeedWanted: the computed query is needed at other speeds.
    """
    library = service.library
    model = wire.OutlineModel(library.model) if isinstance(clip, Outline) else library.model
    try:
        result = recognise(
            library.snapshot(),
            clip,
            model,
            top=options.top,
            config=library.config,
            speeds=options.speeds,
            parts=True,
        )
    except (LibraryError, OSError) as error:
        raise library_unavailable(error) from error
    if result.nothing not in (None, "nothing near enough"):
        service.metrics.answers.labels("nothing").inc()
        raise Problem("nothing-to-recognise", SPOKEN[result.nothing])
    matches = result.at_least(options.min_confidence)
    service.metrics.answers.labels("match" if matches else "no-match").inc()
    return matches


@router.post(
    "/v1/scan",
    summary="Identify everything that plays in a long recording",
    openapi_extra=RECORDING_BODY,
    response_class=Response,
    responses={
        200: {
            "description": "JSON Lines, sent as spans are found; or another format.",
            "content": {
                "application/x-ndjson": {"schema": {"type": "string"}, "example": records.SPAN},
                "text/csv": {"schema": {"type": "string"}},
                "application/x-cue": {"schema": {"type": "string"}},
                "text/plain": {"schema": {"type": "string"}},
            },
        },
        **documented(*BODY_PROBLEMS),
    },
)
async def scan_recording(
    request: Request,
    service: Served,
    form: Annotated[Form, Query(alias="format")] = "json",
    min_confidence: MinConfidence = MIN_CONFIDENCE,
    name: Name = "body",
) -> Response:
    """The lines of `fingerprint scan`, streamed while the recording is scanned.

    If the scan fails after the first line, the last line is a JSON object with `error`.
    """
    limits = service.settings.limits
    service.scans.check(client_of(request))
    file = await receive(request, service, limits.long_body)
    lines = _LineStream(
        service, client_of(request), lambda: _scan(service, file, name, form, min_confidence)
    )
    first = await lines.begin()
    return StreamingResponse(lines.rest(first), media_type=MEDIA_TYPES[form])


def _scan(
    service: Service, file: BinaryIO, name: str, form: Form, min_confidence: float
) -> Iterator[str]:
    library, limits = service.library, service.settings.limits
    report = DecodeReport()
    bounds = DecodeLimits(limits.long_seconds, limits.long_decoding)
    with file:
        rate = library.model.sample_rate
        decoded = decode_blocks(service.decoders, file, rate, name, bounds, report)
        spans = scan(file, library, name=name, min_confidence=min_confidence, blocks=decoded)
        first = list(islice(spans, 1))  # before a header line: it raises if decoding fails
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


class _LineStream:
    """Lines that a thread produces and a client consumes, with back-pressure by a bounded queue."""

    def __init__(self, service: Service, client: str, make: Callable[[], Iterator[str]]) -> None:
        self._service, self._client, self._make = service, client, make
        self._queue: asyncio.Queue[str | Exception | None] = asyncio.Queue(8)
        self._loop = asyncio.get_running_loop()
        self._disconnected = False

    async def begin(self) -> str | None:
        """Start the thread and wait for the first line; None if there is none.

        Raises:
            Problem: it failed before the first line.
        """
        self._task = asyncio.create_task(self._service.scans.run(self._client, self._work))
        waiting = asyncio.create_task(self._queue.get())
        await asyncio.wait([waiting, self._task], return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done() and self._task.done() and self._task.exception() is not None:
            waiting.cancel()
            await self._task  # raises: the pool's queue is full
        first = await waiting
        if isinstance(first, Exception):
            raise first
        return first

    async def rest(self, first: str | None) -> AsyncIterator[str]:
        """The first line and all others. When the client disconnects, the thread stops."""
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
            self._disconnected = True
            while not self._queue.empty():
                self._queue.get_nowait()  # the thread may be waiting for room in the queue

    def _work(self) -> None:
        end: Exception | None = None
        try:
            with closing(self._make()) as lines:  # type: ignore[type-var]
                for line in lines:
                    if self._disconnected or self._service.stopping.is_set():
                        return
                    self._put(line)
        except (LibraryError, OSError) as error:
            end = library_unavailable(error)
        except Exception as error:
            end = error
        finally:
            self._put(end)

    def _put(self, item: str | Exception | None) -> None:
        if not self._disconnected:
            try:
                asyncio.run_coroutine_threadsafe(self._queue.put(item), self._loop).result(60)
            except (TimeoutError, FutureCancelledError, RuntimeError):
                self._disconnected = True  # the client reads nothing
