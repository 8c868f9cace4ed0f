"""Calibration of the confidence on tracks used in neither training nor fit."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fingerprint.lab.benchmark.conditions import SNR_DB, Condition, Phone
from fingerprint.lab.benchmark.metrics import CALIBRATION_BINS, Share, ece, threshold_at
from fingerprint.lab.benchmark.run import KNOWN_ROLES, Progress, index_corpus
from fingerprint.lab.calibration.cases import Case
from fingerprint.lab.calibration.gather import Passage, gather
from fingerprint.lab.calibration.varied import KNOWN, LENGTHS, UNKNOWN
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.report_format import share_json
from fingerprint.recognition.confidence import Calibration, probability

if TYPE_CHECKING:
    from fingerprint.model.fingerprinter import Fingerprinter

WHOLE = (Condition("noise", 5.0, SNR_DB), Condition("phone", 10.0, SNR_DB, Phone()))
TINY = (1, 2, 3, 10)  # tracks
SMALL = 100  # tracks
LARGE = 100_000  # tracks
TARGET = 0.001  # false accepts


# Cut from tracks that are in no library; the fit has none, and hides those of the library instead.
HELD_OUT = tuple(replace(condition, unknown=True) for condition in UNKNOWN)


@dataclass(frozen=True, slots=True)
class Answered:
    """A case and the confidence of its answer; 0 without one."""

    case: Case
    confidence: float


@dataclass(frozen=True, slots=True)
class WeightedBin:
    """Answers of similar confidence: its mean, the share that is right, their weight and number."""

    confidence: float
    right: float
    weight: float
    answers: int


@dataclass(frozen=True, slots=True)
class Operating:
    """One condition at a threshold: how often the right track is first, and accepted too."""

    condition: str
    top1: Share
    accepted: Share


@dataclass(frozen=True, slots=True)
class Few:
    """The figures of libraries of `tracks` tracks."""

    tracks: int
    accepted: Share  # of known queries: answered, and right
    false_accepts: Share
    calibration_error: float


@dataclass(frozen=True)
class Trust:
    """The answers of one run, by the figures that they are used for."""

    known: Sequence[Answered]
    unknown: Sequence[Answered]
    whole: Sequence[Answered]  # known, of the conditions `WHOLE`
    grown: Sequence[Answered]  # unknown, in libraries of every size
    tiny: Sequence[Answered]  # known and unknown, in libraries of `TINY`
    min_confidence: float
    prior: float  # share of unknown queries that the confidence assumes
    model_id: str

    @property
    def bins(self) -> list[WeightedBin]:
        """Answers by confidence. Known and unknown ones weigh as the prior says, however many."""
        return self._bins(self.known, self.unknown)

    def _bins(self, known: Sequence[Answered], unknown: Sequence[Answered]) -> list[WeightedBin]:
        answers = [a for a in [*known, *unknown] if a.case.evidence is not None]
        share = {
            True: (1 - self.prior) / max(1, len(known)),
            False: self.prior / max(1, len(unknown)),
        }
        slots: list[list[Answered]] = [[] for _ in range(CALIBRATION_BINS)]
        for answer in answers:
            slots[min(int(answer.confidence * len(slots)), len(slots) - 1)].append(answer)
        filled = []
        for slot in (slot for slot in slots if slot):
            weights = np.array([share[a.case.known] for a in slot])
            right = np.array([a.case.right for a in slot])
            confidence = np.array([a.confidence for a in slot])
            total = float(weights.sum())
            filled.append(
                WeightedBin(
                    float(weights @ confidence) / total,
                    float(weights @ right) / total,
                    total,
                    len(slot),
                )
            )
        return filled

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean distance of confidence from the share of the right."""
        return _error(self.bins)

    def few(self) -> list[Few]:
        """What libraries of `TINY` tracks answer, by their size."""
        rows = []
        for size in sorted({a.case.tracks for a in self.tiny}):
            here = [a for a in self.tiny if a.case.tracks == size]
            known = [a for a in here if a.case.known]
            unknown = [a for a in here if not a.case.known]
            right = sum(a.case.right and a.confidence >= self.min_confidence for a in known)
            rows.append(
                Few(
                    size,
                    Share(right, len(known)),
                    self._accepted(unknown, self.min_confidence),
                    _error(self._bins(known, unknown)),
                )
            )
        return rows

    @property
    def false_accepts(self) -> Share:
        return self._accepted(self.unknown, self.min_confidence)

    def precision(self, threshold: float) -> float:
        """Of the answers given from a confidence on, the share that is right, at the prior."""
        known = [a for a in self.known if a.confidence >= threshold]
        right = sum(a.case.right for a in known) / len(self.known) * (1 - self.prior)
        given = len(known) / len(self.known) * (1 - self.prior)
        given += self._accepted(self.unknown, threshold).value * self.prior
        return right / given if given else 1.0

    @property
    def strict(self) -> float:
        """The least confidence at which no more than `TARGET` of the unknown are accepted."""
        return threshold_at([a.confidence for a in self.unknown], TARGET)

    def operating(self, threshold: float) -> list[Operating]:
        rows = []
        for name in sorted({a.case.family for a in self.whole}):
            queries = [a for a in self.whole if a.case.family == name]
            right = [a for a in queries if a.case.right]
            rows.append(
                Operating(
                    name,
                    Share(len(right), len(queries)),
                    Share(sum(a.confidence >= threshold for a in right), len(queries)),
                )
            )
        return rows

    def growth(self) -> list[tuple[int, Share]]:
        """False accepts by the size of the library."""
        sizes = sorted({a.case.tracks for a in self.grown})
        return [
            (size, self._accepted([a for a in self.grown if a.case.tracks == size]))
            for size in sizes
        ]

    def _accepted(self, answers: Sequence[Answered], threshold: float | None = None) -> Share:
        least = self.min_confidence if threshold is None else threshold
        return Share(sum(a.confidence >= least for a in answers), len(answers))

    def as_json(self) -> dict[str, Any]:
        """Every figure, ready for `json.dumps`."""
        return {
            "model_id": self.model_id,
            "min_confidence": self.min_confidence,
            "known": len(self.known),
            "unknown": len(self.unknown),
            "calibration_error": self.calibration_error,
            "bins": [asdict(one) for one in self.bins],
            "false_accepts": share_json(self.false_accepts),
            "precision": {f"{p:g}": self.precision(p) for p in (0.5, 0.8, 0.9, 0.95, 0.99)},
            "threshold_at_target": self.strict,
            "operating": {
                f"{threshold:.4f}": {
                    row.condition: {
                        "top1": share_json(row.top1),
                        "accepted": share_json(row.accepted),
                    }
                    for row in self.operating(threshold)
                }
                for threshold in (self.min_confidence, self.strict)
            },
            "growth": {str(size): share_json(share) for size, share in self.growth()},
            "few": {
                str(row.tracks): {
                    "accepted": share_json(row.accepted),
                    "false_accepts": share_json(row.false_accepts),
                    "calibration_error": row.calibration_error,
                }
                for row in self.few()
            },
        }


def _error(bins: Sequence[WeightedBin]) -> float:
    return ece([(b.confidence, b.right, b.weight) for b in bins]) if bins else 0.0


def measure(
    corpus: Corpus,
    model: "Fingerprinter",
    *,
    library: Path,
    known: int,
    whole: int,
    unknown: int,
    few: int,
    min_confidence: float,
    seed: int = 7,
    jobs: int = 2,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Trust:
    """Search for queries of the test split in a library of every known track of the corpus.

    Args:
        corpus: assembled.
        model: calibrated.
        library: folder of the library, made or completed.
        known: queries of varied kind and length; each is also searched in a library of `TINY`
        tracks.
        whole: queries of each of the conditions `WHOLE`.
        unknown: queries of tracks that are in no library, half of them shifted in pitch.
        few: number of those that are also searched in libraries of `TINY` and `SMALL` tracks; all
            are searched in a simulated one of `LARGE`.
        min_confidence: from which an answer is accepted.
        seed: decides every query.
        jobs: processes.
        on_progress: called with the progress.
    """
    tracks, _ = index_corpus(corpus, KNOWN_ROLES, model, library, jobs, on_progress)
    parts = len(LENGTHS)
    plan = [
        Passage(KNOWN[number % len(KNOWN)], number, known=True, some=TINY, drawn=True)
        for number in range(known // parts)
    ]
    plan += [
        Passage(
            HELD_OUT[number % len(HELD_OUT)],
            number,
            known=False,
            some=(*TINY, SMALL) if number < few // parts else (),
            times=(LARGE / tracks,),
        )
        for number in range(unknown // parts)
    ]
    plan += [
        Passage(condition, number, known=True) for condition in WHOLE for number in range(whole)
    ]
    cases = gather(
        corpus,
        model,
        plan,
        split="test",
        seed=seed,
        library=library,
        jobs=jobs,
        on_progress=on_progress,
    )
    return sorted_out(cases, tracks, model.calibration, min_confidence, model.id)


def sorted_out(
    cases: Sequence[Case],
    tracks: int,
    calibration: Calibration,
    min_confidence: float,
    model_id: str,
) -> Trust:
    """Cases to figures; `tracks` is the size of the real library."""
    answers = [
        Answered(case, probability(case.evidence, calibration) if case.evidence else 0.0)
        for case in cases
    ]
    real = [a for a in answers if a.case.tracks == tracks]
    whole = {condition.name for condition in WHOLE}
    return Trust(
        known=[a for a in real if a.case.known and a.case.family not in whole],
        unknown=[a for a in real if not a.case.known],
        whole=[a for a in real if a.case.known and a.case.family in whole],
        grown=[a for a in answers if not a.case.known],
        tiny=[a for a in answers if a.case.tracks in TINY],
        min_confidence=min_confidence,
        prior=calibration.unknown,
        model_id=model_id,
    )
