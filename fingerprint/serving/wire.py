"""`application/vnd.fingerprint.query`: the wire format of a query that a client has computed.

It holds everything that recognition needs (an `Outline`) and no audio. A view is the query with one
change of speed undone. All numbers are little-endian:

    "FPQY"                      magic
    uint16 version = 1, uint16 views (1 to 16)
    32 bytes                    the model's id
    for each view, the first one at speed 1:
        float64 speed           the change of speed that is undone: 1, 0.944, ...
        float64 seconds         its length; float64 hop and start (s) of its rows
        uint32 rows, dim, frames, bins, blocks, kept
        float16 (rows, dim)     embeddings
        float16 (rows,)         their clearness (the length of the vectors before normalisation)
        uint8   (frames, bins)  log spectrogram over its local mean; 255 is 6 nepers
        uint16  (blocks, kept)  spectral peaks for `index.landmarks`

The spectrogram shows which frequencies stood out at what time, at 31 Hz and 16 ms; it has no level
and no phase, and nothing above 3.9 kHz.

`encode_rows` and `decode_rows` are the format of a track's embeddings (`GET …/fingerprint`).
"""

import struct
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fingerprint.audio.peaks import BINS, EMPTY
from fingerprint.index.landmarks import QUERY_KEPT, query_peaks
from fingerprint.recognition.confidence import Calibration
from fingerprint.recognition.query import at_speed
from fingerprint.recognition.recognise import LONGEST_QUERY
from fingerprint.recognition.verification import HIGHEST, heights_of
from fingerprint.types import Background, Clip, Fingerprint, Floats, Outline

MEDIA_TYPE = "application/vnd.fingerprint.query"
MAGIC, VERSION = b"FPQY", 1
MAX_VIEWS = 16
MAX_STRETCH = 2.0  # a view may be this many times as long as the longest query
MIN_HOP = 0.01  # s
MAX_BYTES = 16 << 20
_HEAD = struct.Struct("<4sHH32s")
_VIEW = struct.Struct("<4d6I")


class QueryEmbedder(Protocol):
    """The part of a model that computes a query."""

    @property
    def id(self) -> str: ...
    @property
    def sample_rate(self) -> int: ...
    def embed(self, clip: Clip, /) -> Fingerprint: ...
    def embed_query(self, clip: Clip, /) -> Fingerprint: ...


class OutlineModel:
    """Stands in for a model in `recognise`: it returns the embeddings that came with a query."""

    def __init__(self, model: Any) -> None:
        self.sample_rate: int = model.sample_rate
        self.hop: float = model.hop
        self.window: float = model.window
        self.calibration: Calibration = model.calibration
        self.background: Background | None = model.background

    def embed(self, clip: Clip) -> Fingerprint:
        """The rows of a computed query."""
        if not isinstance(clip, Outline):
            raise TypeError("a computed query has no audio to embed")
        return clip.rows

    embed_query = embed


def outline(clip: Clip, model: QueryEmbedder, speed: float = 1.0) -> Outline:
    """Compute a view of a query: embeddings, spectrogram and peaks, with `speed` undone."""
    query = at_speed(clip, 1 / speed)
    rows = model.embed_query(query) if speed == 1 else model.embed(query)
    peaks = query_peaks(query) if speed == 1 else np.empty((0, QUERY_KEPT), np.uint16)
    return Outline(query.samples, query.sample_rate, rows, heights_of(query), peaks)


def encode(model_id: str, views: Mapping[float, Outline]) -> bytes:
    """Encode a query's views by their speeds, of which 1 comes first."""
    parts = [_HEAD.pack(MAGIC, VERSION, len(views), bytes.fromhex(model_id))]
    for speed, view in views.items():
        rows, clearness = view.rows, view.rows.clearness
        clear = np.ones(len(rows.vectors)) if clearness is None else clearness
        sizes = (*rows.vectors.shape, *view.heights.shape, *view.peaks.shape)
        parts += [
            _VIEW.pack(speed, view.duration, rows.hop, rows.start, *sizes),
            rows.vectors.astype("<f2").tobytes(),
            clear.astype("<f2").tobytes(),
            np.rint(view.heights * (255 / HIGHEST)).astype(np.uint8).tobytes(),
            view.peaks.astype("<u2").tobytes(),
        ]
    return b"".join(parts)


def decode(data: bytes, sample_rate: int, dim: int) -> tuple[str, Outline]:
    """Decode to the model's id and the query, and check every size: the data is untrusted.

    Raises:
        ValueError: it is not a query, or one beyond the limits.
    """
    try:
        magic, version, count, model_id = _HEAD.unpack_from(data)
        if magic != MAGIC or version != VERSION:
            raise ValueError(f"it is no query of version {VERSION}")
        if not 1 <= count <= MAX_VIEWS:
            raise ValueError(f"it has {count} views")
        reader = _Reader(data, _HEAD.size, sample_rate, dim)
        views = dict(reader.view() for _ in range(count))
    except struct.error as error:
        raise ValueError("it is cut off") from error
    if reader.at != len(data):
        raise ValueError("it is longer than its header says")
    first = views.pop(1.0, None)
    if first is None:
        raise ValueError("the view at speed 1 is missing")
    whole = Outline(first.samples, sample_rate, first.rows, first.heights, first.peaks, views)
    return model_id.hex(), whole


ROWS_MEDIA_TYPE = "application/vnd.fingerprint.rows"
_ROWS = struct.Struct("<4sIId")


def encode_rows(found: Fingerprint) -> bytes:
    """A track's embeddings: "FPRW", uint32 rows and dim, float64 hop (s), float16 (rows, dim)."""
    head = _ROWS.pack(b"FPRW", *found.vectors.shape, found.hop)
    return head + found.vectors.astype("<f2").tobytes()


def decode_rows(data: bytes) -> Fingerprint:
    """Raises ValueError if the data is not that of `encode_rows`."""
    try:
        magic, rows, dim, hop = _ROWS.unpack_from(data)
    except struct.error as error:
        raise ValueError("they are cut off") from error
    if magic != b"FPRW" or len(data) != _ROWS.size + 2 * rows * dim or not hop > 0:
        raise ValueError("they are no rows")
    vectors = np.frombuffer(data, "<f2", offset=_ROWS.size).reshape(rows, dim)
    return Fingerprint(vectors.astype(np.float32), hop)


class _Reader:
    """Reads the views of a query one after the other, and checks each size before using it."""

    def __init__(self, data: bytes, at: int, sample_rate: int, dim: int) -> None:
        self.at, self._data, self._rate, self._dim = at, data, sample_rate, dim

    def view(self) -> tuple[float, Outline]:
        head = _VIEW.unpack_from(self._data, self.at)
        self.at += _VIEW.size
        speed, seconds, hop, start = head[:4]
        rows, dim, frames, bins, blocks, kept = head[4:]
        sane = 0.25 <= speed <= 4 and 0 < seconds <= MAX_STRETCH * LONGEST_QUERY
        if not (sane and MIN_HOP <= hop <= 10 and abs(start) <= LONGEST_QUERY):
            raise ValueError("its times make no sense")
        fits = dim == self._dim and bins == BINS[1] - BINS[0] and kept == QUERY_KEPT
        if not fits or not 0 < rows <= seconds / hop + 100 or not 0 < frames <= 100 * seconds + 10:
            raise ValueError("its sizes make no sense")
        vectors = self._unit(self._array("<f2", (rows, dim)).astype(np.float32))
        clear = np.clip(self._array("<f2", (rows,)).astype(np.float32), 1e-4, 1e4)
        heights = self._array("u1", (frames, bins)).astype(np.float32) * np.float32(HIGHEST / 255)
        peaks = self._array("<u2", (blocks, kept)).astype(np.uint16)
        if (((peaks & 255) >= bins) & (peaks != EMPTY)).any():
            raise ValueError("its spectral peaks are out of range")
        samples = np.broadcast_to(np.float32(0), (round(seconds * self._rate),))
        found = Fingerprint(vectors, hop, start, clear)
        return round(speed, 6), Outline(samples, self._rate, found, heights, peaks)

    def _array(self, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
        dtype, count = np.dtype(kind), int(np.prod(shape))
        if self.at + count * dtype.itemsize > len(self._data):
            raise ValueError("it is cut off")
        found = np.frombuffer(self._data, dtype, count, self.at).reshape(shape)
        self.at += count * dtype.itemsize
        return found

    @staticmethod
    def _unit(vectors: Floats) -> Floats:
        """Rows normalised to length 1, or 0 where they are shorter than 0.5."""
        if not np.isfinite(vectors).all():
            raise ValueError("its embeddings are not finite")
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Floats = np.where(length > 0.5, vectors / np.maximum(length, 0.5), 0)
        return unit.astype(np.float32)
