"""Further degradations of queries: walls, telephones, records, changes by video editors.

Pure functions of samples (T,) at `WORKING_RATE` that keep length and place. Randomness is an
argument. None of this is done to what the model is trained on.
"""

from io import BytesIO
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy import signal

from fingerprint.errors import ConfigError
from fingerprint.lab.benchmark.material import WORKING_RATE, Rng, rms
from fingerprint.types import Floats

TINY = 1e-9

# A hall made by a program, as under slowed music: an exponentially decaying noise (Moorer 1979).
HALL_SECONDS = (1.5, 3.0)  # reverberation time
HALL_DB = (-6.0, 0.0)  # of the reverberation against the sound itself
HALL_DELAY = 0.02  # s

# A wall lets through the less the higher the pitch: a second-order low-pass from here on.
WALL_HZ = (250.0, 600.0)

TELEPHONE_RATE = 8_000  # Hz
TELEPHONE_BAND = (300.0, 3_400.0)  # Hz
# FFmpeg's encoders, their container, bits a second (None: there is one alone), and delay (s).
TELEPHONES: tuple[tuple[str, str, int | None], ...] = (
    ("libopencore_amrnb", "amr", 4_750),  # the lowest and the highest rate of mobile telephones
    ("libopencore_amrnb", "amr", 12_200),
    ("libgsm", "gsm", None),
    ("pcm_alaw", "wav", None),
    ("pcm_mulaw", "wav", None),
    ("libopus", "ogg", 6_000),
)

GATE_FFT = 512  # samples of a frame: 32 ms
NOISE_SHARE = 0.2  # of the frames are taken for noise, at each frequency the quietest
GATE_OVER = 2.0  # times the noise's magnitude that is subtracted
GATE_LEAST = 0.1  # what is left of a bin at least
GATE_RELEASE = 0.6  # of a gain stays from frame to frame
AGC_SECONDS = (0.01, 0.3)  # attack and release of the level that gain follows
AGC_POWER = 0.6  # of the level is taken back, in dB: 2.5 to 1
AGC_FLOOR_DB = -45.0  # below full scale; gain grows no further

WOW_HZ = 100 / 3 / 60  # turns of a record a second
WOW = (0.001, 0.003)  # share of the speed
CLICKS = (2.0, 20.0)  # a second
CLICK_DB = 12.0  # standard deviation of their level
SURFACE_DB = (-35.0, -20.0)  # hiss, against the music
HUM_DB = (-30.0, -15.0)
HUM_HZ = (50.0, 60.0)


def hall(samples: Floats, rng: Rng) -> Floats:
    """The reverberation that a program adds."""
    time = np.arange(round(2 * WORKING_RATE)) / WORKING_RATE
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / rng.uniform(*HALL_SECONDS))
    wet = signal.oaconvolve(samples, tail)[: len(samples)]
    wet = _delayed(wet, HALL_DELAY)
    return _float(samples + _at(wet, samples, rng.uniform(*HALL_DB)))


def through_wall(samples: Floats, rng: Rng) -> Floats:
    """What comes through a wall; the room behind it is another matter."""
    sections = signal.butter(2, rng.uniform(*WALL_HZ), fs=WORKING_RATE, output="sos")
    return _float(signal.sosfilt(sections, samples))


def telephone(samples: Floats, rng: Rng) -> Floats:
    """Sent in the telephone's band by one of the codecs that FFmpeg has here."""
    codec, container, bits = TELEPHONES[int(rng.choice(telephones_at_hand()))]
    sections = signal.butter(4, TELEPHONE_BAND, "bandpass", fs=WORKING_RATE, output="sos")
    narrow = soxr.resample(signal.sosfilt(sections, samples), WORKING_RATE, TELEPHONE_RATE)
    sent = _transcoded(narrow, codec, container, bits)
    sent = _in_step(sent, narrow)
    return _float(_exactly(soxr.resample(sent, TELEPHONE_RATE, WORKING_RATE), len(samples)))


def telephones_at_hand() -> list[int]:
    """Numbers of the `TELEPHONES` whose encoder FFmpeg has.

    Raises:
        ConfigError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ConfigError(
            "telephone codecs need PyAV: pip install 'fingerprint[ffmpeg]'"
        ) from error
    there = av.codecs_available
    return [number for number, (codec, _, _) in enumerate(TELEPHONES) if codec in there]


def suppressed(samples: Floats) -> Floats:
    """Noise suppression, then automatic gain control, as a phone does for speech."""
    return gain_controlled(noise_gated(samples))


def noise_gated(samples: Floats) -> Floats:
    """Noise suppression by spectral subtraction.

    At each frequency the quietest frames are taken for noise. Music that lasts is noise to it.
    """
    window = np.sqrt(signal.windows.hann(GATE_FFT, sym=False))
    _, _, spectrum = signal.stft(samples, window=window, nperseg=GATE_FFT)  # (bins, frames)
    magnitude = np.abs(spectrum)
    noise = np.quantile(magnitude, NOISE_SHARE, axis=1, keepdims=True)
    gain = np.maximum(1 - GATE_OVER * noise / np.maximum(magnitude, TINY), GATE_LEAST)
    for frame in range(1, gain.shape[1]):  # opens at once, closes slowly
        gain[:, frame] = np.maximum(gain[:, frame], GATE_RELEASE * gain[:, frame - 1])
    _, clean = signal.istft(spectrum * gain, window=window, nperseg=GATE_FFT)
    return _exactly(clean, len(samples))


def gain_controlled(samples: Floats) -> Floats:
    """Automatic gain control: loud and quiet are brought together."""
    step = WORKING_RATE // 200  # 5 ms
    blocks = np.pad(samples, (0, -len(samples) % step)).reshape(-1, step)
    power = np.mean(blocks.astype(np.float64) ** 2, axis=1)
    attack, release = (np.exp(-step / WORKING_RATE / seconds) for seconds in AGC_SECONDS)
    level = np.empty_like(power)
    now = float(power[:1].sum())
    for number, one in enumerate(power.tolist()):
        keep = attack if one > now else release
        now = keep * now + (1 - keep) * one
        level[number] = now
    level_db = np.maximum(10 * np.log10(level + TINY), AGC_FLOOR_DB)
    gain_db = np.repeat(-AGC_POWER * (level_db - level_db.max()), step)[: len(samples)]
    return _float(samples * 10 ** (gain_db / 20))


def vinyl(samples: Floats, rng: Rng) -> Floats:
    """A worn record: wow, crackle, hiss and hum."""
    count = len(samples)
    time = np.arange(count) / WORKING_RATE
    turn = 2 * np.pi * WOW_HZ
    sway = rng.uniform(*WOW) / turn * np.sin(turn * time + rng.uniform(0, 2 * np.pi))
    played = np.interp(time + sway, time, samples)
    clicks = np.zeros(count)
    places = rng.integers(count, size=rng.poisson(rng.uniform(*CLICKS) * count / WORKING_RATE))
    level = rms(samples) * 10 ** (rng.normal(0, CLICK_DB, len(places)) / 20)
    clicks[places] = level * rng.choice([-1, 1], len(places))
    sections = signal.butter(2, (500, 5_000), "bandpass", fs=WORKING_RATE, output="sos")
    ringing = 10 * signal.sosfilt(sections, clicks)
    hiss = signal.lfilter([1], [1, -0.9], rng.standard_normal(count))
    mains = rng.choice(HUM_HZ)
    phases = rng.uniform(0, 2 * np.pi, 3)
    hum = sum(np.sin(2 * np.pi * k * mains * time + phases[k - 1]) / k for k in (1, 2, 3))
    rest = _at(hiss, samples, rng.uniform(*SURFACE_DB)) + _at(hum, samples, rng.uniform(*HUM_DB))
    return _float(played + ringing + rest)


def _at(other: Any, samples: Floats, db: float) -> NDArray[np.float64]:
    """Scaled to a level in dB above that of the samples."""
    scaled: NDArray[np.float64] = other * (rms(samples) / max(rms(other), TINY) * 10 ** (db / 20))
    return scaled


def _delayed(samples: Any, seconds: float) -> Any:
    late = round(seconds * WORKING_RATE)
    return np.pad(samples, (late, 0))[: len(samples)]


def _transcoded(samples: Floats, codec: str, container: str, bits: int | None) -> Floats:
    """Through an encoder and a decoder, at `TELEPHONE_RATE`."""
    import av

    whole = (np.clip(samples, -1, 1) * 32_767).astype(np.int16)
    file = BytesIO()
    with av.open(file, "w", format=container) as sink:
        stream: Any = sink.add_stream(codec, rate=TELEPHONE_RATE, layout="mono")
        if bits is not None:
            stream.bit_rate = bits
        frame = av.AudioFrame.from_ndarray(whole[None], format="s16", layout="mono")
        frame.sample_rate = TELEPHONE_RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            sink.mux(packet)
    file.seek(0)
    resampler = av.AudioResampler(format="flt", layout="mono", rate=TELEPHONE_RATE)
    parts: list[Any] = []
    with av.open(file, "r") as source:
        for frame in source.decode(audio=0):
            parts += [one.to_ndarray()[0] for one in resampler.resample(frame)]
    parts += [one.to_ndarray()[0] for one in resampler.resample(None)]
    return _float(np.concatenate(parts))


def _in_step(sent: Floats, original: Floats) -> Floats:
    """Without the codec's delay, at most 40 ms: where the envelopes agree best."""
    most = TELEPHONE_RATE // 25
    length = min(len(sent), len(original))
    a, b = (np.abs(x[:length]) - np.abs(x[:length]).mean() for x in (sent, original))
    both = signal.correlate(a, b, method="fft")[length - 1 : length + most]
    return _exactly(sent[int(np.argmax(both)) :], len(original))


def _exactly(samples: Any, length: int) -> Floats:
    return _float(np.pad(samples[:length], (0, max(0, length - len(samples)))))


def _float(samples: Any) -> Floats:
    return np.asarray(samples, dtype=np.float32)
