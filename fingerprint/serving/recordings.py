"""`application/vnd.fingerprint.recording`: a track on its way to a library on a server.

Embeddings, spectral peaks and tags, computed where the file is. All numbers are little-endian:

    "FPRC"                      magic
    uint16 version = 1, uint16 0
    uint32 length, JSON         path, size, mtime_ns, content, duration, tags, damage, model
    uint32 rows, dim, peak rows, kept
    float16 (rows, dim)         embeddings, a hop of the model apart
    uint16  (peak rows, kept)   spectral peaks
"""

import json
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fingerprint.audio.files import ELSEWHERE, is_control
from fingerprint.audio.peaks import are_sound, kept_of
from fingerprint.audio.report import Damage
from fingerprint.library.embedding import Recording
from fingerprint.library.records import Stamp
from fingerprint.library.writer import Entry
from fingerprint.types import Tags, Track

MEDIA_TYPE = "application/vnd.fingerprint.recording"
MAGIC, VERSION = b"FPRC", 1
LONGEST_HEAD = 1 << 16  # bytes
LONGEST_PATH = 4096
LONGEST_TAG = 500
LONGEST = 24 * 3600.0  # s
_HEAD, _SIZES = struct.Struct("<4sHHI"), struct.Struct("<4I")


def encode(recording: Recording, model_id: str, host: str) -> bytes:
    """A recording of this machine, whose name is `host`."""
    assert recording.vectors is not None  # noqa: S101 - they were asked for
    assert recording.peaks is not None  # noqa: S101 - they come together
    about = {
        "model": model_id,
        "path": str(ELSEWHERE / host / str(recording.path).lstrip("/")),
        "size": recording.stamp.size,
        "mtime_ns": recording.stamp.mtime_ns,
        "content": recording.content.hex(),
        "duration": recording.duration,
        "tags": asdict(recording.tags),
        "damage": [one.as_record() for one in recording.damage],
    }
    head = json.dumps(about).encode()
    sizes = _SIZES.pack(*recording.vectors.shape, *recording.peaks.shape)
    vectors, peaks = recording.vectors.astype("<f2"), recording.peaks.astype("<u2")
    return b"".join(
        [_HEAD.pack(MAGIC, VERSION, 0, len(head)), head, sizes, vectors.tobytes(), peaks.tobytes()]
    )


def decode(data: bytes, dim: int, block: int) -> tuple[str, Entry]:
    """The model's id, and the track, of a model with so many frames of peaks a hop.

    Raises:
        ValueError: it is none.
    """
    kept = kept_of(block)
    try:
        magic, version, _, length = _HEAD.unpack_from(data)
        if magic != MAGIC or version != VERSION or length > LONGEST_HEAD:
            raise ValueError(f"it is no recording of version {VERSION}")
        at = _HEAD.size + length
        about = json.loads(data[_HEAD.size : at])
        rows, width, blocks, many = _SIZES.unpack_from(data, at)
        at += _SIZES.size
        if width != dim or many != kept or not rows > 0 or blocks > rows + 16:
            raise ValueError("its sizes make no sense")
        if len(data) != at + 2 * rows * dim + 2 * blocks * kept:
            raise ValueError("it has another length than it says")
        vectors = np.frombuffer(data, "<f2", rows * dim, at).reshape(rows, dim).astype(np.float32)
        peaks = np.frombuffer(data, "<u2", blocks * kept, at + 2 * rows * dim).astype(np.uint16)
        if not are_sound(peaks, block):
            raise ValueError("its peaks lie nowhere")
        entry = _entry(about, vectors, peaks.reshape(blocks, kept))
        return str(about["model"]), entry
    except (struct.error, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError("it is not as it should be") from error


def _entry(about: dict[str, Any], vectors: Any, peaks: Any) -> Entry:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(vectors).all() or not vectors.any() or float(length.max()) > 2:
        raise ValueError("its embeddings are none")
    path, duration = Path(_text(about["path"], LONGEST_PATH)), float(about["duration"])
    if ELSEWHERE not in path.parents or ".." in path.parts or not 0 < duration <= LONGEST:
        raise ValueError("its path or its duration makes no sense")
    tags = {name: _text(about["tags"][name], LONGEST_TAG) for name in Tags.__slots__}
    damage = tuple(Damage.of_record(one) for one in about["damage"][:8])
    stamp = Stamp(int(about["size"]), int(about["mtime_ns"]) % (1 << 63))
    content = bytes.fromhex(about["content"])[:16]
    track = Track(path, duration, Tags(**tags))
    return Entry(track, stamp, vectors, content, peaks=peaks, damage=damage)


def _text(found: Any, longest: int) -> str:
    if not isinstance(found, str) or len(found) > longest or any(map(is_control, found)):
        raise ValueError("a text in it is none")
    return found
