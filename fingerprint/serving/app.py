"""The FastAPI application: it joins the routers, and adds health, metrics and model routes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from fingerprint import __version__
from fingerprint.errors import LibraryError
from fingerprint.model.fingerprinter import QUERY_SHIFTS, SILENCE_RMS, Fingerprinter
from fingerprint.model.onnx_network import OnnxNetwork
from fingerprint.serving import (
    explain,
    listen,
    log,
    page,
    problems,
    queries,
    records,
    tracks,
    webhooks,
)
from fingerprint.serving.guard import Guard
from fingerprint.serving.metrics import CONTENT_TYPE
from fingerprint.serving.problems import Problem, documented, library_unavailable
from fingerprint.serving.records import BINARY, json_response
from fingerprint.serving.service import Served, Service

DESCRIPTION = """
Name the recording that is playing from a few noisy seconds of it.

    curl --data-binary @snippet.wav http://127.0.0.1:8765/v1/identify

Errors are problem documents (RFC 9457) with a stable `type`.
"""


def create_app(service: Service) -> ASGIApp:
    """The ASGI application of a service, which it closes at shutdown."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        tracks.delete_unfinished(service)
        hook, secret = service.settings.webhook, service.settings.webhook_secret
        sender = hook and asyncio.create_task(webhooks.deliver(service.journal, hook, secret))
        yield
        if sender:
            sender.cancel()
        service.close()

    app = FastAPI(
        title="fingerprint",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's page loads from a CDN; `page` serves ours at /docs
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    problems.install(app)
    app.include_router(queries.router)
    app.include_router(explain.router)
    app.include_router(tracks.router)
    app.include_router(listen.router)
    app.include_router(log.router)
    _add_health(app)
    _add_about(app)
    page.install(app)
    schemas = app.openapi()["components"]["schemas"]
    schemas["ProblemDocument"] = problems.ProblemDocument.model_json_schema()
    return Guard(app, service.settings, service.metrics)


def _add_health(app: FastAPI) -> None:
    @app.get(
        "/healthz",
        tags=["operation"],
        summary="Is the process alive?",
        response_model=records.Ready,
        responses=documented(),
    )
    async def healthz() -> records.Ready:
        """Liveness only: the library is not looked at."""
        return records.Ready(status="alive")

    @app.get(
        "/readyz",
        tags=["operation"],
        summary="Can the server answer queries?",
        response_model=records.Ready,
        responses=documented("library-unavailable"),
    )
    def readyz(service: Served) -> records.Ready:
        """503 while the library cannot be read or the server is shutting down."""
        if service.stopping.is_set():
            raise Problem("stopping")
        try:
            info = service.library.info()
            service.library.snapshot()
        except (LibraryError, OSError) as error:
            raise library_unavailable(error) from error
        return records.Ready(status="ready", tracks=info.tracks, model=info.model_id)

    @app.get(
        "/metrics",
        tags=["operation"],
        summary="Metrics in Prometheus's text format",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            **documented(),
        },
    )
    def metrics(service: Served) -> Response:
        """Requests, latencies by phase, queue lengths, refusals; tracks and rows.

        The number of tracks and rows is NaN while the library cannot be read.
        """
        tracks = rows = float("nan")
        with suppress(LibraryError, OSError):
            starts = service.library.snapshot().rows.starts
            tracks, rows = service.library.info().tracks, int(starts[-1]) if len(starts) else 0
        service.metrics.tracks.set(tracks)
        service.metrics.rows.set(rows)
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _add_about(app: FastAPI) -> None:
    @app.get(
        "/v1/model",
        tags=["recognition"],
        summary="The model that the library was made with",
        response_model=records.ModelCard,
        responses=documented("library-unavailable"),
    )
    def model(service: Served) -> records.ModelCard:
        """A client that computes queries itself must use this model."""
        library = service.library
        try:
            info = library.info()
        except (LibraryError, OSError) as error:
            raise library_unavailable(error) from error
        return records.ModelCard(
            model_id=library.model.id,
            sample_rate=library.model.sample_rate,
            dim=library.model.dim,
            hop=library.model.hop,
            window=library.model.window,
            min_confidence=library.config.min_confidence,
            tracks=info.tracks,
            hours=info.hours,
            **_geometry(library.model),
        )

    @app.get(
        "/v1/model/onnx",
        tags=["recognition"],
        summary="The model as an ONNX file",
        response_class=Response,
        responses={
            200: {"content": {"application/octet-stream": BINARY}},
            304: {"description": "The client's copy, of the ETag in If-None-Match, is current."},
            **documented("not-found"),
        },
    )
    def model_file(request: Request, service: Served) -> Response:
        """A browser computes queries with it, so that no sound is sent to the server."""
        network = getattr(service.library.model, "network", None)
        if not isinstance(network, OnnxNetwork):
            raise Problem("not-found", "this server's model is not an ONNX model")
        tag = f'"{service.library.model.id[:16]}"'
        return page.with_etag(request, network.content, "application/octet-stream", tag)

    @app.get(
        "/v1/stats",
        tags=["library"],
        summary="The library in numbers",
        response_class=Response,
        responses={
            200: {"content": {"application/json": {"schema": {"type": "object"}}}},
            **documented("library-unavailable"),
        },
    )
    def stats(service: Served) -> Response:
        """The same object as `fingerprint stats --json`."""
        try:
            found = service.library.counts()
        except (LibraryError, OSError) as error:
            raise library_unavailable(error) from error
        return json_response(asdict(found))


def _geometry(model: object) -> dict[str, Any]:
    """Frame and window sizes with which a browser computes rows; {} for other kinds of models."""
    if not isinstance(model, Fingerprinter):
        return {}
    geometry = model.geometry
    return {
        "step": geometry.stride,
        "query_step": geometry.stride // QUERY_SHIFTS,
        "frame_hop": geometry.hop,
        "window_samples": geometry.samples(geometry.window),
        "silence": SILENCE_RMS,
    }
