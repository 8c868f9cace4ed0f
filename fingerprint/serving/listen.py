"""`/v1/listen`: sound comes in over a WebSocket, and what plays goes out as soon as it is sure.

In come binary messages: raw 16-bit samples of one channel, or consecutive pieces of one WebM, Ogg
or MP4 file, as a browser's recorder makes them. Out go the events of `fingerprint listen --log`;
and `partial`, with candidates that are not sure yet, where they are asked for. A text message
ends the sound.
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
from fingerprint.serving.places import client_of
from fingerprint.serving.problems import Problem
from fingerprint.serving.queries import LEAST, unavailable
from fingerprint.serving.service import Service
from fingerprint.serving.work import Bounds, whole
from fingerprint.types import Clip, Floats, Match

T = TypeVar("T")
router = APIRouter()
LONGEST = LOOKS[-1]  # s that are looked at
PATIENCE = 30.0  # s of sound after which it gives up, once
LARGEST_RECORDING = 8 << 20  # bytes of a recording in pieces
CANDIDATES = 3
TRIES, PAUSE = 10, 1.0  # s between tries to get a place for the next look, in `continuous`
FASTEST = 2.0  # times real time at which sound may come in the long run
AHEAD = 60.0  # s of sound that it may come earlier
GONE, TOO_MUCH, POLICY, FAILED = 1001, 1009, 1008, 1011  # codes that close a WebSocket


@router.websocket("/v1/listen")
async def listen(
    socket: WebSocket,
    rate: Annotated[int, Query(ge=4_000, le=192_000)] = 48_000,
    encoding: Literal["s16le", "container"] = "s16le",
    mode: Literal["once", "continuous"] = "once",
    partials: Annotated[bool, Query(alias="partial")] = False,
    min_confidence: Annotated[float, Query(ge=0, le=1)] = LEAST,
) -> None:
    """`once` ends with `heard` or `unknown`; `continuous` goes on until the sound ends."""
    service: Service = socket.app.state.service
    with ExitStack() as place:
        try:
            if service.stopping.is_set():
                raise Problem("stopping")
            place.enter_context(service.listeners.taken(client_of(socket)))
        except Problem as problem:
            service.metrics.refused.labels(problem.kind).inc()
            await socket.close(POLICY, problem.kind)
            return
        await socket.accept()
        ear = _Ear(service, socket, rate, min_confidence, partials=partials)
        try:
            if encoding == "container":
                await ear.once(ear.recording())
            elif mode == "once":
                await ear.once(ear.samples())
            else:
                await ear.go_on()
            await socket.close()
        except WebSocketDisconnect:
            return
        except Problem as problem:
            await ear.refuse(problem, TOO_MUCH if problem.kind == "too-large" else POLICY)
        except FingerprintError as error:
            await ear.refuse(unavailable(error), FAILED)


@dataclass(eq=False)
class _Ear:
    """One client that is listened to. `at` are the seconds of sound that have come."""

    service: Service
    socket: WebSocket
    rate: int
    least: float
    partials: bool
    at: float = 0.0
    held: Floats = field(default_factory=lambda: np.zeros(0, np.float32))  # the last `LONGEST` s

    async def refuse(self, problem: Problem, code: int) -> None:
        self.service.metrics.refused.labels(problem.kind).inc()
        with suppress(RuntimeError, WebSocketDisconnect):
            await self.socket.send_text(json_line({"event": "error", **problem.document()}))
            await self.socket.close(code)

    async def _run(self, job: Callable[[], T]) -> T:
        return await self.service.queries.run(client_of(self.socket), job)

    async def _patiently(self, job: Callable[[], T]) -> T:
        """Do a job of one who listens for hours, and need not give up when the server is busy."""
        for _ in range(TRIES):
            with suppress(Problem):
                return await self._run(job)
            await asyncio.sleep(PAUSE)
        return await self._run(job)

    async def messages(self) -> AsyncIterator[bytes]:
        """Binary messages until the sound ends: by a text, by silence, or by a limit."""
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
        """After each message of raw samples, how to get the clip of the last seconds."""
        rest = b""
        async for message in self.messages():
            data = rest + message
            whole_bytes = len(data) // 2 * 2
            rest = data[whole_bytes:]
            new = np.frombuffer(data[:whole_bytes], "<i2").astype(np.float32) / 32_768
            self.at += len(new) / self.rate
            self.held = np.concatenate([self.held, new])[-round(LONGEST * self.rate) :]
            yield self._resampled

    def _resampled(self) -> Clip:
        to = self.service.library.model.sample_rate
        return Clip(soxr.resample(self.held, self.rate, to, quality="HQ"), to)

    async def recording(self) -> AsyncIterator[Callable[[], Clip]]:
        """After each piece of a recording, how to decode all that has come."""
        content, begin = bytearray(), asyncio.get_running_loop().time()
        async for message in self.messages():
            content += message
            if len(content) > LARGEST_RECORDING:
                raise Problem("too-large", "a recording in pieces may have 8 MiB")
            # How much sound it is only decoding tells: as much as the time that has passed.
            self.at = max(self.at, asyncio.get_running_loop().time() - begin)
            yield partial(self._decoded, bytes(content))

    def _decoded(self, content: bytes) -> Clip:
        limits, to = self.service.settings.limits, self.service.library.model.sample_rate
        bounds = Bounds(limits.seconds, limits.decoding)
        clip, _ = whole(self.service.decoders, BytesIO(content), to, "sound", bounds)
        return Clip(clip.samples[-round(LONGEST * to) :], to)

    async def once(self, sound: AsyncIterator[Callable[[], Clip]]) -> None:
        """Look at ever longer sound until it is sure, and at all of it in the end."""
        looks, looked, clip = list(LOOKS), 0.0, None
        async for clip in sound:
            if self.at < looks[0]:
                continue
            looks, looked = _after(looks, self.at), self.at
            if await self._look(clip, last=False):
                return
            if self.at >= PATIENCE:
                break
        if clip is not None and (self.at > looked) and await self._look(clip, last=True):
            return
        await self._tell({"event": "unknown", "at": round(self.at, 3), "match": None})

    async def _look(self, clip: Callable[[], Clip], *, last: bool) -> bool:
        """Whether a track is recognised in a clip; tells it, or who may be it."""
        at = self.at
        try:
            found = await self._run(partial(self._candidates, clip))
        except Problem as problem:
            if problem.kind not in ("busy", "unreadable") or last:
                raise
            return False  # the next look sees this sound too
        if found and found[0].confidence >= self.least:
            await self._heard(Event("heard", at, heard=found[0]))
            return True
        if self.partials:
            candidates = [match_record(match) for match in found]
            record = {"event": "partial", "at": round(at, 3), "candidates": candidates}
            await self._tell(record)
        return False

    def _candidates(self, clip: Callable[[], Clip]) -> list[Match]:
        """What the clip may be, each with the place that is reached at its end."""
        sound = clip()
        found = self.service.library.recognise(sound, top=CANDIDATES).matches
        return [
            replace(one, offset=one.offset + one.rate * sound.duration, repeats=()) for one in found
        ]

    async def go_on(self) -> None:
        """Tell every track that plays: the first as soon as it is sure, then as `scan` does."""
        library, to = self.service.library, self.service.library.model.sample_rate
        scanner = Scanner(library, min_confidence=self.least)
        stream = soxr.ResampleStream(self.rate, to, 1, dtype="float32", quality="HQ")
        looks, first, past = list(LOOKS), None, 0
        async for clip in self.samples():
            new = round(self.at * self.rate) - past
            past += new
            piece = stream.resample_chunk(self.held[-new:] if new else self.held[:0])
            if first is None and looks[0] <= self.at <= LONGEST:
                looks = _after(looks, self.at)
                found = await self._patiently(partial(self._candidates, clip))
                if found and found[0].confidence >= self.least:
                    first = found[0]
                    await self._heard(Event("heard", self.at, heard=first))
            if len(piece):
                events = await self._patiently(partial(scanner.feed, Clip(piece, to)))
                first = await self._tell_all(events, first)
        await self._tell_all(await self._patiently(scanner.close), first)

    async def _tell_all(self, events: list[Heard | Span], first: Match | None) -> Match | None:
        """Events but the scanner's own word of a track that was told already."""
        for event in events:
            if isinstance(event, Span):
                await self._tell(event_record(Event("played", event.end, span=event), _now()))
            elif first is not None and first.track == event.match.track:
                first = None
            else:
                await self._heard(Event("heard", event.at, heard=event.match))
        return first

    async def _heard(self, event: Event) -> None:
        assert event.heard is not None  # noqa: S101 - that is what it says
        self.service.journal.add("listen", match_record(event.heard))
        await self.socket.send_text(json_line(event_record(event, _now())))

    async def _tell(self, record: dict[str, object]) -> None:
        await self.socket.send_text(json_line({"time": _now(), **record}))


def _after(looks: list[float], at: float) -> list[float]:
    """The lengths at which to look again, once `at` s have been looked at."""
    return [one for one in looks if one > at] or [at + LOOK_EVERY]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
