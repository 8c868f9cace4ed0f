"""Query number k of a condition: a passage of a track as the recogniser might hear it.

Each query depends on the corpus, the split, the seed, the condition and its number alone, so any
of them can be made again by itself, in any process. The passage is degraded at `WORKING_RATE`,
written to an audio file in memory, and decoded as a user's file is.
"""

from dataclasses import dataclass
from io import BytesIO
from math import nan
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import soundfile
import soxr

from fingerprint.audio.decode import load_clip
from fingerprint.lab.benchmark.conditions import Condition, Phone, Warp
from fingerprint.lab.benchmark.material import (
    WORKING_RATE,
    Material,
    Rng,
    cut,
    draw_noise,
    draw_place,
    path_of,
)
from fingerprint.lab.training.degrade import EQ_POINTS, band_shape, convolve, mix_at_snr, overdrive
from fingerprint.types import Clip, Floats

PAST = 1.0  # s of the track before the query, so that reverberation has a past
FUTURE = 0.25  # s of the track after it, so that a phase vocoder meets no edge
PEAK_DB = (-20.0, -1.0)  # full scale; level of queries that are not clean


@dataclass(frozen=True, slots=True)
class Truth:
    """Where a query comes from: `offset` (s) into the track at `path`, played at `rate`."""

    path: Path
    offset: float
    rate: float


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """What the recogniser gets, and what it should answer. `snr_db` is NaN without noise."""

    clip: Clip
    truth: Truth
    snr_db: float


def make_query(
    material: Material, condition: Condition, *, seed: int, number: int, sample_rate: int
) -> Query:
    """Query `number` of a condition, decoded at `sample_rate` (Hz).

    Raises:
        CorpusError: no track is long enough.
    """
    key = crc32(f"{material.split} {condition.name}".encode())
    rng = np.random.default_rng(np.random.SeedSequence([seed, key, number]))
    amount = _draw_warp(condition.warp, rng)
    rate = 1.0 if condition.warp is None or condition.warp.kind == "pitch" else amount
    tracks = material.unknown if condition.unknown else material.known
    place = draw_place(tracks, round(condition.seconds * rate * WORKING_RATE), rng)
    sound = _warped(tracks.recording(place.track), place.start, condition, amount)
    sound, snr_db = _degraded(sound, material, condition, rng)
    file = _encoded(sound, condition, rng)
    clip = load_clip(file, sample_rate, name=f"query {number} of {condition.name}")
    truth = Truth(path_of(tracks, place), place.start / WORKING_RATE, rate)
    return Query(clip, truth, snr_db)


def _draw_warp(warp: Warp | None, rng: Rng) -> float:
    """A factor for speed and tempo, semitones for pitch; 1 for none."""
    if warp is None:
        return 1.0
    amount = rng.uniform(*warp.amount) * rng.choice([-1, 1])
    return float(amount if warp.kind == "pitch" else 1 + amount)


def _warped(sound: Any, start: int, condition: Condition, amount: float) -> Floats:
    """The passage with `PAST` before and `FUTURE` after it, all in seconds of the query."""
    rate = 1.0 if condition.warp is None or condition.warp.kind == "pitch" else amount
    past = round(PAST * rate * WORKING_RATE)
    wanted = round((PAST + condition.seconds + FUTURE) * WORKING_RATE)
    passage = cut(sound, start - past, round(wanted * rate))
    if condition.warp is None:
        return passage
    return _exactly(_WARPS[condition.warp.kind](passage, amount), wanted)


def change_speed(samples: Floats, rate: float) -> Floats:
    """Play `rate` times as fast: tempo and pitch change together."""
    changed: Floats = soxr.resample(samples, WORKING_RATE * rate, WORKING_RATE, quality="HQ")
    return changed


def change_tempo(samples: Floats, rate: float) -> Floats:
    """Play `rate` times as fast at the same pitch (phase vocoder)."""
    import librosa

    stretched: Floats = librosa.effects.time_stretch(samples, rate=rate)
    return stretched


def change_pitch(samples: Floats, semitones: float) -> Floats:
    """Shift the pitch at the same tempo: a phase vocoder, then a change of speed."""
    factor = 2 ** (semitones / 12)
    return change_speed(change_tempo(samples, 1 / factor), factor)


_WARPS = {"speed": change_speed, "tempo": change_tempo, "pitch": change_pitch}


def _degraded(
    sound: Floats, material: Material, condition: Condition, rng: Rng
) -> tuple[Floats, float]:
    """Room, noise, microphone, level: the query's own samples (N,), and its SNR in dB."""
    import torch

    begin = round(PAST * WORKING_RATE)
    end = begin + round(condition.seconds * WORKING_RATE)
    x = torch.from_numpy(sound)[None]  # (1, T)
    if condition.phone is not None:
        x = _in_a_room(x, condition.phone, material, rng)
    x = x[:, begin:end]
    snr_db = nan
    if condition.snr_db is not None:
        snr_db = float(rng.uniform(*condition.snr_db))
        noise = torch.from_numpy(draw_noise(material, end - begin, rng))[None]
        x = mix_at_snr(x, noise, torch.tensor([snr_db]))
    if condition.phone is not None:
        x = _through_a_microphone(x, condition.phone, rng)
    samples: Floats = x[0].numpy()
    return (samples if condition.snr_db is None else _at_peak(samples, rng)), snr_db


def _in_a_room(x: Any, phone: Phone, material: Material, rng: Rng) -> Any:
    """From a loudspeaker, sometimes a measured one, through a room."""
    import torch

    if rng.random() < phone.loudspeaker and len(material.responses.devices):
        x = convolve(x, torch.from_numpy(_choose(material.responses.devices, rng)))
    if not phone.room:
        return x
    return convolve(x, torch.from_numpy(_choose(material.responses.rooms, rng)))


def _choose(responses: Floats, rng: Rng) -> Floats:
    """One of the responses, (1, L)."""
    i = int(rng.integers(len(responses)))
    return responses[i : i + 1]


def _through_a_microphone(x: Any, phone: Phone, rng: Rng) -> Any:
    """Its band and response, then clipping where the sound overloads it."""
    import torch

    eq_db = rng.normal(0, phone.eq_db, (1, EQ_POINTS)).astype(np.float32)
    shaped = band_shape(
        x,
        WORKING_RATE,
        low_cut=torch.tensor([_draw(phone.low_cut, rng)]),
        high_cut=torch.tensor([_draw(phone.high_cut, rng)]),
        eq_db=torch.from_numpy(eq_db),
    )
    if phone.overload_db is None:
        return shaped
    drive = torch.tensor([_draw(phone.overload_db, rng)])
    return overdrive(shaped, drive, hard=torch.tensor([True]))


def _encoded(samples: Floats, condition: Condition, rng: Rng) -> BytesIO:
    """The query as a file: Opus at a low bit rate from a phone, else 16-bit WAV.

    Opus says how much a decoder must cut off its start, so the truth stays where it is.
    """
    settings: dict[str, Any] = {"format": "WAV", "subtype": "PCM_16"}
    if condition.phone is not None and condition.phone.opus_level is not None:
        level = _draw(condition.phone.opus_level, rng)
        settings = {"format": "OGG", "subtype": "OPUS", "compression_level": level}
    file = BytesIO()
    soundfile.write(file, samples, WORKING_RATE, **settings)
    file.seek(0)
    return file


def _at_peak(samples: Floats, rng: Rng) -> Floats:
    """Scaled to a drawn peak level."""
    peak = max(float(np.abs(samples).max()), 1e-9)
    return samples * np.float32(10 ** (_draw(PEAK_DB, rng) / 20) / peak)


def _exactly(samples: Floats, length: int) -> Floats:
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def _draw(span: tuple[float, float], rng: Rng) -> float:
    return float(rng.uniform(*span))
