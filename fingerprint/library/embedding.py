"""Files to embeddings: decoded in parallel, told apart by their sound, embedded here."""

from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from fingerprint.audio.files import display_name
from fingerprint.audio.report import Damage
from fingerprint.errors import AudioError
from fingerprint.library.decoding import Decoded, Ended, Part, Undecodable, decode_all
from fingerprint.library.library import Embedder
from fingerprint.library.records import Stamp
from fingerprint.types import Clip, Floats, Tags

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
    damage: tuple[Damage, ...] = ()


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
    stream: int | None = None,
    wanted: Callable[[Path, bytes], bool] = lambda _path, _content: True,
    on_block: Callable[[float], None] = lambda _seconds: None,
) -> Generator[Recording | Failure, None, None]:
    """Decode and embed files, in the order in which they get done.

    Args:
        files: their paths, and how they looked when they were chosen.
        model: whose embeddings.
        jobs: processes that decode; 0 decodes in this one.
        stream: the number of the audio track, from 1 on, of files that hold several.
        wanted: says of a file and its content whether its embeddings are; a long recording, whose
            content is known only at its end, gets them anyhow.
        on_block: is told how many seconds have been read of long recordings that are not done.
    """
    begun: dict[Path, _Long] = {}
    decoded = decode_all(files, model.sample_rate, jobs=jobs, stream=stream)
    with closing(decoded):
        for path, outcome in decoded:
            try:
                match outcome:
                    case Part(clip):
                        begun.setdefault(path, _Long(model)).take(clip)
                        on_block(sum(one.sound.seconds for one in begun.values()))
                    case Ended(tags, damage):
                        long = begun.pop(path)
                        vectors = long.embedding.end().vectors
                        yield _recording(path, files[path], tags, long.sound, vectors, damage)
                    case Decoded(tags, clip, damage):
                        sound = _Sound()
                        sound.take(clip)
                        asked = wanted(path, sound.content)
                        rows = model.embed(clip).vectors if asked else None
                        yield _recording(path, files[path], tags, sound, rows, damage)
                    case Undecodable(reason):
                        begun.pop(path, None)
                        yield Failure(path, reason)
            except AudioError as error:
                yield Failure(path, str(error))


def _recording(
    path: Path,
    stamp: Stamp,
    tags: Tags,
    sound: "_Sound",
    vectors: Floats | None,
    damage: tuple[Damage, ...],
) -> Recording:
    """Raises AudioError if there is nothing to recognise in it."""
    name = display_name(path)
    if sound.seconds < SHORTEST or (vectors is not None and not len(vectors)):
        raise AudioError(
            f"cannot use {name}: it lasts {sound.seconds:.2f} s, too short to recognise"
        )
    if vectors is not None and not vectors.any():
        raise AudioError(f"cannot use {name}: it is silent throughout")
    return Recording(path, stamp, tags, sound.seconds, sound.content, vectors, damage)


class _Long:
    """A long recording as far as it has come."""

    def __init__(self, model: Embedder) -> None:
        self.sound = _Sound()
        self.embedding = model.begin()

    def take(self, block: Clip) -> None:
        self.sound.take(block)
        self.embedding.take(block)


class _Sound:
    """The length and the digest of a recording that passes by."""

    def __init__(self) -> None:
        self._digest = blake2b(digest_size=16)
        self.seconds = 0.0

    def take(self, block: Clip) -> None:
        # 16 bits: a decoder's last digits may change from version to version.
        samples = np.clip(np.rint(block.samples * 32_767), -32_768, 32_767).astype("<i2")
        self._digest.update(samples.data)
        self.seconds += block.duration

    @property
    def content(self) -> bytes:
        return self._digest.digest()
