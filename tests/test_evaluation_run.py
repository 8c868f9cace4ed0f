"""The whole evaluation, on a corpus of a few synthetic songs and the shipped model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpus_world import chords, make_corpus

from fingerprint.errors import ConfigError, CorpusError, LibraryError
from fingerprint.lab.benchmark import report
from fingerprint.lab.benchmark.conditions import Condition, select
from fingerprint.lab.benchmark.made_up import KINDS
from fingerprint.lab.benchmark.material import WORKING_RATE, Material
from fingerprint.lab.benchmark.metrics import Share, summarise
from fingerprint.lab.benchmark.queries import Query, Truth
from fingerprint.lab.benchmark.results import Results
from fingerprint.lab.benchmark.run import KNOWN_ROLES, Progress, evaluate, index_corpus, judge
from fingerprint.lab.calibration import trust_report
from fingerprint.lab.calibration.fit import fit, gather_for_fit
from fingerprint.lab.calibration.small_libraries import search_short_sounds, search_unknown
from fingerprint.lab.calibration.trust import HELD_OUT, measure
from fingerprint.lab.calibration.varied import KNOWN, UNKNOWN, parts
from fingerprint.lab.corpus import Corpus, CorpusFile, Recordings, Responses
from fingerprint.lab.corpus.manifest import write_manifest
from fingerprint.library.indexing import index_files
from fingerprint.library.library import Library
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.types import Clip, Match, Track

SONGS = {"train": 3, "validation": 2, "test": 3, "test-unknown": 2}
CONDITIONS = select(["clean 5 s", "unknown clean"])
QUERIES = 3


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("corpus")
    sounds = {
        f"{role}-{i}": (role, "music", chords(10 * number + i))
        for number, role in enumerate(SONGS)
        for i in range(SONGS[role])
    }
    sounds |= {
        f"{kind}-{i}": ("sounds-test", kind, chords(100 + i, 1.0))
        for i, kind in enumerate(("speech", "speech", "effect"))
    }
    return make_corpus(root, sounds)


@pytest.fixture(scope="module")
def model() -> Fingerprinter:
    return Fingerprinter.default("cpu")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("library") / "library"


@pytest.fixture(scope="module")
def results(corpus: Corpus, model: Fingerprinter, library: Path) -> Results:
    return evaluate(corpus, model, library=library, queries=QUERIES, jobs=1, conditions=CONDITIONS)


def answers(results: Results) -> list[tuple[object, ...]]:
    """All of the outcomes that does not depend on the clock."""
    return [
        (o.condition, o.number, o.truth_path, o.truth_offset, o.path, o.right, o.place_right)
        for o in results.outcomes
    ]


def test_clean_queries_are_all_recognised_at_their_place(results: Results) -> None:
    clean = results.summaries[0]
    assert clean.top1.value == 1.0
    assert clean.place.value == 1.0
    assert clean.offset_error_95 < 0.1


def test_the_library_holds_every_track_but_the_unknown(results: Results, corpus: Corpus) -> None:
    assert results.tracks == 8
    assert results.hours == pytest.approx(8 * 28 / 3_600, rel=1e-3)
    assert len(results.outcomes) == QUERIES * len(CONDITIONS)


def test_an_answer_for_an_unknown_track_is_never_right(results: Results) -> None:
    assert len(results.unknown) == 2 * QUERIES
    assert all("test-unknown" in o.truth_path for o in results.unknown)
    assert not any(o.right or o.place_right for o in results.unknown)
    everything = replace(results, min_confidence=0.0)
    assert everything.false_accepts.hits == sum(bool(o.path) for o in results.unknown) > 0
    nothing = replace(results, min_confidence=1.1)
    assert nothing.false_accepts.hits == 0


def test_processes_give_the_same_answers_and_index_nothing_again(
    results: Results, corpus: Corpus, model: Fingerprinter, library: Path
) -> None:
    steps: list[Progress] = []
    again = evaluate(
        corpus,
        model,
        library=library,
        queries=QUERIES,
        jobs=2,
        conditions=CONDITIONS,
        on_progress=steps.append,
    )
    assert answers(again) == answers(results)
    index = [step for step in steps if step.stage == "index"]
    assert index[0].done == index[-1].total == 8  # all of it was there from the start
    assert steps[-1] == Progress("queries", len(results.outcomes), len(results.outcomes))


def test_music_alone_is_a_corpus_in_which_noise_is_synthesised(
    corpus: Corpus, model: Fingerprinter, tmp_path: Path
) -> None:
    """Of one's own: no speech for a talker, one test track where two are to be mixed."""
    one_test = {"test-1", "test-2", "test-unknown-1"}
    files = [f for f in corpus.files if f.kind == "music" and f.path.stem not in one_test]
    own = Corpus(tmp_path / "own", tuple(files), corpus.rooms)
    own.root.mkdir()
    write_manifest(own)
    families = ["talker 6 to 12 dB above", "two tracks mixed", "clean 5 s", "phone 5 s"]
    results = evaluate(
        own,
        model,
        library=tmp_path / "library",
        queries=2,
        jobs=1,
        conditions=select([*families, "unknown clean", "unknown talker"]),
    )
    assert [s.condition for s in results.summaries] == [
        "clean 5 s", "phone 5 s", "unknown clean 5 s", "unknown clean 10 s"
    ]  # fmt: skip
    assert set(results.left_out) == {
        *(f"{family} {seconds} s" for family in families[:2] for seconds in (5, 10)),
        "unknown talker 10 s",
    }
    clean = results.summaries[0]
    assert (clean.top1.value, results.tracks) == (1.0, 6)
    assert "noise is synthesised" in report.headline(results)
    assert report.as_json(results)["left_out"] == results.left_out
    with pytest.raises(CorpusError, match="does not suffice for 'unknown talker 10 s'"):
        evaluate(own, model, library=tmp_path / "library", conditions=select(["unknown talker"]))


def test_validation_queries_come_from_its_own_tracks_and_none_is_unknown(
    corpus: Corpus, model: Fingerprinter, library: Path, results: Results, tmp_path: Path
) -> None:
    validation = evaluate(
        corpus,
        model,
        library=library,
        split="validation",
        queries=2,
        jobs=1,
        conditions=CONDITIONS,
    )
    assert [condition.name for condition in validation.conditions] == ["clean 5 s"]
    assert all("validation-" in o.truth_path and o.right for o in validation.outcomes)
    assert report.save(validation, tmp_path).exists()


def test_an_unknown_split_or_no_condition_is_refused(
    corpus: Corpus, model: Fingerprinter, library: Path
) -> None:
    with pytest.raises(ConfigError, match="validation, test"):
        evaluate(corpus, model, library=library, split="train")
    with pytest.raises(ConfigError, match="at least one condition"):
        evaluate(corpus, model, library=library, conditions=[])


def test_a_library_with_tracks_that_are_unknown_to_be_is_refused(
    corpus: Corpus, model: Fingerprinter, tmp_path: Path
) -> None:
    with Library.create_or_open(tmp_path / "library", model) as spoilt:
        index_files(spoilt, [corpus.music("test-unknown")[0].path])
    with pytest.raises(LibraryError, match=r"test-unknown-0\.wav, which is not to be in it"):
        evaluate(corpus, model, library=tmp_path / "library", conditions=CONDITIONS)


def looped() -> tuple[Material, Path]:
    """A track whose first four seconds come again at 8 s, and something else in between."""
    loop, other = chords(1, 4.0), chords(2, 4.0)
    sound = (np.concatenate([loop, other, loop, other[::-1]]) * 32_767).astype(np.int16)
    path = Path("looped.ogg")
    file = CorpusFile(path, "", "test", "music", 16.0, WORKING_RATE, "", "")
    nothing = Recordings(np.zeros(0, np.int16), np.zeros(1, np.int64), ())
    empty = Responses(np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32))
    known = Recordings(sound, np.array([0, len(sound)]), (file,))
    return Material("test", known, nothing, (), (), empty), path


@pytest.mark.parametrize(
    ("offset", "right"),
    [(1.0, True), (1.4, True), (0.4, False), (9.0, True), (9.45, True), (9.6, False), (5.0, False)],
)
def test_a_repeat_counts_as_the_right_place_only_where_the_sound_is_the_same(
    offset: float, *, right: bool
) -> None:
    material, path = looped()
    query = Query(Clip(np.zeros(1, np.float32), WORKING_RATE), Truth(path, 1.0, 1.0), np.nan)
    match = Match(Track(path, 16.0), offset, 1.0, 0.9, 0.9)
    outcome = judge(material, Condition("clean", 2.0), 0, query, [match], 0.1)
    assert outcome.right
    assert outcome.place_right == right


@pytest.mark.parametrize(("repeats", "right"), [((3.0, 1.4), True), ((3.0,), False), ((), False)])
def test_the_true_place_may_be_one_of_those_that_the_answer_calls_the_same(
    repeats: tuple[float, ...], *, right: bool
) -> None:
    material, path = looped()
    query = Query(Clip(np.zeros(1, np.float32), WORKING_RATE), Truth(path, 1.0, 1.0), np.nan)
    match = Match(Track(path, 16.0), 5.0, 1.0, 0.9, 0.9, repeats)
    assert judge(material, Condition("clean", 2.0), 0, query, [match], 0.1).place_right == right


@pytest.mark.parametrize(
    ("truth", "offset", "right"),
    [
        (-1.0, -1.3, True),
        (-1.0, 0.0, False),
        (-1.0, 7.0, True),  # the first two seconds come again at 8 s
        (-1.0, 8.0, False),
        (10.0, 10.2, True),
        (10.0, 2.0, True),  # and the last two are also those from 2 s on
        (10.0, 3.0, False),
    ],
)
def test_of_a_query_over_an_edge_the_part_within_the_track_is_compared(
    truth: float, offset: float, *, right: bool
) -> None:
    material, path = looped()
    sound = material.known.recording(0)[: 12 * WORKING_RATE]
    known = Recordings(sound, np.array([0, len(sound)]), material.known.files)
    query = Query(Clip(np.zeros(1, np.float32), WORKING_RATE), Truth(path, truth, 1.0), np.nan)
    match = Match(Track(path, 12.0), offset, 1.0, 0.9, 0.9)
    edge = Condition("over an edge", 3.0, effect="over an edge")
    outcome = judge(replace(material, known=known), edge, 0, query, [match], 0.1)
    assert outcome.right
    assert outcome.place_right == right
    assert outcome.truth_offset == truth


def test_the_right_place_in_the_wrong_track_is_wrong() -> None:
    material, path = looped()
    query = Query(Clip(np.zeros(1, np.float32), WORKING_RATE), Truth(path, 1.0, 1.0), np.nan)
    for matches in ([Match(Track(Path("other.ogg"), 16.0), 1.0, 1.0, 0.9, 0.9)], []):
        outcome = judge(material, Condition("clean", 2.0), 0, query, matches, 0.1)
        assert not outcome.right
        assert not outcome.place_right
        assert outcome.confidence == (0.9 if matches else 0.0)


def test_a_track_that_was_to_be_unknown_is_not_right_even_when_it_is_named() -> None:
    material, path = looped()
    query = Query(Clip(np.zeros(1, np.float32), WORKING_RATE), Truth(path, 1.0, 1.0), np.nan)
    match = Match(Track(path, 16.0), 1.0, 1.0, 0.9, 0.9)
    outcome = judge(material, Condition("x", 2.0, unknown=True), 0, query, [match], 0.1)
    assert not outcome.right
    assert not outcome.place_right


def test_either_of_two_mixed_tracks_is_right_and_the_other_is_sought_second() -> None:
    material, path = looped()
    other = Truth(Path("other.ogg"), 3.0, 1.0)
    clip = Clip(np.zeros(1, np.float32), WORKING_RATE)
    query = Query(clip, Truth(path, 1.0, 1.0), np.nan, other)
    both = [
        Match(Track(other.path, 16.0), 3.1, 1.0, 0.95, 0.9),
        Match(Track(path, 16.0), 1.0, 1.0, 0.9, 0.9),
    ]
    condition = Condition("two tracks mixed", 2.0, effect="second track")
    outcomes = [judge(material, condition, 0, query, some, 0.1) for some in (both, both[:1])]
    assert all(outcome.right and outcome.place_right for outcome in outcomes)
    assert outcomes[0].truth_path == "other.ogg"
    assert [outcome.second for outcome in outcomes] == [0.9, 0.0]
    assert summarise("x", outcomes, 0.9).both == Share(1, 2)
    assert summarise("x", outcomes, 0.92).both == Share(0, 2)


@pytest.fixture
def packaged(corpus: Corpus) -> Corpus:
    """The corpus with two packages a role, so that one can be hidden."""
    files = tuple(
        replace(file, package=f"{file.role}-{i % 2}") for i, file in enumerate(corpus.files)
    )
    made = replace(corpus, files=files)
    write_manifest(made)
    return made


def test_calibration_queries_come_from_training_and_validation_tracks_only(
    packaged: Corpus,
    corpus: Corpus,
    model: Fingerprinter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fingerprint.lab.calibration.fit.KNOWN", KNOWN[:6:2])
    monkeypatch.setattr("fingerprint.lab.calibration.fit.UNKNOWN", UNKNOWN[3:4])
    monkeypatch.setattr("fingerprint.lab.calibration.fit.KINDS", [*KINDS][:2])
    seen: list[Progress] = []
    cases = gather_for_fit(
        packaged,
        model,
        library=tmp_path / "library",
        passages=1,
        jobs=1,
        on_progress=seen.append,
    )
    assert {case.known for case in cases} == {True, False}
    assert not any(case.right and not case.known for case in cases)
    assert any(case.right for case in cases)
    whole = SONGS["train"] + SONGS["validation"]
    assert {case.tracks for case in cases} > {whole}
    assert max(case.tracks for case in cases) >= 5 * whole
    calibration = fit(cases)
    assert np.isfinite([calibration.intercept, *calibration.weights]).all()
    assert {progress.stage for progress in seen} == {"index", "passages"}
    with Library.open(tmp_path / "library", model) as library:
        held = {track.path for track in library.tracks()}
    assert held == {file.path for role in ("train", "validation") for file in corpus.music(role)}  # type: ignore[arg-type]


def test_queries_of_every_family_can_be_made(packaged: Corpus) -> None:
    material = Material.load(packaged, "validation")
    for condition in {*KNOWN, *UNKNOWN}:
        made = list(parts(material, condition, seed=7, number=0, sample_rate=8_000))
        assert made, condition.name
        assert all(part.clip.samples.any() for part in made), condition.name


@pytest.mark.parametrize("condition", HELD_OUT[:4], ids=lambda condition: condition.family)
def test_unknown_tracks_of_trust_are_in_no_library(packaged: Corpus, condition: Condition) -> None:
    material = Material.load(packaged, "test")
    for number in range(3):
        for part in parts(material, condition, seed=7, number=number, sample_rate=8_000):
            assert part.truth.path in {file.path for file in packaged.music("test-unknown")}


def test_trust_is_measured_on_test_tracks_in_libraries_of_every_size(
    packaged: Corpus, model: Fingerprinter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fingerprint.lab.calibration.trust.LARGE", 3 * 8)
    monkeypatch.setattr("fingerprint.lab.calibration.trust.SMALL", 2)
    monkeypatch.setattr("fingerprint.lab.calibration.trust.TINY", (1,))
    found = measure(
        packaged,
        model,
        library=tmp_path / "library",
        known=10,
        whole=1,
        unknown=15,
        few=10,
        min_confidence=0.9,
        jobs=1,
    )
    assert len(found.unknown) == 15
    assert len(found.known) == 10
    assert {row.condition for row in found.operating(0.5)} == {"noise 5 s", "phone 10 s"}
    assert [size for size, _ in found.growth()] == [1, 2, 8, 24]
    assert [share.total for _, share in found.growth()] == [10, 10, 15, 15]
    (few,) = found.few()
    assert (few.tracks, few.false_accepts.total) == (1, 10)
    assert few.accepted.total <= 10  # without those of which chance has named the track
    assert 0 <= few.calibration_error <= 1
    assert 0 <= found.calibration_error <= 1
    assert sum(one.answers for one in found.bins) <= 25
    text = trust_report.text(found)
    assert "\n| 24 tracks | " in text
    assert "noise 5 s" not in text  # five queries say nothing
    trust_report.draw(found, tmp_path / "confidence.png")
    assert (tmp_path / "confidence.png").stat().st_size > 10_000
    json.dumps(found.as_json())
    many = replace(found, min_confidence=1.5, grown=250 * list(found.grown))  # 0 of 4,000 accepted
    trust_report.draw(many, tmp_path / "none.png")


def test_small_libraries_get_unknown_and_known_queries(
    packaged: Corpus, model: Fingerprinter, tmp_path: Path
) -> None:
    index_corpus(packaged, KNOWN_ROLES, model, tmp_path / "library", 1, lambda _: None)
    sizes = (1, 2, 1_000)
    unknown = search_unknown(
        packaged,
        model,
        library=tmp_path / "library",
        sizes=sizes,
        count=11,
        passages=11,
        seed=0,
        jobs=1,
        on_progress=lambda _: None,
    )
    assert len(unknown) == 2 * 11 * len(sizes)
    assert {one.tracks for one in unknown} == {1, 2, 8}
    assert {one.kind for one in unknown} == {*KINDS, "speech", "effects", "other music"}
    assert {one.short for one in unknown if one.tracks < 8} == {True, False}
    assert all(0 <= one.confidence <= 1 for one in unknown)
    short_sounds = search_short_sounds(
        model, sizes=sizes, count=4, seed=0, on_progress=lambda _: None
    )
    assert [one.tracks for one in short_sounds] == 4 * [1, 2, 4]
    assert all(one.right for one in short_sounds if one.tracks == 1)
