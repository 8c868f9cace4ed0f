"""All recordings of a role, decoded once into a cache and memory-mapped."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fingerprint.disk import atomic_write, locked
from fingerprint.errors import CorpusError
from fingerprint.lab.corpus.config import ADDITIONS, SOUND_ROLES, Role, Split
from fingerprint.lab.corpus.manifest import Corpus, CorpusFile
from fingerprint.lab.corpus.probe import to_int16
from fingerprint.types import Ints

VERSION = 1  # of a cache's format; caches with another number are not used


@dataclass(frozen=True, eq=False)
class Recordings:
    """n recordings end to end: recording i is `samples[starts[i]:starts[i + 1]]`.

    `samples` (T,) is 16-bit mono, mapped read-only from disk; `starts` is (n + 1,).
    """

    samples: NDArray[np.int16]
    starts: Ints
    files: tuple[CorpusFile, ...]

    def __len__(self) -> int:
        return len(self.files)

    def recording(self, i: int) -> NDArray[np.int16]:
        """A view of recording i."""
        return self.samples[self.starts[i] : self.starts[i + 1]]

    def some(self, numbers: Sequence[int]) -> "Recordings":
        """The recordings of these numbers, in this order, copied into memory."""
        parts = [self.recording(i) for i in numbers]
        starts = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        samples = np.concatenate(parts) if parts else np.zeros(0, np.int16)
        return Recordings(samples, starts, tuple(self.files[i] for i in numbers))


def load_recordings(
    corpus: Corpus, roles: Role | Sequence[Role], sample_rate: int, *, jobs: int = 2
) -> Recordings:
    """The recordings of a role, mono at `sample_rate` (Hz); samples beyond full scale are clipped.

    Those of several roles follow each other in the order of the roles. The first call decodes
    on `jobs` threads into the corpus's cache; later ones take none.

    Raises:
        CorpusError: a role has no files.
        AudioError: a file is gone or damaged since the corpus was assembled.
    """
    if isinstance(roles, str):
        files = files_of(corpus, roles)
        decode = partial(_decode_all, files, sample_rate, jobs)
        return _cached(corpus, roles, files, sample_rate, decode)
    parts = [load_recordings(corpus, role, sample_rate, jobs=jobs) for role in roles]
    if len(parts) == 1:
        return parts[0]
    files = tuple(file for part in parts for file in part.files)
    return _cached(corpus, "+".join(roles), files, sample_rate, partial(_join, parts))


def load_sounds(corpus: Corpus, split: Split, sample_rate: int) -> Recordings:
    """The recorded sounds of a split; none for a corpus of one's own music."""
    if not corpus.sounds(split):
        return Recordings(np.zeros(0, np.int16), np.zeros(1, np.int64), ())
    return load_recordings(corpus, SOUND_ROLES[split], sample_rate)


def files_of(corpus: Corpus, role: Role) -> tuple[CorpusFile, ...]:
    """The files of a role.

    Raises:
        CorpusError: there are none; it says how to get them.
    """
    files = corpus.role(role)
    if not files:
        remedy = f"run: python -m fingerprint.lab corpus --root {corpus.root} --add {role}"
        remedy = remedy if role in ADDITIONS else "assemble all of it, or add music to yours"
        raise CorpusError(f"the corpus at {corpus.root} has no files for {role}; {remedy}")
    return files


def _cached(
    corpus: Corpus,
    name: str,
    files: tuple[CorpusFile, ...],
    sample_rate: int,
    write: Callable[[Path], Ints],
) -> Recordings:
    """Map what `write` once wrote for these files; it returns where each starts, (n + 1,)."""
    key = content_key([file.digest for file in files])
    folder = cache_folder(corpus.root, sample_rate)
    sound, index = folder / f"{name}.{key}.pcm", folder / f"{name}.{key}.npy"
    with locked(folder):
        if not index.exists():
            remove_stale(folder, name)
            save_array(index, write(sound))  # last, because it marks the cache as complete
    starts = np.load(index)
    return Recordings(np.memmap(sound, np.int16, mode="r", shape=(int(starts[-1]),)), starts, files)


def _decode_all(files: Sequence[CorpusFile], sample_rate: int, jobs: int, sound: Path) -> Ints:
    """Write the files end to end, and tell where each starts, (n + 1,)."""
    from fingerprint.audio.decode import load_clip

    def decode(file: CorpusFile) -> NDArray[np.int16]:
        return to_int16(load_clip(file.path, sample_rate).samples)

    lengths = [0]
    # Threads suffice: decoders and resampler release the interpreter's lock.
    with atomic_write(sound) as draft, draft.open("wb") as out, ThreadPoolExecutor(jobs) as pool:
        for samples in pool.map(decode, files):
            samples.tofile(out)
            lengths.append(len(samples))
    return np.cumsum(lengths, dtype=np.int64)


def _join(parts: Sequence[Recordings], sound: Path) -> Ints:
    """Write recordings end to end: one file that many can map is worth its place on the disk."""
    with atomic_write(sound) as draft, draft.open("wb") as out:
        for part in parts:
            part.samples.tofile(out)
    lengths = [length for part in parts for length in np.diff(part.starts)]
    return np.cumsum([0, *lengths], dtype=np.int64)


def content_key(parts: Sequence[str]) -> str:
    """A short digest that names a cache by what it is made from."""
    text = "\n".join([str(VERSION), *parts])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def cache_folder(root: Path, sample_rate: int) -> Path:
    """The folder of caches at `sample_rate` (Hz)."""
    return root / "cache" / str(sample_rate)


def remove_stale(folder: Path, name: str) -> None:
    """Remove caches of this name that were made from other files."""
    for stale in folder.glob(f"{name}.*"):
        stale.unlink()


def save_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write an array as .npy, whole or not at all."""
    with atomic_write(path) as draft, draft.open("wb") as out:
        np.save(out, array)
