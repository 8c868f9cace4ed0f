"""The evidence for and against an answer over time, as plain arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fingerprint.audio.confined import load_clip
from fingerprint.errors import AudioError
from fingerprint.recognition.alignment import interpolated
from fingerprint.recognition.recognise import SPOKEN, query_part
from fingerprint.types import Clip, Fingerprint, Floats, Match

if TYPE_CHECKING:
    from fingerprint.library.library import Library

CANDIDATES = 5
AROUND = 6.0  # s of the track on either side of the passage in the similarity matrix


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """A query, its candidates, and the query's similarity to each.

    All times are in seconds; `query` is the part of the clip that was looked up. `along` holds for
    every candidate the cosines (N,) of the query's N windows with the windows of the track on its
    line, NaN beyond the track's ends; `moments` (N,) are the middles of the windows. `similarity`
    (R, N) compares the query with the best candidate's rows, whose middles are `places` (R,).
    `reference` is the best candidate's passage, at the query's speed; None where its file cannot
    be read.
    """

    query: Clip
    matches: Sequence[Match]
    moments: Floats
    along: Sequence[Floats]
    similarity: Floats
    places: Floats
    reference: Clip | None


def explain(clip: Clip, library: "Library", load: Callable[..., Clip] = load_clip) -> Explanation:
    """Recognise a query and keep the evidence for each candidate.

    `load` reads the best candidate's file.

    >>> found = explain(snippet, library)
    >>> bool(np.nanmean(found.along[0]) > np.nanmean(found.along[1]))  # the best and the next
    True

    Raises:
        AudioError: there is nothing to recognise in the clip.
    """
    model = library.model
    part, _ = query_part(clip)
    result = library.recognise(part, top=CANDIDATES)
    matches, query = result.matches, result.query
    if query is None or not matches:
        raise AudioError(f"there is nothing to explain: {SPOKEN[result.nothing]}")
    moments = query.start + np.arange(len(query.vectors)) * query.hop + model.window / 2
    tracks = [library.fingerprint(match.track) for match in matches]
    best = tracks[0]
    places, rows = _around(best, matches[0], part.duration, model.window)
    return Explanation(
        query=part,
        matches=matches,
        moments=moments.astype(np.float32),
        along=[
            _along(query, moments, track, match, model.window)
            for track, match in zip(tracks, matches, strict=True)
        ],
        similarity=rows @ query.vectors.T,
        places=places,
        reference=_passage(matches[0], part, load),
    )


def _along(
    query: Fingerprint,
    moments: NDArray[np.floating],
    track: Fingerprint | None,
    match: Match,
    window: float,
) -> Floats:
    """Cosines (N,) of the query's windows with the track's rows under them, interpolated."""
    cosines = np.full(len(moments), np.nan, np.float32)
    if track is None or len(track.vectors) < 2:
        return cosines
    position = (match.offset + match.rate * moments - window / 2) / track.hop
    below = np.floor(position).astype(np.int64)
    inside = (below >= 0) & (below + 1 < len(track.vectors)) & query.vectors.any(axis=1)
    near, far = track.vectors[below[inside]], track.vectors[below[inside] + 1]
    mixed = interpolated(near, far, (position - below)[inside])
    length = np.maximum(np.linalg.norm(mixed, axis=1), 1e-6)
    cosines[inside] = np.sum(mixed * query.vectors[inside], axis=1) / length
    return cosines


def _around(
    track: Fingerprint | None, match: Match, seconds: float, window: float
) -> tuple[Floats, Floats]:
    """Middles (R,) in seconds of the track's rows around the passage, and the rows (R, D)."""
    if track is None:
        return np.zeros(0, np.float32), np.zeros((0, 1), np.float32)
    middles = np.arange(len(track.vectors)) * track.hop + window / 2
    near = middles >= match.offset - AROUND
    near &= middles <= match.offset + match.rate * seconds + AROUND
    return middles[near].astype(np.float32), track.vectors[near]


def _passage(match: Match, query: Clip, load: Callable[..., Clip]) -> Clip | None:
    """The track under the query, as long as the query at its rate, silent beyond its ends."""
    from fingerprint.recognition.query import at_speed

    path: Path = match.track.path
    seconds = match.rate * query.duration
    missing = max(0.0, -match.offset)
    try:
        found = load(
            path,
            query.sample_rate,
            start=max(0.0, match.offset),
            seconds=max(0.1, seconds - missing),
        )
    except AudioError:
        return None
    silence = np.zeros(round(missing * query.sample_rate), np.float32)
    samples = np.concatenate([silence, found.samples])
    return at_speed(Clip(samples, query.sample_rate), match.rate)
