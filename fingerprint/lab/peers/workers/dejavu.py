"""Dejavu (Drevo 2013), as packaged in PyDejavu-Rollong: hashes of pairs of spectral peaks.

Hashing and alignment are the package's own. It keeps its hashes on a MySQL or PostgreSQL server;
here they are in a sorted array, which finds the same. Dejavu reports the track with the most hashes
aligned in time, however few, so every candidate is sure.
"""

import wave
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from dejavu import Dejavu
from dejavu.config.settings import FIELD_FILE_SHA1, FIELD_TOTAL_HASHES, OFFSET, SONG_ID, SONG_NAME
from dejavu.logic.fingerprint import fingerprint

from .protocol import Best, serve, whole

DIGITS = 16  # of the 20 hexadecimal ones that Dejavu keeps of a hash; these fit a number
Hashes = set[tuple[str, int]]  # a hash and its time


class Table:
    """The part of Dejavu's database that answers: hash, track and time, sorted by hash, (3, n)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._table = np.zeros((3, 0), np.uint64)
        self._added: list[np.ndarray] = []
        self.names: list[str] = []
        if path.exists():
            saved = np.load(path)
            self.names, self._table = saved["names"].tolist(), saved["table"]

    def insert(self, name: str, hashes: Hashes) -> None:
        rows = [(_number(text), len(self.names), int(time)) for text, time in hashes]
        self._added.append(np.array(rows, np.uint64).reshape(-1, 3).T)
        self.names.append(name)

    def save(self) -> None:
        table = np.concatenate([self._table, *self._added], axis=1)
        self._table, self._added = table[:, np.argsort(table[0], kind="stable")], []
        with whole(self._path) as draft:
            np.savez(draft, names=self.names, table=self._table)

    def return_matches(self, hashes: Hashes) -> tuple[list[tuple[int, int]], dict[int, int]]:
        """As Dejavu's databases: (track, difference of times) of each match, and rows a track."""
        wanted: dict[int, list[int]] = defaultdict(list)
        for text, time in hashes:
            wanted[_number(text)].append(int(time))
        numbers = np.array(list(wanted), np.uint64)
        begins = np.searchsorted(self._table[0], numbers)
        ends = np.searchsorted(self._table[0], numbers, side="right")
        matches: list[tuple[int, int]] = []
        rows: Counter[int] = Counter()
        for times, begin, end in zip(wanted.values(), begins, ends, strict=True):
            _, tracks, places = self._table[:, begin:end].tolist()
            rows.update(tracks)
            found = zip(tracks, places, strict=True)
            matches += [(track, place - time) for track, place in found for time in times]
        return matches, rows

    def get_song_by_id(self, track: int) -> dict[str, Any]:
        return {SONG_NAME: self.names[track], FIELD_TOTAL_HASHES: 1, FIELD_FILE_SHA1: ""}


def _number(text: str) -> int:
    return int(text[:DIGITS], 16)


class Served(Dejavu):  # type: ignore[misc]  # the package is not where types are checked
    """Dejavu without a database server."""

    def __init__(self, folder: Path, _settings: Mapping[str, Any]) -> None:
        self.db = Table(folder / "hashes.npz")

    def add(self, name: str, wav: Path) -> None:
        if name not in self.db.names:
            self.db.insert(name, _hashes(wav))

    def save(self) -> None:
        self.db.save()

    def identify(self, wav: Path) -> Best | None:
        hashes = _hashes(wav)
        matches, rows = self.db.return_matches(hashes)
        for best in self.align_matches(matches, rows, len(hashes), topn=1):
            aligned = matches.count((best[SONG_ID], best[OFFSET]))
            return Best(self.db.names[best[SONG_ID]], aligned, sure=True)
        return None


def _hashes(wav: Path) -> Hashes:
    with wave.open(str(wav)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        return set(fingerprint(samples, Fs=file.getframerate()))


if __name__ == "__main__":
    serve(Served)
