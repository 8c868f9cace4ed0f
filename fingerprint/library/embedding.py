"""Files to embeddings: decoded in parallel, told apart by their sound, embedded here."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from fingerprint.audio.files import display_name
from fingerprint.errors import AudioError
from fingerprint.library.decoding import Decoded, Undecodable, decode_all, stream
from fingerprint.library.library import Embedder
from fingerprint.library.records import Stamp
from fingerprint.types import Clip, Fingerprint, Floats, Tags

SHORTEST = 0.5  # s; there is nothing to recognise in less


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """What became of one file. `content` is the digest of its decoded audio.

    `vectors` (rows, dim) is None where the embeddings were not asked for.
    """

    path: Path
    stamp: Stamp
    tags: Tags
    duration: float  # s
    content: bytes
    vectors: Floats | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that gives no recording, and why: a sentence that names it."""

    path: Path
    reason: str


def embed_files(
    files: Mapping[Path, Stamp],
    model: Embedder,
    *,
    jobs: int,
    wanted: Callable[[Path, bytes], bool] = lambda _path, _content: True,
    on_block: Callable[[float], None] = lambda _seconds: None,
) -> Generator[Recording | Failure, None, None]:
    """Decode and embed files, in the order in which they get done.

    Args:
        files: their paths, and how they looked when they were chosen.
        model: whose embeddings.
        jobs: processes that decode; 0 decodes in this one.
        wanted: says of a file and its content whether its embeddings are; a long recording, whose
            content is known only at its end, gets them anyhow.
        on_block: is told how many seconds of a long recording have been read.
    """
    decoded = decode_all(files, model.sample_rate, jobs=jobs)
    with closing(decoded):
        for path, outcome in decoded:
            try:
                if isinstance(outcome, Undecodable):
                    raise AudioError(outcome.reason)
                yield _recording(
                    path, files[path], outcome, model, wanted, on_block, apart=jobs > 0
                )
            except AudioError as error:
                yield Failure(path, str(error))


def _recording(
    path: Path,
    stamp: Stamp,
    decoded: Decoded,
    model: Embedder,
    wanted: Callable[[Path, bytes], bool],
    on_block: Callable[[float], None],
    *,
    apart: bool,
) -> Recording:
    """Raises AudioError if there is nothing to recognise in it."""
    listener = _Listener(on_block)
    if decoded.clip is None:
        with closing(stream(path, model.sample_rate, apart=apart)) as blocks:
            fingerprint: Fingerprint | None = model.embed_blocks(listener.overhear(blocks))
    else:
        listener.take(decoded.clip)
        fingerprint = model.embed(decoded.clip) if wanted(path, listener.content) else None
    name = display_name(path)
    vectors = None if fingerprint is None else fingerprint.vectors
    if listener.seconds < SHORTEST or (vectors is not None and not len(vectors)):
        raise AudioError(
            f"cannot use {name}: it lasts {listener.seconds:.2f} s, too short to recognise"
        )
    if vectors is not None and not vectors.any():
        raise AudioError(f"cannot use {name}: it is silent throughout")
    return Recording(path, stamp, decoded.tags, listener.seconds, listener.content, vectors)


class _Listener:
    """Takes the length and the digest of a recording that passes by in blocks."""

    def __init__(self, on_block: Callable[[float], None]) -> None:
        self._digest = blake2b(digest_size=16)
        self._on_block = on_block
        self.seconds = 0.0

    def overhear(self, blocks: Iterable[Clip]) -> Iterator[Clip]:
        for block in blocks:
            self.take(block)
            self._on_block(self.seconds)
            yield block

    def take(self, block: Clip) -> None:
        # 16 bits: a decoder's last digits may change from version to version.
        samples = np.clip(np.rint(block.samples * 32_767), -32_768, 32_767).astype("<i2")
        self._digest.update(samples.data)
        self.seconds += block.duration

    @property
    def content(self) -> bytes:
        return self._digest.digest()
