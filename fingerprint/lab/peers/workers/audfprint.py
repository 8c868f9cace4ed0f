"""audfprint (Ellis 2014), as packaged in audfprint2: hashes of pairs of spectral peaks.

An answer is what its matcher reports by default: the track with the most hashes aligned in time,
if more than five are.
"""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audfprint2.cli import setup_analyzer
from audfprint2.core import hash_table
from audfprint2.core.matcher import Matcher
from audfprint2.utils import audio

from .protocol import Best, serve, whole

QUERY_SHIFTS = 4  # analyses of a query at parts of a frame; the program's default


class Audfprint:
    """Its hash table, kept in its own file format."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        random.seed(0)  # it drops hashes at random from a bucket that is full
        audio.HAVE_FFMPEG = False  # the WAV files come at its rate
        self._path = folder / "table.hdf"
        self._table = hash_table.HashTable(str(self._path) if self._path.exists() else None)
        self._analysers = {
            shifts: setup_analyzer(
                density=settings["density"],
                is_match=shifts > 1,
                pks_per_frame=5,
                fanout=settings["fanout"],
                freq_sd=30.0,
                shifts=shifts,
                samplerate=11_025,
                continue_on_error=False,
                ffmpeg_path=None,
            )
            for shifts in (1, QUERY_SHIFTS)
        }
        self._matcher = Matcher()
        self._matcher.window = 2  # what the program sets by default

    def add(self, name: str, wav: Path) -> None:
        if name in self._table.names:
            return
        hashes = self._analysers[1].wavfile2hashes(str(wav))
        self._table.store(name, [(int(time), int(code)) for time, code in hashes])

    def save(self) -> None:
        with whole(self._path) as draft:
            self._table.save(str(draft))

    def identify(self, wav: Path) -> Best | None:
        hashes = self._analysers[QUERY_SHIFTS].wavfile2hashes(str(wav))
        matches = self._matcher.match_hashes(self._table, hashes)
        if not len(matches):
            return None
        track, aligned = matches[0][:2]
        return Best(str(self._table.names[track]), int(aligned), sure=True)


if __name__ == "__main__":
    serve(Audfprint)
