"""The parts under the library: places of rows, hits, merging, the files of a segment."""

import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from library_world import Toy, add, entry, excerpt, place_of, song

from fingerprint.config import INDEXED_DIMS
from fingerprint.errors import LibraryError
from fingerprint.index.neighbours import best_per_query, index_part
from fingerprint.index.quantisation import decode, encode
from fingerprint.library import writer
from fingerprint.library.library import Library
from fingerprint.library.profiles import COMPACT, STANDARD, Profile
from fingerprint.library.records import REMOVED, Meta, SegmentInfo, Spans, Stamp
from fingerprint.library.segments import Stored, digest, open_segment, write_segment
from fingerprint.library.snapshot import Snapshot, place_rows, take_snapshot
from fingerprint.library.store import Catalog
from fingerprint.library.writer import MOST_SMALL, Entry, choose_merge, living_runs, stored_of
from fingerprint.types import Floats, Hits, Track


def track_of(vectors: Floats, meta: Meta) -> Stored:
    """The rows of a track without peaks."""
    return stored_of(
        Entry(Track(Path("/x.wav"), 20.0), Stamp(1, 1), vectors, step=meta.profile.step), meta
    )


META = Meta("toy-1", 48, Toy().hop, STANDARD)
FULL = 500_000  # rows

# Lengths of a segment's stretches, each a track or (negative) a hole that a removed one left.
shelves = st.lists(
    st.lists(st.integers(-5, 9).filter(bool), min_size=1, max_size=6), min_size=0, max_size=5
)


def info(number: int, rows: int) -> SegmentInfo:
    return SegmentInfo(number, rows, ())


def spans_of(segment: SegmentInfo, living: int) -> Spans:
    """Those of a segment with one track and dead rows."""
    return Spans.of([segment.id, REMOVED], [living, segment.rows - living])


def layout_of(shelf: list[list[int]]) -> tuple[list[SegmentInfo], list[Spans], list[int]]:
    """Segments, the tracks in them, and by definition the owner of every row."""
    segments, spans, owners = [], [], []
    for number, stretches in enumerate(shelf, start=1):
        ids = [100 * number + i if rows > 0 else REMOVED for i, rows in enumerate(stretches)]
        rows = [abs(stretch) for stretch in stretches]
        owners += np.repeat(ids, rows).tolist()
        segments.append(info(number, sum(rows)))
        spans.append(Spans.of(ids, rows))
    return segments, spans, owners


@given(shelves)
def test_every_row_has_the_owner_that_the_catalog_says(shelf: list[list[int]]) -> None:
    segments, held, owners = layout_of(shelf)
    rows, spans = place_rows(segments, held)
    assert rows.starts[0] == 0
    assert rows.starts[-1] == len(owners)
    assert np.repeat(spans, np.diff(rows.starts)).tolist() == owners
    living = [one.owners[one.alive] for one in held]
    assert sorted(spans[spans != REMOVED]) == sorted(np.concatenate([[], *living]).tolist())


@given(shelves)
def test_the_runs_of_living_rows_are_those_with_an_owner(shelf: list[list[int]]) -> None:
    for held in layout_of(shelf)[1]:
        alive = np.zeros(held.rows.sum(), bool)
        runs = living_runs(held)
        for first, count in runs:
            assert not alive[first : first + count].any()
            alive[first : first + count] = True
        assert alive.tolist() == np.repeat(held.owners != REMOVED, held.rows).tolist()
        assert all(a + n < b for (a, n), (b, _) in pairwise(runs))  # as few as can be


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50), st.integers(0, 9)), max_size=40),
    st.integers(1, 5),
)
def test_the_best_of_each_query_window_are_kept(
    found: list[tuple[int, int, int]], most: int
) -> None:
    query, row, tenths = np.array(found, np.int64).reshape(-1, 3).T
    kept = best_per_query(Hits(query, row, (tenths / 10).astype(np.float32)), most)
    for number in range(4):
        mine = sorted((-t, r) for q, r, t in found if q == number)[:most]
        here = kept.query == number
        assert np.round(kept.similarity[here] * 10).tolist() == [-t for t, _ in mine]
        assert kept.row[here].tolist() == [r for _, r in mine]  # of equal ones the lower rows


@given(st.lists(st.tuples(st.integers(10, 600_000), st.integers(1, 10)), max_size=40))
def test_a_merge_is_never_too_large_and_merging_comes_to_an_end(
    sizes: list[tuple[int, int]],
) -> None:
    segments = [info(number, rows) for number, (rows, _) in enumerate(sizes)]
    living = {number: rows * tenths // 10 for number, (rows, tenths) in enumerate(sizes)}
    for new in range(100, 101 + 2 * len(sizes)):
        held = [spans_of(s, living[s.id]) for s in segments]
        chosen = choose_merge(segments, held, FULL)
        if not chosen:
            break
        living[new] = sum(living[s.id] for s in chosen)
        assert len(chosen) == 1 or living[new] <= FULL
        assert len(chosen) > 1 or living[new] < chosen[0].rows / 2
        segments = [s for s in segments if s not in chosen] + [info(new, living[new])]
    else:
        pytest.fail("merging does not end")
    assert sum(living[s.id] for s in segments) == sum(rows * t // 10 for rows, t in sizes)
    assert sum(living[s.id] < FULL / 2 for s in segments) <= MOST_SMALL
    assert all(2 * living[s.id] >= s.rows for s in segments)


def test_a_row_is_rewritten_a_logarithmic_number_of_times() -> None:
    segments: list[SegmentInfo] = []
    rewritten, total = 0, 0
    for number in range(2_000):
        segments.append(info(2 * number, 100))
        total += 100
        chosen = choose_merge(segments, [spans_of(s, s.rows) for s in segments], FULL)
        if chosen:
            rows = sum(s.rows for s in chosen)
            rewritten += rows
            segments = [s for s in segments if s not in chosen] + [info(2 * number + 1, rows)]
    assert len(segments) <= MOST_SMALL
    assert rewritten / total < np.log2(2_000)


def stored(library: Library) -> dict[str, Floats]:
    """Every living track's embeddings, by the catalog alone."""
    snapshot = library.snapshot()
    tracks = {}
    for span, owner in enumerate(snapshot.owners.tolist()):
        if owner != REMOVED:
            track = library.catalog.track(owner)
            assert track is not None
            rows = np.arange(*snapshot.rows.starts[span : span + 2])
            tracks[track.path.name] = snapshot.vectors(rows)
    return tracks


def test_stored_embeddings_are_the_codes_of_the_models(tmp_path: Path) -> None:
    library = Library.create_or_open(tmp_path, Toy())
    add(library, 1, 2)
    add(library, 3)
    found = stored(library)
    for seed in (1, 2, 3):
        kept = entry(seed).vectors[:: STANDARD.step]
        expected = decode(encode(kept, STANDARD.bits), STANDARD.bits, kept.shape[1])
        np.testing.assert_array_equal(found[f"{seed:04d}.wav"], expected)


def test_merging_keeps_every_embedding_drops_the_dead_and_spares_readers(tmp_path: Path) -> None:
    library = Library.create_or_open(tmp_path, Toy())
    for seed in range(1, 13):
        add(library, seed)
    add(library, 13, 14, 15)
    library.remove([Path("/music/0003.wav"), Path("/music/0014.wav"), Path("/music/0015.wav")])
    before = stored(library)
    catalog = Catalog(tmp_path)
    old = take_snapshot(catalog)
    with library.writing() as now:
        now.merge()
    after = stored(library)
    assert before.keys() == after.keys() == {f"{n:04d}.wav" for n in (1, 2, *range(4, 14))}
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    assert library.info().segments <= MOST_SMALL
    rows = sum(segment.info.rows for segment in library.snapshot().segments)
    assert rows == sum(map(len, after.values()))
    assert len(list((tmp_path / "segments").glob("*.npy"))) == library.info().segments
    # A snapshot taken before still answers from files that are deleted by now.
    np.testing.assert_array_equal(old.vectors(np.arange(5)), before["0001.wav"][:5])
    assert old.search(before["0001.wav"][:1], neighbours=1, search_k=1000).row.tolist() == [0]
    assert place_of(library, 13) == ("0013.wav", pytest.approx(7.3, abs=0.1))


def test_the_same_tracks_make_the_same_files(tmp_path: Path) -> None:
    """But for bytes of Annoy's file that it neither sets nor reads, and their digest beside it."""
    for name in ("a", "b"):
        add(Library.create_or_open(tmp_path / name, Toy()), 1, 2)
    for path in (tmp_path / "a" / "segments").iterdir():
        here, there = path.read_bytes(), (tmp_path / "b" / "segments" / path.name).read_bytes()
        assert len(here) == len(there)
        assert here == there or path.suffix in (".ann", ".json")
    one, two = (Library.open(tmp_path / name, Toy()).snapshot().segments[0] for name in ("a", "b"))
    assert one.index is not None
    assert two.index is not None
    part = index_part(one.vectors(np.arange(one.info.rows)), one.meta.indexed_dims)
    hits, same = one.index.query(part, 10, 50), two.index.query(part, 10, 50)
    assert len(hits.row) > one.info.rows
    assert hits.row.tolist() == same.row.tolist()
    assert hits.similarity.tolist() == same.similarity.tolist()


def test_reader_retries_when_a_merge_changes_the_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library.create_or_open(tmp_path, Toy())
    add(library, 1)
    add(library, 2)
    catalog = Catalog(tmp_path)
    read = catalog.layout

    def overtaken():  # type: ignore[no-untyped-def]
        found = read()
        monkeypatch.setattr(catalog, "layout", read)
        monkeypatch.setattr(writer, "MOST_SMALL", 1)
        with library.writing() as now:
            now.merge()
        return found

    monkeypatch.setattr(catalog, "layout", overtaken)
    assert [segment.info.id for segment in take_snapshot(catalog).segments] == [3]


def test_answers_do_not_depend_on_how_tracks_lie_in_segments(tmp_path: Path) -> None:
    one, many = (Library.create_or_open(tmp_path / name, Toy()) for name in "ab")
    add(one, *range(1, 7))
    for seed in range(1, 7):
        add(many, seed)
    for seed in range(1, 7):
        clip = excerpt(song(seed), 4.4, 4.0, snr_db=5)
        first, second = (
            one.identify(clip, top=1, min_confidence=0),
            many.identify(clip, top=1, min_confidence=0),
        )
        assert first[0].track == second[0].track
        assert first[0].offset == pytest.approx(second[0].offset, abs=1e-6)
        assert first[0].score == pytest.approx(second[0].score, abs=1e-6)


# Files.


def test_segment_codes_are_memory_mapped(tmp_path: Path) -> None:
    vectors = entry(1).vectors
    written = write_segment(tmp_path, 7, [track_of(vectors, META)], META)
    segment = open_segment(tmp_path, written, META)
    assert isinstance(segment.codes, np.memmap)
    assert not segment.codes.flags.writeable
    with pytest.raises(LibraryError):
        open_segment(tmp_path, written, replace(META, dim=47))


def test_rows_are_stored_in_their_order_however_they_lie_in_memory(tmp_path: Path) -> None:
    vectors = np.asfortranarray(entry(1).vectors)
    written = write_segment(tmp_path, 7, [track_of(vectors, META)], META)
    segment = open_segment(tmp_path, written, META)
    assert np.array_equal(segment.codes, encode(entry(1).vectors, STANDARD.bits))


def test_silent_rows_are_kept_and_never_found(tmp_path: Path) -> None:
    vectors = entry(1).vectors
    vectors[3:6] = 0
    segment = open_segment(
        tmp_path, write_segment(tmp_path, 1, [track_of(vectors, META)], META), META
    )
    assert not segment.codes[3:6].any()
    assert not {3, 4, 5} & set(segment.index.query(vectors, 80, 10_000).row.tolist())


@pytest.mark.parametrize("dims", [INDEXED_DIMS, 40])
@pytest.mark.parametrize("profile", [STANDARD, COMPACT])
def test_long_embeddings_are_indexed_by_matryoshka_dimensions_and_reranked_by_all(
    tmp_path: Path, profile: Profile, dims: int
) -> None:
    rng = np.random.default_rng(5)
    keys = rng.standard_normal((40, dims))
    rows = np.concatenate([np.tile(keys, (2, 1)), rng.standard_normal((80, 72))], axis=1)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    meta = replace(META, dim=dims + 72, profile=profile, indexed_dims=dims)
    segment = write_segment(tmp_path, 1, [track_of(rows, meta)], meta)
    held = Spans.of(range(2), [40, 40])
    opened = Snapshot(
        (open_segment(tmp_path, segment, meta),),
        *place_rows([segment], [held]),
        meta.row_hop,
        None,
    )
    hits = opened.search(rows, neighbours=1, search_k=10_000)
    assert hits.row.tolist() == list(range(80))
    assert np.allclose(hits.similarity, 1, atol=0.1)


def test_a_segment_that_cannot_be_written_leaves_no_files(tmp_path: Path) -> None:
    (tmp_path / "segments").write_bytes(b"in the way")
    with pytest.raises(LibraryError, match="cannot write") as caught:
        write_segment(tmp_path, 1, [track_of(entry(1).vectors, META)], META)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["segments"]


def test_the_digest_of_a_huge_file_is_instant_and_sees_it_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    begin = time.perf_counter()
    whole = digest(path)
    with path.open("r+b") as file:
        file.truncate((1 << 40) - 4096)
    assert digest(path) != whole
    assert time.perf_counter() - begin < 2


@given(st.integers(0, 299_999))
def test_the_digest_of_a_file_up_to_a_mebibyte_sees_every_byte(place: int) -> None:
    content = bytearray(300_000)
    with tempfile.NamedTemporaryFile() as file:
        path = Path(file.name)
        path.write_bytes(content)
        whole = digest(path)
        content[place] = 1
        path.write_bytes(content)
        assert digest(path) != whole
