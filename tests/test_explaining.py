"""The page: what it rests on is right, and it is a picture."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from library_world import RATE, Toy, excerpt, song

from fingerprint.errors import AudioError
from fingerprint.explaining import explain, write_page
from fingerprint.explaining.page import verdict
from fingerprint.explaining.picture import spectrogram
from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library
from fingerprint.types import Clip

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    music = tmp_path_factory.mktemp("music")
    for seed in range(4):
        soundfile.write(music / f"<song> {seed}.wav", song(seed, 25.0), RATE)
    with Library.create_or_open(tmp_path_factory.mktemp("library"), Toy()) as opened:
        index_files(opened, sorted(music.iterdir()), jobs=0)
        yield opened


def test_arrays_show_where_the_match_is(library: Library) -> None:
    found = explain(excerpt(song(2, 25.0), 7.3, 5.0, snr_db=10), library)
    best = found.matches[0]
    assert best.track.path.name == "<song> 2.wav"
    # The library keeps one bit of each of 48 numbers: a cosine of 0.9 comes out as some 0.7.
    assert np.nanmean(found.along[0]) > 0.65 > np.nanmean(found.along[1])
    assert found.similarity.shape == (len(found.places), len(found.moments))
    peak = found.places[np.argmax(found.similarity, axis=0)]
    assert np.median(np.abs(peak - (7.3 + found.moments))) < 0.2
    assert found.reference is not None
    one, other = spectrogram(found.reference), spectrogram(found.query)
    frames = min(one.shape[1], other.shape[1])
    assert np.corrcoef(one[:, :frames].ravel(), other[:, :frames].ravel())[0, 1] > 0.5


@pytest.mark.parametrize("name", ["page.html", "picture.PNG"])
def test_it_writes_a_page_or_a_picture(library: Library, tmp_path: Path, name: str) -> None:
    found = explain(excerpt(song(1, 25.0), 3.0, 4.0), library)
    path = tmp_path / name
    write_page(found, path, name="a <query>", min_confidence=0.5)
    data = path.read_bytes()
    if path.suffix == ".html":
        assert b"&lt;song&gt; 1" in data
        assert b"<song>" not in data
        assert b"data:image/png;base64," in data
    else:
        assert data.startswith(b"\x89PNG")


def test_another_ending_is_refused(library: Library, tmp_path: Path) -> None:
    found = explain(excerpt(song(1, 25.0), 3.0, 4.0), library)
    with pytest.raises(AudioError, match=r"\.html or \.png"):
        write_page(found, tmp_path / "page.pdf", name="q", min_confidence=0.5)


def test_the_verdict_says_when_nothing_is_sure(library: Library) -> None:
    found = explain(excerpt(song(1, 25.0), 3.0, 4.0), library)
    assert verdict(found, 0.0).startswith("<song> 1")
    assert verdict(found, 1.1).startswith("not in the library")


def test_a_missing_file_leaves_its_spectrogram_out(library: Library, tmp_path: Path) -> None:
    from dataclasses import replace

    found = explain(excerpt(song(1, 25.0), 3.0, 4.0), library)
    write_page(replace(found, reference=None), tmp_path / "x.png", name="q", min_confidence=0.5)
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_silence_cannot_be_explained(library: Library) -> None:
    with pytest.raises(AudioError, match="silence"):
        explain(Clip(np.zeros(5 * RATE, np.float32), RATE), library)


def test_a_spectrogram_is_in_decibels_below_the_loudest() -> None:
    level = spectrogram(excerpt(song(0), 0.0, 2.0))
    assert level.max() == 0
    assert level.min() >= -60
