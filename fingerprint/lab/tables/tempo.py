"""How exactly a change of tempo can be measured, and by what: shares within 0.5 % of the truth.

    python -m fingerprint.lab bench-tempo --queries 80

Validation queries, against a library of the validation tracks alone, made for it. *Answered* is the
rate that `identify` gives. *Embeddings* is the best estimate from this library's rows: the tempo is
undone by its true factor, and the line through them is fitted from its true place and rate.
*Spectrogram* is the estimate if the library held the audio: a log-mel spectrogram of 40 bands
every 8 ms of query and track, laid on each other where they correlate most.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import click
import librosa
import numpy as np

from fingerprint.audio.decode import load_clip
from fingerprint.cli.options import corpus_option
from fingerprint.lab.benchmark.conditions import select
from fingerprint.lab.benchmark.material import Material
from fingerprint.lab.benchmark.metrics import RATE_TOLERANCE
from fingerprint.lab.benchmark.queries import Query, make_query
from fingerprint.lab.calibration.large_libraries import SomeTracks
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.report_format import markdown_head, markdown_row
from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.recognition.matcher import fit
from fingerprint.types import Candidate, Clip, Fingerprint, Floats, Rows

CONDITIONS = ("tempo 5 s", "tempo 10 s")
SEED = 7
FREE = (0.85, 1.15)  # rates about the true one, of which the fit may take any
BANDS, HOP, FFT = 40, 64, 512  # of the spectrogram, at the model's 8 kHz: 8 ms, 64 ms
SPARE = 1.0  # s of the track on either side of the query
MOVES = np.linspace(-0.1, 0.1, 21)  # s that the query's middle is moved
TURNS = np.linspace(-0.04, 0.04, 17)  # by which its rate is changed, as a share
LEVELS = 4  # each about the last one's best, on a grid a quarter as wide


@click.command()
@corpus_option
@click.option("--queries", "count", type=click.IntRange(min=1), default=80, show_default=True)
def main(corpus: Path, count: int) -> None:
    """Tabulate how exact rates are."""
    model = Fingerprinter.default("cpu", threads=1)
    opened = Corpus.open(corpus)
    material = Material.load(opened, "validation")
    paths = [file.path for file in opened.music("validation")]
    tracks = {path: load_clip(path, model.sample_rate).samples for path in paths}
    click.echo(markdown_head(("query", "right", "answered %", "embeddings %", "spectrogram %")))
    with (
        TemporaryDirectory(prefix="fingerprint-") as folder,
        Library.create_or_open(Path(folder) / "library", model) as library,
    ):
        index_files(library, paths)
        for condition in select(CONDITIONS):
            errors = []
            for number in range(count):
                query = make_query(
                    material, condition, seed=SEED, number=number, sample_rate=model.sample_rate
                )
                matches = library.recognise(query.clip, top=1).matches
                match = matches[0] if matches else None
                if match is None or match.track.path != query.truth.path:
                    continue
                stored = library.fingerprint(match.track)
                if stored is None:
                    continue
                answered = match.rate / query.truth.rate - 1
                line = by_rows(stored, query, model) - 1
                errors.append((answered, line, by_sound(query, tracks[query.truth.path])))
            shares = 100 * np.mean(np.abs(errors) <= RATE_TOLERANCE, axis=0)
            cells = [f"{share:.1f}" for share in shares]
            click.echo(markdown_row([condition.name, str(len(errors)), *cells]))


def by_rows(stored: Fingerprint, query: Query, model: Fingerprinter) -> float:
    """The rate, by the track's stored rows, that is left once the tempo is undone; 1 is right."""
    samples = librosa.effects.time_stretch(
        query.clip.samples, rate=1 / query.truth.rate, n_fft=1024
    )
    undone = model.embed_query(Clip(samples.astype(np.float32), model.sample_rate))
    line = Candidate(0, query.truth.offset, 1.0, 1.0)
    rows = Rows(np.array([0, len(stored.vectors)]))
    none = np.empty((len(stored.vectors), 0), np.uint16)
    track = SomeTracks(stored.vectors, rows, stored.hop, (None,), none, 1)
    return fit(undone, line, track, rates=FREE, plain=()).rate


def by_sound(query: Query, track: Floats) -> float:
    """The share by which the rate is off where the two spectrograms correlate most."""
    truth, clip = query.truth, query.clip
    first = max(0, round((truth.offset - SPARE) * clip.sample_rate))
    last = round((truth.offset + truth.rate * clip.duration + SPARE) * clip.sample_rate)
    there = spectrogram(track[first:last], clip.sample_rate)
    here = spectrogram(clip.samples, clip.sample_rate)
    times = np.arange(here.shape[1]) * HOP / clip.sample_rate
    middle = times.mean()
    start = truth.offset - first / clip.sample_rate + truth.rate * middle

    def mismatch(line: tuple[float, float]) -> float:
        move, turn = line
        moments = start + move + truth.rate * (1 + turn) * (times - middle)
        frames = np.clip(moments * clip.sample_rate / HOP, 0, there.shape[1] - 1.001)
        whole = frames.astype(int)
        part = frames - whole
        under = there[:, whole] * (1 - part) + there[:, whole + 1] * part
        return -float(np.sum(under * here) / np.sqrt(np.sum(under**2) * np.sum(here**2)))

    move = turn = 0.0
    for level in range(LEVELS):
        tried = [(move + m / 4**level, turn + t / 4**level) for m in MOVES for t in TURNS]
        move, turn = min(tried, key=mismatch)
    return float(turn)


def spectrogram(samples: Floats, sample_rate: int) -> Floats:
    """Logarithmic mel bands (BANDS, frames), each less its mean."""
    mel = librosa.feature.melspectrogram(
        y=samples, sr=sample_rate, n_fft=FFT, hop_length=HOP, n_mels=BANDS, fmin=100.0, power=1.0
    )
    bands = np.log(mel + 1e-3 * mel.mean())
    levelled: Floats = bands - bands.mean(axis=1, keepdims=True)
    return levelled
