"""Inverted lists against brute force, on rows that crowd together as embeddings do."""

import sys
from pathlib import Path

import numpy as np
import pytest
from library_world import Toy, add, excerpt, song

from fingerprint.errors import LibraryError
from fingerprint.index import ivf_pq
from fingerprint.index.ivf_pq import InvertedLists
from fingerprint.index.neighbours import best_per_query, reranked
from fingerprint.lab.robustness.scenario import embeddings
from fingerprint.library.library import Library
from fingerprint.library.segments import damaged_files
from fingerprint.types import Floats

DIM = 64
COUNT = 20_000


@pytest.fixture(scope="module")
def rows() -> Floats:
    """A row in a hundred is silent."""
    walks = [embeddings(seed, 100, DIM) for seed in range(COUNT // 100)]
    vectors = np.concatenate(walks)
    vectors[::100] = 0
    return vectors


@pytest.fixture(scope="module")
def built(rows: Floats, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lists") / "part-1.v2"  # A dot in the name is part of it.
    InvertedLists.build(lambda some: rows[some], len(rows), path)
    return path


def noisy(rows: Floats, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    heard = rows + 0.6 * rng.standard_normal(rows.shape) / np.sqrt(DIM)
    return (heard / np.linalg.norm(heard, axis=1, keepdims=True)).astype(np.float32)


def test_ivf_pq_finds_what_brute_force_finds(rows: Floats, built: Path) -> None:
    query = noisy(rows[50:5_050:25], 1)
    nearest = (query @ rows.T).argmax(axis=1)
    hits = InvertedLists.open(built, DIM, COUNT).query(query, 100, 600)
    found = [nearest[number] in hits.row[hits.query == number] for number in range(len(query))]
    assert np.mean(found) > 0.95
    true = np.sum(query[hits.query] * rows[hits.row], axis=1)
    assert np.corrcoef(true, hits.similarity)[0, 1] > 0.6


def test_higher_search_effort_finds_more(rows: Floats, built: Path) -> None:
    index = InvertedLists.open(built, DIM, COUNT)
    query = noisy(rows[50:5_050:25], 2)
    best = np.sort(query @ rows.T, axis=1)[:, -10:].mean()

    def found(search_k: int) -> float:
        hits = reranked(index.query(query, 100, search_k), query, lambda some: rows[some])
        return float(best_per_query(hits, 10).similarity.sum()) / (10 * len(query))

    few, some, every = (found(search_k) for search_k in (1, 30, COUNT))
    assert few < some <= every <= best + 1e-6
    assert every > 0.95 * best


def test_silent_queries_find_nothing(rows: Floats, built: Path) -> None:
    query = noisy(rows[1:4], 3)
    query[1] = 0
    hits = InvertedLists.open(built, DIM, COUNT).query(query, 5, 1_000)
    assert set(hits.query.tolist()) == {0, 2}
    none = InvertedLists.open(built, DIM, COUNT).query(np.zeros((0, DIM), np.float32), 5, 100)
    assert len(none.row) == 0


@pytest.mark.parametrize(("dim", "count"), [(DIM + 2, COUNT), (DIM, COUNT - 1)])
def test_lists_of_another_dimension_or_size_are_refused(built: Path, dim: int, count: int) -> None:
    with pytest.raises(LibraryError, match="damaged"):
        InvertedLists.open(built, dim, count)


def test_a_missing_or_shortened_file_is_refused(built: Path, tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="damaged"):
        InvertedLists.open(tmp_path / "none", DIM, COUNT)
    whole = built.with_name(f"{built.name}.faiss").read_bytes()
    (tmp_path / "part.faiss").write_bytes(whole[:500])
    with pytest.raises(LibraryError, match="damaged"):
        InvertedLists.open(tmp_path / "part", DIM, COUNT)


def test_a_folder_that_is_not_there_is_a_clear_error(rows: Floats, tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="cannot write the index"):
        InvertedLists.build(lambda some: rows[some], len(rows), tmp_path / "none" / "part")


def test_without_faiss_the_error_names_the_package_to_install(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(LibraryError, match=r"pip install 'fingerprint\[faiss\]'"):
        InvertedLists.open(built, DIM, COUNT)
    with pytest.raises(LibraryError, match=r"pip install 'fingerprint\[faiss\]'"):
        Library.create_or_open(tmp_path / "library", Toy(), profile="large")
    assert not (tmp_path / "library").exists()


def test_segments_with_and_without_lists_answer_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ivf_pq, "LEAST_ROWS", 40)
    library = Library.create_or_open(tmp_path / "library", Toy(), profile="large")
    add(library, 1, 2, 3, 4)
    add(library, 5)
    suffixes = [{file.suffix for file in info.files} for info in library.catalog.layout()[0]]
    assert suffixes == [{"npy", "peaks", "faiss"}, {"npy", "peaks"}]
    for number in (1, 4, 5):
        best = library.identify(excerpt(song(number), 4, 4, snr_db=10), top=1, min_confidence=0)[0]
        assert best.track.path.name == f"{number:04d}.wav"
    (file,) = (library.folder / "segments").glob("*.faiss")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    info = library.catalog.layout()[0][0]
    assert damaged_files(library.folder, info, library.meta) == [file]
