"""audiolocate: pairs of spectral peaks after Wang (2003), an engine that compares two recordings.

It has no library, so every track is compared, and the one with the most aligned hashes is the
candidate; it is sure where the engine calls the two a match. Only the hashes that a track shares
with the query bear on that comparison, so they are looked up for all tracks at once.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from audiolocate.core import AudioFingerprint

from .protocol import Best, serve, whole

Postings = dict[int, dict[int, list[int]]]  # of each track, of each hash: where it is


class Audiolocate:
    """Every track's hashes in one table, sorted by hash: hash, track and time (n,)."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._path = folder / "hashes.npz"
        self._engine = AudioFingerprint(**settings)
        self._names: list[str] = []
        self._added: list[np.ndarray] = []
        self._table = np.zeros((3, 0), np.uint32)
        if self._path.exists():
            saved = np.load(self._path)
            self._names, self._table = saved["names"].tolist(), saved["table"]

    def _hashes(self, wav: Path) -> dict[int, list[int]]:
        hashes: dict[int, list[int]] = self._engine.fingerprint_audio(self._engine.load_audio(wav))[
            0
        ]
        return hashes

    def add(self, name: str, wav: Path) -> None:
        if name in self._names:
            return
        rows = [(key, len(self._names), t) for key, ts in self._hashes(wav).items() for t in ts]
        self._names.append(name)
        self._added.append(np.array(rows, np.uint32).reshape(-1, 3).T)

    def save(self) -> None:
        table = np.concatenate([self._table, *self._added], axis=1)
        self._table = table[:, np.argsort(table[0], kind="stable")]  # times stay in order
        self._added = []
        with whole(self._path) as draft:
            np.savez(draft, names=self._names, table=self._table)

    def identify(self, wav: Path) -> Best | None:
        query = self._hashes(wav)
        results = {
            track: self._engine.match(shared, {key: query[key] for key in shared})
            for track, shared in self._shared(np.array(sorted(query), np.uint32)).items()
        }
        if not results:
            return None
        best = max(results, key=lambda track: results[track].match_count)
        return Best(self._names[best], results[best].match_count, bool(results[best].is_match))

    def _shared(self, keys: np.ndarray) -> Postings:
        shared: Postings = defaultdict(lambda: defaultdict(list))
        begins = np.searchsorted(self._table[0], keys)
        ends = np.searchsorted(self._table[0], keys, side="right")
        for key, begin, end in zip(keys.tolist(), begins, ends, strict=True):
            _, tracks, times = self._table[:, begin:end].tolist()
            for track, time in zip(tracks, times, strict=True):
                shared[track][key].append(time)
        return shared


if __name__ == "__main__":
    serve(Audiolocate)
