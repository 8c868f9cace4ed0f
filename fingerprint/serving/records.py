"""Schemas and examples for OpenAPI of the JSON objects that `fingerprint.answers` makes."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response

from fingerprint.answers import json_line

BINARY = {"schema": {"type": "string", "format": "binary"}}


def json_response(
    record: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A response with one of the objects of `fingerprint.answers`."""
    return Response(json_line(record), status, media_type="application/json", headers=headers)


class MatchSchema(BaseModel):
    """A track that matches the query, and the place in it."""

    path: str = Field(description="The track's file, on the server.")
    title: str
    artist: str
    offset: float = Field(description="Seconds into the track at which the query begins.")
    rate: float = Field(description="Playback rate relative to the track; 1.02 is 2 % faster.")
    confidence: float = Field(ge=0, le=1, description="Estimated probability that it is right.")
    score: float
    repeats: list[float] = Field(description="Later offsets at which the track sounds the same.")
    part: tuple[float, float] | None = Field(
        default=None,
        description="Start and end of the part of the query in which it plays, in seconds; "
        "given if the query holds more than one track.",
    )


class Loss(BaseModel):
    """Audio that was lost in decoding a recording."""

    kind: str
    message: str
    seconds: float


class Identified(BaseModel):
    """The object of `fingerprint identify --json`."""

    query: str
    status: Literal["match", "no-match", "doubtful"]
    seconds: float = Field(description="Processing time.")
    matches: list[MatchSchema]
    warnings: list[Loss]
    error: None = None
    speeds: list[float] | None = Field(
        default=None,
        description="With status `doubtful`, for computed queries: send embeddings of the query "
        "with these changes of speed undone, too.",
    )


class TrackSchema(BaseModel):
    """A track of the library, a line of `fingerprint list --json`."""

    id: int
    path: str
    duration: float = Field(description="Seconds.")
    title: str
    artist: str
    album: str
    isrc: str
    musicbrainz_recording: str
    musicbrainz_release: str
    warnings: list[Loss]


class Tracks(BaseModel):
    """A page of tracks."""

    tracks: list[TrackSchema]
    cursor: int | None = Field(description="The `cursor` of the next page; null at the end.")


class EntrySchema(BaseModel):
    """A recognised track in the log."""

    id: int
    time: str
    source: Literal["identify", "listen"]
    match: MatchSchema


class Log(BaseModel):
    """A page of the log, the newest entries first."""

    entries: list[EntrySchema]
    cursor: int | None = Field(description="The `cursor` of the next page; null at the end.")


class ModelCard(BaseModel):
    """The parameters with which a client computes queries itself."""

    model_id: str
    sample_rate: int
    dim: int
    hop: float = Field(description="Seconds between rows.")
    window: float = Field(description="Length in seconds of a row's window.")
    min_confidence: float
    tracks: int
    hours: float
    step: int | None = Field(default=None, description="Frames from a library row to the next.")
    query_step: int | None = Field(default=None, description="Frames from a query row to the next.")
    frame_hop: int | None = Field(default=None, description="Samples from a frame to the next.")
    window_samples: int | None = None
    silence: float | None = Field(default=None, description="RMS below which a window is silent.")


class Ready(BaseModel):
    """The state of the server."""

    status: Literal["ready", "alive"]
    tracks: int | None = None
    model: str | None = None


MATCH = {
    "path": "/music/silvan_sanctuary.ogg",
    "title": "Silvan Sanctuary",
    "artist": "Mattias Westlund",
    "offset": 94.32,
    "rate": 1.0,
    "confidence": 0.9999,
    "score": 0.8305,
    "repeats": [],
}
IDENTIFIED = {
    "query": "snippet.wav",
    "status": "match",
    "seconds": 0.0824,
    "matches": [MATCH],
    "warnings": [],
    "error": None,
}
ENTRY = {"id": 1, "time": "2026-11-01T20:15:00.000+00:00", "source": "listen", "match": MATCH}
SPAN = {"recording": "mix.mp3", "start": 0.0, "end": 61.2, "match": MATCH}
TRACK = {
    "id": 7,
    "path": "/music/silvan_sanctuary.ogg",
    "duration": 194.1,
    "title": "Silvan Sanctuary",
    "artist": "Mattias Westlund",
    "album": "",
    "isrc": "",
    "musicbrainz_recording": "",
    "musicbrainz_release": "",
    "warnings": [],
}
