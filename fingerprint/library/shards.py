"""Shards: a long list of files is cut into parts; the embeddings of each are kept in one file.

A shard's file is written under another name and renamed, so it is complete or not there. Its name
is a digest of its input: the model, and every file with its size and time. So a worker that embeds
the same shard again, after a crash or at the same time, writes the same file, and a rerun skips
shards that are there. It is a ZIP archive (`numpy.savez`), whose checksums reveal a file that a
power cut left incomplete: `about`, one JSON object; `vectors` (R, dim) and `peaks` (P, kept) of its
recordings, one after the other.
"""

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fingerprint.audio.files import quoted, unquoted
from fingerprint.audio.report import Damage
from fingerprint.disk import DRAFT, atomic_write, flush
from fingerprint.library.embedding import Failure, Recording
from fingerprint.library.records import Stamp
from fingerprint.types import Tags

FORMAT = 1
SUFFIX = ".shard"
MOST_FILES = 32
MOST_BYTES = 1 << 29  # of files, together: some 9 hours of MP3, one of uncompressed sound


@dataclass(frozen=True)
class Shard:
    """Files to embed together, with their stamps when they were chosen, and the model."""

    files: Mapping[Path, Stamp]
    model_id: str
    stream: int | None = None  # number of the audio track of files that hold several

    @cached_property
    def name(self) -> str:
        """The name of the shard's file."""
        made_from = [FORMAT, self.model_id, self.stream]
        listed = [[quoted(path), one.size, one.mtime_ns] for path, one in self.files.items()]
        digest = blake2b(json.dumps([made_from, listed]).encode(), digest_size=16)
        return digest.hexdigest() + SUFFIX


def cut(
    files: Mapping[Path, Stamp], model_id: str, stream: int | None, *, most: int = MOST_FILES
) -> Iterator[Shard]:
    """Cut the files, in their order, into shards of at most `most` files."""
    most = min(most, MOST_FILES)
    held: dict[Path, Stamp] = {}
    size = 0
    for path, stamp in files.items():
        if held and (len(held) == most or size + stamp.size > MOST_BYTES):
            yield Shard(held, model_id, stream)
            held, size = {}, 0
        held[path] = stamp
        size += stamp.size
    if held:
        yield Shard(held, model_id, stream)


def write(folder: Path, shard: Shard, results: Sequence[Recording | Failure]) -> None:
    """Write a shard's file; it is complete or not there.

    Raises:
        OSError: the disk is full or fails.
    """
    recordings = [one for one in results if isinstance(one, Recording)]
    about = {
        "format": FORMAT,
        "model": shard.model_id,
        "stream": shard.stream,
        "recordings": [_line(one) for one in recordings],
        "failures": [[quoted(one.path), one.reason] for one in results if isinstance(one, Failure)],
    }
    arrays: dict[str, Any] = {
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        "vectors": _joined([one.vectors for one in recordings]),
        "peaks": _joined([one.peaks for one in recordings]),
    }
    with atomic_write(folder / shard.name, shared=True) as draft:
        with draft.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        flush(draft)
    flush(folder)


def read(file: Path, model_id: str, stream: int | None) -> list[Recording | Failure] | None:
    """The results in a shard's file; None if it is damaged, or of another model or version.

    Raises:
        OSError: the file is missing or cannot be read.
    """
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            about = json.loads(archive["about"].tobytes())
            if (about["format"], about["model"], about["stream"]) != (FORMAT, model_id, stream):
                return None
            vectors, peaks = archive["vectors"], archive["peaks"]
    except (zipfile.BadZipFile, EOFError, KeyError, TypeError, ValueError):
        return None
    lines = about["recordings"]
    rows = pairwise(accumulate((one["rows"] for one in lines), initial=0))
    blocks = pairwise(accumulate((one["blocks"] for one in lines), initial=0))
    results: list[Recording | Failure] = [
        _recording(one, vectors[slice(*row)], peaks[slice(*block)])
        for one, row, block in zip(lines, rows, blocks, strict=True)
    ]
    return results + [Failure(unquoted(name), reason) for name, reason in about["failures"]]


def files_in(folder: Path) -> list[Path]:
    """The shard files in a folder; drafts that a killed process left are deleted."""
    for draft in folder.glob(f"*{DRAFT}"):
        with suppress(OSError):
            draft.unlink()
    return sorted(folder.glob(f"*{SUFFIX}"))


def _joined(parts: Iterable[Any]) -> Any:
    given = [part for part in parts if part is not None]
    return np.concatenate(given) if given else np.zeros((0, 0), np.float32)


def _line(one: Recording) -> dict[str, object]:
    assert one.vectors is not None  # noqa: S101 - a shard's recordings are all embedded
    assert one.peaks is not None  # noqa: S101 - they come together
    return {
        "path": quoted(one.path),
        **one.as_record(),
        "rows": len(one.vectors),
        "blocks": len(one.peaks),
    }


def _recording(line: dict[str, Any], vectors: Any, peaks: Any) -> Recording:
    return Recording(
        unquoted(line["path"]),
        Stamp(line["size"], line["mtime_ns"]),
        Tags(**line["tags"]),
        line["duration"],
        bytes.fromhex(line["content"]),
        vectors,
        peaks,
        tuple(map(Damage.of_record, line["damage"])),
    )
