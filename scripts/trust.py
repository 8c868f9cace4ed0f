"""Measure the confidence on tracks that were used for nothing else.

    python scripts/trust.py                # 4,000 unknown queries; 15 minutes on two cores
    python scripts/trust.py --publish      # and write docs/confidence.png

Known and unknown queries of every kind and length, cut from the test split, are asked of a library
of every track of the corpus; the unknown also of 100,000 simulated ones, some of 100 tracks.
"""

import argparse
import json
import sys
from pathlib import Path

from fingerprint.config import SearchConfig
from fingerprint.corpus import Corpus
from fingerprint.evaluation import trust_report
from fingerprint.evaluation.run import Progress
from fingerprint.evaluation.trust import measure
from fingerprint.machine import available_cores
from fingerprint.model.fingerprinter import Fingerprinter


def main() -> None:
    """Measure, print, draw."""
    options = _options()
    model = (
        Fingerprinter.default("cpu")
        if options.model is None
        else Fingerprinter.load(options.model, "cpu")
    )
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    trust = measure(
        Corpus.open(options.corpus),
        model,
        library=options.library or output / f"library-{model.id[:12]}",
        known=options.known,
        unknown=options.unknown,
        few=options.few,
        min_confidence=options.min_confidence,
        jobs=options.jobs,
        on_progress=_show,
    )
    print(trust_report.text(trust))
    (output / "trust.json").write_text(json.dumps(trust.as_json(), indent=1) + "\n")
    trust_report.draw(trust, output / "confidence.png")
    if options.publish:
        trust_report.draw(trust, Path("docs/confidence.png"))


def _show(now: Progress) -> None:
    if now.done % 50 == 0 or now.done == now.total:
        print(f"{now.stage} {now.done:,}/{now.total:,}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    parser.add_argument("--corpus", type=Path, default=Path("data/corpus"))
    parser.add_argument("--model", type=Path, help="model file; the shipped one")
    parser.add_argument("--output", type=Path, default=Path("runs/trust"))
    parser.add_argument("--library", type=Path, help="library of `fingerprint evaluate`, if made")
    parser.add_argument("--known", type=int, default=800, help="known queries")
    parser.add_argument("--unknown", type=int, default=4_000, help="unknown queries")
    parser.add_argument("--few", type=int, default=1_000, help="of them, of 100 tracks too")
    parser.add_argument("--min-confidence", type=float, default=SearchConfig().min_confidence)
    parser.add_argument("--jobs", type=int, default=available_cores())
    parser.add_argument("--publish", action="store_true", help="write docs/confidence.png")
    return parser.parse_args()


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The text as it is, and the defaults."""


if __name__ == "__main__":
    main()
