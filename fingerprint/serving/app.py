"""The application: routes, their description, and what surrounds them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from fingerprint import __version__
from fingerprint.answers import json_line
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
from fingerprint.serving.problems import Problem, documented
from fingerprint.serving.queries import BINARY
from fingerprint.serving.service import Served, Service

DESCRIPTION = """
Name the recording that is playing from a few noisy seconds of it.

    curl --data-binary @snippet.wav http://127.0.0.1:8765/v1/identify

Errors are problem documents (RFC 9457) with a stable `type`.
"""


def create_app(service: Service) -> ASGIApp:
    """An application that serves a library, and closes it in the end."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        tracks.sweep(service)
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
        docs_url=None,  # its pages come from a CDN; ours from the package
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
        """Says nothing of the library."""
        return records.Ready(status="alive")

    @app.get(
        "/readyz",
        tags=["operation"],
        summary="Can it answer?",
        response_model=records.Ready,
        responses=documented("library-unavailable", "stopping"),
    )
    def readyz(service: Served) -> records.Ready:
        """503 while the library cannot be read, or the server is being stopped."""
        if service.stopping.is_set():
            raise Problem("stopping")
        try:
            info = service.library.info()
            service.library.snapshot()
        except (LibraryError, OSError) as error:
            raise queries.unavailable(error) from error
        return records.Ready(status="ready", tracks=info.tracks, model=info.model_id)

    @app.get(
        "/metrics",
        tags=["operation"],
        summary="What Prometheus reads",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            **documented("library-unavailable"),
        },
    )
    def metrics(service: Served) -> Response:
        """Requests, latencies by phase, queues, refusals, rows."""
        try:
            now = service.library.snapshot()
            service.metrics.tracks.set(service.library.info().tracks)
        except (LibraryError, OSError) as error:
            raise queries.unavailable(error) from error
        service.metrics.rows.set(int(now.rows.starts[-1]) if len(now.rows.starts) else 0)
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _add_about(app: FastAPI) -> None:
    @app.get(
        "/v1/model",
        tags=["recognition"],
        summary="The model of the library",
        response_model=records.ModelCard,
        responses=documented("library-unavailable"),
    )
    def model(service: Served) -> records.ModelCard:
        """Queries that a client computes must be of this model."""
        library = service.library
        try:
            info = library.info()
        except (LibraryError, OSError) as error:
            raise queries.unavailable(error) from error
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
        summary="The model itself, for ONNX Runtime",
        response_class=Response,
        responses={
            200: {"content": {"application/octet-stream": BINARY}},
            **documented("not-found"),
        },
    )
    def model_file(request: Request, service: Served) -> Response:
        """With it a browser computes queries, so that its sound stays where it is."""
        network = getattr(service.library.model, "network", None)
        if not isinstance(network, OnnxNetwork):
            raise Problem("not-found", "this server's model is not one for ONNX Runtime")
        tag = f'"{service.library.model.id[:16]}"'
        return page.unless_known(request, network.content, "application/octet-stream", tag)

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
        """The object of `fingerprint stats --json`."""
        try:
            found = service.library.counts()
        except (LibraryError, OSError) as error:
            raise queries.unavailable(error) from error
        return Response(json_line(asdict(found)), media_type="application/json")


def _geometry(model: object) -> dict[str, Any]:
    """What a browser needs of the shipped kind of models; nothing of others."""
    if not isinstance(model, Fingerprinter):
        return {}
    where = model.geometry
    return {
        "step": where.stride,
        "query_step": where.stride // QUERY_SHIFTS,
        "frame_hop": where.hop,
        "window_samples": where.samples(where.window),
        "silence": SILENCE_RMS,
    }
