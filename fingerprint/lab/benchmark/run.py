"""Run queries against a library of the corpus, on every core, and collect the outcomes."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

from fingerprint.errors import AudioError, ConfigError, CorpusError, LibraryError
from fingerprint.lab.benchmark.conditions import CONDITIONS, Condition
from fingerprint.lab.benchmark.material import SPLITS, WORKING_RATE, Material, Split, cut
from fingerprint.lab.benchmark.metrics import PLACE_TOLERANCE, Outcome, near, same_sound
from fingerprint.lab.benchmark.queries import Query, Truth, make_query
from fingerprint.lab.benchmark.results import Results
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.processes import each, saved
from fingerprint.search import SearchConfig
from fingerprint.types import Match

if TYPE_CHECKING:
    from fingerprint.lab.corpus.config import MusicRole
    from fingerprint.library.library import Library
    from fingerprint.model.fingerprinter import Fingerprinter

KNOWN_ROLES: tuple["MusicRole", ...] = ("train", "validation", "test")
CHUNK = 10  # queries a task


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage of the evaluation has come."""

    stage: str
    done: int
    total: int


OnProgress = Callable[[Progress], None]


def evaluate(
    corpus: Corpus,
    model: "Fingerprinter",
    *,
    library: Path,
    split: str = "test",
    queries: int = 500,
    seed: int = 0,
    jobs: int = 2,
    conditions: Sequence[Condition] = CONDITIONS,
    on_progress: OnProgress = lambda _: None,
) -> Results:
    """Index every track of the corpus except the unknown ones, and query degraded passages.

    Only the test split has queries of unknown tracks. Conditions for which a corpus of one's own
    music does not suffice are left out, and listed in the results.

    Tracks that the library in the folder `library` holds already are not indexed again. With more
    than one of `jobs`, queries are made and answered in that many processes of one thread each;
    the answers are the same.

    Raises:
        ConfigError: there is no such split, or no condition.
        CorpusError: the corpus is incomplete, or a track cannot be indexed.
        LibraryError: the folder holds a library of another model, or of other tracks.
        AudioError: a file is gone or damaged since the corpus was assembled.
    """
    begin = time.monotonic()
    conditions = [c for c in conditions if split == "test" or not c.unknown]
    if split not in SPLITS or not conditions:
        raise ConfigError(f"name a split out of {', '.join(SPLITS)}, and at least one condition")
    material = Material.load(corpus, SPLITS[split], music_is_enough=True)
    left_out = tuple(c.name for c in conditions if not material.suffices_for(c))
    conditions = [c for c in conditions if c.name not in left_out]
    if not conditions:
        raise CorpusError(f"the corpus at {corpus.root} does not suffice for {left_out[0]!r}")
    tracks, hours = index_corpus(corpus, KNOWN_ROLES, model, library, jobs, on_progress)
    tasks = [
        Task(condition, range(first, min(first + CHUNK, queries)), seed)
        for condition in conditions
        for first in range(0, queries, CHUNK)
    ]
    answers = (
        _answers_from_processes(corpus, SPLITS[split], model, library, jobs, tasks)
        if jobs > 1
        else _answers(material, model, library, tasks)
    )
    outcomes: list[Outcome] = []
    with closing(answers):
        for answered in answers:
            outcomes += answered
            on_progress(Progress("queries", len(outcomes), queries * len(conditions)))
    return Results(
        conditions=tuple(conditions),
        outcomes=tuple(outcomes),
        split=split,
        seed=seed,
        queries=queries,
        min_confidence=SearchConfig().min_confidence,
        model_id=model.id,
        tracks=tracks,
        hours=hours,
        seconds=time.monotonic() - begin,
        recorded_noise=bool(material.speech),
        left_out=left_out,
    )


def index_corpus(
    corpus: Corpus,
    roles: Sequence["MusicRole"],
    model: "Fingerprinter",
    folder: Path,
    jobs: int,
    on_progress: OnProgress,
) -> tuple[int, float]:
    """Make or complete the library of these roles; returns its number of tracks and hours.

    Raises:
        CorpusError: a track cannot be indexed.
        LibraryError: the folder holds a library of another model, or of other tracks.
    """
    paths = [file.path for role in roles for file in corpus.music(role)]
    try:
        return index_exactly(paths, model, folder, jobs, on_progress)
    except AudioError as error:
        raise CorpusError(f"{error}; assemble the corpus again") from error


def index_exactly(
    paths: Sequence[Path],
    model: "Fingerprinter",
    folder: Path,
    jobs: int,
    on_progress: OnProgress,
) -> tuple[int, float]:
    """Make or complete the library of these files; returns its number of tracks and hours.

    Raises:
        AudioError: a file cannot be indexed.
        LibraryError: the folder holds a library of another model, or of other tracks.
    """
    from fingerprint.library.indexing import index_files
    from fingerprint.library.library import Library

    with Library.create_or_open(folder, model) as library:
        if extra := {track.path for track in library.tracks()} - set(paths):
            raise LibraryError(
                f"the library {folder} holds {min(extra)}, which is not to be in it: "
                "evaluate with a new folder"
            )
        report = index_files(
            library,
            paths,
            jobs=jobs if jobs > 1 else 0,
            on_progress=lambda now: on_progress(Progress("index", now.done, now.total)),
        )
        for _, reason in report.failed:
            raise AudioError(reason)
        info = library.info()
    return info.tracks, info.hours


@dataclass(frozen=True, slots=True)
class Task:
    """Queries of one condition that one process makes and answers."""

    condition: Condition
    numbers: range
    seed: int


def answer(material: Material, library: "Library", task: Task) -> list[Outcome]:
    """Make the queries of a task, search for them, and judge the answers."""
    rate = library.model.sample_rate
    outcomes = []
    for number in task.numbers:
        query = make_query(
            material, task.condition, seed=task.seed, number=number, sample_rate=rate
        )
        begin = time.perf_counter()
        matches = library.recognise(query.clip, top=2).matches
        seconds = time.perf_counter() - begin
        outcomes.append(judge(material, task.condition, number, query, matches, seconds))
    return outcomes


def _answers(
    material: Material, model: "Fingerprinter", folder: Path, tasks: Sequence[Task]
) -> Generator[list[Outcome], None, None]:
    from fingerprint.library.library import Library

    with Library.open(folder, model) as library:
        for task in tasks:
            yield answer(material, library, task)


def _answers_from_processes(
    corpus: Corpus,
    split: Split,
    model: "Fingerprinter",
    folder: Path,
    jobs: int,
    tasks: Sequence[Task],
) -> Generator[list[Outcome], None, None]:
    """The same, in the same order."""
    with saved(model) as weights:
        work = partial(_answer_here, corpus.root, split, weights, model.network.device, folder)
        with closing(each(work, tasks, jobs, initializer=_one_thread)) as answers:
            yield from answers


def _answer_here(
    corpus: Path, split: Split, weights: Path, device: str, folder: Path, task: Task
) -> list[Outcome]:
    return answer(*_open(corpus, split, weights, device, folder), task)


@cache  # once a process, for all its tasks
def _open(
    corpus: Path, split: Split, weights: Path, device: str, folder: Path
) -> tuple[Material, "Library"]:
    from fingerprint.library.library import Library
    from fingerprint.model.fingerprinter import Fingerprinter

    material = Material.load(Corpus.open(corpus), split, music_is_enough=True)
    model = Fingerprinter.load(weights, device, threads=1, warn=False)
    return material, Library.open(folder, model)


def _one_thread() -> None:
    import torch  # degrades the queries

    torch.set_num_threads(1)


def judge(
    material: Material,
    condition: Condition,
    number: int,
    query: Query,
    matches: Sequence[Match],
    seconds: float,
) -> Outcome:
    """Compare the best match with the truth. An answer for an unknown track is never right.

    If two tracks are mixed, the truth is the one that is answered first.
    """
    match = matches[0] if matches else None
    truth, second = query.truth, query.second
    if second is not None and match is not None and match.track.path == second.path:
        truth, second = second, truth
    right = match is not None and not condition.unknown and match.track.path == truth.path
    place_right = right and match is not None and _right_place(material, condition, truth, match)
    return Outcome(
        condition=condition.name,
        number=number,
        snr_db=query.snr_db,
        truth_path=str(truth.path),
        truth_offset=truth.offset,
        truth_rate=truth.rate,
        path=str(match.track.path) if match else "",
        offset=match.offset if match else nan,
        rate=match.rate if match else nan,
        confidence=match.confidence if match else 0.0,
        score=match.score if match else nan,
        right=right,
        place_right=place_right,
        seconds=seconds,
        second=_second(second, matches),
    )


def _second(truth: Truth | None, matches: Sequence[Match]) -> float:
    """The confidence of the second track, 0 where it does not come second; NaN if there is none."""
    if truth is None:
        return nan
    named = len(matches) > 1 and matches[1].track.path == truth.path
    return matches[1].confidence if named else 0.0


def _right_place(material: Material, condition: Condition, truth: Truth, match: Match) -> bool:
    """The true place, or one where the track sounds the same, each within the tolerance.

    Of places that sound the same, an answer has the earliest as `offset` and the others in
    `repeats`. Of a query over an edge of the track, the part within the track is compared.
    """
    if any(near(place, truth.offset) for place in (match.offset, *match.repeats)):
        return True
    track = [file.path for file in material.known.files].index(truth.path)
    sound = material.known.recording(track)
    start = round(truth.offset * WORKING_RATE)
    first, last = max(start, 0), start + round(condition.seconds * truth.rate * WORKING_RATE)
    length = min(last, len(sound)) - first
    slack = round(PLACE_TOLERANCE * WORKING_RATE)
    there = round(match.offset * WORKING_RATE) + first - start
    return same_sound(cut(sound, first, length), cut(sound, there - slack, length + 2 * slack))
