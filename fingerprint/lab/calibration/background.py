"""The passages of music that small libraries are searched together with.

Of training tracks, one a package: packages share themes. What the confidence is fitted on and
proved on is cut from tracks of other splits, so the background is as strange to it as to a user's
queries.
"""

from typing import TYPE_CHECKING

import numpy as np

from fingerprint.audio.decode import load_clip
from fingerprint.audio.peaks import peaks_of
from fingerprint.lab.corpus import Corpus
from fingerprint.library.records import hop_block
from fingerprint.types import Background, Clip

if TYPE_CHECKING:
    from fingerprint.model.fingerprinter import Fingerprinter

PASSAGES = 32
ROWS = 64  # of a passage, about 16 s
SPARE = 2.0  # s around a passage, so that its rows have surroundings


def background_of(corpus: Corpus, model: "Fingerprinter") -> Background:
    """Passages from the middle of tracks of as many packages as there are, 32 at most.

    Raises:
        AudioError: a track is gone or damaged since the corpus was assembled.
    """
    seconds = ROWS * model.hop + model.window + 2 * SPARE
    packages = {file.package: file.path for file in corpus.music("train") if file.seconds > seconds}
    chosen = np.unique(np.linspace(0, len(packages) - 1, PASSAGES).round().astype(int))
    paths = [packages[sorted(packages)[number]] for number in chosen]
    before = round(SPARE / model.hop)
    kept = slice(before, before + ROWS)
    vectors, peaks = [], []
    for path in paths:
        whole = load_clip(path, model.sample_rate)
        first = round((whole.duration - seconds) / 2 * whole.sample_rate)
        samples = whole.samples[first : first + round(seconds * whole.sample_rate)]
        clip = Clip(samples, whole.sample_rate)
        vectors.append(model.embed(clip).vectors[kept])
        peaks.append(peaks_of(clip, block=hop_block(model.hop))[kept])
    return Background(np.stack(vectors), np.stack(peaks), model.hop)
