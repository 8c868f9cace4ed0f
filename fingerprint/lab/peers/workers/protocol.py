"""The protocol of a recogniser in its own process: each request and each answer is a line of JSON.

    {"do": "add", "name": "b.ogg", "wav": "x.wav"}    {"seconds": 0.8}
    {"do": "save"}                                    {"seconds": 0.1}
    {"do": "identify", "wav": "x.wav"}                {"best": ["b.ogg", 31, true], "seconds": 0.2}

`best` is null without a candidate; `seconds` is processor time. An error is
answered by {"error": "…"}.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TextIO


class Best(NamedTuple):
    """The likeliest track, how good the match is (higher is better), and whether it is the answer.

    A candidate that the recogniser itself would not report is not `sure`.
    """

    name: str
    score: float
    sure: bool


class Recogniser(Protocol):
    """A library of WAV files (16-bit, mono) in which others are searched.

    Adding a name again changes nothing.
    """

    def add(self, name: str, wav: Path) -> None: ...
    def save(self) -> None: ...  # with `whole`, so that an interruption keeps the previous file
    def identify(self, wav: Path) -> Best | None: ...


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A draft to write to, of the same suffix, which then takes its place at `path`."""
    draft = path.with_name(f"draft{path.suffix}")
    yield draft
    draft.replace(path)


def serve(opened: Callable[[Path, Mapping[str, Any]], Recogniser]) -> None:
    """Answer the requests on standard input until it ends; what packages print goes to stderr.

    `opened` gets the folder of the index, which it loads if it has been saved, and the settings.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    recogniser = opened(Path(sys.argv[1]), json.loads(sys.argv[2]))
    for line in sys.stdin:
        _answer(recogniser, json.loads(line), answers)


def _answer(recogniser: Recogniser, request: Mapping[str, str], answers: TextIO) -> None:
    begin = _worked()
    try:
        reply = _done(recogniser, request) | {"seconds": _worked() - begin}
    except Exception as error:  # third-party packages raise any type
        reply = {"error": f"{type(error).__name__}: {error}"}
    answers.write(json.dumps(reply) + "\n")
    answers.flush()


def _worked() -> float:
    """Processor time of this process and of the programs it ran, so that waiting does not count."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _done(recogniser: Recogniser, request: Mapping[str, str]) -> dict[str, Any]:
    if request["do"] == "add":
        recogniser.add(request["name"], Path(request["wav"]))
        return {}
    if request["do"] == "save":
        recogniser.save()
        return {}
    return {"best": recogniser.identify(Path(request["wav"]))}
