"""Files to embeddings: decode in parallel processes, digest the sound, embed in this process."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from fingerprint.audio.files import display_name
from fingerprint.audio.peaks import PeakExtractor, peaks_of
from fingerprint.audio.report import Damage
from fingerprint.errors import AudioError
from fingerprint.library.decoding import Decoded, Ended, Outcome, Part, Undecodable, decode_all
from fingerprint.library.library import Embedder
from fingerprint.library.records import Stamp, hop_block
from fingerprint.types import FULL_SCALE, Clip, Floats, PeakCodes, Tags

PIECE = 1 << 14  # samples rounded at a time, which fit a processor's cache
SHORTEST = 0.5  # s; there is nothing to recognise in less


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A decoded file. `content` is the digest of its decoded audio.

    `vectors` (rows, dim) is None if no embeddings were wanted. Rows of silence are added at the
    end, so that there are as many rows as of `peaks` (rows, kept), which reach to the end of the
    recording.
    """

    path: Path
    stamp: Stamp
    tags: Tags
    duration: float  # s
    content: bytes
    vectors: Floats | None
    peaks: PeakCodes | None = None
    damage: tuple[Damage, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """For JSON: all but the path and the arrays, which every format writes in its own way."""
        return {
            "size": self.stamp.size,
            "mtime_ns": self.stamp.mtime_ns,
            "content": self.content.hex(),
            "duration": self.duration,
            "tags": asdict(self.tags),
            "damage": [asdict(one) for one in self.damage],
        }


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that gives no recording; `reason` is a sentence with its name."""

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
    """Decode and embed files; yields each as soon as it is done.

    Args:
        files: their paths, with size and modification time when they were chosen.
        model: computes the embeddings.
        jobs: number of decoding processes; 0: decode in this process.
        stream: the number of the audio track, from 1 on, of files that hold several.
        wanted: whether to embed a file with this content digest. A long recording is always
            embedded, because its digest is known only at its end.
        on_block: called with the seconds read so far of long recordings that are not done.
    """
    decoded = decode_all(files, model.sample_rate, jobs=jobs, stream=stream)
    with closing(decoded):
        yield from embed_all(decoded, files, model, wanted=wanted, on_block=on_block)


def embed_all(
    decoded: Iterable[tuple[Path, Outcome]],
    files: Mapping[Path, Stamp],
    model: Embedder,
    *,
    wanted: Callable[[Path, bytes], bool] = lambda _path, _content: True,
    on_block: Callable[[float], None] = lambda _seconds: None,
) -> Iterator[Recording | Failure]:
    """As `embed_files`, for files that were decoded here or on another machine."""
    begun: dict[Path, _Long] = {}
    for path, outcome in decoded:
        try:
            match outcome:
                case Part(clip):
                    begun.setdefault(path, _Long(model)).take(clip)
                    on_block(sum(one.sound.seconds for one in begun.values()))
                case Ended(tags, damage):
                    long = begun.pop(path)
                    rows = long.embedding.end().vectors, long.peaks.end()
                    yield _recording(path, files[path], tags, long.sound, *rows, damage)
                case Decoded(tags, clip, damage):
                    sound = _Sound()
                    sound.take(clip)
                    if not wanted(path, sound.content):
                        yield _recording(path, files[path], tags, sound, None, None, damage)
                        continue
                    peaks = peaks_of(clip, block=hop_block(model.hop))
                    vectors = model.embed(clip).vectors
                    yield _recording(path, files[path], tags, sound, vectors, peaks, damage)
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
    peaks: PeakCodes | None,
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
    if vectors is not None and peaks is not None:
        tail = np.zeros((max(0, len(peaks) - len(vectors)), vectors.shape[1]), np.float32)
        vectors = np.concatenate([vectors, tail])
    return Recording(path, stamp, tags, sound.seconds, sound.content, vectors, peaks, damage)


class _Long:
    """A long recording of which some parts have been decoded."""

    def __init__(self, model: Embedder) -> None:
        self.sound = _Sound()
        self.embedding = model.begin()
        self.peaks = PeakExtractor(model.sample_rate, block=hop_block(model.hop))

    def take(self, block: Clip) -> None:
        self.sound.take(block)
        self.embedding.take(block)
        self.peaks.take(block.samples)


class _Sound:
    """Computes the length and the digest of a recording from its blocks."""

    def __init__(self) -> None:
        self._digest = blake2b(digest_size=16)
        self.seconds = 0.0

    def take(self, block: Clip) -> None:
        # 16 bits: the lowest bits of decoded samples may differ between versions of a decoder.
        for first in range(0, len(block.samples), PIECE):
            samples = block.samples[first : first + PIECE] * np.float32(FULL_SCALE - 1)
            np.clip(np.rint(samples, out=samples), -FULL_SCALE, FULL_SCALE - 1, out=samples)
            self._digest.update(samples.astype("<i2").data)
        self.seconds += block.duration

    @property
    def content(self) -> bytes:
        return self._digest.digest()
