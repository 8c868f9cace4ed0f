"""Errors as problem documents (RFC 9457).

`type` is a stable identifier, `title` its meaning, `detail` what happened in this request, and
`hint` what the client can do about it.
"""

import logging
import re
import sqlite3
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

MEDIA_TYPE = "application/problem+json"
PREFIX = "urn:fingerprint:problem:"
# kind: (status, title, hint)
KINDS: dict[str, tuple[int, str, str]] = {
    "invalid-request": (422, "The request is not valid", "See /docs for what it takes."),
    "bad-request": (400, "The request cannot be understood", "See /docs for what it takes."),
    "token-needed": (
        401,
        "A change needs the token",
        "Send the header Authorization: Bearer TOKEN, with the token of --token-file.",
    ),
    "changes-off": (
        403,
        "This server takes no changes",
        "Start it with --token-file, or on the loopback address.",
    ),
    "cross-origin": (
        403,
        "Pages of other sites may not use this server",
        "Open the server's own page, or ask from a program.",
    ),
    "not-found": (404, "There is no such thing here", "See /docs for what there is."),
    "method-not-allowed": (405, "Not a method of this address", "See /docs for what there is."),
    "too-slow": (408, "The request came too slowly", "Send it again, on a better connection."),
    "known-recording": (409, "The library has this recording", "See `track` for which it is."),
    "other-model": (
        409,
        "The query was made with another model",
        "Use the same version and the same --model on both sides.",
    ),
    "too-large": (413, "The request is too large", "Send a shorter or a compressed recording."),
    "too-long": (413, "The recording is too long", "Cut it up, or use /v1/scan."),
    "not-a-body": (
        415,
        "The recording must be the body itself",
        "Send it raw, as: curl --data-binary @snippet.wav",
    ),
    "head-too-large": (431, "The head of the request is too large", "Send fewer headers."),
    "wrong-host": (
        421,
        "This server does not go by that name",
        "Use its address, or start it with --name NAME.",
    ),
    "unreadable": (422, "The recording cannot be read", "Send audio or video with sound."),
    "nothing-to-recognise": (
        422,
        "There is nothing to recognise in it",
        "Record again, nearer to the sound.",
    ),
    "busy": (429, "The server has more to do than it can", "Ask again after Retry-After."),
    "internal": (500, "The server has failed", "Its log says why."),
    "library-unavailable": (
        503,
        "The library cannot be used just now",
        "Ask again after Retry-After.",
    ),
    "log-unavailable": (503, "The log cannot be read", "The server's own log says why."),
    "no-room": (507, "The server has no room for the request", "Its own log says why."),
    "stopping": (503, "The server is being stopped", "Ask again when it is back."),
}
COMMON = (  # of every route
    "bad-request",
    "cross-origin",
    "wrong-host",
    "invalid-request",
    "busy",
    "head-too-large",
    "internal",
    "stopping",
)
_BY_STATUS = {400: "bad-request", 404: "not-found", 405: "method-not-allowed"}
RETRY_AFTER = 1  # s
log = logging.getLogger("fingerprint.requests")


class ProblemDocument(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(examples=[PREFIX + "busy"])
    title: str
    status: int
    detail: str
    hint: str
    track: int | None = Field(
        default=None, description="The track that has this recording already (known-recording)."
    )


class Problem(Exception):  # noqa: N818 - the RFC's name
    """An error that ends a request with a problem document."""

    def __init__(self, kind: str, detail: str = "", **more: object) -> None:
        self.kind, self.detail, self.more = kind, detail, more
        super().__init__(f"{kind}: {detail}")

    @property
    def status(self) -> int:
        return KINDS[self.kind][0]

    def document(self) -> dict[str, object]:
        status, title, hint = KINDS[self.kind]
        detail = self.detail or title
        found = {"type": PREFIX + self.kind, "title": title, "status": status}
        return {**found, "detail": detail, "hint": hint, **self.more}

    def headers(self) -> dict[str, str]:
        if self.status in (429, 503):
            return {"Retry-After": str(RETRY_AFTER)}
        if self.status == HTTPStatus.UNAUTHORIZED:
            return {"WWW-Authenticate": 'Bearer realm="fingerprint"'}
        return {}

    def response(self) -> Response:
        return JSONResponse(
            self.document(), self.status, headers=self.headers(), media_type=MEDIA_TYPE
        )


def library_unavailable(error: Exception) -> Problem:
    """The problem for an error of the library, whose own message names folders of the server."""
    locked = "another program" in str(error) or "another run" in str(error)
    return Problem(
        "library-unavailable",
        "another program is writing to the library" if locked else "the library cannot be read",
    )


def documented(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """The responses of a route for these problems and the common ones, for OpenAPI."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in (*kinds, *COMMON):
        status, title, _ = KINDS[kind]
        known = found.get(status)
        title = f"{known['description']}; {title[0].lower()}{title[1:]}" if known else title
        schema = {"$ref": "#/components/schemas/ProblemDocument"}
        example = Problem(kind).document()
        found[status] = {
            "description": title,
            "content": {MEDIA_TYPE: {"schema": schema, "example": example}},
        }
        if status in (429, 503):
            found[status]["headers"] = {
                "Retry-After": {"schema": {"type": "integer"}, "description": "s to wait"}
            }
    return found


def install(app: FastAPI) -> None:
    """Add handlers that answer every error with a problem document."""

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)  # noqa: S101 - registered for no other
        request.app.state.service.metrics.refused.labels(error.kind).inc()
        return error.response()

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for no other
        return Problem("invalid-request", _first_error(error)).response()

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for no other
        kind = _BY_STATUS.get(error.status_code, "bad-request")
        answer = Problem(kind).response()
        if kind == "method-not-allowed":
            answer.headers["Allow"] = _allowed_methods(app, request.url.path)
        return answer

    async def left(_request: Request, _error: Exception) -> Response:
        return Problem("bad-request", "the client has disconnected").response()

    async def unreadable_log(_request: Request, error: Exception) -> Response:
        log.error("the log cannot be read: %s", error)
        return Problem("log-unavailable").response()

    async def failed(_request: Request, _error: Exception) -> Response:
        return Problem("internal").response()

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ClientDisconnect, left)
    app.add_exception_handler(sqlite3.Error, unreadable_log)
    app.add_exception_handler(Exception, failed)


def _first_error(error: RequestValidationError) -> str:
    first = error.errors()[0]
    location = ".".join(str(part) for part in first["loc"])
    return f"{location}: {first['msg']}"


def _allowed_methods(app: FastAPI, path: str) -> str:
    """The methods of a path, over all routes that match it."""
    paths: dict[str, dict[str, object]] = app.openapi()["paths"]
    for template, methods in paths.items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            allowed = {method.upper() for method in methods}
            return ", ".join(sorted(allowed | ({"HEAD"} if "get" in methods else set())))
    return "GET, HEAD"  # a file of the page
