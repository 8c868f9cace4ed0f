"""The comparison with other recognisers: Chromaprint's matcher, and small runs."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from corpus_world import chords, make_corpus
from hypothesis import given
from hypothesis import strategies as st

from fingerprint.errors import ConfigError
from fingerprint.lab.__main__ import main
from fingerprint.lab.benchmark.conditions import select
from fingerprint.lab.benchmark.material import WORKING_RATE, Material
from fingerprint.lab.benchmark.run import Progress
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.peers.answers import Answer, read
from fingerprint.lab.peers.client import PeerError, install
from fingerprint.lab.peers.indexing import index, tracks_of
from fingerprint.lab.peers.peer import Peer, State, library, prepare
from fingerprint.lab.peers.querying import Plan, query_peers, standing
from fingerprint.lab.peers.real import query_real, read_real, table
from fingerprint.lab.peers.systems import SYSTEMS, System, choose
from fingerprint.lab.peers.workers.chromaprint import Alignment, best_alignment
from fingerprint.lab.real.folder import Line, RealSet
from fingerprint.lab.real.folder import write_manifest as write_real

needs_fpcalc = pytest.mark.skipif(not shutil.which("fpcalc"), reason="fpcalc is not installed")
CONDITIONS = select(["clean 5 s", "unknown clean"])


def codes(*lengths: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random sub-fingerprints of tracks of these lengths, end to end, and where they start."""
    rng = np.random.default_rng(seed)
    return rng.integers(2**32, size=sum(lengths), dtype=np.uint32), np.cumsum([0, *lengths])


def test_a_snippet_with_flipped_bits_is_found_at_its_place_with_its_error_rate() -> None:
    library, starts = codes(50, 80, 60)
    snippet = library[starts[1] + 30 : starts[1] + 50].copy()
    snippet[[2, 11]] ^= np.uint32(0b1011)
    assert best_alignment(snippet, library, starts) == Alignment(1, 30, 6 / (20 * 32))


def test_a_snippet_across_two_tracks_is_in_neither() -> None:
    library, starts = codes(50, 80)
    found = best_alignment(library[40:60], library, starts)
    assert found is not None
    assert found.errors > 0.3


@pytest.mark.parametrize("length", [0, 31])
def test_an_empty_snippet_or_one_longer_than_every_track_has_no_place(length: int) -> None:
    library, starts = codes(30, 20)
    assert best_alignment(library[:length], library, starts) is None


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=5),
    st.integers(1, 4),
    st.integers(0, 2**16),
)
def test_the_best_place_is_the_best_of_all_places(lengths: list[int], n: int, seed: int) -> None:
    library, starts = codes(*lengths, seed=seed)
    query, _ = codes(n, seed=seed + 1)
    places = {
        (track, frame): sum(
            bin(int(a) ^ int(b)).count("1")
            for a, b in zip(query, library[starts[track] + frame :], strict=False)
        )
        for track, length in enumerate(lengths)
        for frame in range(length - n + 1)
    }
    found = best_alignment(query, library, starts)
    if not places:
        assert found is None
        return
    assert found is not None
    assert places[found.track, found.frame] == min(places.values()) == found.errors * 32 * n


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("corpus")
    roles = ["train", "train", "validation", "test", "test", "test", "test-unknown"]
    sounds = [(role, "music", chords(i, 24.0)) for i, role in enumerate(roles)]
    sounds += [("sounds-test", kind, chords(9, 1.0)) for kind in ("speech", "effect")]
    return make_corpus(root, {str(i): sound for i, sound in enumerate(sounds)})


@pytest.fixture(scope="module")
def material(corpus: Corpus) -> Material:
    return Material.load(corpus, "test")


@pytest.fixture
def chromaprint(corpus: Corpus, tmp_path: Path) -> Peer:
    """Chromaprint with every track of the corpus in its index."""
    (peer,) = prepare(corpus, choose(["chromaprint"]), tmp_path)
    index(tracks_of(corpus), [peer], 1, lambda _: None)
    return peer


@pytest.fixture
def asked(corpus: Corpus, material: Material, chromaprint: Peer) -> Callable[..., list[Progress]]:
    """`asked(queries)` asks Chromaprint; returns the progress that was reported."""

    def run(queries: int, jobs: int = 1) -> list[Progress]:
        steps: list[Progress] = []
        plan = Plan("test", 0, queries, CONDITIONS)
        query_peers(corpus, material, [chromaprint], plan, jobs, steps.append)
        return steps

    return run


@needs_fpcalc
def test_clean_snippets_are_named_with_higher_scores_than_unknown_ones(
    asked: Callable[..., list[Progress]], chromaprint: Peer
) -> None:
    asked(4)
    measured = standing(chromaprint, Plan("test", 0, 4, CONDITIONS))
    assert measured.top1(CONDITIONS[0]).value == 1
    assert measured.unknown_answered.total == 8
    assert measured.right_at_1_percent.value == 1
    assert measured.speed > 1
    assert measured.version.startswith("fpcalc 1.")


@needs_fpcalc
def test_only_unanswered_queries_are_sent_to_a_peer(
    asked: Callable[..., list[Progress]], chromaprint: Peer
) -> None:
    assert [step.done for step in asked(2)] == [1, 2, 3, 4, 5, 6]
    path = chromaprint.answers("test", 0)
    before = path.read_text()
    assert asked(2) == []
    assert path.read_text() == before
    path.write_text(before[:-10])  # stopped in the middle of a line
    assert [step.done for step in asked(3)] == [6, 7, 8, 9]
    assert len(read(path)) == 9


@needs_fpcalc
def test_several_queries_at_a_time_get_the_same_answers(
    asked: Callable[..., list[Progress]], chromaprint: Peer
) -> None:
    def answers() -> list[Answer]:
        return [replace(a, seconds=0.0, snr_db=0.0) for a in read(path)]

    path = chromaprint.answers("test", 0)
    asked(4)
    one_at_a_time = answers()
    path.unlink()
    asked(4, jobs=2)
    assert answers() == one_at_a_time


@needs_fpcalc
def test_interrupted_index_is_resumed(corpus: Corpus, chromaprint: Peer) -> None:
    whole = np.load(chromaprint.index / "codes.npz")
    assert whole["names"].tolist() == [file.path.name for file in library(corpus)]
    chromaprint.note(State(tracks=4, hours=1.0, seconds=1.0))  # stopped between index and note
    steps: list[Progress] = []
    index(tracks_of(corpus), [chromaprint], 1, steps.append)
    assert [step.done for step in steps] == [5, 6]
    again = np.load(chromaprint.index / "codes.npz")
    assert all(np.array_equal(whole[key], again[key]) for key in whole.files)


@pytest.fixture
def real(tmp_path: Path) -> RealSet:
    """A query of 8 s of the set's only track, and one of a song that is nowhere."""
    root = tmp_path / "real"
    (root / "references").mkdir(parents=True)
    for name, samples in (
        ("references/track.wav", chords(20, 24.0)),
        ("known.wav", chords(20, 24.0)[round(9.3 * WORKING_RATE) : round(17.3 * WORKING_RATE)]),
        ("unknown.wav", chords(21, 8.0)),
    ):
        soundfile.write(root / name, samples, WORKING_RATE)
    known = Line(query="known.wav", reference="references/track.wav", offset_s=9.3, song="one")
    write_real(root, [known, Line(query="unknown.wav", reference=None, offset_s=None, song="two")])
    return RealSet.open(root)


@needs_fpcalc
def test_real_recordings_are_queried_against_a_copy_of_the_index_with_their_tracks(
    corpus: Corpus, chromaprint: Peer, real: RealSet
) -> None:
    steps: list[Progress] = []
    (queried,) = query_real(real, tracks_of(corpus), [chromaprint], steps.append)
    assert [step.total for step in steps] == [7] + [8] * 8  # one track is added, then the queries
    assert {length: row["top1"].value for length, row in queried.rows.items()} == {
        "whole": 1,
        "5": 1,
        "3": 1,
        "2": 0,  # too short for a fingerprint of Chromaprint
    }
    assert queried.rows["whole"]["answered_right"].value == 1
    assert queried.rows["whole"]["unknown_answered"].total == 1
    assert chromaprint.state().tracks == 6
    assert "1 recordings of 1 songs and 1 of unknown ones" in table([queried], real)
    assert "| 100/100/100/0 |" in table([queried], real)
    again = query_real(real, tracks_of(corpus), [chromaprint], steps.append)
    assert again == [queried]
    assert len(steps) == 9  # nothing was queried twice


def test_without_an_evaluation_of_real_recordings_the_command_to_run_is_named(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match="run: fingerprint evaluate --real DIR --output"):
        read_real(tmp_path)


@needs_fpcalc
def test_file_that_a_peer_cannot_read_is_an_error_that_names_it(
    chromaprint: Peer, tmp_path: Path
) -> None:
    with chromaprint.start() as client, pytest.raises(PeerError, match="chromaprint failed: OSErr"):
        client.ask(do="identify", wav=str(tmp_path / "none.wav"))


def test_other_settings_or_tracks_have_another_folder() -> None:
    system = SYSTEMS[0]
    other = replace(system, settings={"most_bit_errors": 0.3})
    keys = {system.key(["a"]), system.key(["b"]), other.key(["a"])}
    assert len(keys) == 3


def test_error_of_a_stopped_peer_names_its_log(tmp_path: Path) -> None:
    peer = Peer(System("lost", "Lost", "lost", 16_000), Path(sys.executable), tmp_path)
    with peer.start() as client, pytest.raises(PeerError, match=r"lost stopped; .*log\.txt"):
        client.ask(do="save")
    assert "No module named peers.workers.lost" in (tmp_path / "log.txt").read_text()


def test_missing_program_or_unknown_peer_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="needs the program no-such-program"):
        install(System("x", "X", "x", 16_000, program="no-such-program"), tmp_path)
    with pytest.raises(ConfigError, match="no peer is called 'shazam'; there are chromaprint"):
        choose(["shazam"])


def test_the_command_names_in_one_line_what_is_missing(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["peers", "--corpus", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr == f"Error: there is no corpus at {tmp_path}; " + (
        f"run: python -m fingerprint.lab corpus --root {tmp_path} "
        "(5 GB of downloads; with --music DIR, of music of your own)\n"
    )
