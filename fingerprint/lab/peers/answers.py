"""The answers of a system and their metrics. Pure, except for reading files."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import inf, nan
from pathlib import Path
from statistics import median
from typing import Any

from fingerprint.errors import ConfigError
from fingerprint.lab.benchmark.conditions import CONDITIONS, Condition
from fingerprint.lab.benchmark.metrics import Share, score_to_beat
from fingerprint.lab.report_format import finite

FALSE_ACCEPTS = 0.01  # of the unknown queries, at the threshold the systems are compared at
CONDITION = {condition.name: condition for condition in CONDITIONS}


@dataclass(frozen=True, slots=True)
class Answer:
    """A query and its likeliest track, as paths in the corpus; `track` is empty without one.

    `score` rises with the quality of the match; its scale is the system's own. A candidate that
    the system itself would not report is not `sure`.
    """

    condition: str
    number: int
    snr_db: float  # NaN without noise
    truth: str
    track: str
    score: float  # -inf without a candidate
    sure: bool
    seconds: float  # to identify it

    @property
    def right(self) -> bool:
        """Whether the candidate is the track; never of a track that is not in the library."""
        return self.track == self.truth and not CONDITION[self.condition].unknown


@dataclass(frozen=True)
class Standing:
    """One row of the table: a system and all its answers.

    `speed` is that of indexing as a multiple of real time, `megabytes` those of an hour of music
    in the index; NaN if not known.
    """

    title: str
    version: str
    settings: str
    answers: Sequence[Answer]
    speed: float = nan
    megabytes: float = nan

    def top1(self, condition: Condition) -> Share:
        """Queries of a condition whose likeliest track is the right one, sure or not."""
        return share(a.right for a in self.answers if a.condition == condition.name)

    @cached_property
    def known(self) -> list[Answer]:
        return [a for a in self.answers if not CONDITION[a.condition].unknown]

    @cached_property
    def unknown(self) -> list[Answer]:
        return [a for a in self.answers if CONDITION[a.condition].unknown]

    @property
    def unknown_answered(self) -> Share:
        """Queries of unknown tracks for which the system itself names a track."""
        return share(a.sure for a in self.unknown)

    @property
    def right_at_1_percent(self) -> Share:
        """Known queries answered rightly with a score that at most 1 % of the unknown ones reach.

        Without unknown queries it is a share of none.
        """
        if not self.unknown:
            return Share(0, 0)
        bar = score_to_beat([a.score for a in self.unknown], FALSE_ACCEPTS)
        return share(a.right and a.score > bar for a in self.known)

    @property
    def seconds(self) -> float:
        """Median time of a query."""
        return median(a.seconds for a in self.answers) if self.answers else nan


def share(hits: Iterable[bool]) -> Share:
    """How many of how many."""
    values = list(hits)
    return Share(sum(values), len(values))


def write(answer: Answer) -> str:
    """An answer as a line of JSON."""
    values = asdict(answer) | {"snr_db": finite(answer.snr_db), "score": finite(answer.score)}
    return json.dumps(values, ensure_ascii=False) + "\n"


def read(path: Path) -> list[Answer]:
    """The answers in a file of such lines."""
    return [
        Answer(**r | {"snr_db": _or(r["snr_db"], nan), "score": _or(r["score"], -inf)})
        for r in records(path)
    ]


def records(path: Path) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines; a last line that was cut off is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def read_evaluation(folder: Path, root: Path, *, split: str, seed: int) -> Standing:
    """What `fingerprint evaluate` wrote to `folder`, on the corpus at `root`.

    Raises:
        ConfigError: it is missing, or of another split, seed or corpus.
    """
    remedy = f"run: fingerprint evaluate --split {split} --seed {seed} --output {folder}"
    try:
        figures = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        lines = (folder / "outcomes.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        raise ConfigError(f"there is no evaluation in {folder}; {remedy}") from None
    if (figures["split"], figures["seed"]) != (split, seed):
        raise ConfigError(f"the evaluation in {folder} is of another split or seed; {remedy}")
    least, hours = figures["min_confidence"], figures["library"]["hours"]
    library = folder / f"library-{figures['model_id'][:12]}"
    size = sum(file.stat().st_size for file in library.rglob("*") if file.is_file())
    return Standing(
        title="fingerprint",
        version=f"model {figures['model_id'][:12]}",
        settings=f"sure from confidence {least:g} on",
        answers=[_from_outcome(json.loads(line), root, least) for line in lines],
        megabytes=size / 1e6 / hours if size else nan,
    )


def check_same_queries(standings: Sequence[Standing]) -> None:
    """Check that every system got the same queries as the first one.

    Raises:
        ConfigError: some are missing, or were cut from other tracks.
    """
    first, *others = standings
    truths = {(a.condition, a.number): a.truth for a in first.answers}
    for other in others:
        queries = {(a.condition, a.number): a.truth for a in other.answers}
        if missing := queries.keys() - truths.keys():
            condition, number = min(missing)
            raise ConfigError(
                f"{first.title} has no answer to query {number} of {condition}; "
                "run fingerprint evaluate with at least as many --queries"
            )
        if queries != truths:
            raise ConfigError(
                f"{first.title} and {other.title} answered different queries; "
                "run fingerprint evaluate again, on the same corpus"
            )


def _from_outcome(record: dict[str, Any], root: Path, least: float) -> Answer:
    truth, track = (record[key].removeprefix(f"{root}/") for key in ("truth_path", "path"))
    return Answer(
        condition=record["condition"],
        number=record["number"],
        snr_db=_or(record["snr_db"], nan),
        truth=truth,
        track=track,
        score=record["confidence"] if track else -inf,
        sure=bool(track) and record["confidence"] >= least,
        seconds=record["seconds"],
    )


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
