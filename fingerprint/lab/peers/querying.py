"""Query the peers with the queries that they have not answered yet."""

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from math import inf
from pathlib import Path
from queue import SimpleQueue

from fingerprint.disk import atomic_write
from fingerprint.lab.benchmark.conditions import Condition
from fingerprint.lab.benchmark.material import WORKING_RATE, Material
from fingerprint.lab.benchmark.queries import Query, make_query
from fingerprint.lab.benchmark.run import OnProgress, Progress
from fingerprint.lab.corpus import Corpus
from fingerprint.lab.peers.answers import Answer, Standing, read, write
from fingerprint.lab.peers.client import Client, version
from fingerprint.lab.peers.peer import Peer, as_wav

Key = tuple[str, int]  # a query: its condition and number


@dataclass(frozen=True)
class Plan:
    """Which queries to run: `queries` of each condition."""

    split: str
    seed: int
    queries: int
    conditions: Sequence[Condition]

    @cached_property
    def pairs(self) -> list[tuple[Condition, int]]:
        return [(c, number) for c in self.conditions for number in range(self.queries)]

    @cached_property
    def keys(self) -> set[Key]:
        return {(condition.name, number) for condition, number in self.pairs}

    def of(self, answers: Sequence[Answer]) -> list[Answer]:
        """The answers to these queries."""
        return [a for a in answers if (a.condition, a.number) in self.keys]


@dataclass(frozen=True, slots=True)
class Task:
    """A query, and the numbers of the peers that have to answer it."""

    condition: Condition
    number: int
    peers: Sequence[int]


def query_peers(
    corpus: Corpus,
    material: Material,
    peers: Sequence[Peer],
    plan: Plan,
    jobs: int,
    on_progress: OnProgress,
) -> None:
    """Run every query that a peer has not answered yet, and append its answer to the peer's file.

    `jobs` queries run at a time; the answers do not depend on it.

    Raises:
        PeerError: a peer failed.
    """
    done = {peer.folder: _kept(peer.answers(plan.split, plan.seed)) for peer in peers}
    lacking = [peer for peer in peers if not plan.keys <= done[peer.folder]]
    tasks = _tasks(plan, [done[peer.folder] for peer in lacking])
    with ExitStack() as stack:
        files = [peer.answers(plan.split, plan.seed) for peer in lacking]
        lines = [stack.enter_context(file.open("a", encoding="utf-8")) for file in files]
        teams: SimpleQueue[list[Client]] = SimpleQueue()  # one a thread
        for _ in range(jobs if tasks else 0):
            teams.put([stack.enter_context(peer.start()) for peer in lacking])
        answered = stack.enter_context(closing(_answered(corpus, material, plan, teams, tasks)))
        for count, answers in enumerate(answered, len(plan.pairs) - len(tasks) + 1):
            for number, answer in answers.items():
                lines[number].write(write(answer))
                lines[number].flush()
            on_progress(Progress("queries", count, len(plan.pairs)))


def _kept(file: Path) -> set[Key]:
    """The queries that were answered before; the file is freed of a line that was cut off."""
    answers = read(file)
    with atomic_write(file) as draft:
        draft.write_text("".join(map(write, answers)), encoding="utf-8")
    return {(a.condition, a.number) for a in answers}


def _tasks(plan: Plan, done: Sequence[set[Key]]) -> list[Task]:
    tasks = [
        Task(
            condition, number, [i for i, d in enumerate(done) if (condition.name, number) not in d]
        )
        for condition, number in plan.pairs
    ]
    return [task for task in tasks if task.peers]


def _answered(
    corpus: Corpus,
    material: Material,
    plan: Plan,
    teams: SimpleQueue[list[Client]],
    tasks: Sequence[Task],
) -> Generator[dict[int, Answer], None, None]:
    """The answers to every task, in order, by the numbers of the peers; a thread a team."""

    def work(task: Task) -> dict[int, Answer]:
        condition, number = task.condition, task.number
        query = make_query(
            material, condition, seed=plan.seed, number=number, sample_rate=WORKING_RATE
        )
        truth = query.truth.path.relative_to(corpus.root).as_posix()
        team = teams.get()
        try:
            clients = {i: team[i] for i in task.peers}
            return _answers_of(clients, query, condition.name, number, truth)
        finally:
            teams.put(team)

    pool = ThreadPoolExecutor(max(1, teams.qsize()))  # the peers' processes do the work
    try:
        yield from pool.map(work, tasks)
    finally:
        pool.shutdown(cancel_futures=True)


def _answers_of(
    clients: dict[int, Client], query: Query, condition: str, number: int, truth: str
) -> dict[int, Answer]:
    answers = {}
    with as_wav(query.clip, list(clients.values())) as wavs:
        for i, client in clients.items():
            reply = client.ask(do="identify", wav=str(wavs[client.system.sample_rate]))
            track, score, sure = reply["best"] or ("", -inf, False)
            answers[i] = Answer(
                condition, number, query.snr_db, truth, track, score, sure, reply["seconds"]
            )
    return answers


def standing(peer: Peer, plan: Plan) -> Standing:
    """A peer's row of the table."""
    state, system = peer.state(), peer.system
    size = sum(file.stat().st_size for file in peer.index.iterdir())
    return Standing(
        title=system.title,
        version=version(system),
        settings=system.settings_text,
        answers=plan.of(read(peer.answers(plan.split, plan.seed))),
        speed=3600 * state.hours / state.seconds,
        megabytes=size / 1e6 / state.hours,
    )
