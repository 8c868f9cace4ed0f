"""The part of a query in which the track plays. Pure NumPy.

A query may reach past the track's end, or hold a hard cut to something else. That part would bias
the offset and rate of a line fitted through the whole query. So we take the stretch of the query
with the largest sum of cosines above a threshold, which lies between the cosines of the track and
those of other music, along the candidate's line and along every line of rate 1 that crosses it. It
is the likeliest stretch for two levels in noise (Page, "Continuous inspection schemes", Biometrika
1954).
"""

from dataclasses import dataclass, replace

import numpy as np

from fingerprint.recognition.alignment import StoredTracks, nearest_windows
from fingerprint.types import Candidate, Doubles, Fingerprint, Floats, Ints

HIGH = 0.9  # quantile of the cosines along a line that is taken for the track's level
BETWEEN = 0.35  # the threshold, as a share of the way from other music's level to the track's
WORSE = 1.2  # the sum at another rate must exceed that of any line of rate 1 by this factor
MOST = 0.85  # of the query; if the part is longer, the whole query is used
LEAST = 1.5  # s; a shorter part does not tell the rate


@dataclass(frozen=True, slots=True)
class Part:
    """The part of the query from `begin` to `end` (s), and the line along which the track plays."""

    begin: float
    end: float
    line: Candidate


def part_in_track(
    query: Fingerprint,
    line: Candidate,
    stored: StoredTracks,
    *,
    impostor: float,
    window: float,
    seconds: float,
    rate_known: bool,
) -> Part | None:
    """The part of a query in which the track plays; None if it is nearly all, or hardly any of it.

    Args:
        query: dense rows.
        line: the candidate's line, at the query's own speed.
        stored: the tracks.
        impostor: mean cosine of this query with other music.
        window: s of audio that a row describes.
        seconds: length of the query.
        rate_known: whether no line of rate 1 need be tried.
    """
    hop, starts = stored.hop, stored.rows.starts
    ends = np.array([0.0, seconds])
    around = line.offset + (line.rate - 1) * ends  # where lines of rate 1 begin that cross it
    plain = np.arange(around.min() - hop, around.max() + hop, query.hop)
    plain = plain[:0] if rate_known else plain
    offsets, rates = np.append(plain, line.offset), np.append(np.ones(len(plain)), line.rate)
    total = int(starts[line.track + 1] - starts[line.track])
    low, high = (line.offset + line.rate * ends) / hop
    rows = np.arange(max(0, int(low) - 2), min(total, int(high) + 3))
    vectors = stored.vectors(starts[line.track] + rows)
    rows, vectors = rows[vectors.any(axis=1)], vectors[vectors.any(axis=1)]
    moments = (rows * hop - offsets[:, None]) / rates[:, None]  # (A, R) s into the query
    along = _cosines(query, vectors, moments)
    compared = ~np.isnan(along).all(axis=1)
    if not compared.any():
        return None
    track = float(np.nanquantile(along[compared], HIGH, axis=1).max())
    least = impostor + BETWEEN * (track - impostor)
    first, last, sums = best_stretches(np.nan_to_num(along - least))
    sums[:-1] *= WORSE
    best = int(np.argmax(sums))
    begin, end = float(moments[best, first[best]]), float(moments[best, last[best]]) + window
    # A window that is half something else is still more similar to the track than not.
    if begin <= hop:
        begin = 0.0
    elif rows[first[best]] > 0:
        begin += window / 2
    if end >= seconds - hop:
        end = seconds
    elif last[best] < len(rows) - 1:
        end -= window / 2
    if not LEAST <= end - begin <= MOST * seconds:
        return None
    return Part(begin, end, replace(line, offset=float(offsets[best]), rate=float(rates[best])))


def best_stretches(gain: Doubles) -> tuple[Ints, Ints, Doubles]:
    """First element, last element, and sum, of the stretch with the largest sum of each row."""
    until = np.cumsum(gain, axis=1)
    before = until - gain
    least = np.minimum.accumulate(before, axis=1)
    last = np.argmax(until - least, axis=1)
    sums = np.take_along_axis(until - least, last[:, None], axis=1)[:, 0]
    held = np.where(np.arange(gain.shape[1]) <= last[:, None], before, np.inf)
    return np.argmin(held, axis=1), last, sums


def _cosines(query: Fingerprint, rows: Floats, moments: Doubles) -> Doubles:
    """Cosines (A, R) of a track's rows (R, D) with the query's windows nearest to `moments` (s).

    NaN where the query has no window, or a silent one.
    """
    number, there = nearest_windows(query, moments)
    cosines = (rows @ query.vectors.T)[np.arange(len(rows)), number]
    return np.where(there, cosines, np.nan)
