"""Real recordings with every peer: the library holds the corpus's tracks and the set's own.

Each peer's index of the corpus is copied, and the set's tracks are added to the copy. Answers are
kept, one a line, as those to simulated queries are.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fingerprint.audio.decode import load_clip
from fingerprint.errors import ConfigError
from fingerprint.lab.benchmark.material import WORKING_RATE
from fingerprint.lab.benchmark.run import OnProgress, Progress
from fingerprint.lab.corpus.recordings import content_key
from fingerprint.lab.peers.answers import records
from fingerprint.lab.peers.client import Client
from fingerprint.lab.peers.indexing import Tracks, index
from fingerprint.lab.peers.peer import Peer, as_wav
from fingerprint.lab.real.folder import RealSet
from fingerprint.lab.real.measure import WHOLE, middle
from fingerprint.lab.real.report import SongShare, by_song
from fingerprint.lab.report_format import markdown_table, number

LENGTHS = (WHOLE, "5", "3", "2")  # s
FIGURES = ("top1", "answered_right", "answered_wrong", "unknown_answered")


@dataclass(frozen=True, slots=True)
class RealStanding:
    """A system and its figures of each length, by the names of `FIGURES`."""

    title: str
    rows: Mapping[str, Mapping[str, SongShare]]


def query_real(
    real: RealSet, corpus: Tracks, peers: Sequence[Peer], on_progress: OnProgress
) -> list[RealStanding]:
    """Index the set's tracks, send every query at every length, and return the peers' figures.

    Raises:
        PeerError: a peer failed.
    """
    key = content_key([str(path) for path in real.references])
    grown = [_copied(peer, key) for peer in peers]
    index([*corpus, *((str(path), path) for path in real.references)], grown, 1, on_progress)
    found = []
    for peer in grown:
        answers = _answers(real, peer, on_progress)
        found.append(RealStanding(peer.system.title, _rows(real, answers)))
    return found


def read_real(evaluation: Path) -> RealStanding:
    """The figures that `fingerprint evaluate --real` wrote to a folder.

    Raises:
        ConfigError: it wrote none there, or not of these lengths.
    """
    try:
        figures = json.loads((evaluation / "real.json").read_text(encoding="utf-8"))
    except OSError:
        figures = {"all": []}
    rows = {row["length"]: row for row in figures["all"]}
    if not set(LENGTHS) <= rows.keys():
        raise ConfigError(
            f"there are no figures of real recordings of {', '.join(LENGTHS)} in {evaluation}; "
            f"run: fingerprint evaluate --real DIR --output {evaluation}"
        )
    names = ("hits", "total", "songs", "low", "high")
    return RealStanding(
        "fingerprint",
        {
            length: {
                figure: SongShare(*(rows[length][figure][name] for name in names))
                for figure in FIGURES
            }
            for length in LENGTHS
        },
    )


def table(standings: Sequence[RealStanding], real: RealSet) -> str:
    """One row a system, the lengths beside each other; Markdown."""
    known = [line for line in real.lines if line.reference is not None]
    songs = len({line.song for line in known})
    lengths = "/".join("10" if length == WHOLE else length for length in LENGTHS)
    head = ["system", f"top-1, {lengths} s", "answered and right", "answered and wrong", "unknown"]
    rows = [
        [one.title, *("/".join(_percent(one, k, figure) for k in LENGTHS) for figure in FIGURES)]
        for one in standings
    ]
    return (
        f"{len(known)} recordings of {songs} songs and {len(real.lines) - len(known)} of unknown "
        "ones, in %. Answered: as each system's own threshold decides.\n\n"
        + markdown_table(head, rows)
    )


def _copied(peer: Peer, key: str) -> Peer:
    """The peer with a copy of its index, in a folder of its own."""
    copy = replace(peer, folder=peer.folder.with_name(f"{peer.folder.name}-real-{key}"))
    if not copy.folder.exists():
        part = copy.folder.with_name(copy.folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(peer.index, part / peer.index.name)
        shutil.copy(peer.noted, part)
        part.rename(copy.folder)
    return copy


def _answers(
    real: RealSet, peer: Peer, on_progress: OnProgress
) -> dict[tuple[str, str], dict[str, Any]]:
    """What a peer named for each query at each length, and whether it was sure."""
    file = peer.folder / "answers-real.jsonl"
    found = records(file)
    answers = {(one["query"], one["length"]): one for one in found}
    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(one) + "\n" for one in found)
        lines.flush()
        with peer.start() as client:
            total = len(real.lines) * len(LENGTHS)
            for one in _new_answers(real, client, answers):
                lines.write(json.dumps(one) + "\n")
                lines.flush()
                answers[one["query"], one["length"]] = one
                on_progress(Progress(f"real queries: {peer.system.name}", len(answers), total))
    return answers


def _new_answers(
    real: RealSet, client: Client, answered: Mapping[tuple[str, str], object]
) -> Iterator[dict[str, Any]]:
    for line in real.lines:
        lacking = [length for length in LENGTHS if (line.query, length) not in answered]
        if not lacking:
            continue
        clip = load_clip(real.file(line.query), WORKING_RATE)
        for length in lacking:
            with as_wav(middle(clip, length)[0], [client]) as wavs:
                reply = client.ask(do="identify", wav=str(wavs[client.system.sample_rate]))
            track, _, sure = reply["best"] or ("", 0.0, False)
            yield {"query": line.query, "length": length, "track": track, "sure": bool(sure)}


def _rows(
    real: RealSet, answers: Mapping[tuple[str, str], Mapping[str, Any]]
) -> dict[str, dict[str, SongShare]]:
    def figures(length: str) -> dict[str, SongShare]:
        known: list[tuple[str, bool, bool]] = []
        unknown: list[tuple[str, bool, bool]] = []
        for line in real.lines:
            answer = answers[line.query, length]
            right = Path(answer["track"]) in real.correct(line)
            into = unknown if line.reference is None else known
            into.append((line.song, right, answer["sure"] and bool(answer["track"])))
        return {
            "top1": by_song((song, right) for song, right, _ in known),
            "answered_right": by_song((song, right and sure) for song, right, sure in known),
            "answered_wrong": by_song((song, sure and not right) for song, right, sure in known),
            "unknown_answered": by_song((song, sure) for song, _, sure in unknown),
        }

    return {length: figures(length) for length in LENGTHS}


def _percent(standing: RealStanding, length: str, figure: str) -> str:
    return number(100 * standing.rows[length][figure].value)
