"""Add the tracks of the corpus to the index of every peer."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from fingerprint.audio.decode import load_clip
from fingerprint.lab.benchmark.material import WORKING_RATE
from fingerprint.lab.benchmark.run import OnProgress, Progress
from fingerprint.lab.corpus import Corpus, CorpusFile
from fingerprint.lab.peers.client import Client
from fingerprint.lab.peers.peer import Peer, State, Wavs, as_wav, library

SAVED_EVERY = 50  # tracks


@dataclass(slots=True)
class Growing:
    """An index that tracks are being added to."""

    peer: Peer
    client: Client
    state: State

    def add(self, file: CorpusFile, name: str, wavs: Wavs) -> None:
        reply = self.client.ask(do="add", name=name, wav=str(wavs[self.client.system.sample_rate]))
        self.state = self.state.after(file, reply["seconds"])

    def save(self) -> None:
        self.client.ask(do="save")
        self.peer.note(self.state)


def index(corpus: Corpus, peers: Sequence[Peer], jobs: int, on_progress: OnProgress) -> None:
    """Complete the indexes, `jobs` peers at a time; every track is decoded once.

    They are saved every `SAVED_EVERY` tracks, and go on from there after a stop.

    Raises:
        AudioError: a file is gone or damaged since the corpus was assembled.
        PeerError: a peer failed.
    """
    files = library(corpus)
    with ExitStack() as stack, ThreadPoolExecutor(jobs) as pool:
        growing = [
            Growing(peer, stack.enter_context(peer.start()), peer.state())
            for peer in peers
            if peer.state().tracks < len(files)
        ]
        begin = min((g.state.tracks for g in growing), default=len(files))
        for count, file in enumerate(files[begin:], begin + 1):
            behind = [g for g in growing if g.state.tracks < count]
            name = file.path.relative_to(corpus.root).as_posix()
            clip = load_clip(file.path, WORKING_RATE)
            with as_wav(clip, [g.client for g in behind]) as wavs:
                list(pool.map(partial(Growing.add, file=file, name=name, wavs=wavs), behind))
            if count % SAVED_EVERY == 0 or count == len(files):
                list(pool.map(Growing.save, behind))
            on_progress(Progress("index", count, len(files)))
