"""Changes to a library whose outcome is known at every step, with tracks made by a generator."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fingerprint.errors import LibraryError
from fingerprint.index.quantisation import encode
from fingerprint.library.library import create
from fingerprint.library.profiles import PROFILES
from fingerprint.library.records import Meta, Stamp
from fingerprint.library.segments import strays
from fingerprint.library.snapshot import Snapshot, take_snapshot
from fingerprint.library.store import Catalog
from fingerprint.library.verify import check
from fingerprint.library.writer import Changes, Copy, Entry, Relabel, Writer, writing
from fingerprint.recognition.matcher import rank
from fingerprint.types import Candidate, Fingerprint, Floats, Tags, Track

DIM = 32
HOP = 0.25  # s
ROWS = 60  # of a track
RATES = (0.8, 1.2)
INSPECTED = 2_000  # nodes of the index a row
State = dict[Path, int]  # which generated track each path holds


def embeddings(seed: int, rows: int = ROWS, dim: int = DIM) -> Floats:
    """The track number `seed`: a walk through unit vectors, as smooth as music's, (rows, dim)."""
    steps = np.random.default_rng(seed).standard_normal((rows + 3, dim))
    smooth = steps[:-3] + steps[1:-2] + steps[2:-1] + steps[3:]
    unit: Floats = (smooth / np.linalg.norm(smooth, axis=1, keepdims=True)).astype(np.float32)
    return unit


def path_of(number: int) -> Path:
    """Where the track of that number would be."""
    return Path(f"/music/{number:06d}.wav")


def entry(number: int, seed: int | None = None) -> Entry:
    """A generated track, by default that of its path's number."""
    vectors = embeddings(number if seed is None else seed)
    track = Track(path_of(number), ROWS * HOP)
    return Entry(track, Stamp(number, number), vectors, bytes([number % 256]) * 16)


def kind(profile: str) -> Meta:
    """What the libraries are made for."""
    return Meta("robustness", DIM, HOP, PROFILES[profile])


@dataclass(frozen=True, slots=True)
class Step:
    """A change that is one transaction, and what it makes of the library."""

    name: str
    act: Callable[[Writer], object]
    change: Callable[[State], State]


def _without(state: State, *numbers: int) -> State:
    return {path: seed for path, seed in state.items() if path not in map(path_of, numbers)}


def _compact(writer: Writer) -> None:
    segments, _ = writer.catalog.layout()
    writer.rewrite(segments)


def _shuffle(writer: Writer) -> None:
    moved = writer.catalog.by_path(path_of(2))
    removed = writer.catalog.by_path(path_of(3))
    if moved is None or removed is None:
        raise LibraryError("the tracks to change are not in the library")
    writer.apply(
        Changes(
            relabels=[Relabel(moved.id, path_of(102), Stamp(9, 9), Tags(title="moved"))],
            removed=[removed.id],
            entries=[entry(4, seed=204)],
            copies=[Copy(path_of(300), Stamp(1, 1), path_of(102))],
        )
    )


STEPS = (
    Step(
        "add three",
        lambda writer: writer.add([entry(n) for n in (10, 11, 12)]),
        lambda state: state | {path_of(n): n for n in (10, 11, 12)},
    ),
    Step("remove", lambda writer: writer.remove([path_of(1)]), lambda state: _without(state, 1)),
    Step(
        "move, remove and replace",
        _shuffle,
        lambda state: _without(state, 2, 3) | {path_of(102): 2, path_of(4): 204},
    ),
    Step("compact", _compact, lambda state: state),
    Step(
        "add one",
        lambda writer: writer.add([entry(14)]),
        lambda state: state | {path_of(14): 14},
    ),
)


def begin(folder: Path, profile: str) -> State:
    """Make the library before the first step: six tracks in three segments."""
    create(folder, kind(profile))
    with writing(folder) as writer:
        for first in (0, 2, 4):
            writer.add([entry(first), entry(first + 1)])
    return {path_of(n): n for n in range(6)}


def states(first: State) -> list[State]:
    """What the library holds before the first step and after each."""
    found = [first]
    for step in STEPS:
        found.append(step.change(found[-1]))
    return found


def run_steps(
    folder: Path, on_done: Callable[[int], object] = lambda _step: None, *, since: int = 0
) -> None:
    """Run the steps from number `since` on; `on_done` gets the number of steps after each."""
    with writing(folder) as writer:
        for number, step in enumerate(STEPS[since:], start=since):
            step.act(writer)
            on_done(number + 1)


def state_of(folder: Path) -> State:
    """What the library holds, after checking every byte and querying every track.

    Raises:
        LibraryError: something is wrong with it.
    """
    catalog = Catalog(folder)
    try:
        for fault in check(catalog):
            raise LibraryError(f"{fault.path}: {fault.reason}")
        now = take_snapshot(catalog)
        found = {}
        for one in catalog.listed():
            seed = _seed(now, one.id, one.track.path)
            found[one.track.path] = seed
            if answer(now, catalog, seed) != one.track.path:
                raise LibraryError(f"{one.track.path} is not found")
        return found
    finally:
        catalog.close()


def _seed(now: Snapshot, track_id: int, path: Path) -> int:
    """Which generated track's codes are stored for this one."""
    (span,) = np.flatnonzero(now.owners == track_id)
    rows = now.vectors(np.arange(*now.rows.starts[span : span + 2], dtype=np.int64))
    profile = now.segments[0].meta.profile
    stored = encode(rows, profile.bits)
    seeds: list[int] = [*range(20), 204]
    for seed in seeds:
        if np.mean(encode(embeddings(seed)[:: profile.step], profile.bits) == stored) > 0.9:
            return seed
    raise LibraryError(f"{path} holds nothing that was ever added")


def answer(now: Snapshot, catalog: Catalog, seed: int, *, begins: int = 20) -> Path | None:
    """The track that an excerpt of ten rows of a generated track is from, by vote and score."""
    excerpt = embeddings(seed)[begins : begins + 10]
    best = ask(now, excerpt)
    if best is None or best.score < 0.8 or abs(best.offset - begins * HOP) > 4 * HOP:
        return None
    track = catalog.track(int(now.owners[best.track]))
    return None if track is None else track.path


def ask(now: Snapshot, excerpt: Floats) -> Candidate | None:
    """The best candidate for rows of a track, a hop apart."""
    if not now.segments:
        return None

    hits = now.search(excerpt, neighbours=10, search_k=INSPECTED)
    query = Fingerprint(excerpt, HOP)
    found = rank(query, hits, now, rates=RATES, most=50)
    return found[0] if found else None


def leftovers(folder: Path) -> list[str]:
    """Files in the library that belong to no segment."""
    catalog = Catalog(folder)
    try:
        segments, _ = catalog.layout()
    finally:
        catalog.close()
    return [path.name for path in strays(folder, (segment.id for segment in segments))]
