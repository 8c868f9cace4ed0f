import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fingerprint.errors import LibraryError
from fingerprint.index.annoy_index import VectorIndex
from fingerprint.search import SearchConfig
from fingerprint.types import Floats, Hits

DIM = 32
NODE = 24  # bytes of a node of Annoy with so many bits


def unit(rng: np.random.Generator, count: int, dim: int = DIM) -> Floats:
    vectors = rng.standard_normal((count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def agreeing(vectors: Floats, others: Floats) -> Floats:
    """How many signs each of the vectors has in common with each of the others."""
    return np.sign(vectors) @ np.sign(others).T


def at_cosine(rng: np.random.Generator, vectors: Floats, cosine: float) -> Floats:
    """Unit vectors at exactly this cosine to the given ones, in random directions."""
    aside = unit(rng, *vectors.shape)
    aside -= np.sum(aside * vectors, axis=1, keepdims=True) * vectors
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    return (cosine * vectors + np.sqrt(1 - cosine**2) * aside).astype(np.float32)


def index_of(vectors: Floats, path: Path, **options: int) -> VectorIndex:
    return VectorIndex.build(lambda rows: vectors[rows], len(vectors), path, **options)


def nearest(hits: Hits, count: int) -> list[int]:
    best = {}
    for query, row, similarity in zip(hits.query, hits.row, hits.similarity, strict=True):
        best[query] = max(best.get(query, (-2.0, -1)), (similarity, row))
    return [int(best[query][1]) for query in range(count)]


@pytest.fixture(scope="module")
def vectors() -> Floats:
    return unit(np.random.default_rng(0), 2_000)


@pytest.fixture(scope="module")
def built(vectors: Floats, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index") / "part-1.v2"  # A dot in the name is part of the name.
    index_of(vectors, path, trees=10)
    return path


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    for suffix in ("ann", "json"):
        shutil.copy(f"{built}.{suffix}", tmp_path)
    return tmp_path / built.name


def test_annoy_finds_what_brute_force_finds(vectors: Floats, built: Path) -> None:
    rng = np.random.default_rng(1)
    query = unit(rng, 100)
    agree = agreeing(query, vectors)
    hits = VectorIndex.open(built, DIM).query(query, 10, 2_000)
    tenth = np.sort(agree, axis=1)[:, -10]  # of rows that agree as well, any may be found
    found = np.mean(agree[hits.query, hits.row] >= tenth[hits.query])
    assert len(hits.row) == 1_000
    assert found > 0.9


def test_the_shipped_settings_find_the_right_row_among_20_000(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    config = SearchConfig()
    stored = unit(rng, 20_000, 128)
    index = index_of(stored, tmp_path / "big")
    search_k = config.in_doubt.nodes // config.in_doubt.windows
    hits = index.query(at_cosine(rng, stored[:200], 0.8), config.neighbours, search_k)
    assert np.mean(np.array(nearest(hits, 200)) == np.arange(200)) > 0.97


def test_similarity_is_the_cosine_estimated_from_the_hamming_distance(
    vectors: Floats, built: Path
) -> None:
    query = at_cosine(np.random.default_rng(3), vectors[:50], 0.7)
    hits = VectorIndex.open(built, DIM).query(query, 5, 2_000)
    differ = np.sum((query[hits.query] > 0) != (vectors[hits.row] > 0), axis=1)
    expected = np.cos(np.pi * differ / DIM)
    np.testing.assert_allclose(hits.similarity, expected, atol=1e-6)


def test_silent_rows_are_never_hits_and_silent_queries_have_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    stored = unit(rng, 60)
    stored[::3] = 0
    stored[-5:] = 0
    index = index_of(stored, tmp_path / "gaps", trees=5)
    query = unit(rng, 4)
    query[1] = 0
    hits = index.query(query, 100, 10_000)
    audible = np.flatnonzero(stored.any(axis=1))
    for number in (0, 2, 3):
        assert sorted(hits.row[hits.query == number]) == audible.tolist()
    assert 1 not in hits.query
    assert len(index) == 60


@pytest.mark.parametrize("count", [0, 7])
def test_index_of_silent_rows_alone_has_no_hits(tmp_path: Path, count: int) -> None:
    index_of(np.zeros((count, DIM), np.float32), tmp_path / "silence", trees=5)
    index = VectorIndex.open(tmp_path / "silence", DIM, verify=True)
    hits = index.query(unit(np.random.default_rng(5), 3), 10, 100)
    assert len(index) == count
    assert len(hits.query) == len(hits.row) == len(hits.similarity) == 0


@pytest.mark.parametrize("count", [1, 2, 3])
def test_index_of_a_few_rows_finds_them(tmp_path: Path, count: int) -> None:
    stored = unit(np.random.default_rng(6), count)
    index_of(stored, tmp_path / "few", trees=5)
    hits = VectorIndex.open(tmp_path / "few", DIM, verify=True).query(stored, 10, 1_000)
    assert nearest(hits, count) == list(range(count))
    assert len(hits.row) == count**2


def test_query_without_rows_has_no_hits(built: Path) -> None:
    assert len(VectorIndex.open(built, DIM).query(np.empty((0, DIM), np.float32), 5, 100).row) == 0


def test_the_same_vectors_and_seed_make_the_same_bytes(vectors: Floats, tmp_path: Path) -> None:
    for name in ("one", "two"):
        index_of(vectors[:500], tmp_path / name, trees=5, seed=3)
    index_of(vectors[:500], tmp_path / "other", trees=5, seed=4)
    one, two, other = ((tmp_path / f"{n}.ann").read_bytes() for n in ("one", "two", "other"))
    assert one == two
    assert one != other


def test_a_rebuild_leaves_an_open_index_as_it_was(vectors: Floats, copy: Path) -> None:
    index = VectorIndex.open(copy, DIM)
    index_of(vectors[::-1][:100].copy(), copy, trees=3)
    assert nearest(index.query(vectors[:20], 5, 2_000), 20) == list(range(20))


def test_a_file_cut_on_a_node_boundary_is_refused(copy: Path) -> None:
    # Annoy itself loads it: it only asks whether the size is a multiple of a node's.
    file = Path(f"{copy}.ann")
    file.write_bytes(file.read_bytes()[: 100 * NODE])
    with pytest.raises(LibraryError, match=r"part-1\.v2\.ann is damaged: .* bytes instead of"):
        VectorIndex.open(copy, DIM)


@pytest.mark.parametrize("suffix", ["ann", "json"])
def test_missing_file_is_a_one_line_error_and_annoy_prints_nothing(
    copy: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path(f"{copy}.{suffix}").unlink()
    with pytest.raises(LibraryError, match=f"{suffix} is damaged: No such file") as caught:
        VectorIndex.open(copy, DIM)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_opening_with_verify_detects_an_altered_byte(copy: Path) -> None:
    file = Path(f"{copy}.ann")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(LibraryError, match="content has changed"):
        VectorIndex.open(copy, DIM, verify=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("metric", "euclidean"),
        ("dim", DIM + 1),
        ("rows", 1),
        ("items", 1_999),
        ("items", 0),
        ("trees", 11),
        ("bytes", 1),
        ("sha256", None),
        ("surplus", 1),
    ],
)
def test_an_altered_sidecar_is_refused(copy: Path, key: str, value: object) -> None:
    file = Path(f"{copy}.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(LibraryError):
        VectorIndex.open(copy, DIM)


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[]", b'{"dim": 32'])
def test_sidecar_that_is_not_valid_is_refused(copy: Path, content: bytes) -> None:
    Path(f"{copy}.json").write_bytes(content)
    with pytest.raises(LibraryError, match=r"json is damaged") as caught:
        VectorIndex.open(copy, DIM)
    assert "\n" not in str(caught.value)


def test_index_of_another_dimension_is_refused(built: Path) -> None:
    with pytest.raises(LibraryError, match="size 32, the model's are 16"):
        VectorIndex.open(built, 16)


@contextmanager
def little_space() -> Iterator[None]:
    """A limit on the size of files, which fails as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_leaves_the_old_index_and_no_temporary_files(vectors: Floats, copy: Path) -> None:
    refusal = r"cannot write the index .*part-1\.v2\.ann: .*free"
    with little_space(), pytest.raises(LibraryError, match=refusal):
        index_of(vectors, copy, trees=5)
    assert sorted(file.name for file in copy.parent.iterdir()) == [
        "part-1.v2.ann",
        "part-1.v2.json",
    ]
    assert len(VectorIndex.open(copy, DIM, verify=True)) == len(vectors)


def test_missing_folder_is_an_error_before_the_index_is_built(
    tmp_path: Path, vectors: Floats, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LibraryError, match="No such file"):
        index_of(vectors, tmp_path / "none" / "index", trees=5)
    assert capfd.readouterr().err == ""
