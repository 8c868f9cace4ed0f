"""A system and its state on a corpus: whether it is installed, its index and its answers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import soundfile
import soxr

from fingerprint.disk import atomic_write
from fingerprint.lab.benchmark.run import KNOWN_ROLES
from fingerprint.lab.corpus import Corpus, CorpusFile
from fingerprint.lab.peers.client import Client, install
from fingerprint.lab.peers.systems import System
from fingerprint.types import Clip

Wavs = Mapping[int, Path]  # the same sound by its sample rate, Hz


@dataclass(frozen=True, slots=True)
class State:
    """How far an index has come, and what it took."""

    tracks: int = 0
    hours: float = 0.0  # of music
    seconds: float = 0.0  # to add them, without decoding

    def after(self, length: float, seconds: float) -> Self:
        """With one more track of that length (s), which took `seconds` to add."""
        return type(self)(self.tracks + 1, self.hours + length / 3600, self.seconds + seconds)


@dataclass(frozen=True, slots=True)
class Peer:
    """An installed system: the Python that runs it, and the folder of its index and answers."""

    system: System
    python: Path
    folder: Path

    @property
    def index(self) -> Path:
        return self.folder / "index"

    @property
    def noted(self) -> Path:
        """The file that says how much of the library is in the index."""
        return self.folder / "indexed.json"

    def start(self) -> Client:
        self.index.mkdir(parents=True, exist_ok=True)
        return Client(self.system, self.python, self.index, log=self.folder / "log.txt")

    def state(self) -> State:
        """How much of the library is in the saved index."""
        return State(**json.loads(self.noted.read_text())) if self.noted.exists() else State()

    def note(self, state: State) -> None:
        with atomic_write(self.noted) as draft:
            draft.write_text(json.dumps(asdict(state)) + "\n")

    def answers(self, split: str, seed: int) -> Path:
        return self.folder / f"answers-{split}-{seed}.jsonl"


def library(corpus: Corpus) -> list[CorpusFile]:
    """The tracks that `fingerprint evaluate` looks its queries up in."""
    return [file for role in KNOWN_ROLES for file in corpus.music(role)]


def prepare(corpus: Corpus, systems: Sequence[System], output: Path) -> list[Peer]:
    """Install the systems, and tell where under `output` their indexes and answers go.

    An index of other settings or other tracks has another folder, so none is ever out of date.

    Raises:
        PeerError: one of them cannot be installed.
    """
    output = output.resolve()
    digests = [file.digest for file in library(corpus)]
    return [
        Peer(
            system,
            python=install(system, output / "environments"),
            folder=output / f"{system.name}-{system.key(digests)}",
        )
        for system in systems
    ]


@contextmanager
def as_wav(clip: Clip, clients: Sequence[Client]) -> Iterator[Wavs]:
    """The sound as a 16-bit file at every sample rate that the clients want, for a while."""
    with TemporaryDirectory(prefix="fingerprint-") as shelf:
        wavs = {}
        for rate in {client.system.sample_rate for client in clients}:
            wavs[rate] = Path(shelf) / f"{rate}.wav"
            sound = soxr.resample(clip.samples, clip.sample_rate, rate)
            soundfile.write(wavs[rate], sound, rate, "PCM_16")
        yield wavs
