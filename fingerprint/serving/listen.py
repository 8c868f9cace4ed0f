"""`WS /v1/listen`: audio comes in over a WebSocket; events go out as soon as a track is recognised.

The client sends binary messages: raw 16-bit mono samples, or consecutive pieces of one WebM, Ogg or
MP4 file, as a browser's MediaRecorder makes them. A text message ends the audio. The server sends
the events of `fingerprint listen --log` and, on request, `partial` events with candidates below the
confidence threshold.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from typing import Annotated, Literal, TypeVar

import numpy as np
import soxr
from fastapi import APIRouter, Query, WebSocket
from starlette.websockets import WebSocketDisconnect

from fingerprint.answers import event_record, json_line, match_record
from fingerprint.errors import FingerprintError
from fingerprint.listening.listener import LOOK_EVERY, LOOKS, Event
from fingerprint.scanning import Heard, Scanner, Span
from fingerprint.serving.pools import DecodeLimits, decode_whole
from fingerprint.serving.problems import Problem, library_unavailable
from fingerprint.serving.queries import MIN_CONFIDENCE
from fingerprint.serving.service import Service
from fingerprint.serving.slots import client_of
from fingerprint.types import FULL_SCALE, Clip, Floats, Match

T = TypeVar("T")
router = APIRouter()
LONGEST = LOOKS[-1]  # s of audio that are searched, the most recent
PATIENCE = 30.0  # s of audio after which mode `once` gives up
LARGEST_RECORDING = 8 << 20  # bytes of a recording in pieces
CANDIDATES = 3  # in a `partial` event
TRIES, PAUSE = 10, 1.0  # retries of a search in mode `continuous` when busy; s between them
FASTEST = 2.0  # times real time at which audio may arrive in the long run
AHEAD = 60.0  # s of audio that may arrive in advance of that
GONE, TOO_MUCH, POLICY, FAILED = 1001, 1009, 1008, 1011  # WebSocket close codes


@router.websocket("/v1/listen")
async def listen(
    socket: WebSocket,
    rate: Annotated[int, Query(ge=4_000, le=192_000)] = 48_000,
    encoding: Literal["s16le", "container"] = "s16le",
    mode: Literal["once", "continuous"] = "once",
    partials: Annotated[bool, Query(alias="partial")] = False,
    min_confidence: Annotated[float, Query(ge=0, le=1)] = MIN_CONFIDENCE,
) -> None:
    """Mode `once` ends with `heard` or `unknown`, `continuous` when the audio ends."""
    service: Service = socket.app.state.service
    with ExitStack() as slot:
        try:
            if service.stopping.is_set():
                raise Problem("stopping")
            slot.enter_context(service.listeners.held(client_of(socket)))
        except Problem as problem:
            service.metrics.refused.labels(problem.kind).inc()
            await socket.close(POLICY, problem.kind)
            return
        await socket.accept()
        session = _Session(service, socket, rate, min_confidence, partials=partials)
        try:
            if encoding == "container":
                await session.once(session.recording())
            elif mode == "once":
                await session.once(session.samples())
            else:
                await session.continuous()
            await socket.close()
        except WebSocketDisconnect:
            return
        except Problem as problem:
            await session.refuse(problem, TOO_MUCH if problem.kind == "too-large" else POLICY)
        except FingerprintError as error:
            await session.refuse(library_unavailable(error), FAILED)


@dataclass(eq=False)
class _Session:
    """One client's WebSocket. `at` is the length (s) of the audio received so far."""

    service: Service
    socket: WebSocket
    rate: int
    min_confidence: float
    partials: bool
    at: float = 0.0
    recent: Floats = field(default_factory=lambda: np.zeros(0, np.float32))  # the last `LONGEST` s

    async def refuse(self, problem: Problem, code: int) -> None:
        self.service.metrics.refused.labels(problem.kind).inc()
        with suppress(RuntimeError, WebSocketDisconnect):
            await self.socket.send_text(json_line({"event": "error", **problem.document()}))
            await self.socket.close(code)

    async def _run(self, job: Callable[[], T]) -> T:
        return await self.service.queries.run(client_of(self.socket), job)

    async def _run_with_retries(self, job: Callable[[], T]) -> T:
        """Run a job; retry while the server is busy. A session of hours should not end for it."""
        for _ in range(TRIES):
            with suppress(Problem):
                return await self._run(job)
            await asyncio.sleep(PAUSE)
        return await self._run(job)

    async def messages(self) -> AsyncIterator[bytes]:
        """Binary messages until the audio ends: by a text message, a time-out or shutdown."""
        loop, limits = asyncio.get_running_loop(), self.service.settings.limits
        begin = loop.time()
        stopping = asyncio.create_task(self.service.stopping.wait())
        try:
            while not stopping.done() and loop.time() - begin < limits.longest_listening:
                coming = asyncio.create_task(self.socket.receive())
                await asyncio.wait(
                    [coming, stopping],
                    timeout=limits.silent,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not coming.done():
                    coming.cancel()
                    return
                message = coming.result()
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message.get("code", GONE))
                if not message.get("bytes"):
                    return
                if self.at > AHEAD + FASTEST * (loop.time() - begin):
                    raise Problem("busy", "the sound comes faster than it can have been heard")
                yield message["bytes"]
        finally:
            stopping.cancel()

    async def samples(self) -> AsyncIterator[Callable[[], Clip]]:
        """For each message of raw samples, a function that gives the clip of the last seconds.

        It resamples, so it is to be called in a worker thread.
        """
        rest = b""
        async for message in self.messages():
            data = rest + message
            whole_bytes = len(data) // 2 * 2
            rest = data[whole_bytes:]
            new = np.frombuffer(data[:whole_bytes], "<i2").astype(np.float32) / FULL_SCALE
            self.at += len(new) / self.rate
            self.recent = np.concatenate([self.recent, new])[-round(LONGEST * self.rate) :]
            yield self._resampled

    def _resampled(self) -> Clip:
        to = self.service.library.model.sample_rate
        return Clip(soxr.resample(self.recent, self.rate, to, quality="HQ"), to)

    async def recording(self) -> AsyncIterator[Callable[[], Clip]]:
        """For each piece of a recording, a function that decodes all pieces received so far."""
        content, begin = bytearray(), asyncio.get_running_loop().time()
        async for message in self.messages():
            content += message
            if len(content) > LARGEST_RECORDING:
                raise Problem("too-large", "a recording in pieces may have 8 MiB")
            # Its length is known only after decoding; until then assume that it comes in real time.
            self.at = max(self.at, asyncio.get_running_loop().time() - begin)
            yield partial(self._decoded, bytes(content))

    def _decoded(self, content: bytes) -> Clip:
        limits, to = self.service.settings.limits, self.service.library.model.sample_rate
        bounds = DecodeLimits(limits.seconds, limits.decoding)
        clip, _ = decode_whole(self.service.decoders, BytesIO(content), to, "sound", bounds)
        self.at = clip.duration
        return Clip(clip.samples[-round(LONGEST * to) :], to)

    async def once(self, audio: AsyncIterator[Callable[[], Clip]]) -> None:
        """Search for ever longer clips until a match is sure, and for all audio at the end."""
        looks, searched, clip = list(LOOKS), 0.0, None
        async for clip in audio:
            if self.at < looks[0]:
                continue
            looks, searched = _next_looks(looks, self.at), self.at
            if await self._search(clip, last=False):
                return
            if self.at >= PATIENCE:
                break
        if clip is not None and (self.at > searched) and await self._search(clip, last=True):
            return
        await self._send({"event": "unknown", "at": round(self.at, 3), "match": None})

    async def _search(self, clip: Callable[[], Clip], *, last: bool) -> bool:
        """Whether a clip has a sure match; sends it, or else the candidates if requested."""
        try:
            found = await self._run(partial(self._candidates, clip))
        except Problem as problem:
            if problem.kind not in ("busy", "unreadable") or last:
                raise
            return False  # the next search includes this audio
        at = self.at
        if found and found[0].confidence >= self.min_confidence:
            await self._send_heard(Event("heard", at, heard=found[0]))
            return True
        if self.partials:
            candidates = [match_record(match) for match in found]
            record = {"event": "partial", "at": round(at, 3), "candidates": candidates}
            await self._send(record)
        return False

    def _candidates(self, clip: Callable[[], Clip]) -> list[Match]:
        """The candidates for a clip, with the offset that the clip's end has in each track."""
        query = clip()
        found = self.service.library.recognise(query, top=CANDIDATES).matches
        return [
            replace(one, offset=one.offset + one.rate * query.duration, repeats=()) for one in found
        ]

    async def continuous(self) -> None:
        """Report every track: the first as soon as it is sure, the others as `scan` finds them."""
        library, to = self.service.library, self.service.library.model.sample_rate
        scanner = Scanner(library, min_confidence=self.min_confidence)
        stream = soxr.ResampleStream(self.rate, to, 1, dtype="float32", quality="HQ")
        looks, first, fed = list(LOOKS), None, 0  # `fed`: samples given to the resampler
        async for clip in self.samples():
            new = round(self.at * self.rate) - fed
            fed += new
            piece = stream.resample_chunk(self.recent[-new:] if new else self.recent[:0])
            if first is None and looks[0] <= self.at <= LONGEST:
                looks = _next_looks(looks, self.at)
                found = await self._run_with_retries(partial(self._candidates, clip))
                if found and found[0].confidence >= self.min_confidence:
                    first = found[0]
                    await self._send_heard(Event("heard", self.at, heard=first))
            if len(piece):
                events = await self._run_with_retries(partial(scanner.feed, Clip(piece, to)))
                first = await self._send_events(events, first)
        await self._send_events(await self._run_with_retries(scanner.close), first)

    async def _send_events(self, events: list[Heard | Span], first: Match | None) -> Match | None:
        """Send the scanner's events, except for a `heard` of the track that was sent as `first`.

        Returns `first` until that event has come, then None.
        """
        for event in events:
            if isinstance(event, Span):
                await self._send(event_record(Event("played", event.end, span=event), _now()))
            elif first is not None and first.track == event.match.track:
                first = None
            else:
                await self._send_heard(Event("heard", event.at, heard=event.match))
        return first

    async def _send_heard(self, event: Event) -> None:
        assert event.heard is not None  # noqa: S101 - callers pass `heard` events only
        self.service.journal.add("listen", match_record(event.heard))
        await self.socket.send_text(json_line(event_record(event, _now())))

    async def _send(self, record: dict[str, object]) -> None:
        await self.socket.send_text(json_line({"time": _now(), **record}))


def _next_looks(looks: list[float], at: float) -> list[float]:
    """The clip lengths (s) at which to search again, after a search at `at` s."""
    return [one for one in looks if one > at] or [at + LOOK_EVERY]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
