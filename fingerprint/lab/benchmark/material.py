"""The material of queries: tracks, noise and rooms, and how passages and noises are drawn."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from fingerprint.errors import CorpusError
from fingerprint.lab.benchmark.conditions import Condition
from fingerprint.lab.corpus import (
    Corpus,
    CorpusFile,
    Recordings,
    Responses,
    load_recordings,
    load_responses,
)
from fingerprint.lab.corpus.probe import FULL_SCALE
from fingerprint.lab.corpus.recordings import load_sounds
from fingerprint.types import Floats

Rng = np.random.Generator
Split = Literal["validation", "test"]
SPLITS: dict[str, Split] = {"validation": "validation", "test": "test"}

WORKING_RATE = 16_000  # Hz; phones transmit no more, and the model uses 8 kHz
PLACES_TRIED = 20  # places drawn before a near-silent passage is used
QUIETEST_RMS = 10 ** (-50 / 20)  # of full scale; quieter passages hold nothing to recognise
VOICES = (3, 6)  # in a babble
TINY = 1e-9
NO_RECORDINGS = Recordings(np.zeros(0, np.int16), np.zeros(1, np.int64), ())


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Recordings and responses at `WORKING_RATE`.

    `known` tracks are in the library, `unknown` ones are not. Noise and rooms are those of the test
    split, for validation too: training uses none of them, and other seeds make other queries. Only
    the test split has unknown tracks.
    """

    split: Split
    known: Recordings
    unknown: Recordings
    speech: tuple[NDArray[np.int16], ...]
    effects: tuple[NDArray[np.int16], ...]
    responses: Responses

    @classmethod
    def load(cls, corpus: Corpus, split: Split, *, music_is_enough: bool = False) -> Self:
        """Decode files that are not in the corpus's cache yet, and map the others.

        With `music_is_enough`, a corpus of one's own music will do: without recorded sounds noise
        is synthesised (`draw_noise`), and there may be no unknown tracks.

        Raises:
            CorpusError: the corpus lacks music, speech or effects.
            AudioError: a file is gone or damaged since the corpus was assembled.
        """
        sounds = load_sounds(corpus, "test", WORKING_RATE)
        speech, effects = (
            tuple(sounds.recording(i) for i, f in enumerate(sounds.files) if f.kind == kind)
            for kind in ("speech", "effect")
        )
        if (sounds.files or not music_is_enough) and not (speech and effects):
            raise CorpusError(f"the corpus at {corpus.root} lacks noise; assemble all of it")
        has_unknown = split == "test" and (corpus.role("test-unknown") or not music_is_enough)
        return cls(
            split,
            known=load_recordings(corpus, split, WORKING_RATE),
            unknown=(
                load_recordings(corpus, "test-unknown", WORKING_RATE)
                if has_unknown
                else NO_RECORDINGS
            ),
            speech=speech,
            effects=effects,
            responses=load_responses(corpus, "test", WORKING_RATE),
        )

    def suffices_for(self, condition: Condition) -> bool:
        """Whether queries of a condition can be made: it may need speech, or certain tracks."""
        tracks = self.unknown if condition.unknown else self.known
        has_speech = bool(self.speech) or condition.noise != "talker"
        return has_speech and len(tracks) > (condition.effect == "second track")


def formula_material(path: Path, rng: Rng) -> Material:
    """Queries of one recording without a corpus: noise and a room by formula.

    The room is an exponentially decaying noise after the direct sound (Moorer 1979), with a
    reverberation time of 0.3 to 0.8 s and a direct sound as strong as all the rest.

    Raises:
        AudioError: the file cannot be read.
    """
    from fingerprint.audio.decode import load_clip

    sound = (load_clip(path, WORKING_RATE).samples * (FULL_SCALE - 1)).clip(
        -FULL_SCALE, FULL_SCALE - 1
    )
    file = CorpusFile(path, "", "test", "music", len(sound) / WORKING_RATE, WORKING_RATE, "", "")
    starts = np.array([0, len(sound)])
    time = np.arange(WORKING_RATE) / WORKING_RATE
    room = rng.standard_normal(len(time)) * 10 ** (-3 * time / rng.uniform(0.3, 0.8))
    room[0] = np.sqrt(np.sum(room[1:] ** 2))
    return Material(
        "test",
        known=Recordings(sound.astype(np.int16), starts, (file,)),
        unknown=NO_RECORDINGS,
        speech=(),
        effects=(),
        responses=Responses(room[None].astype(np.float32), np.zeros((0, 1), np.float32)),
    )


@dataclass(frozen=True, slots=True)
class Place:
    """A passage of a recording: recording `track`, from sample `start`, `length` samples."""

    track: int
    start: int
    length: int


def draw_place(tracks: Recordings, length: int, rng: Rng) -> Place:
    """A passage of `length` samples, uniform over the tracks and then over the track.

    Near-silent passages (`QUIETEST_RMS`) are drawn again. Tracks shorter than `length` are left
    out.

    Raises:
        CorpusError: no track is that long.
    """
    (long_enough,) = np.nonzero(np.diff(tracks.starts) >= length)
    if not len(long_enough):
        raise CorpusError(f"no track is {length / WORKING_RATE:g} s long")
    for _ in range(PLACES_TRIED):
        track = int(rng.choice(long_enough))
        sound = tracks.recording(track)
        place = Place(track, int(rng.integers(len(sound) - length + 1)), length)
        if rms(cut(sound, place.start, length)) >= QUIETEST_RMS:
            break
    return place


def path_of(tracks: Recordings, place: Place) -> Path:
    """The file that the passage is from."""
    return tracks.files[place.track].path


def cut(sound: NDArray[np.int16], start: int, length: int) -> Floats:
    """Samples from `start` on as floats (length,), zeros beyond the ends of the sound."""
    piece = np.zeros(length, np.float32)
    first, last = max(start, 0), min(start + length, len(sound))
    if first < last:
        piece[first - start : last - start] = sound[first:last]
    return piece / np.float32(FULL_SCALE)


def draw_noise(material: Material, length: int, rng: Rng) -> Floats:
    """Babble, a chain of effects, or, without recorded sounds, noise by formula: (length,)."""
    kinds = ((_babble, material.speech), (_effects, material.effects), (_formula, (None,)))
    at_hand = [draw for draw, sounds in kinds if sounds]
    return at_hand[int(rng.integers(len(at_hand)))](material, length, rng)


def draw_talker(material: Material, length: int, rng: Rng) -> Floats:
    """One voice: (length,).

    Raises:
        CorpusError: there is no speech.
    """
    if not material.speech:
        raise CorpusError("there is no speech to talk over the music")
    return chain(material.speech, length, rng)


def rms(samples: Floats) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def _babble(material: Material, length: int, rng: Rng) -> Floats:
    voices = int(rng.integers(VOICES[0], VOICES[1] + 1))
    babble: Floats = np.sum([chain(material.speech, length, rng) for _ in range(voices)], axis=0)
    return babble


def _effects(material: Material, length: int, rng: Rng) -> Floats:
    return chain(material.effects, length, rng)


def _formula(_material: Material, length: int, rng: Rng) -> Floats:
    import torch

    from fingerprint.lab.training.degrade import formula_noise

    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    noise: Floats = formula_noise(1, length, WORKING_RATE, generator)[0].numpy()
    return noise


def chain(sounds: tuple[NDArray[np.int16], ...], length: int, rng: Rng) -> Floats:
    """Random sounds one after another, equally loud, beginning within the first: (length,)."""
    return np.concatenate(list(_draw_until(sounds, length, rng)))


def _draw_until(sounds: tuple[NDArray[np.int16], ...], length: int, rng: Rng) -> Iterator[Floats]:
    missing = length
    for number in itertools.count():
        sound = sounds[int(rng.integers(len(sounds)))]
        begin = int(rng.integers(len(sound))) if number == 0 else 0
        piece = cut(sound, begin, min(len(sound) - begin, missing))
        yield piece / max(rms(piece), TINY)
        missing -= len(piece)
        if missing == 0:
            return
