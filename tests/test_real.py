"""Real recordings in the evaluation, on a set made of generated songs and a made-up room."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import make_song, save_audio

from fingerprint.cli import main
from fingerprint.errors import ConfigError, CorpusError
from fingerprint.lab.corpus import Corpus, CorpusFile
from fingerprint.lab.real import report
from fingerprint.lab.real.folder import RealSet, write_manifest
from fingerprint.lab.real.measure import Measured, lengths_of, measure, middle
from fingerprint.lab.real.report import by_song
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.types import Clip, Floats

RATE = 16_000  # Hz
LENGTHS = ("whole", "3")


def heard(sound: Floats, seed: int, snr_db: float = 12.0) -> Floats:
    """In a room of half a second of reverberation, with noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(RATE // 2) / RATE
    room = 0.15 * rng.standard_normal(len(time)) * np.exp(-13.8 * time)
    room[0] = 1.0
    wet = np.convolve(sound, room)[: len(sound)]
    noise = rng.standard_normal(len(wet)) * np.sqrt(np.mean(wet**2)) * 10 ** (-snr_db / 20)
    both = wet + noise
    return (0.5 * both / np.abs(both).max()).astype(np.float32)


def line(query: str, song: str, **more: object) -> dict[str, object]:
    return {"query": f"queries/{query}.flac", "song": song, **more}


def write(root: Path, lines: list[dict[str, object]]) -> Path:
    (root / "manifest.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three songs, two in two cuts, a copy of one that begins later, and an unknown song."""
    root = tmp_path_factory.mktemp("real")
    for name in ("queries", "references/more"):
        (root / name).mkdir(parents=True)
    songs = {name: make_song(seed, 24, RATE) for seed, name in enumerate("abcd")}
    for name in "abc":
        save_audio(root / f"references/{name}.flac", songs[name], RATE)
    late = np.concatenate([np.zeros(RATE, np.float32), songs["b"]])
    save_audio(root / "references/more/late.flac", late, RATE)
    cuts = {"a1": ("a", 2.0), "a2": ("a", 12.5), "b1": ("b", 5.0), "c1": ("c", 9.0), "d1": ("d", 4)}
    for seed, (query, (song, start)) in enumerate(cuts.items()):
        sound = songs[song][round(start * RATE) : round((start + 8) * RATE)]
        save_audio(root / f"queries/{query}.flac", heard(sound, seed), RATE)
    known = {
        "a1": {"role": "tune", "matched_filter": 0.3},
        "a2": {"role": "tune", "matched_filter": 0.02},
        "b1": {"also_correct": ["references/more/late.flac"]},
        "c1": {"matched_filter": None},
    }
    lines = [
        line(q, cuts[q][0], reference=f"references/{cuts[q][0]}.flac", offset_s=cuts[q][1], **more)
        for q, more in known.items()
    ]
    return write(root, [*lines, line("d1", "d", reference=None, offset_s=None)])


@pytest.fixture(scope="module")
def model() -> Fingerprinter:
    return Fingerprinter.default("cpu")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("library") / "library"


@pytest.fixture(scope="module")
def measured(folder: Path, model: Fingerprinter, library: Path) -> Measured:
    return measure(RealSet.open(folder), None, model, library=library, lengths=LENGTHS)


def test_known_queries_are_recognised_at_their_place_whole_and_cut(measured: Measured) -> None:
    known = [o for o in measured.outcomes if o.known]
    assert len(known) == 4 * len(LENGTHS)
    assert all(o.right and o.place_right for o in known)
    assert {round(o.seconds, 3) for o in known} == {8.0, 3.0}
    starts = {o.query: o.truth_offset for o in known if o.length == "3"}
    assert starts["queries/a1.flac"] == pytest.approx(2.0 + 2.5)
    assert measured.tracks == 4
    assert not measured.with_corpus


def test_another_file_of_the_recording_is_right_at_its_own_place(
    folder: Path, model: Fingerprinter, tmp_path: Path
) -> None:
    real = RealSet.open(folder)
    (b1,) = (one for one in real.lines if one.query == "queries/b1.flac")
    only = replace(real, lines=(b1,), references=(real.file("references/more/late.flac"),))
    found = measure(only, None, model, library=tmp_path / "library", lengths=["whole"])
    outcome = found.outcomes[0]
    assert Path(outcome.path).name == "late.flac"
    assert outcome.offset == pytest.approx(6.0, abs=0.1)
    assert outcome.truth_offset == 5.0
    assert outcome.right
    assert outcome.place_right
    elsewhere = replace(only, lines=(b1.model_copy(update={"offset_s": 9.0}),))
    again = measure(elsewhere, None, model, library=tmp_path / "library", lengths=["whole"])
    assert again.outcomes[0].right
    assert not again.outcomes[0].place_right


def test_hidden_songs_are_never_named(measured: Measured) -> None:
    hidden = [o for o in measured.outcomes if o.hidden]
    assert len(hidden) == 4 * len(LENGTHS)
    own = {"a": {"a.flac"}, "b": {"b.flac", "late.flac"}, "c": {"c.flac"}}
    assert not any(Path(o.path).name in own[o.song] for o in hidden)
    assert any(o.path for o in hidden)
    assert not any(o.right or o.known or o.place_right is not None for o in hidden)


def test_figures_count_known_hidden_and_unknown_apart(measured: Measured) -> None:
    whole = report.rows(measured)[0]
    assert (whole.top1.hits, whole.top1.total, whole.top1.songs) == (4, 4, 3)
    assert (whole.place.total, whole.hidden_answered.total, whole.unknown_answered.total) == (
        4,
        4,
        1,
    )
    everything = report.rows(replace(measured, min_confidence=0.0))[0]
    assert everything.answered_right.hits == 4
    assert everything.hidden_answered.hits == 4
    nothing = report.rows(replace(measured, min_confidence=1.1))[0]
    assert nothing.answered_right.hits == nothing.hidden_answered.hits == 0


def test_queries_under_the_noise_floor_are_reported_apart(measured: Measured) -> None:
    # Below 0.05 (a2), or looked for and not found (c1); of b1 nothing is said.
    assert report.under_noise(measured) == 2
    above = report.rows(measured, above_noise=True)[0]
    assert (above.top1.total, above.hidden_answered.total, above.unknown_answered.total) == (
        2,
        2,
        1,
    )
    assert "Without the 2 known queries" in report.text(measured)


def test_processes_give_the_same_outcomes(
    folder: Path, model: Fingerprinter, library: Path, measured: Measured
) -> None:
    again = measure(
        RealSet.open(folder), None, model, library=library, lengths=LENGTHS, jobs=2, role="report"
    )
    some = [o for o in measured.outcomes if o.role == "report"]
    first, second = (
        [(o.query, o.length, o.hidden, o.path, round(o.offset, 2)) for o in outcomes]
        for outcomes in (some, again.outcomes)
    )
    assert first == second
    assert {o.query for o in again.outcomes} == {f"queries/{q}.flac" for q in ("b1", "c1", "d1")}


def test_the_library_holds_the_corpus_but_for_its_unknown_tracks(
    folder: Path, model: Fingerprinter, tmp_path: Path
) -> None:
    files = []
    for seed, role in enumerate(("train", "validation", "test", "test-unknown")):
        path = save_audio(tmp_path / f"{role}.flac", make_song(50 + seed, 10, RATE), RATE)
        files.append(CorpusFile(path, "made", role, "music", 10, RATE, role, role))  # type: ignore[arg-type]
    real = RealSet.open(folder)
    few = replace(real, lines=real.lines[:1])
    corpus = Corpus(tmp_path, tuple(files), {})
    found = measure(few, corpus, model, library=tmp_path / "library", lengths=["3"])
    assert found.with_corpus
    assert found.tracks == 3 + len(real.references)
    assert "the corpus and the set's references" in report.headline(found)


def test_a_role_without_queries_is_refused(
    folder: Path, model: Fingerprinter, library: Path
) -> None:
    real = RealSet.open(folder)
    rest = replace(real, lines=real.lines[2:])
    with pytest.raises(ConfigError, match="role tune"):
        measure(rest, None, model, library=library, role="tune")


def test_bootstrap_with_one_query_a_song_is_the_binomial_interval() -> None:
    share = by_song((str(i), i < 50) for i in range(100))
    assert (share.hits, share.total, share.songs) == (50, 100, 100)
    assert share.low == pytest.approx(0.40, abs=0.011)  # quantiles of Binomial(100, 1/2) / 100
    assert share.high == pytest.approx(0.60, abs=0.011)


def test_bootstrap_interval_does_not_shrink_with_repeated_queries_of_a_song() -> None:
    songs = [(str(i), i < 8) for i in range(20)]
    once, often = by_song(songs), by_song(50 * songs)
    assert often.total == 1_000
    assert (often.low, often.high) == (once.low, once.high)
    assert once.high - once.low > 0.35


def test_bootstrap_weighs_songs_by_their_queries() -> None:
    share = by_song([("many", True)] * 9 + [("one", False)])
    assert share.value == 0.9
    assert (share.low, share.high) == (0.0, 1.0)  # two songs: either may be drawn twice


def test_with_no_or_all_hits_the_interval_is_that_of_the_number_of_songs() -> None:
    none = by_song((str(i % 22), False) for i in range(66))
    assert none.low == 0
    assert none.high == pytest.approx(0.149, abs=0.001)  # Wilson's for 0 of 22
    every = by_song((str(i % 22), True) for i in range(66))
    assert (every.low, every.high) == (pytest.approx(1 - none.high), pytest.approx(1.0))
    nothing = by_song([])
    assert nothing.total == 0
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


def test_report_files_hold_every_outcome(measured: Measured, tmp_path: Path) -> None:
    page = report.save(measured, tmp_path)
    with (tmp_path / "real.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    assert len(records) == len(measured.outcomes) == 18
    assert {record["query"] for record in records} == {o.query for o in measured.outcomes}
    figures = json.loads((tmp_path / "real.json").read_text())
    assert figures["all"][0]["top1"] | {"low": 0, "high": 0} == {
        "share": 1.0, "hits": 4, "total": 4, "songs": 3, "low": 0, "high": 0,
    }  # fmt: skip
    assert figures["under_noise"] == 2
    assert "<td>whole</td>" in page.read_text()
    assert (tmp_path / "real.md").read_text().count("| whole |") == 2


def test_the_middle_is_cut_and_short_clips_stay_whole() -> None:
    clip = Clip(np.arange(80, dtype=np.float32), 10)
    part, begin = middle(clip, "3")
    assert (part.samples[0], len(part.samples), begin) == (25, 30, 2.5)
    for length in ("whole", "8", "9"):
        part, begin = middle(clip, length)
        assert (len(part.samples), begin) == (80, 0.0)


@pytest.mark.parametrize("text", ["", "5,", "0", "-1", "nan", "5,5.0", "all", "1e9"])
def test_invalid_lengths_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="length"):
        lengths_of(text)


def test_lengths_are_normalised() -> None:
    assert lengths_of("whole, 5.0,2.5") == ("whole", "5", "2.5")


A = {"query": "queries/a1.flac", "reference": "references/a.flac", "offset_s": 2.0, "song": "a"}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"query": None}, "query"),
        ({"song": 5}, "song"),
        ({"offset_s": "2"}, "offset_s"),
        ({"ofset_s": 2.0}, "ofset_s"),
        ({"role": "train"}, "role"),
        ({"reference": None}, "without reference"),
        ({"query": "queries/a9.flac"}, "there is no file .*a9.flac"),
        ({"also_correct": ["references/z.flac"]}, "there is no file .*z.flac"),
        ({"query": "queries/a1.flac"}, "listed before"),
        ({"query": "queries/a2.flac", "role": "tune"}, "has the role report"),
    ],
)
def test_a_bad_manifest_line_is_one_clear_line(
    folder: Path, tmp_path: Path, bad: dict[str, object], reason: str
) -> None:
    for name in ("queries", "references"):
        (tmp_path / name).symlink_to(folder / name)
    write(tmp_path, [A, {**A, "query": "queries/a2.flac", **bad}])
    with pytest.raises(CorpusError, match=f"line 2: .*{reason}") as caught:
        RealSet.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_only_four_keys_are_required_and_blank_lines_are_none(folder: Path, tmp_path: Path) -> None:
    for name in ("queries", "references"):
        (tmp_path / name).symlink_to(folder / name)
    (tmp_path / "manifest.jsonl").write_bytes(
        b"\xef\xbb\xbf" + json.dumps(A).encode() + b"\r\n\r\n"
    )
    real = RealSet.open(tmp_path)
    assert [one.role for one in real.lines] == ["report"]
    assert not real.lines[0].under_noise  # nobody looked
    write_manifest(tmp_path, real.lines)
    assert json.loads((tmp_path / "manifest.jsonl").read_text()) == A


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe{", b"not json\n", b"[1]\n"])
def test_file_that_is_not_a_manifest_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "manifest.jsonl").write_bytes(content)
    with pytest.raises(CorpusError, match=r"manifest\.jsonl"):
        RealSet.open(tmp_path)


def run(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["evaluate", *args])
    return result.exit_code, result.stdout, result.stderr


def test_evaluate_real_prints_a_table_and_says_that_there_is_no_corpus(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    args = ("--real", str(folder), "--output", "out", "--jobs", "1", "--lengths", "whole")
    status, out, err = run(*args)
    assert status == 0
    assert "4 known queries of 3 songs and 1 unknown" in out
    assert "| whole | 4 | 100.0" in out
    assert "There is no corpus" in err
    assert len(list((tmp_path / "out").glob("library-real-*"))) == 1
    status, out, _ = run(*args, "--role", "tune", "--json")
    assert status == 0
    assert json.loads(out)["all"][0]["top1"]["total"] == 2


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("--role", "tune"), "--role is for real recordings"),
        (("--lengths", "5"), "--lengths is for real recordings"),
        (("--real", ".", "--seed", "1"), "--seed is for simulated queries"),
        (("--real", ".", "--condition", "phone"), "--condition is for simulated queries"),
    ],
)
def test_options_of_the_other_kind_are_refused(args: tuple[str, ...], reason: str) -> None:
    status, _, err = run(*args)
    assert status == 2
    assert reason in err


def test_a_corpus_that_is_named_must_exist(folder: Path, tmp_path: Path) -> None:
    status, _, err = run("--real", str(folder), "--corpus", str(tmp_path / "none"))
    assert status == 1
    assert "there is no corpus" in err
