"""Add tracks to the index of every peer."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fingerprint.audio.decode import load_clip
from fingerprint.lab.benchmark.material import WORKING_RATE
from fingerprint.lab.benchmark.run import OnProgress, Progress
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.peers.client import Client
from fingerprint.lab.peers.peer import Peer, State, Wavs, as_wav, library

SAVED_EVERY = 50  # tracks

Tracks = Sequence[tuple[str, Path]]  # each by the name that a peer answers with


@dataclass(slots=True)
class Growing:
    """An index that tracks are being added to."""

    peer: Peer
    client: Client
    state: State

    def add(self, name: str, length: float, wavs: Wavs) -> None:
        reply = self.client.ask(do="add", name=name, wav=str(wavs[self.client.system.sample_rate]))
        self.state = self.state.after(length, reply["seconds"])

    def save(self) -> None:
        self.client.ask(do="save")
        self.peer.note(self.state)


def tracks_of(corpus: Corpus) -> Tracks:
    """The tracks of the library, named by their paths in the corpus."""
    return [(file.path.relative_to(corpus.root).as_posix(), file.path) for file in library(corpus)]


def index(tracks: Tracks, peers: Sequence[Peer], jobs: int, on_progress: OnProgress) -> None:
    """Complete the indexes, `jobs` peers at a time; every track is decoded once.

    They are saved every `SAVED_EVERY` tracks, and resume from there after a stop.

    Raises:
        AudioError: a file is gone or damaged since the corpus was assembled.
        PeerError: a peer failed.
    """
    with ExitStack() as stack, ThreadPoolExecutor(jobs) as pool:
        growing = [
            Growing(peer, stack.enter_context(peer.start()), peer.state())
            for peer in peers
            if peer.state().tracks < len(tracks)
        ]
        begin = min((g.state.tracks for g in growing), default=len(tracks))
        for count, (name, path) in enumerate(tracks[begin:], begin + 1):
            behind = [g for g in growing if g.state.tracks < count]
            clip = load_clip(path, WORKING_RATE)
            with as_wav(clip, [g.client for g in behind]) as wavs:
                add = partial(Growing.add, name=name, length=clip.duration, wavs=wavs)
                list(pool.map(add, behind))
            if count % SAVED_EVERY == 0 or count == len(tracks):
                list(pool.map(Growing.save, behind))
            on_progress(Progress("index", count, len(tracks)))
