"""Query number k of a condition: a passage of a track, degraded.

Each query depends on the corpus, the split, the seed, the condition and its number alone, so any
of them can be made again alone, in any process. The passage is degraded at `WORKING_RATE`,
written to an audio file in memory, and decoded as a user's file is.
"""

from dataclasses import dataclass
from io import BytesIO
from math import log10, nan
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import soundfile
import soxr

from fingerprint.audio.decode import load_clip
from fingerprint.errors import CorpusError
from fingerprint.lab.benchmark import effects
from fingerprint.lab.benchmark.conditions import Condition, Phone, Warp
from fingerprint.lab.benchmark.material import (
    PLACES_TRIED,
    QUIETEST_RMS,
    WORKING_RATE,
    Material,
    Place,
    Rng,
    cut,
    draw_noise,
    draw_place,
    draw_talker,
    path_of,
    rms,
)
from fingerprint.lab.corpus import Recordings
from fingerprint.lab.training.degrade import EQ_POINTS, band_shape, convolve, mix_at_snr, overdrive
from fingerprint.types import Clip, Floats

PAST = 1.0  # s of the track before the query, so that reverberation has a past
FUTURE = 0.25  # s of the track after it, so that a phase vocoder meets no edge
PEAK_DB = (-20.0, -1.0)  # full scale; level of queries that are not clean
BEHIND_A_WALL_DB = (-45.0, -25.0)  # the same, of queries through a wall
OTHERS_TRIED = 50  # places drawn, at most, to find another track
SECOND_DB = (-3.0, 3.0)  # of a second track, against the first
OUTSIDE = (0.2, 0.5)  # share of a query over an edge that is outside its track


@dataclass(frozen=True, slots=True)
class Truth:
    """Where a query comes from: `offset` (s) into the track at `path`, played at `rate`.

    `offset` is negative if the query begins before the track.
    """

    path: Path
    offset: float
    rate: float


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A query and its truth. `snr_db` is that of the music within the track; NaN without noise.

    `second` is the truth of a second track that is mixed in.
    """

    clip: Clip
    truth: Truth
    snr_db: float
    second: Truth | None = None


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
    draw = _draw_over_an_edge if condition.effect == "over an edge" else draw_place
    place = draw(tracks, round(condition.seconds * rate * WORKING_RATE), rng)
    sound = _warped(tracks.recording(place.track), place.start, condition, amount)
    second = None
    if condition.effect == "second track":
        sound, second = _with_another(sound, tracks, place, condition, rng)
    sound, snr_db = _degraded(sound, material, condition, rng, inside=_inside(tracks, place))
    file = _encoded(sound, condition, rng)
    clip = load_clip(file, sample_rate, name=f"query {number} of {condition.name}")
    return Query(clip, _truth(tracks, place, rate), snr_db, second)


def _truth(tracks: Recordings, place: Place, rate: float = 1.0) -> Truth:
    return Truth(path_of(tracks, place), place.start / WORKING_RATE, rate)


def _draw_over_an_edge(tracks: Recordings, length: int, rng: Rng) -> Place:
    """A passage of which `OUTSIDE` lies before its track (half of them) or after it.

    As in `draw_place`, near-silent passages are drawn again; the part within the track counts.

    Raises:
        CorpusError: no track is long enough.
    """
    outside = round(_draw(OUTSIDE, rng) * length)
    before = rng.random() < 0.5
    for _ in range(PLACES_TRIED):
        track = draw_place(tracks, length - outside, rng).track
        sound = tracks.recording(track)
        first = 0 if before else len(sound) - (length - outside)
        if rms(cut(sound, first, length - outside)) >= QUIETEST_RMS:
            break
    return Place(track, first - outside if before else first, length)


def _inside(tracks: Recordings, place: Place) -> float:
    """The share of a passage that lies within its track."""
    last = min(place.start + place.length, len(tracks.recording(place.track)))
    return (last - max(place.start, 0)) / place.length


def _with_another(
    sound: Floats, tracks: Recordings, place: Place, condition: Condition, rng: Rng
) -> tuple[Floats, Truth]:
    """Mixed with a passage of another track, and where that is from.

    Raises:
        CorpusError: no other track is long enough.
    """
    for _ in range(OTHERS_TRIED):
        other = draw_place(tracks, place.length, rng)
        if other.track != place.track:
            break
    else:
        raise CorpusError("there is only one track, and two are to be mixed")
    more = _warped(tracks.recording(other.track), other.start, condition, 1.0)
    level = 10 ** (_draw(SECOND_DB, rng) / 20) * rms(sound) / max(rms(more), effects.TINY)
    both = sound + np.float32(level) * more
    both *= np.float32(1 / max(1.0, float(np.abs(both).max())))
    return both, _truth(tracks, other)


def _draw_warp(warp: Warp | None, rng: Rng) -> float:
    """A factor for speed and tempo, semitones for pitch; 1 without a warp."""
    if warp is None:
        return 1.0
    signs = {"either": [-1, 1], "up": [1], "down": [-1]}[warp.way]
    amount = rng.uniform(*warp.amount) * rng.choice(signs)
    if warp.share < 1 and rng.random() >= warp.share:
        amount = 0.0
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
    sound: Floats, material: Material, condition: Condition, rng: Rng, *, inside: float
) -> tuple[Floats, float]:
    """Room, noise, microphone, level: the query's own samples (N,), and its SNR in dB.

    `inside` is the share of them that is within the track; the SNR is that of this part.
    """
    import torch

    begin = round(PAST * WORKING_RATE)
    end = begin + round(condition.seconds * WORKING_RATE)
    x = torch.from_numpy(_at_source(sound, condition, rng))[None]  # (1, T)
    if condition.phone is not None:
        x = _in_a_room(x, condition.phone, material, rng)
    x = x[:, begin:end]
    snr_db = nan
    if condition.snr_db is not None:
        snr_db = float(rng.uniform(*condition.snr_db))
        draw = draw_talker if condition.noise == "talker" else draw_noise
        noise = torch.from_numpy(draw(material, end - begin, rng))[None]
        x = mix_at_snr(x, noise, torch.tensor([snr_db + 10 * log10(inside)]))
    if condition.phone is not None:
        x = _through_a_microphone(x, condition.phone, rng)
    samples: Floats = x[0].numpy()
    if condition.effect == "suppression":
        samples = effects.suppressed(samples)
    if condition.snr_db is not None:
        peak_db = BEHIND_A_WALL_DB if condition.effect == "wall" else PEAK_DB
        samples = _at_peak(samples, _draw(peak_db, rng))
    return (effects.telephone(samples, rng) if condition.effect == "telephone" else samples), snr_db


def _at_source(sound: Floats, condition: Condition, rng: Rng) -> Floats:
    """What happens to the music before it is played, or before it reaches the room."""
    if condition.effect == "hall":
        return effects.hall(sound, rng)
    if condition.effect == "vinyl":
        return effects.vinyl(sound, rng)
    return effects.through_wall(sound, rng) if condition.effect == "wall" else sound


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
    if condition.effect == "out of phase":
        samples = np.stack([samples, -samples], axis=1)
    file = BytesIO()
    soundfile.write(file, samples, WORKING_RATE, **settings)
    file.seek(0)
    return file


def _at_peak(samples: Floats, peak_db: float) -> Floats:
    """Scaled to a peak level."""
    peak = max(float(np.abs(samples).max()), 1e-9)
    return samples * np.float32(10 ** (peak_db / 20) / peak)


def _exactly(samples: Floats, length: int) -> Floats:
    return np.pad(samples[:length], (0, max(0, length - len(samples))))


def _draw(span: tuple[float, float], rng: Rng) -> float:
    return float(rng.uniform(*span))
