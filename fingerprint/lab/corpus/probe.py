"""Probe audio files: readable or not, length, digest and envelope of the decoded sound."""

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from fingerprint.errors import AudioError, CorpusError
from fingerprint.lab.corpus.manifest import write_lines
from fingerprint.types import Floats

PROBE_RATE = 8_000  # Hz at which contents are compared
FULL_SCALE = 32_768  # of 16-bit samples: what 1.0 becomes
ENVELOPE_RATE = 4  # Hz
QUIETEST = 1e-4  # peak of a file that counts as silent


@dataclass(frozen=True, slots=True)
class Probe:
    """The content of a file, or, in `error`, why it cannot be used.

    `digest` is equal for equal sound; `envelope` is the loudness (RMS in 1/10,000) at
    `ENVELOPE_RATE`, by which re-encoded copies are known.
    """

    path: str  # relative to the package's folder
    sha256: str = ""
    seconds: float = 0.0
    sample_rate: int = 0  # Hz
    digest: str = ""
    envelope: tuple[int, ...] = ()
    error: str = ""


def probe_file(folder: Path, path: str) -> Probe:
    """Decode one file and describe it; an unreadable one is described by its error."""
    import soundfile

    from fingerprint.audio.decode import load_clip

    whole = folder / path
    try:
        # Tried first, so that the result does not depend on which other decoders are installed.
        info = soundfile.info(whole)
        samples = load_clip(whole, PROBE_RATE).samples
    except soundfile.LibsndfileError as error:
        return Probe(path, error=f"unreadable: {error.error_string.strip()}")
    except (AudioError, OSError) as error:
        return Probe(path, error=f"unreadable: {error}")
    if not len(samples) or np.abs(samples).max() < QUIETEST:
        return Probe(path, error="silent")
    return Probe(
        path,
        sha256=hashlib.sha256(whole.read_bytes()).hexdigest(),
        seconds=round(info.frames / info.samplerate, 3),
        sample_rate=info.samplerate,
        digest=hashlib.sha256(to_int16(samples).tobytes()).hexdigest(),
        envelope=envelope(samples),
    )


def to_int16(samples: Floats) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """Floats in [-1, 1] (T,) to 16-bit; what lies outside is clipped."""
    return np.clip(np.round(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def envelope(samples: Floats) -> tuple[int, ...]:
    """RMS in 1/10,000 of consecutive frames of 1 / `ENVELOPE_RATE` s; the last part is left out."""
    frame = PROBE_RATE // ENVELOPE_RATE
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    return tuple(int(v) for v in np.round(1e4 * np.sqrt(np.mean(np.square(frames), axis=1))))


def probe_package(
    folder: Path, record: Path, pool: ProcessPoolExecutor, on_file: Callable[[], None]
) -> tuple[Probe, ...]:
    """Describe every file below a package's folder. The result is kept in `record`.

    Raises:
        CorpusError: `record` is damaged.
    """
    if record.exists():
        return read_probes(record)
    paths = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    probes = []
    for probe in pool.map(probe_file, [folder] * len(paths), paths):
        probes.append(probe)
        on_file()
    write_lines(record, map(asdict, probes))
    return tuple(probes)


def read_probes(record: Path) -> tuple[Probe, ...]:
    """The descriptions that an earlier call of `probe_package` wrote.

    Raises:
        CorpusError: `record` is damaged.
    """
    try:
        lines = record.read_text(encoding="utf-8").splitlines()
        return tuple(_from_json(line) for line in lines)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"cannot read {record}; delete it and run this again") from error


def worker_pool(jobs: int) -> ProcessPoolExecutor:
    """Processes that start afresh, so that they are safe beside threads of the caller."""
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_hush)


def _hush() -> None:
    """Silence the messages that C libraries print about odd files; the probe says what matters."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _from_json(line: str) -> Probe:
    record = json.loads(line)
    return Probe(**record | {"envelope": tuple(record["envelope"])})
