"""Indexing on a Ray cluster: shards of the files are embedded by workers and imported here.

    driver    sift the files, cut them into shards, hand each worker two of them; import the
              shards that come back, each in one transaction, and delete their files
    worker    an actor that has loaded the model: embeds a shard and writes its file
    decoder   a streaming task: decodes the files of a shard in a confined process; it waits
              while `IN_FLIGHT` recordings have not been embedded yet

The shard files are the only state. If a worker dies, another one embeds its shard again. If the
driver dies, its next run first imports the finished shards beside its library. A shard that is
embedded twice gives the same file, and a track that is imported twice is recognised by its path and
its content. Plain `index` runs the same `embed_all` and commits to the library directly.
"""

import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from fingerprint.audio.files import display_name
from fingerprint.errors import FingerprintError, LibraryError
from fingerprint.library import shards
from fingerprint.library.decoding import Outcome, decode_all
from fingerprint.library.embedding import Failure, Recording, embed_all
from fingerprint.library.indexing import OnDuplicate, Progress, Report, Run
from fingerprint.library.library import Library
from fingerprint.library.records import Stamp
from fingerprint.library.shards import Shard
from fingerprint.machine import available_cores
from fingerprint.model.fingerprinter import DEFAULT_WEIGHTS, Fingerprinter

LOCAL = "local"  # the address of a cluster that is started on this machine, for this run
AUTO = "auto"  # the one that runs on this machine
PORT, CLIENT_PORT = 6_379, 10_001
REACHABLE = 5.0  # s in which a cluster must accept a connection
AHEAD = 2  # shards per worker: one that it embeds, one that waits
IN_FLIGHT = 2  # decoded recordings, or minutes of long ones, that wait for a worker, per decoder
FEWEST_FILES = 4  # in a shard; of `shards.MOST_FILES` at most
SHARDS_EACH = 4  # shards per worker, at least, so that workers end at about the same time
TRIES = 3  # attempts at a shard, or at starting workers
PAUSE = 1.0  # s between two progress reports
SETTINGS = {  # Ray's environment variables, unless the user has set them
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # in a cluster of our own, workers run at the driver's priority
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
STORE = 1 << 28  # bytes of Ray's object store in a cluster of our own, and for each worker

Results = list[Recording | Failure]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the cluster is used for: `workers` at most (0: all it has), and where they run."""

    address: str = LOCAL
    workers: int = 0
    device: str = "auto"  # of the workers; one GPU each if the cluster has any
    model: Path | None = None  # None: the shipped one; workers get the bytes of the driver's file
    shards: Path | None = None  # a folder that driver and workers share; None: in the library


def index_on_ray(
    library: Library,
    paths: Sequence[Path],
    plan: Plan,
    *,
    on_duplicate: OnDuplicate = "add",
    strict: bool = False,
    stream: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Report:
    """Add recordings to a library, embedded on a Ray cluster; otherwise as `index_files`.

    Raises:
        LibraryError: the cluster cannot be reached or used, its workers do not see the folder of
            the shards, a disk is full, another process is writing: what was imported stays, and so
            do the shards that are done, which the next run imports.
    """
    folder = (plan.shards or library.folder / "shards").absolute()
    with library.writing() as writer:
        run = Run(writer, library, on_duplicate, on_progress, strict=strict)
        todo = dict(run.sift(paths))
        for file in shards.files_in(folder):
            with suppress(FileNotFoundError):  # another run was faster
                _import_left(run, file, todo, library.model.id, stream)
        if todo:
            folder.mkdir(parents=True, exist_ok=True)
            with _connected(plan, len(todo)) as ray:
                share = share_of(plan, ray.cluster_resources(), len(todo))
                most = max(FEWEST_FILES, len(todo) // (SHARDS_EACH * share.workers))
                waiting = deque(shards.cut(todo, library.model.id, stream, most=most))
                crew = _Crew(ray, share, plan, folder, waiting)
                for shard, results in crew.results(run.report_progress):
                    run.take_shard(results)
                    (folder / shard.name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()  # fails if it holds shards of other runs
    return run.report


def check(address: str) -> None:
    """Raises LibraryError if Ray is not installed, or no machine answers at that address."""
    if find_spec("ray") is None:
        raise LibraryError("--ray needs Ray: pip install 'fingerprint[ray]'")
    if address in (LOCAL, AUTO):
        return
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        port = parts.port or (CLIENT_PORT if parts.scheme == "ray" else PORT)
        if not parts.hostname or parts.scheme not in ("", "ray"):
            raise ValueError("as in ray://host:10001 or host:6379")
        socket.create_connection((parts.hostname, port), REACHABLE).close()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise LibraryError(f"cannot reach a Ray cluster at {address}: {why}") from error


def _import_left(
    run: Run, file: Path, todo: dict[Path, Stamp], model_id: str, stream: int | None
) -> None:
    """Import a finished shard of an earlier run, if its files are still to be indexed."""
    found = shards.read(file, model_id, stream)
    if found is None:
        return  # of another model, or damaged; a damaged one is written again under the same name
    wanted = [
        one for one in found if not isinstance(one, Failure) and todo.get(one.path) == one.stamp
    ]
    run.take_shard(wanted)
    for one in wanted:
        del todo[one.path]
    file.unlink(missing_ok=True)


def _not_shared(folder: Path) -> LibraryError:
    return LibraryError(
        f"the workers and this machine do not share the folder {display_name(folder)}: name one "
        "that they share with --shards"
    )


# The driver's side of the cluster


@contextmanager
def _connected(plan: Plan, most: int) -> Iterator[Any]:
    """Connect to Ray; a cluster of our own ends with the block. At most `most` workers are needed.

    Raises:
        LibraryError: there is no such cluster, or it is of another version.
    """
    check(plan.address)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if plan.address != LOCAL and _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if plan.address == LOCAL:
        workers = min(plan.workers or available_cores(), most)
        options |= {
            "num_cpus": max(available_cores(), workers),
            "include_dashboard": False,
            "object_store_memory": STORE * (1 + workers),
        }
    _init(ray, plan.address, options)
    try:
        yield ray
    finally:
        ray.shutdown()


def _init(ray: Any, address: str, options: Mapping[str, Any]) -> None:
    """Connect to a cluster. One of our own is started up to `TRIES` times."""
    for tried in range(1, TRIES + 1):
        try:
            ray.init(address, **options)
            return
        except (Exception, SystemExit) as error:  # Ray raises SystemExit if it gets no answer
            ray.shutdown()
            if address == LOCAL and tried < TRIES:
                continue
            why = str(error).strip().partition("\n")[0]
            if address == AUTO and isinstance(error, ConnectionError):
                why = "none runs on this machine; without an address, --ray starts one"
            raise LibraryError(f"cannot use the Ray cluster at {address}: {why}") from error


def _has_token() -> bool:
    """Whether there is a token for clusters that require one, as `ray start` looks for it."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return True
    with suppress(RuntimeError):  # there is no home
        return (Path.home() / ".ray" / "auth_token").is_file()
    return False


class _Crew:
    """The workers, and the shards that each one has."""

    def __init__(
        self, ray: Any, share: "Share", plan: Plan, folder: Path, waiting: deque[Shard]
    ) -> None:
        self._ray, self._share, self._folder, self._waiting = ray, share, folder, waiting
        self._model_id = waiting[0].model_id
        self._model = ray.put(_model_files(plan.model or DEFAULT_WEIGHTS))
        self._ready: list[Any] = []  # workers that have loaded the model
        self._running: dict[Any, tuple[Any, Shard | None]] = {}  # by call: a worker and its shard
        self._tries = Counter[str]()  # failed attempts by the name of the shard
        self._failed_starts = 0  # in a row
        for _ in range(min(share.workers, len(waiting))):
            self._start()

    def results(self, tell: Callable[[], None]) -> Iterator[tuple[Shard, Results]]:
        """Yields each shard with its results when it is done; failures, if workers die of it.

        Raises:
            LibraryError: no worker can start, or go on.
        """
        while self._waiting or any(shard for _, shard in self._running.values()):
            done, _ = self._ray.wait(list(self._running), timeout=PAUSE)
            for call in done:
                if call in self._running:
                    yield from self._done(call)
            self._hand_out()
            tell()

    def _done(self, call: Any) -> Iterator[tuple[Shard, Results]]:
        worker, shard = self._running[call]
        errors = self._ray.exceptions
        try:
            self._ray.get(call)
        except errors.RayTaskError as error:
            cause = _cause(error)
            if not isinstance(cause, errors.RayError):
                raise _one_line(cause) from error
            yield from self._lost(worker, cause)  # its decoder has died, time and again
        except errors.RayError as error:
            yield from self._lost(worker, error)
        else:
            del self._running[call]
            if shard is not None:
                yield from self._read(shard)
            else:
                self._ready.append(worker)
                self._failed_starts = 0

    def _read(self, shard: Shard) -> Iterator[tuple[Shard, Results]]:
        """A shard with the results in its file; a shard whose file is missing is queued again.

        Another run may have imported and deleted it.

        Raises:
            LibraryError: the file was missing at every attempt.
        """
        found = None
        with suppress(FileNotFoundError):
            found = shards.read(self._folder / shard.name, shard.model_id, shard.stream)
        if found is not None:
            yield shard, found
        elif self._is_last_try(shard):
            raise _not_shared(self._folder)
        else:
            self._waiting.appendleft(shard)

    def _start(self) -> None:
        """Start a worker; it gets shards once it has loaded the model."""
        kind = self._ray.remote(_Worker).options(**self._share.resources)
        worker = kind.remote(self._share, self._folder)
        self._running[worker.load.remote(self._model, self._model_id)] = worker, None

    def _hand_out(self) -> None:
        """Give each worker a shard, and then a second one that waits."""
        for has in range(AHEAD):
            busy = Counter(id(worker) for worker, _ in self._running.values())
            for worker in self._ready:
                if self._waiting and busy[id(worker)] <= has:
                    shard = self._waiting.popleft()
                    self._running[worker.embed.remote(shard)] = worker, shard

    def _is_last_try(self, shard: Shard) -> bool:
        self._tries[shard.name] += 1
        return self._tries[shard.name] == TRIES

    def _lost(self, worker: Any, error: BaseException) -> Iterator[tuple[Shard, Results]]:
        """A worker has died: give its shards to the others, and start another worker."""
        self._ray.kill(worker)
        if worker in self._ready:
            self._ready.remove(worker)
        else:
            self._failed_starts += 1
            if self._failed_starts == TRIES:
                raise LibraryError(f"no worker can start: {_last_line(error)}") from error
        calls = [call for call, (one, _) in self._running.items() if one is worker]
        held = [shard for call in calls if (shard := self._running.pop(call)[1])]
        if held and self._is_last_try(held[0]):  # the shards behind it had not been begun
            shard = held.pop(0)
            why = f"{TRIES} workers died of it, or of a file beside it in the list"
            yield shard, [Failure(path, _cannot_read(path, why)) for path in shard.files]
        self._waiting.extendleft(reversed(held))
        self._start()


def _cannot_read(path: Path, why: str) -> str:
    return f"cannot read {display_name(path)}: {why}"


def _cause(error: BaseException) -> BaseException:
    """The original exception, which nested remote calls wrap several times."""
    while (cause := getattr(error, "cause", None)) is not None and cause is not error:
        error = cause
    return error


def _one_line(cause: BaseException) -> FingerprintError:
    """The message of a worker's failure."""
    if isinstance(cause, FingerprintError):
        return cause
    where, why = "", _last_line(cause)
    if isinstance(cause, OSError) and cause.strerror:
        where, why = f"{display_name(cause.filename)}: " if cause.filename else "", cause.strerror
    return LibraryError(f"a worker cannot go on: {where}{why}; what is done is kept")


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@dataclass(frozen=True, slots=True)
class Share:
    """The number of workers, and the resources that each one takes of the cluster."""

    workers: int
    device: str
    threads: int  # of the CPU, to embed
    decoders: int
    resources: dict[str, int]  # of a worker
    decoding: int  # processors of each of its decoders; 0: they share its own, and its machine


def share_of(plan: Plan, resources: Mapping[str, float], most: int) -> Share:
    """The share of each worker. With GPUs, a worker has one, and its share of the processors
    decodes for it, on any machine.

    Without, decoding takes about as long as embedding: a worker has a processor for both. Workers
    never take what their decoders wait for.
    """
    cpus, gpus = max(1, int(resources.get("CPU", 1))), int(resources.get("GPU", 0))
    if plan.device == "cuda" and not gpus:
        raise LibraryError("the Ray cluster has no GPU: use --device cpu")
    if gpus and plan.device != "cpu":
        workers = min(plan.workers or gpus, most)
        decoders = max(1, cpus // workers)
        return Share(workers, "cuda", 1, decoders, {"num_gpus": 1, "num_cpus": 0}, 1)
    workers = min(plan.workers or cpus, most)
    return Share(workers, "cpu", max(1, cpus // workers), 1, {"num_cpus": 1}, 0)


def _model_files(file: Path) -> dict[str, bytes]:
    """The bytes of a model and of its ONNX export by file name, for the workers."""
    export = file.with_suffix(".onnx")
    return {one.name: one.read_bytes() for one in {file, export} if one.is_file()}


# The workers' side


class _Worker:
    """An actor that embeds shards, one after the other, with a model that it loads once."""

    def __init__(self, share: Share, folder: Path) -> None:
        self._share, self._folder = share, folder

    def load(self, files: Mapping[str, bytes], model_id: str) -> None:
        """Raises ModelError, or LibraryError if it is another model here than there."""
        with TemporaryDirectory(prefix="fingerprint-") as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            chosen = min(files, key=lambda name: name.endswith(".onnx"))  # the checkpoint, if any
            place, share = Path(folder) / chosen, self._share
            self._model = Fingerprinter.load(place, share.device, threads=share.threads, warn=False)
        if self._model.id != model_id:
            raise LibraryError("the workers have another version of fingerprint than this machine")

    def embed(self, shard: Shard) -> None:
        """Embed a shard and write its file, unless the file exists."""
        if not self._folder.is_dir():
            raise _not_shared(self._folder)
        with suppress(FileNotFoundError):
            file = self._folder / shard.name
            if shards.read(file, shard.model_id, shard.stream) is not None:
                return
        with closing(_decoded(shard, self._model.sample_rate, self._share)) as decoded:
            results = list(embed_all(decoded, shard.files, self._model))
        try:
            shards.write(self._folder, shard, results)
        except OSError as error:
            where, why = display_name(self._folder), error.strerror or error
            raise LibraryError(
                f"a worker cannot write to {where}: {why}; what was done before is kept: run again"
            ) from error


def _decoded(
    shard: Shard, sample_rate: int, share: Share
) -> Generator[tuple[Path, Outcome], None, None]:
    """The decoded files of a shard as decoders finish, at most `IN_FLIGHT` ahead."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    options: dict[str, Any] = {"num_cpus": share.decoding, "num_returns": "streaming"}
    options["_generator_backpressure_num_objects"] = IN_FLIGHT
    if not share.decoding:
        here = ray.get_runtime_context().get_node_id()
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(here, soft=True)
    kind: Any = ray.remote(_decode).options(**options)
    files = list(shard.files)
    parts = [files[first :: share.decoders] for first in range(share.decoders)]
    streams: deque[Any] = deque(
        kind.remote(part, sample_rate, shard.stream) for part in parts if part
    )
    try:
        while streams:
            ready: list[Any] = ray.wait(list(streams), num_returns=1)[0]
            stream = ready[0]
            try:
                yield ray.get(next(stream))
            except StopIteration:
                streams.remove(stream)
            else:
                streams.rotate(-1)
    finally:
        for stream in streams:
            ray.cancel(stream)


def _decode(
    files: Iterable[Path], sample_rate: int, stream: int | None
) -> Iterator[tuple[Path, Outcome]]:
    yield from decode_all(files, sample_rate, jobs=1, stream=stream)
