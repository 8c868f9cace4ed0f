"""A request's body, received into a file: bounded in bytes, and in time."""

import asyncio
from tempfile import TemporaryFile
from typing import BinaryIO

from starlette.requests import Request

from fingerprint.serving.problems import Problem
from fingerprint.serving.settings import Limits

FORM = "multipart/"  # what curl names a form without being told is taken as it comes


async def received(request: Request, most: int, limits: Limits) -> BinaryIO:
    """The body of a request in a nameless file, at its beginning.

    Raises:
        Problem: it is too large, comes too slowly, or is a form.
        starlette.requests.ClientDisconnect: the client has left.
    """
    check(request, most)
    loop = asyncio.get_running_loop()
    begin, size = loop.time(), 0
    file = TemporaryFile()  # noqa: SIM115 - it is returned
    chunks = aiter(request.stream())
    try:
        while True:
            try:
                async with asyncio.timeout(limits.idle):
                    chunk = await anext(chunks, None)
            except TimeoutError:
                raise Problem("too-slow", f"nothing came for {limits.idle:g} s") from None
            if chunk is None:
                break
            size += len(chunk)
            if size > most:
                raise _too_large(most)
            file.write(chunk)
            late = loop.time() - begin - limits.grace
            if size < late * limits.slowest:
                raise Problem("too-slow", f"it came at less than {limits.slowest} bytes a second")
        if not size:
            raise Problem("unreadable", "the request has no body")
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def check(request: Request, most: int) -> None:
    """Refuse by its headers what would be refused in the end.

    Raises:
        Problem: it is a form, or compressed, or announces more than `most` bytes.
    """
    if media_type(request).startswith(FORM):
        raise Problem("not-a-body", "a form is not read")
    if request.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise Problem("not-a-body", "a body with a Content-Encoding is not read")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:18]) > most:
        raise _too_large(most)


def media_type(request: Request) -> str:
    """Of the body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _too_large(most: int) -> Problem:
    return Problem("too-large", f"at most {most >> 20} MiB are taken here")
