"""Receive a request's body into a temporary file, with limits on its size and its time."""

import asyncio
import logging
from contextlib import suppress
from tempfile import TemporaryFile
from time import perf_counter
from typing import Any, BinaryIO

from starlette.requests import Request

from fingerprint.serving.problems import Problem
from fingerprint.serving.records import BINARY
from fingerprint.serving.service import Service
from fingerprint.serving.settings import Limits
from fingerprint.serving.slots import client_of

# Only multipart forms are refused. `curl --data-binary` labels a raw body as
# application/x-www-form-urlencoded, so that type is accepted.
FORM = "multipart/"
log = logging.getLogger("fingerprint.requests")
RECORDING_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A recording in any container, as it is: no form, no base64.",
        "content": {"application/octet-stream": BINARY},
    }
}
BODY_PROBLEMS = (  # of every route that takes a recording
    "unreadable",
    "too-large",
    "too-long",
    "too-slow",
    "not-a-body",
    "library-unavailable",
    "no-room",
)


async def receive(request: Request, service: Service, limit: int) -> BinaryIO:
    """Receive a body of at most `limit` bytes; the number received at once is limited, too.

    Returns an unnamed temporary file, positioned at its start, which the caller closes.

    Raises:
        Problem: the body is empty, too large, too slow, or a form; too many are being received; or
            the temporary folder is full.
        starlette.requests.ClientDisconnect: the client has closed the connection.
    """
    if service.stopping.is_set():
        raise Problem("stopping")
    _check_headers(request, limit)
    limits = service.settings.limits
    slots = service.long_bodies if limit > limits.body else service.bodies
    begin = perf_counter()
    try:
        with slots.held(client_of(request)):
            return await _received(request, limit, limits)
    except OSError as error:
        log.error("a body cannot be kept in the temporary folder: %s", error)
        raise Problem("no-room") from error
    finally:
        service.metrics.phase.labels("receive").observe(perf_counter() - begin)


async def _received(request: Request, limit: int, limits: Limits) -> BinaryIO:
    file = TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        await _copy(request, file, limit, limits)
        file.seek(0)
    except BaseException:
        with suppress(OSError):  # closing writes what is buffered
            file.close()
        raise
    return file


async def _copy(request: Request, file: BinaryIO, limit: int, limits: Limits) -> None:
    loop = asyncio.get_running_loop()
    begin, size = loop.time(), 0
    chunks = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(limits.idle):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise Problem("too-slow", f"nothing came for {limits.idle:g} s") from None
        if chunk is None:
            break
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        file.write(chunk)
        timed = loop.time() - begin - limits.grace  # s in which a minimum rate is required
        if size < timed * limits.slowest:
            raise Problem("too-slow", f"it came at less than {limits.slowest} bytes a second")
    if not size:
        raise Problem("unreadable", "the request has no body")


def _check_headers(request: Request, limit: int) -> None:
    """Refuse a body early, by the request's headers.

    Raises:
        Problem: it is a form, is compressed, or its Content-Length is above `limit` bytes.
    """
    if media_type(request).startswith(FORM):
        raise Problem("not-a-body", "a form is not read")
    if request.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise Problem("not-a-body", "a body with a Content-Encoding is not read")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:18]) > limit:
        raise _too_large(limit)


def media_type(request: Request) -> str:
    """The media type of the body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _too_large(limit: int) -> Problem:
    return Problem("too-large", f"at most {limit >> 20} MiB are taken here")
