"""Degradations of music by a loudspeaker, a room, noise and a phone.

Pure functions on batches of waveforms (B, T), on whatever device they live, and `degrade`, which
draws their parameters and chains them. Randomness is an argument: a `torch.Generator` on the same
device. Filters work in the frequency domain, where a batch is one product.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from fingerprint.config import Range
from fingerprint.lab.training.config import DegradeConfig

EQ_POINTS = 8  # of the smooth random response, evenly in log frequency
SINC_TAPS = 8  # of the interpolation filter that changes speed
SINC_PHASES = 4_096  # of its table, to a sample: errors 60 dB down
HARMONICS = (1, 2, 3, 4, 5, 7)  # of mains hum
STRETCH_FRAME = 512  # samples that a change of tempo transforms at a time: 64 ms at 8 kHz
STRETCH_HOP = 128
GAIN_CONTROL = (0.3, 0.9)  # strength of automatic gain control
LEVEL_SECONDS = 0.3  # over which automatic gain control measures the level
CODEC_FRAME = 256  # samples that a codec transforms at a time: 32 ms at 8 kHz
CODEC_BAND = 8  # of its spectral lines that share a scale
TINY = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Clean clips and what will be done to them; B rows each."""

    clean: Tensor  # (B, T)
    noise: Tensor  # (B, T) recorded noise of any level; rows of zeros: none at hand
    rooms: Tensor  # (B, L) room impulse responses
    devices: Tensor  # (B, L') loudspeaker or microphone impulse responses

    def __len__(self) -> int:
        return len(self.clean)

    def split(self, rows: int) -> Iterator["Scene"]:
        """Views of `rows` rows each."""
        return map(Scene, *(torch.split(part, rows) for part in self._parts()))

    def _parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.clean, self.noise, self.rooms, self.devices


def degrade(scene: Scene, config: DegradeConfig, sample_rate: int, rng: Generator) -> Tensor:
    """Playback, loudspeaker or wall, room, noise, phone, as sound meets them: (B, T)."""
    x = scene.clean.clone()
    for chance, change in _steps(scene, config, sample_rate, rng):
        (rows,) = torch.nonzero(_chance(len(x), chance, rng), as_tuple=True)
        if len(rows):
            x[rows] = change(x[rows], rows)
    return x


Change = Callable[[Tensor, Tensor], Tensor]  # (n, T) and which rows of the scene they are


def _steps(
    scene: Scene, config: DegradeConfig, rate: int, rng: Generator
) -> Iterator[tuple[float, Change]]:
    """What may happen to a clip, in order, each with its chance."""

    def each(x: Tensor, span: Range) -> Tensor:
        return _uniform(len(x), span, rng)

    def log_each(x: Tensor, span: Range) -> Tensor:
        return _log_uniform(len(x), span, rng)

    yield config.tempo, lambda x, _: change_tempo(x, log_each(x, config.tempo_range))
    yield config.speed, lambda x, _: change_speed(x, each(x, config.speed_range))
    yield config.device, lambda x, rows: convolve(x, scene.devices[rows])
    yield (
        config.loudspeaker + config.wall,
        lambda x, _: _small_loudspeaker_or_wall(x, config, rate, rng),
    )
    yield config.room, lambda x, rows: convolve(x, scene.rooms[rows])
    yield config.noise, lambda x, rows: _in_noise(x, scene, rows, config, rate, rng)
    yield config.microphone, lambda x, _: _microphone(x, config, rate, rng)
    yield config.gain_control, lambda x, _: control_gain(x, rate, each(x, GAIN_CONTROL))
    yield config.suppression, lambda x, _: suppress_noise(x, each(x, config.suppression_db))
    yield (
        config.clip,
        lambda x, _: overdrive(x, each(x, config.clip_drive_db), hard=_chance(len(x), 0.5, rng)),
    )
    yield config.codec, lambda x, _: coarse(x, each(x, config.codec_step))


def _small_loudspeaker_or_wall(
    x: Tensor, config: DegradeConfig, rate: int, rng: Generator
) -> Tensor:
    """Nobody hears a small loudspeaker through a wall: what lacks bass does not get through."""
    behind = _chance(len(x), config.wall / (config.loudspeaker + config.wall), rng)
    muffled = muffle(x, rate, _log_uniform(len(x), config.wall_cut, rng))
    return torch.where(behind[:, None], muffled, _small_loudspeaker(x, config, rate, rng))


def _small_loudspeaker(x: Tensor, config: DegradeConfig, rate: int, rng: Generator) -> Tensor:
    n = len(x)
    return band_shape(
        x,
        rate,
        low_cut=_log_uniform(n, config.loudspeaker_cut, rng),
        high_cut=x.new_full((n,), rate / 2),
        eq_db=config.eq_db / 2 * _points(n, rng),
    )


def _in_noise(
    x: Tensor, scene: Scene, rows: Tensor, config: DegradeConfig, rate: int, rng: Generator
) -> Tensor:
    made = _blend_noise(scene.noise[rows], rate, rng)
    (inside,) = torch.nonzero(_chance(len(rows), config.noise_room, rng), as_tuple=True)
    if len(inside):  # in the room of another clip
        made[inside] = convolve(made[inside], scene.rooms.roll(1, 0)[rows[inside]])
    made = equalise(made, rate, config.noise_eq_db * _points(len(rows), rng))
    made = tilt(made, rate, _uniform(len(rows), config.noise_tilt_db, rng))
    return mix_at_snr(x, made, _uniform(len(rows), config.snr_db, rng))


def _microphone(x: Tensor, config: DegradeConfig, rate: int, rng: Generator) -> Tensor:
    n = len(x)
    return band_shape(
        x,
        rate,
        low_cut=_log_uniform(n, config.low_cut, rng),
        high_cut=_log_uniform(n, config.high_cut, rng),
        eq_db=config.eq_db * _points(n, rng),
    )


def mix_at_snr(signal: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """Add noise so that the power ratio over the clip is `snr_db` (B,): (B, T)."""
    power = signal.square().mean(dim=1)
    noise_power = noise.square().mean(dim=1).clamp(min=TINY)
    gain = (power / noise_power / 10 ** (snr_db / 10)).sqrt()
    return signal + gain[:, None] * noise


def convolve(signal: Tensor, response: Tensor) -> Tensor:
    """Causal linear convolution cut to the signal's length: (B, T), (B, L) -> (B, T)."""
    length = signal.shape[1]
    size = _fast_length(length + response.shape[1] - 1)
    spectrum = torch.fft.rfft(signal, size) * torch.fft.rfft(response, size)
    result: Tensor = torch.fft.irfft(spectrum, size)[:, :length]
    return result


def change_speed(signal: Tensor, rate: Tensor) -> Tensor:
    """Play `rate` (B,) times as fast around the clip's middle, zeros beyond its ends: (B, T).

    Output sample t is input time `middle + (t - middle) * rate`, interpolated by a sinc of
    `SINC_TAPS` taps under a (1 - x^2)^2 window, at the nearest of `SINC_PHASES` places between
    two samples. For small changes; nothing guards against aliasing.
    """
    length = signal.shape[1]
    middle = (length - 1) / 2
    time = torch.arange(length, device=signal.device) - middle
    place = middle + time * rate[:, None]  # (B, T) in input samples
    base = place.floor()
    phase = ((place - base) * SINC_PHASES).round().long()
    padded = F.pad(signal, (SINC_TAPS, SINC_TAPS))
    first = base.long() + SINC_TAPS // 2 + 1  # padded input under the first tap
    first = first.clamp(0, length + SINC_TAPS)
    total = torch.zeros_like(place)
    for tap, weight in enumerate(_sinc_table().to(signal.device)):
        total.addcmul_(weight[phase], padded[:, tap:].gather(1, first))
    return total


@cache
def _sinc_table() -> Tensor:
    """Weights of the taps at each place between two samples: (SINC_TAPS, SINC_PHASES + 1)."""
    half = SINC_TAPS // 2
    tap = torch.arange(1 - half, half + 1)[:, None]
    distance = torch.arange(SINC_PHASES + 1) / SINC_PHASES - tap
    return torch.sinc(distance) * (1 - (distance / half).square()).square()


def change_tempo(signal: Tensor, rate: Tensor) -> Tensor:
    """Play `rate` (B,) times as fast around the clip's middle at the same pitch: (B, T).

    A phase vocoder (Flanagan and Golden, 1966): output frame j is input frame
    `middle + (j - middle) * rate`, its magnitudes interpolated, its phases advanced by what the
    input's advance by from a frame to the next. Zeros beyond the clip's ends.
    """
    length = signal.shape[1]
    window = torch.hann_window(STRETCH_FRAME, device=signal.device)
    spectrum = torch.stft(signal, STRETCH_FRAME, STRETCH_HOP, window=window, return_complex=True)
    frames = spectrum.shape[2]
    middle = (frames - 1) / 2
    place = middle + (torch.arange(frames, device=signal.device) - middle) * rate[:, None]  # (B, F)
    base = place.floor()
    inside = ((place >= 0) & (place <= frames - 1))[:, None].to(signal.dtype)
    before = base.long().clamp(0, frames - 2)

    def at(frame: Tensor) -> Tensor:
        return spectrum.gather(2, frame[:, None].expand(-1, spectrum.shape[1], -1))

    here, there = at(before), at(before + 1)
    magnitude = torch.lerp(here.abs(), there.abs(), (place - base)[:, None]) * inside
    advance = (there * here.conj()).angle()  # of the phase over a hop, up to whole turns
    start = here[:, :, :1].angle()
    phase = torch.cat([start, start + advance[:, :, :-1].cumsum(dim=2)], dim=2)
    made = torch.polar(magnitude, phase)
    return torch.istft(made, STRETCH_FRAME, STRETCH_HOP, window=window, length=length)


def band_shape(
    signal: Tensor, sample_rate: int, *, low_cut: Tensor, high_cut: Tensor, eq_db: Tensor
) -> Tensor:
    """Random band edges (second and fourth order) and a smooth response, zero phase: (B, T).

    `low_cut` and `high_cut` (B,) in Hz are the -3 dB points; `eq_db` is as for `equalise`.
    """
    frequency = _frequencies(signal, sample_rate)
    high_pass = (1 + (low_cut[:, None] / frequency) ** 4).rsqrt()
    low_pass = (1 + (frequency / high_cut[:, None]) ** 8).rsqrt()
    return _filtered(signal, high_pass * low_pass * _smooth_gain(frequency, eq_db))


def equalise(signal: Tensor, sample_rate: int, eq_db: Tensor) -> Tensor:
    """A smooth response, zero phase: (B, T).

    `eq_db` (B, K) is the response at K points evenly spaced in log frequency from 50 Hz to half
    the sample rate.
    """
    return _filtered(signal, _smooth_gain(_frequencies(signal, sample_rate), eq_db))


def tilt(signal: Tensor, sample_rate: int, slope_db: Tensor) -> Tensor:
    """A response that changes by `slope_db` (B,) an octave, at unit RMS: (B, T)."""
    frequency = _frequencies(signal, sample_rate).clamp(min=50.0)
    octaves = (frequency / 1_000).log2()
    return _unit(_filtered(signal, 10 ** (slope_db[:, None] * octaves / 20)))


def muffle(signal: Tensor, sample_rate: int, cut: Tensor) -> Tensor:
    """A wall: attenuation by 12 dB an octave above `cut` (B,) in Hz: (B, T)."""
    frequency = _frequencies(signal, sample_rate)
    return _filtered(signal, (1 + (frequency / cut[:, None]) ** 4).rsqrt())


def control_gain(signal: Tensor, sample_rate: int, strength: Tensor) -> Tensor:
    """Automatic gain control: over the recent level to the power `strength` (B,): (B, T)."""
    span = round(LEVEL_SECONDS * sample_rate)
    energy = F.pad(signal.double().square().cumsum(dim=1), (span, 0))
    power = ((energy[:, span:] - energy[:, :-span]) / span).float()
    whole = signal.square().mean(dim=1, keepdim=True)
    level = ((power + 1e-4 * whole) / whole.clamp(min=TINY)).clamp(min=1e-4)
    return signal * level ** (-strength[:, None] / 2)


def suppress_noise(signal: Tensor, floor_db: Tensor) -> Tensor:
    """A noise suppressor: steady noise is attenuated, by at most `floor_db` (B,) dB: (B, T).

    Spectral subtraction (Boll, 1979): the noise of a bin is its power at the quietest fifth of the
    clip, twice over, for the mean of noise lies above its quiet moments.
    """
    window = torch.hann_window(CODEC_FRAME, device=signal.device).sqrt()
    hop = CODEC_FRAME // 2
    spectrum = torch.stft(signal, CODEC_FRAME, hop, window=window, return_complex=True)
    power = _power(spectrum)
    smooth = F.avg_pool1d(F.pad(power, (2, 2), mode="replicate"), 5, 1)
    quiet = smooth.kthvalue(max(1, smooth.shape[2] // 5), dim=2, keepdim=True).values
    gain = (1 - 2 * quiet / smooth.clamp(min=TINY)).clamp(min=0).sqrt()
    gain = gain.maximum(10 ** (-floor_db[:, None, None] / 20))
    return torch.istft(spectrum * gain, CODEC_FRAME, hop, window=window, length=signal.shape[1])


def overdrive(signal: Tensor, drive_db: Tensor, *, hard: Tensor) -> Tensor:
    """Clip at `drive_db` (B,) under the peak, hard (clamped) or soft (tanh) by row: (B, T)."""
    peak = signal.abs().amax(dim=1).clamp(min=TINY)
    driven = signal * (10 ** (drive_db / 20) / peak)[:, None]
    return torch.where(hard[:, None], driven.clamp(-1, 1), driven.tanh())


def coarse(signal: Tensor, step: Tensor) -> Tensor:
    """A transform codec at a low bit rate: (B, T).

    The spectrum of `CODEC_FRAME` samples is rounded to multiples of `step` (B,) times the RMS of
    its band, so that each band keeps its strongest lines and loses what is masked, as in Opus and
    MP3 (Painter and Spanias, "Perceptual coding of digital audio", 2000, section II).
    """
    window = torch.hann_window(CODEC_FRAME, device=signal.device).sqrt()
    hop = CODEC_FRAME // 2
    spectrum = torch.stft(signal, CODEC_FRAME, hop, window=window, return_complex=True)
    bands = torch.unflatten(spectrum[:, 1:], 1, (-1, CODEC_BAND))  # (B, K, 8, F), without DC
    power = _power(bands)
    unit = step[:, None, None, None] * power.mean(dim=2, keepdim=True).clamp(min=TINY).sqrt()
    rounded = torch.complex((bands.real / unit).round(), (bands.imag / unit).round()) * unit
    whole = F.pad(rounded.flatten(1, 2), (0, 0, 1, 0))
    return torch.istft(whole, CODEC_FRAME, hop, window=window, length=signal.shape[1])


def formula_noise(n: int, length: int, sample_rate: int, rng: Generator) -> Tensor:
    """Noise by formula, unit RMS: (n, length).

    Gaussian noise of a random spectral slope between brown and blue-ish white, on a third of the
    rows gusting slowly as wind does, on a third with mains hum and its harmonics.
    """
    device = rng.device
    size = _fast_length(length)
    frequency = torch.fft.rfftfreq(size, 1 / sample_rate, device=device).clamp(min=20.0)
    slope = _uniform(n, (-2.2, 0.3), rng)  # of power, in powers of frequency
    white = torch.randn(n, size, generator=rng, device=device)
    shape = frequency[None] ** (slope[:, None] / 2)
    noise = _unit(torch.fft.irfft(torch.fft.rfft(white) * shape, size)[:, :length])
    time = torch.arange(length, device=device) / sample_rate
    (windy,) = torch.nonzero(_chance(n, 1 / 3, rng), as_tuple=True)
    gust_rate = _uniform(len(windy), (0.2, 3.0), rng)[:, None]
    phase = _uniform(len(windy), (0.0, 2 * math.pi), rng)[:, None]
    noise[windy] *= (1.05 + torch.sin(2 * math.pi * gust_rate * time + phase)).square()
    (humming,) = torch.nonzero(_chance(n, 1 / 3, rng), as_tuple=True)
    mains = torch.where(_chance(len(humming), 0.5, rng), 50.0, 60.0)[:, None]
    phase = _uniform(len(humming), (0.0, 2 * math.pi), rng)[:, None]
    level = _log_uniform(len(humming), (0.1, 2.0), rng)[:, None]
    for k in HARMONICS:
        noise[humming] += level / k * torch.sin(k * (2 * math.pi * mains * time + phase))
    return _unit(noise)


def cut_out(spectrogram: Tensor, config: DegradeConfig, rng: Generator) -> Tensor:
    """Blank a band of frequencies on some rows and a stretch of time on some: (B, bands, F).

    Each is a tenth to a third of its axis wide (Park et al., SpecAugment, 2019; in place of its
    mean, zero, which is the front-end's mean).
    """
    n, bands, frames = spectrogram.shape
    band = _stretch(n, bands, _chance(n, config.band_cut, rng), rng)  # (B, bands)
    time = _stretch(n, frames, _chance(n, config.time_cut, rng), rng)  # (B, F)
    return spectrogram.masked_fill(band[:, :, None] | time[:, None, :], 0.0)


def _stretch(n: int, size: int, chosen: Tensor, rng: Generator) -> Tensor:
    width = _uniform(n, (0.1, 0.33), rng) * size
    first = _uniform(n, (0.0, 1.0), rng) * (size - width)
    place = torch.arange(size, device=rng.device)
    inside = (place >= first[:, None]) & (place < (first + width)[:, None])
    return inside & chosen[:, None]


def _blend_noise(recorded: Tensor, sample_rate: int, rng: Generator) -> Tensor:
    """Recorded noise, formula noise or both, a third of the rows each; formula where none is."""
    choice = _uniform(len(recorded), (0.0, 3.0), rng)[:, None]
    formula = formula_noise(len(recorded), recorded.shape[1], sample_rate, rng)
    none = recorded.abs().amax(dim=1, keepdim=True) < TINY
    return _unit(recorded) * (choice < 2) + formula * ((choice > 1) | none)


def scale_rooms(rooms: Tensor, span: Range, rng: Generator) -> Tensor:
    """Rooms of the same shape and other sizes: impulse responses (n, L) -> (n, L).

    In a room `scale` times as large every echo comes `scale` times as late, and it rings as much
    longer.
    """
    if span == (1.0, 1.0):
        return rooms
    length = rooms.shape[1]
    place = torch.arange(length, device=rooms.device) / _log_uniform(len(rooms), span, rng)[:, None]
    before = place.long().clamp(max=length - 1)
    after = (before + 1).clamp(max=length - 1)
    scaled = torch.lerp(rooms.gather(1, before), rooms.gather(1, after), place - before)
    return scaled * (place <= length - 1)


def _power(spectrum: Tensor) -> Tensor:
    return spectrum.real.square() + spectrum.imag.square()


def _unit(x: Tensor) -> Tensor:
    """Scale rows to unit RMS; silence stays silence."""
    return x / x.square().mean(dim=1, keepdim=True).sqrt().clamp(min=TINY)


def _frequencies(signal: Tensor, sample_rate: int) -> Tensor:
    """Frequencies (Hz) of the spectrum that `_filtered` multiplies, (F,)."""
    size = _fast_length(signal.shape[1])
    frequency: Tensor = torch.fft.rfftfreq(size, 1 / sample_rate, device=signal.device)
    return frequency.clamp(min=1.0)


def _filtered(signal: Tensor, gain: Tensor) -> Tensor:
    length = signal.shape[1]
    size = _fast_length(length)
    result: Tensor = torch.fft.irfft(torch.fft.rfft(signal, size) * gain, size)[:, :length]
    return result


def _smooth_gain(frequency: Tensor, eq_db: Tensor) -> Tensor:
    top = (frequency[-1] / 50.0).log()
    place = ((frequency / 50.0).log() / top).clamp(0, 1) * (eq_db.shape[1] - 1)  # (F,)
    below = place.floor().long().clamp(max=eq_db.shape[1] - 2)
    fraction = place - below
    eq = eq_db[:, below] * (1 - fraction) + eq_db[:, below + 1] * fraction  # (B, F) dB
    gain: Tensor = 10 ** (eq / 20)
    return gain


def _points(n: int, rng: Generator) -> Tensor:
    return torch.randn(n, EQ_POINTS, generator=rng, device=rng.device)


def _chance(n: int, probability: float, rng: Generator) -> Tensor:
    return torch.rand(n, generator=rng, device=rng.device) < probability


def _uniform(n: int, span: Range, rng: Generator) -> Tensor:
    low, high = span
    return low + (high - low) * torch.rand(n, generator=rng, device=rng.device)


def _log_uniform(n: int, span: Range, rng: Generator) -> Tensor:
    return _uniform(n, (math.log(span[0]), math.log(span[1])), rng).exp()


def _fast_length(length: int) -> int:
    """The next length with a fast FFT: a power of two times 1, 3 or 5."""
    return min(factor << max(0, math.ceil(math.log2(length / factor))) for factor in (1, 3, 5))
