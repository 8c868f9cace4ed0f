"""Scan a made-up broadcast and compare with what was on air.

    python scripts/broadcast.py                 # two hours, 40 known and 20 unknown tracks
    python scripts/broadcast.py --minutes 20    # a shorter one, with as many tracks a minute

Talk, jingles, cross-fades, hard cuts, music under speech; the tracks are those of the test split,
the library is that of `fingerprint evaluate`, which holds every known track of the corpus.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from fingerprint.corpus import Corpus, load_recordings
from fingerprint.evaluation.broadcast import Aired, Score, make_broadcast, score
from fingerprint.evaluation.material import WORKING_RATE, Material
from fingerprint.evaluation.run import KNOWN_ROLES, Progress, index_corpus
from fingerprint.library.library import Library
from fingerprint.model.fingerprinter import Fingerprinter
from fingerprint.scanning import Span, scan

FULL = 120.0  # minutes of the whole broadcast


def main() -> None:
    """Make, scan, compare."""
    options = _options()
    corpus = Corpus.open(options.corpus)
    model = (
        Fingerprinter.default("cpu")
        if options.model is None
        else Fingerprinter.load(options.model, "cpu")
    )
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    folder = options.library or output / f"library-{model.id[:12]}"
    material = Material.load(corpus, options.split)
    roles, stocked = KNOWN_ROLES, corpus
    if options.split == "validation":  # it has no unknown tracks: one package stands for them
        roles = ("train", "validation")
        material = _without(material, corpus, options.hidden)
        stocked = replace(
            corpus, files=tuple(file for file in corpus.files if file.package != options.hidden)
        )
    index_corpus(stocked, roles, model, folder, options.jobs, _show)
    recording = output / f"broadcast-{options.split}-{options.seed}-{options.minutes:g}.ogg"
    aired = make_broadcast(
        material,
        recording,
        seconds=60 * options.minutes,
        scale=options.minutes / FULL,
        rng=np.random.default_rng(options.seed),
    )
    begin = time.process_time()
    with Library.open(folder, model) as library:
        spans = list(scan(recording, library, on_progress=_tell))
    taken = time.process_time() - begin
    _print(score(spans, aired), taken, 60 * options.minutes)
    if options.verbose:
        _list(spans, aired)


def _without(material: Material, corpus: Corpus, package: str) -> Material:
    """The material with the tracks of one package as the unknown ones."""
    every = load_recordings(corpus, "validation", WORKING_RATE)
    unknown = [i for i, file in enumerate(every.files) if file.package == package]
    known = [i for i in range(len(every)) if i not in unknown]
    return replace(material, known=every.some(known), unknown=every.some(unknown))


def _print(result: Score, taken: float, seconds: float) -> None:
    print(
        f"second by second: F1 {result.f1:.4f}, precision {result.precision:.4f}, "
        f"recall {result.recall:.4f}; {result.found} of {result.known} known items found\n"
        f"boundaries: median {result.boundary_median:.2f} s, "
        f"95 % within {result.boundary_95:.2f} s\n"
        f"scanned in {taken:.0f} s of one core, {seconds / taken:.0f} x real time"
    )


def _list(spans: list[Span], aired: list[Aired]) -> None:
    for item in sorted(aired, key=lambda item: item.start):
        known = "known  " if item.known else "unknown"
        print(f"on air {item.start:8.1f} {item.end:8.1f} {known} {item.path.name}")
    for span in spans:
        if span.match is not None:
            match = span.match
            print(
                f"named  {span.start:8.1f} {span.end:8.1f} {match.confidence:.3f} "
                f"{match.rate:.3f} {match.track.path.name}"
            )


def _show(now: Progress) -> None:
    if now.done % 50 == 0 or now.done == now.total:
        print(f"{now.stage} {now.done:,}/{now.total:,}", file=sys.stderr, flush=True)


def _tell(position: float) -> None:
    if round(position) % 600 == 0:
        print(f"scanned {position / 60:.0f} minutes", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    parser.add_argument("--corpus", type=Path, default=Path("data/corpus"))
    parser.add_argument("--model", type=Path, help="model file; the shipped one")
    parser.add_argument("--output", type=Path, default=Path("runs/broadcast"))
    parser.add_argument("--library", type=Path, help="library of `fingerprint evaluate`, if made")
    parser.add_argument("--minutes", type=float, default=FULL)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=["test", "validation"], default="test")
    parser.add_argument(
        "--hidden", default="plee-the-bear-data", help="unknown package of the validation split"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes that index")
    parser.add_argument("--verbose", action="store_true", help="list every item and span")
    return parser.parse_args()


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The text as it is, and the defaults."""


if __name__ == "__main__":
    main()
