"""What answers look like, for the description of the API: the objects of `fingerprint.answers`."""

from typing import Literal

from pydantic import BaseModel, Field


class Match(BaseModel):
    """A track that may be the one that plays, and the place in it."""

    path: str = Field(description="The track's file, on the server.")
    title: str
    artist: str
    offset: float = Field(description="Seconds into the track at which the query begins.")
    rate: float = Field(description="Playback speed against the track; 1.02 is 2 % faster.")
    confidence: float = Field(ge=0, le=1, description="Estimated probability that it is right.")
    score: float
    repeats: list[float] = Field(description="Later offsets at which the track sounds the same.")
    part: tuple[float, float] | None = Field(
        default=None,
        description="From where to where in the query it plays, in seconds, if it is not alone.",
    )


class Loss(BaseModel):
    """What was lost of a recording."""

    kind: str
    message: str
    seconds: float


class Identified(BaseModel):
    """The object of `fingerprint identify --json`."""

    query: str
    status: Literal["match", "no-match", "doubtful"]
    seconds: float = Field(description="Processing time.")
    matches: list[Match]
    warnings: list[Loss]
    error: None = None
    speeds: list[float] | None = Field(
        default=None,
        description="Of a doubtful answer to a computed query: changes of speed with which undone "
        "it is wanted as well.",
    )


class Span(BaseModel):
    """A stretch of a recording, a line of `fingerprint scan --json`."""

    recording: str
    start: float
    end: float
    match: Match | None


class Track(BaseModel):
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
    """Some tracks, and where the next ones begin."""

    tracks: list[Track]
    cursor: int | None = Field(description="Of the next page; null at the end.")


class Entry(BaseModel):
    """Something that was recognised."""

    id: int
    time: str
    source: Literal["identify", "listen"]
    match: Match


class Log(BaseModel):
    """Entries of the log, and where older ones begin."""

    entries: list[Entry]
    cursor: int | None = Field(description="Of the page of older ones; null at the end.")


class ModelCard(BaseModel):
    """What a client needs to compute queries itself."""

    model_id: str
    sample_rate: int
    dim: int
    hop: float = Field(description="Seconds between rows.")
    window: float = Field(description="Seconds that a row describes.")
    min_confidence: float
    tracks: int
    hours: float
    step: int | None = Field(default=None, description="Frames from a library row to the next.")
    query_step: int | None = Field(default=None, description="Frames from a query row to the next.")
    frame_hop: int | None = Field(default=None, description="Samples from a frame to the next.")
    window_samples: int | None = None
    silence: float | None = Field(default=None, description="RMS below which a window is silent.")


class Ready(BaseModel):
    """The server can answer."""

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
