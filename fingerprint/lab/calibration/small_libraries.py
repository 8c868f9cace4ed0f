"""False accepts and recognition in libraries of a few tracks."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from fingerprint.lab.benchmark.made_up import KINDS, made_up, short_sound
from fingerprint.lab.benchmark.material import WORKING_RATE, Material, Rng, chain, cut, draw_place
from fingerprint.lab.benchmark.run import OnProgress, Progress, index_exactly
from fingerprint.lab.calibration.large_libraries import SomeTracks, Stretch
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.processes import each, saved
from fingerprint.recognition.recognise import recognise
from fingerprint.recognition.reference import Reference
from fingerprint.types import Clip, Floats

if TYPE_CHECKING:
    from fingerprint.library.library import Library
    from fingerprint.model.fingerprinter import Fingerprinter

RECORDED = ("speech", "effects")  # of the corpus
MUSIC = "other music"
SECONDS = (1.0, 12.0)  # of a query
SHORT = (2.0, 10.0)  # s of the tracks of every other small library
SHORT_UNTIL = 10  # tracks
CHUNK = 5  # queries a task


@dataclass(frozen=True, slots=True)
class UnknownAnswer:
    """The surest answer to a sound of which nothing is in the library.

    `number` is that of the query, `short` whether the library's tracks were cut to a few seconds.
    """

    kind: str
    number: int
    tracks: int
    short: bool
    confidence: float


@dataclass(frozen=True, slots=True)
class ShortSoundAnswer:
    """What a library of `tracks` short sounds answers to one of them."""

    tracks: int
    seconds: float
    right: bool  # the surest answer is the sound itself
    confidence: float


@dataclass(frozen=True, slots=True)
class _Source:
    corpus: Path
    library: Path
    weights: Path
    sizes: tuple[int, ...]
    seed: int


def search_unknown(
    corpus: Corpus,
    model: "Fingerprinter",
    *,
    library: Path,
    sizes: Sequence[int],
    count: int,
    passages: int,
    seed: int,
    jobs: int,
    on_progress: OnProgress,
) -> list[UnknownAnswer]:
    """`count` sounds of all kinds and `passages` of unknown tracks, in libraries of `sizes`.

    Small libraries are random tracks of the library in the folder `library`.
    """
    kinds = (*KINDS, *RECORDED)
    plan = [(kinds[number % len(kinds)], number) for number in range(count)]
    plan += [(MUSIC, number) for number in range(passages)]
    found: list[UnknownAnswer] = []
    with saved(model) as weights:
        work = partial(_search, _Source(corpus.root, library, weights, tuple(sizes), seed))
        with closing(each(work, plan, jobs, chunksize=CHUNK)) as answers:
            for number, some in enumerate(answers, start=1):
                found += some
                on_progress(Progress("sounds", number, len(plan)))
    return found


@cache  # once a process, for all its queries
def _open(source: _Source) -> tuple[Material, "Library"]:
    from fingerprint.library.library import Library
    from fingerprint.model.fingerprinter import Fingerprinter

    model = Fingerprinter.load(source.weights, threads=1, warn=False)
    material = Material.load(Corpus.open(source.corpus), "test")
    return material, Library.open(source.library, model)


def _search(source: _Source, planned: tuple[str, int]) -> list[UnknownAnswer]:
    kind, number = planned
    material, library = _open(source)
    rng = np.random.default_rng([source.seed, number, len(kind)])
    clip = _clip(_sound(material, kind, rng), library.model.sample_rate)
    whole = library.snapshot()
    found = []
    for size in source.sizes:
        short = size <= SHORT_UNTIL and number // 2 % 2 == 0
        reference = _some(whole, size, rng, library.model.window if short else None)
        matches = recognise(reference, clip, library.model).matches
        confidence = matches[0].confidence if matches else 0.0
        found.append(UnknownAnswer(kind, number, len(reference.rows), short, confidence))
    return found


def _sound(material: Material, kind: str, rng: Rng) -> Floats:
    seconds = float(np.exp(rng.uniform(*np.log(SECONDS))))
    length = round(seconds * WORKING_RATE)
    if kind == MUSIC:
        place = draw_place(material.unknown, length, rng)
        return cut(material.unknown.recording(place.track), place.start, place.length)
    if kind in RECORDED:
        sound = chain(material.speech if kind == "speech" else material.effects, length, rng)
        return (sound / max(1.0, 2 * float(np.abs(sound).max()))).astype(np.float32)
    return made_up(kind, seconds, rng)


def _clip(sound: Floats, sample_rate: int) -> Clip:
    samples = soxr.resample(sound, WORKING_RATE, sample_rate, quality="HQ")
    return Clip(samples.astype(np.float32), sample_rate)


def _some(whole: Reference, size: int, rng: Rng, window: float | None) -> Reference:
    """Random tracks, cut to a few seconds if a window (s) is given."""
    lengths = np.diff(whole.rows.starts)
    if size >= len(lengths):
        return whole
    tracks = rng.permutation(len(lengths))[:size].tolist()
    if window is None:
        return SomeTracks.of(whole, tracks)
    stretches = {}
    for track in tracks:
        rows = min(int(lengths[track]), round(rng.uniform(*SHORT) / whole.hop))
        first = int(rng.integers(lengths[track] - rows + 1))
        stretches[track] = Stretch(first, first + rows)
    return SomeTracks.cut(whole, stretches, ceil(window / whole.hop) - 1)


def search_short_sounds(
    model: "Fingerprinter", *, sizes: Sequence[int], count: int, seed: int, on_progress: OnProgress
) -> list[ShortSoundAnswer]:
    """`count` short sounds, each searched in a library of it and others, or of all."""
    rng = np.random.default_rng(seed)
    with TemporaryDirectory(prefix="fingerprint-") as folder:
        paths = [Path(folder) / f"{number:04}.wav" for number in range(count)]
        for path in paths:
            soundfile.write(path, short_sound(rng), WORKING_RATE)
        library = Path(folder) / "library"
        index_exactly(paths, model, library, 0, on_progress)
        return list(_short_sounds(library, model, sizes, on_progress))


def _short_sounds(
    folder: Path, model: "Fingerprinter", sizes: Sequence[int], on_progress: OnProgress
) -> Iterator[ShortSoundAnswer]:
    from fingerprint.audio.decode import load_clip
    from fingerprint.library.library import Library

    with Library.open(folder, model) as library:
        whole = library.snapshot()
        count = len(whole.rows)
        for number in range(count):
            track = whole.track(number)
            if track is None:
                continue
            clip = load_clip(track.path, model.sample_rate)
            for size in sorted({min(size, count) for size in sizes}):
                tracks = [(number + i) % count for i in range(size)]
                reference = whole if size == count else SomeTracks.of(whole, tracks)
                matches = recognise(reference, clip, model).matches
                right = bool(matches) and matches[0].track.path == track.path
                confidence = matches[0].confidence if matches else 0.0
                yield ShortSoundAnswer(size, clip.duration, right, confidence)
            on_progress(Progress("short sounds", number + 1, count))
