"""Search a library for real recordings, whole and cut, and judge the answers.

Every known query is searched twice: in the library as it is, and in one without the tracks of its
song. There it is unknown, in a real room through a real microphone, and any answer is a
false accept.
"""

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

from fingerprint.audio.decode import load_clip
from fingerprint.errors import ConfigError
from fingerprint.lab.benchmark.material import cut
from fingerprint.lab.benchmark.metrics import PLACE_TOLERANCE, near, same_sound
from fingerprint.lab.benchmark.run import KNOWN_ROLES, OnProgress, Progress, index_exactly
from fingerprint.lab.calibration.large_libraries import Without
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.corpus.probe import to_int16
from fingerprint.lab.processes import each, saved
from fingerprint.lab.real.folder import Line, RealSet, Role
from fingerprint.recognition.recognise import recognise
from fingerprint.search import SearchConfig
from fingerprint.types import Clip, Match

if TYPE_CHECKING:
    from fingerprint.library.library import Library
    from fingerprint.model.fingerprinter import Fingerprinter

WHOLE = "whole"  # in place of a length


@dataclass(frozen=True, slots=True)
class Outcome:
    """One query at one length, its answer, and whether the answer is right.

    `length` is the one wanted: `WHOLE` or seconds; `seconds` what the query has. `known` is False
    for queries without reference and for those whose song was hidden; then nothing is right.
    Without an answer `path` is empty, `confidence` 0, and offset and score are NaN. `place_right`
    is None where the true offset is not known.
    """

    query: str
    song: str
    role: str
    length: str
    seconds: float
    known: bool
    hidden: bool
    under_noise: bool
    reference: str
    truth_offset: float  # s, of this part of the query
    path: str
    offset: float  # s
    rate: float
    confidence: float
    score: float
    right: bool
    place_right: bool | None
    milliseconds: float  # processing time


@dataclass(frozen=True)
class Measured:
    """The outcomes of one run and what they were measured on."""

    folder: Path
    role: str
    lengths: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    min_confidence: float
    model_id: str
    with_corpus: bool
    tracks: int  # in the library
    hours: float  # in the library


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One line of the manifest, with everything that is needed to search for it."""

    line: Line
    clip: Clip
    reference: Path | None
    correct: frozenset[Path]
    of_song: frozenset[Path]
    lengths: tuple[str, ...]


def lengths_of(text: str) -> tuple[str, ...]:
    """The lengths in a list such as `whole,5,2.5`, normalised.

    Raises:
        ConfigError: it is no such list.
    """
    lengths = tuple(_length(part.strip()) for part in text.split(","))
    if len(set(lengths)) < len(lengths):
        raise ConfigError(f"a length is named twice in {text!r}")
    return lengths


def _length(text: str) -> str:
    if text == WHOLE:
        return WHOLE
    try:
        seconds = float(text)
    except ValueError:
        seconds = nan
    if not 0 < seconds < 3_600:
        raise ConfigError(f"a length is '{WHOLE}' or a number of seconds, not {text!r}")
    return f"{seconds:g}"


def measure(
    real: RealSet,
    corpus: Corpus | None,
    model: "Fingerprinter",
    *,
    library: Path,
    role: Role | None = None,
    lengths: Sequence[str] = (WHOLE, "5", "3", "2"),
    jobs: int = 1,
    on_progress: OnProgress = lambda _: None,
) -> Measured:
    """Index the corpus's tracks and the set's, and search for every query of a role (None: all).

    Tracks that the library in the folder `library` holds already are not indexed again. With more
    than one of `jobs`, queries are answered in that many processes; the answers are the same.

    Raises:
        ConfigError: no query has the role.
        AudioError: a query or a track cannot be read.
        CorpusError, LibraryError: as `benchmark.run.evaluate`.
    """
    lines = [line for line in real.lines if role in (None, line.role)]
    if not lines:
        raise ConfigError(f"no query in {real.root} has the role {role}")
    questions = [_question(real, line, model.sample_rate, tuple(lengths)) for line in lines]
    music = [f.path for r in KNOWN_ROLES for f in corpus.music(r)] if corpus else []
    tracks, hours = index_exactly([*music, *real.references], model, library, jobs, on_progress)
    outcomes: list[Outcome] = []
    with closing(_answers(model, library, jobs, questions)) as answers:
        for number, found in enumerate(answers, start=1):
            outcomes += found
            on_progress(Progress("queries", number, len(questions)))
    return Measured(
        folder=real.root,
        role=role or "all",
        lengths=tuple(lengths),
        outcomes=tuple(outcomes),
        min_confidence=SearchConfig().min_confidence,
        model_id=model.id,
        with_corpus=corpus is not None,
        tracks=tracks,
        hours=hours,
    )


def _question(real: RealSet, line: Line, sample_rate: int, lengths: tuple[str, ...]) -> Question:
    clip = load_clip(real.file(line.query), sample_rate)  # now: a bad one shows before the indexing
    reference = real.file(line.reference) if line.reference else None
    return Question(line, clip, reference, real.correct(line), real.of_song[line.song], lengths)


def _answers(
    model: "Fingerprinter", library: Path, jobs: int, questions: Sequence[Question]
) -> Generator[list[Outcome], None, None]:
    """The outcomes of each question, in their order."""
    from fingerprint.library.library import Library

    if jobs == 1:
        with Library.open(library, model) as opened:
            for question in questions:
                yield ask(opened, question)
        return
    with saved(model) as weights:
        work = partial(_ask_here, library, weights, model.network.device)
        with closing(each(work, questions, jobs)) as answers:
            yield from answers


def _ask_here(library: Path, weights: Path, device: str, question: Question) -> list[Outcome]:
    return ask(_open(library, weights, device), question)


@cache  # once a process, for all its questions
def _open(library: Path, weights: Path, device: str) -> "Library":
    from fingerprint.library.library import Library
    from fingerprint.model.fingerprinter import Fingerprinter

    return Library.open(library, Fingerprinter.load(weights, device, threads=1, warn=False))


def ask(library: "Library", question: Question) -> list[Outcome]:
    """The outcomes of one query at every length, also with its song hidden if it is known."""
    whole = library.snapshot()
    tracks = [whole.track(number) for number in range(len(whole.rows))]
    own = frozenset(n for n, track in enumerate(tracks) if track and track.path in question.of_song)
    outcomes = []
    for length in question.lengths:
        clip, begin = middle(question.clip, length)
        started = time.perf_counter()
        matches = library.recognise(clip).matches
        spent = 1_000 * (time.perf_counter() - started)
        outcomes.append(_judge(question, length, clip, begin, matches, milliseconds=spent))
        if question.reference is not None:
            started = time.perf_counter()
            matches = recognise(Without(whole, own), clip, library.model).matches
            spent = 1_000 * (time.perf_counter() - started)
            outcomes.append(
                _judge(question, length, clip, begin, matches, milliseconds=spent, hidden=True)
            )
    return outcomes


def middle(clip: Clip, length: str) -> tuple[Clip, float]:
    """The middle of a clip, all of one that is no longer, and the second at which that begins."""
    if length == WHOLE:
        return clip, 0.0
    samples = round(float(length) * clip.sample_rate)
    begin = max(0, len(clip.samples) - samples) // 2
    part = Clip(clip.samples[begin : begin + samples], clip.sample_rate)
    return part, begin / clip.sample_rate


def _judge(
    question: Question,
    length: str,
    clip: Clip,
    begin: float,
    matches: Sequence[Match],
    *,
    milliseconds: float,
    hidden: bool = False,
) -> Outcome:
    line, match = question.line, matches[0] if matches else None
    known = question.reference is not None and not hidden
    right = known and match is not None and match.track.path in question.correct
    truth = nan if line.offset_s is None else line.offset_s + begin
    place: bool | None = None
    if known and line.offset_s is not None:
        place = right and match is not None and _right_place(question, truth, clip, match)
    return Outcome(
        query=line.query,
        song=line.song,
        role=line.role,
        length=length,
        seconds=clip.duration,
        known=known,
        hidden=hidden,
        under_noise=line.under_noise,
        reference=str(question.reference or ""),
        truth_offset=truth,
        path=str(match.track.path) if match else "",
        offset=match.offset if match else nan,
        rate=match.rate if match else nan,
        confidence=match.confidence if match else 0.0,
        score=match.score if match else nan,
        right=right,
        place_right=place,
        milliseconds=milliseconds,
    )


def _right_place(question: Question, truth: float, clip: Clip, match: Match) -> bool:
    """The true place, or one that sounds the same, each within the tolerance, as in `evaluate`.

    Another file of the recording may begin elsewhere; in it, only the sound decides.
    """
    reference, rate = Path(question.reference or ""), clip.sample_rate
    if match.track.path == reference and any(
        near(p, truth) for p in (match.offset, *match.repeats)
    ):
        return True
    slack = round(PLACE_TOLERANCE * rate)
    played, named = (to_int16(load_clip(p, rate).samples) for p in (reference, match.track.path))
    passage = cut(played, round(truth * rate), len(clip.samples))
    around = cut(named, round(match.offset * rate) - slack, len(clip.samples) + 2 * slack)
    return same_sound(passage, around)
