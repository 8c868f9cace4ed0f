"""`application/vnd.fingerprint.recording`: the wire format of a track that a client has embedded.

It holds embeddings, spectral peaks and tags, so that a library on a server can add the track
without its audio. All numbers are little-endian:

    "FPRC"                      magic
    uint16 version = 1, uint16 0
    uint32 length, JSON         path, size, mtime_ns, content, duration, tags, damage, model
    uint32 rows, dim, peak rows, kept
    float16 (rows, dim)         embeddings, one per hop of the model
    uint16  (peak rows, kept)   spectral peaks
"""

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fingerprint.audio.files import ELSEWHERE
from fingerprint.audio.peaks import are_sound, kept_of
from fingerprint.audio.report import Damage
from fingerprint.library.embedding import Recording
from fingerprint.library.records import Stamp
from fingerprint.library.writer import Entry
from fingerprint.types import Tags, Track

MEDIA_TYPE = "application/vnd.fingerprint.recording"
MAGIC, VERSION = b"FPRC", 1
MAX_HEADER = 1 << 16  # bytes
MAX_PATH = 4096  # characters
MAX_TAG = 500  # characters
MAX_DAMAGE = 8  # warnings
MAX_DURATION = 24 * 3600.0  # s
_HEAD, _SIZES = struct.Struct("<4sHHI"), struct.Struct("<4I")


def encode(recording: Recording, model_id: str, host: str) -> bytes:
    """Encode a recording on this machine, whose name is `host`."""
    assert recording.vectors is not None  # noqa: S101 - the caller has embedded it
    assert recording.peaks is not None  # noqa: S101 - computed together with the vectors
    header = {
        "model": model_id,
        "path": str(ELSEWHERE / host / str(recording.path).lstrip("/")),
        **replace(recording, damage=recording.damage[:MAX_DAMAGE]).as_record(),
    }
    head = json.dumps(header).encode()
    sizes = _SIZES.pack(*recording.vectors.shape, *recording.peaks.shape)
    vectors, peaks = recording.vectors.astype("<f2"), recording.peaks.astype("<u2")
    return b"".join(
        [_HEAD.pack(MAGIC, VERSION, 0, len(head)), head, sizes, vectors.tobytes(), peaks.tobytes()]
    )


def decode(data: bytes, dim: int, block: int) -> tuple[str, Entry]:
    """Decode to the model's id and a library entry, and check every field: the data is untrusted.

    Args:
        data: what `encode` gave.
        dim: dimensions of the model's embeddings.
        block: frames of a block of spectral peaks.

    Raises:
        ValueError: it is not such a recording.
    """
    kept = kept_of(block)
    try:
        magic, version, _, length = _HEAD.unpack_from(data)
        if magic != MAGIC or version != VERSION or length > MAX_HEADER:
            raise ValueError(f"it is no recording of version {VERSION}")
        at = _HEAD.size + length
        header = json.loads(data[_HEAD.size : at])
        rows, width, blocks, peaks_a_block = _SIZES.unpack_from(data, at)
        at += _SIZES.size
        if width != dim or peaks_a_block != kept or not rows > 0 or blocks > rows + 16:
            raise ValueError("its sizes make no sense")
        if len(data) != at + 2 * rows * dim + 2 * blocks * kept:
            raise ValueError("its length differs from its header")
        vectors = np.frombuffer(data, "<f2", rows * dim, at).reshape(rows, dim).astype(np.float32)
        peaks = np.frombuffer(data, "<u2", blocks * kept, at + 2 * rows * dim).astype(np.uint16)
        if not are_sound(peaks, block):
            raise ValueError("its spectral peaks are out of range")
        entry = _entry(header, vectors, peaks.reshape(blocks, kept))
        return str(header["model"]), entry
    except (struct.error, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError("it is malformed") from error


def _entry(header: dict[str, Any], vectors: Any, peaks: Any) -> Entry:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(vectors).all() or not vectors.any() or float(length.max()) > 2:
        raise ValueError("its embeddings are not unit vectors")
    path, duration = Path(_text(header["path"], MAX_PATH)), float(header["duration"])
    if ELSEWHERE not in path.parents or ".." in path.parts or not 0 < duration <= MAX_DURATION:
        raise ValueError("its path or its duration makes no sense")
    tags = {name: _text(header["tags"][name], MAX_TAG) for name in Tags.__slots__}
    damage = tuple(Damage.of_record(one) for one in header["damage"][:MAX_DAMAGE])
    stamp = Stamp(int(header["size"]), int(header["mtime_ns"]) % (1 << 63))
    content = bytes.fromhex(header["content"])[:16]
    track = Track(path, duration, Tags(**tags))
    return Entry(track, stamp, vectors, content, peaks=peaks, damage=damage)


def _text(value: Any, limit: int) -> str:
    if not isinstance(value, str) or len(value) > limit or "\0" in value:
        raise ValueError("a text in it is too long, or is none")
    return value
