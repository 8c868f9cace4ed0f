"""Scores to sound: tracker modules through openmpt123, MIDI through fluidsynth and a soundfont.

Both write raw samples to a pipe, so an endless score is rendered only as far as it is wanted, and a
renderer that hangs is stopped.
"""

import shutil
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from tempfile import TemporaryFile
from threading import Event, Timer

import numpy as np

from fingerprint.audio.ffmpeg import mono
from fingerprint.errors import AudioError, CorpusError
from fingerprint.types import Floats

MODULES = frozenset({".it", ".med", ".mod", ".mtm", ".okt", ".s3m", ".stm", ".xm"})
MIDI = frozenset({".kar", ".mid", ".midi"})
SOUNDFONTS = frozenset({".sf2", ".sf3"})
RENDERERS = ("openmpt123", "fluidsynth")  # Debian packages of the same names
RENDER_RATE = 24_000  # Hz, above what is kept, for synthesisers alias near half their rate
CHANNELS = 2
PATIENCE = 600.0  # s of waiting for one score
PEAK = 0.95  # louder renderings are scaled down to it


def check_renderers() -> None:
    """Raises: CorpusError: a renderer is not installed."""
    if missing := [name for name in RENDERERS if shutil.which(name) is None]:
        names = " ".join(missing)
        raise CorpusError(f"cannot render: no {names} here; run: apt-get install {names}")


def render(
    score: Path,
    soundfont: Path | None,
    seconds: float,
    sample_rate: int,
    *,
    patience: float = PATIENCE,
) -> Floats:
    """The first `seconds` of a score, mono at `sample_rate` (Hz): (T,).

    Raises:
        AudioError: the renderer fails, gives no sound, or takes longer than `patience` (s).
    """
    import soxr

    command = _openmpt123(score) if soundfont is None else _fluidsynth(score, soundfont)
    wanted = round(seconds * RENDER_RATE) * CHANNELS * np.dtype(np.float32).itemsize
    raw = _output(command, wanted, score, patience)
    frame = CHANNELS * np.dtype(np.float32).itemsize
    channels = np.frombuffer(raw[: len(raw) // frame * frame], np.float32).reshape(-1, CHANNELS)
    if not len(channels) or not np.isfinite(channels).all():
        raise AudioError(f"cannot render {score.name}: {command[0]} gives no sound")
    samples = mono(channels.T)
    samples = samples * np.float32(min(1.0, PEAK / max(float(np.abs(samples).max()), 1e-9)))
    resampled: Floats = soxr.resample(samples, RENDER_RATE, sample_rate, quality="HQ")
    return resampled


def _openmpt123(score: Path) -> list[str]:
    rate, channels = str(RENDER_RATE), str(CHANNELS)
    options = ["--batch", "--quiet", "--stdout", "--samplerate", rate, "--channels", channels]
    return ["openmpt123", *options, "--", str(score)]


def _fluidsynth(score: Path, soundfont: Path) -> list[str]:
    output = ["-r", str(RENDER_RATE), "-O", "float", "-T", "raw", "-F", "-"]
    return ["fluidsynth", "-q", "-n", "-i", *output, str(soundfont), str(score)]


def _output(command: list[str], wanted: int, score: Path, patience: float) -> bytes:
    """At most `wanted` bytes of what a command prints; then it is stopped."""
    late = Event()

    with (
        TemporaryFile() as complaints,
        Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=complaints) as process,
    ):

        def stop() -> None:
            late.set()
            process.kill()

        timer = Timer(patience, stop)
        timer.start()
        try:
            assert process.stdout is not None  # noqa: S101 - a pipe was asked for
            raw = process.stdout.read(wanted)
            if len(raw) < wanted:
                process.wait()
        finally:
            timer.cancel()
            process.kill()  # nothing where it has ended
        if late.is_set():
            raise AudioError(f"cannot render {score.name}: {command[0]} takes over {patience:g} s")
        if len(raw) < wanted and process.returncode:
            complaints.seek(0)
            lines = complaints.read().decode(errors="replace").split("\n")
            said = next((line.strip() for line in reversed(lines) if line.strip()), "no reason")
            raise AudioError(f"cannot render {score.name}: {command[0]} says: {said}")
    return raw
