"""`POST /v1/explain`: a picture of the evidence for an answer."""

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from fingerprint.audio.files import display_name
from fingerprint.audio.report import DecodeReport
from fingerprint.audio.source import open_recording
from fingerprint.errors import AudioError, LibraryError
from fingerprint.explaining import explain, picture
from fingerprint.serving.bodies import BODY_PROBLEMS, RECORDING_BODY, receive
from fingerprint.serving.pools import DecodeLimits, decode_blocks, decode_whole
from fingerprint.serving.problems import Problem, documented, library_unavailable
from fingerprint.serving.queries import MIN_CONFIDENCE, Name
from fingerprint.serving.records import BINARY
from fingerprint.serving.service import Served, Service
from fingerprint.serving.slots import client_of
from fingerprint.types import Clip

router = APIRouter(tags=["recognition"])


@router.post(
    "/v1/explain",
    summary="Draw the evidence for an answer",
    openapi_extra=RECORDING_BODY,
    response_class=Response,
    responses={
        200: {"description": "A picture.", "content": {"image/png": BINARY}},
        **documented(*BODY_PROBLEMS, "nothing-to-recognise", "not-found"),
    },
)
async def explain_query(
    request: Request,
    service: Served,
    name: Name = "query",
    min_confidence: Annotated[float, Query(ge=0, le=1)] = MIN_CONFIDENCE,
) -> Response:
    """As `fingerprint explain`: spectrograms, similarity, cosines over time, candidates."""
    service.pictures.check(client_of(request))
    limits = service.settings.limits
    file = await receive(request, service, limits.body)

    def job() -> bytes:
        with file:
            rate = service.library.model.sample_rate
            bounds = DecodeLimits(limits.seconds, limits.decoding)
            clip, _ = decode_whole(service.decoders, file, rate, name, bounds)
        try:
            evidence = explain(clip, service.library, partial(_load_part, service))
        except AudioError as error:
            raise Problem("nothing-to-recognise", str(error)) from error
        except (LibraryError, OSError) as error:
            raise library_unavailable(error) from error
        try:
            return picture(evidence, name=display_name(name), min_confidence=min_confidence)
        except AudioError as error:
            raise Problem("not-found", f"this server cannot draw: {error}") from error

    png = await service.pictures.run(client_of(request), job)
    return Response(png, media_type="image/png")


def _load_part(service: Service, path: Path, rate: int, *, start: float, seconds: float) -> Clip:
    """A part of a track; decoded by a confined process, since the file may be an upload.

    Raises:
        AudioError: it cannot be read.
    """
    limits = service.settings.limits
    bounds = DecodeLimits(limits.long_seconds, limits.long_decoding)
    first, end = round(start * rate), round((start + seconds) * rate)
    pieces, at = [], 0  # `at`: samples decoded so far
    try:
        with open_recording(path) as file:
            decoded = decode_blocks(service.decoders, file, rate, "track", bounds, DecodeReport())
            with closing(decoded):  # type: ignore[type-var]
                for clip in decoded:
                    pieces.append(clip.samples[max(0, first - at) : max(0, end - at)])
                    at += len(clip.samples)
                    if at >= end:
                        break
    except (Problem, OSError) as error:
        raise AudioError(str(error)) from error
    return Clip(np.concatenate(pieces or [np.zeros(0, np.float32)]), rate)
