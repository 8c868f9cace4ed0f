"""`/v1/explain`: what an answer rests on, as a picture."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from fingerprint.audio.decode import open_recording
from fingerprint.audio.files import display_name
from fingerprint.audio.report import DecodeReport
from fingerprint.errors import AudioError, LibraryError
from fingerprint.explaining import explain, picture
from fingerprint.serving.places import client_of
from fingerprint.serving.problems import Problem, documented
from fingerprint.serving.queries import (
    BINARY,
    LEAST,
    OF_A_BODY,
    RECORDING,
    Name,
    receive,
    unavailable,
)
from fingerprint.serving.service import Served, Service
from fingerprint.serving.work import Bounds, blocks, whole
from fingerprint.types import Clip

router = APIRouter(tags=["recognition"])


@router.post(
    "/v1/explain",
    summary="Draw what an answer rests on",
    openapi_extra=RECORDING,
    response_class=Response,
    responses={
        200: {"description": "A picture.", "content": {"image/png": BINARY}},
        **documented(*OF_A_BODY, "nothing-to-recognise", "not-found"),
    },
)
async def explain_query(
    request: Request,
    service: Served,
    name: Name = "query",
    min_confidence: Annotated[float, Query(ge=0, le=1)] = LEAST,
) -> Response:
    """That of `fingerprint explain`: spectrograms, similarity, evidence over time, candidates."""
    service.pictures.check(client_of(request))
    limits = service.settings.limits
    file = await receive(request, service, limits.body)

    def job() -> bytes:
        with file:
            rate = service.library.model.sample_rate
            bounds = Bounds(limits.seconds, limits.decoding)
            clip, _ = whole(service.decoders, file, rate, name, bounds)
        try:
            found = explain(clip, service.library, lambda *what, **cut: _cut(service, *what, **cut))
        except AudioError as error:
            raise Problem("nothing-to-recognise", str(error)) from error
        except (LibraryError, OSError) as error:
            raise unavailable(error) from error
        try:
            return picture(found, name=display_name(name), min_confidence=min_confidence)
        except AudioError as error:
            raise Problem("not-found", f"this server draws nothing: {error}") from error

    drawn = await service.pictures.run(client_of(request), job)
    return Response(drawn, media_type="image/png")


def _cut(service: Service, path: Path, rate: int, *, start: float, seconds: float) -> Clip:
    """A part of a track, decoded by a confined process: it may have been uploaded.

    Raises:
        AudioError: it cannot be read.
    """
    limits = service.settings.limits
    bounds = Bounds(limits.long_seconds, limits.long_decoding)
    first, end = round(start * rate), round((start + seconds) * rate)
    pieces, at = [], 0
    try:
        with open_recording(path) as file:
            decoded = blocks(service.decoders, file, rate, "track", bounds, DecodeReport())
            with closing(decoded):  # type: ignore[type-var]
                for clip in decoded:
                    pieces.append(clip.samples[max(0, first - at) : max(0, end - at)])
                    at += len(clip.samples)
                    if at >= end:
                        break
    except (Problem, OSError) as error:
        raise AudioError(str(error)) from error
    return Clip(np.concatenate(pieces or [np.zeros(0, np.float32)]), rate)
