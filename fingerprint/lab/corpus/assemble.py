"""Assemble the corpus: download, unpack, probe every file, choose, write the manifest.

Every stage writes its result to disk, whole or not at all, and is skipped if the result exists, so
a run that was stopped resumes. Below the root:

    debs/        downloaded packages
    audio/       their audio, a folder a package
    probed/      what each file holds, a file a package
    manifest.jsonl, dropped.jsonl
    cache/       decoded audio and responses, made when first needed

`additions` makes more music to train on beside it, in folders of its own.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from fingerprint.disk import locked
from fingerprint.errors import CorpusError
from fingerprint.lab.corpus.config import CorpusConfig, Kind, Role
from fingerprint.lab.corpus.debian import download, unpack_audio
from fingerprint.lab.corpus.duplicates import duplicate_groups
from fingerprint.lab.corpus.manifest import Corpus, CorpusFile, write_lines, write_manifest
from fingerprint.lab.corpus.probe import Probe, probe_file, probe_package, worker_pool

DROPPED = "dropped.jsonl"
# Of copies with one purpose, the first is kept. Of copies with several purposes, the one whose role
# comes first here is kept: no test may contain what a model was trained on.
KEPT_OF_STRADDLING: tuple[Role, ...] = ("train", "test-unknown", "sounds-train", "responses-train")
OWN_ROLES: tuple[Role, ...] = (  # of ten recordings of one's own, in the order of their digests
    "train", "validation", "train", "test", "train", "test-unknown", *4 * ("train",)
)  # fmt: skip
LEAST_OWN = 2  # recordings: one to train on, one for validation


@dataclass(frozen=True, slots=True)
class Step:
    """Progress: item `number` of `total`, the package it is of, and what is being done to it."""

    number: int
    total: int
    package: str
    stage: str  # "download", "unpack", "decode" or "make"


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file that is not in the corpus, and why."""

    package: str
    path: str  # relative to the package's folder
    reason: str


@dataclass(frozen=True, slots=True)
class Assembly:
    """The files of the corpus, and those that were left out."""

    corpus: Corpus
    dropped: tuple[Dropped, ...]


def assemble(
    config: CorpusConfig,
    root: Path,
    *,
    packages: Sequence[str] = (),
    jobs: int = 1,
    on_step: Callable[[Step], None] = lambda _: None,
) -> Assembly:
    """Assemble the corpus, or only some of its packages, under `root`.

    Raises:
        CorpusError: a package is not in the configuration, cannot be had or is damaged.
    """
    if unknown := sorted(set(packages) - set(config.packages)):
        raise CorpusError(f"not a package of the corpus: {', '.join(unknown)}")
    wanted = tuple(packages) or config.packages
    found: list[tuple[str, Probe]] = []
    with locked(root), worker_pool(jobs) as pool:
        for number, package in enumerate(wanted, start=1):
            step = partial(_report, on_step, number, len(wanted), package)
            folder = _fetch(package, root, step)
            record = root / "probed" / f"{package}.jsonl"
            probes = probe_package(folder, record, pool, partial(step, "decode"))
            found += [(package, probe) for probe in probes]
        files, dropped = choose(config, root.resolve(), found)
        corpus = Corpus(root.resolve(), files, config.rooms)
        write_lines(root / DROPPED, map(asdict, dropped))
        write_manifest(corpus)
    return Assembly(corpus, dropped)


def assemble_own(
    music: Sequence[Path],
    config: CorpusConfig,
    root: Path,
    *,
    jobs: int = 1,
    on_step: Callable[[Step], None] = lambda _: None,
) -> Assembly:
    """Make a corpus under `root` of recordings, which stay where they are, and simulated rooms.

    Of ten recordings one is for validation, one for tests, and one for tests in which it is not in
    the library; the rest is trained on. Without recorded sounds, noise is made by formula.

    Raises:
        CorpusError: fewer than two recordings can be used.
    """
    found: list[tuple[Path, Probe]] = []
    dropped: list[Dropped] = []
    with locked(root), worker_pool(jobs) as pool:
        folders, names = [path.parent for path in music], [path.name for path in music]
        for number, probe in enumerate(pool.map(probe_file, folders, names), start=1):
            on_step(Step(number, len(music), probe.path, "decode"))
            short = f"under {config.shortest_music:g} s" * (probe.seconds < config.shortest_music)
            if reason := probe.error or short:
                dropped.append(Dropped(folders[number - 1].name, probe.path, reason))
            else:
                found.append((music[number - 1], probe))
        copy_of = {
            i: first
            for first, *copies in duplicate_groups([probe for _, probe in found])
            for i in copies
        }
        for i, first in copy_of.items():
            path, reason = found[i][0], f"duplicate of {found[first][0].name}"
            dropped.append(Dropped(path.parent.name, path.name, reason))
        kept = [one for i, one in enumerate(found) if i not in copy_of]
        if len(kept) < LEAST_OWN:
            raise CorpusError(
                f"{len(kept)} of {len(music)} recordings can be used; training needs at least "
                f"{LEAST_OWN}, each of {config.shortest_music:g} s or more"
            )
        kept.sort(key=lambda one: one[1].digest)
        files = tuple(
            CorpusFile(
                path=path.absolute(),
                package=path.parent.name,
                role=OWN_ROLES[place % len(OWN_ROLES)],
                kind="music",
                seconds=probe.seconds,
                sample_rate=probe.sample_rate,
                sha256=probe.sha256,
                digest=probe.digest,
            )
            for place, (path, probe) in enumerate(kept)
        )
        corpus = Corpus(root.resolve(), files, config.rooms)
        write_manifest(corpus)
    return Assembly(corpus, tuple(dropped))


def _report(
    on_step: Callable[[Step], None], number: int, total: int, package: str, stage: str
) -> None:
    on_step(Step(number, total, package, stage))


def _fetch(package: str, root: Path, step: Callable[[str], None]) -> Path:
    folder = audio_folder(root, package)
    if not folder.exists():
        step("download")
        deb = download(package, root / "debs")
        step("unpack")
        unpack_audio(deb, folder)
    return folder


def audio_folder(root: Path, package: str) -> Path:
    """Where a package's audio lies."""
    return root / "audio" / package


def choose(
    config: CorpusConfig, root: Path, found: Iterable[tuple[str, Probe]]
) -> tuple[tuple[CorpusFile, ...], tuple[Dropped, ...]]:
    """Split the probed files into those of the corpus and those that are left out."""
    dropped: list[Dropped] = []
    kept: list[tuple[CorpusFile, Probe]] = []
    for package, probe in found:
        purpose = None if probe.error else config.purpose(package, probe.path, probe.seconds)
        if purpose is None:
            idle = f"no use: under {config.shortest_music:g} s and not listed as sound or response"
            dropped.append(Dropped(package, probe.path, probe.error or idle))
            continue
        kept.append((_corpus_file(root, package, *purpose, probe), probe))
    reasons = duplicate_reasons([file for file, _ in kept], [probe for _, probe in kept])
    for i, reason in sorted(reasons.items()):
        file, probe = kept[i]
        dropped.append(Dropped(file.package, probe.path, reason))
    files = [file for i, (file, _) in enumerate(kept) if i not in reasons]
    return tuple(files), tuple(dropped)


def duplicate_reasons(files: Sequence[CorpusFile], probes: Sequence[Probe]) -> dict[int, str]:
    """The copies to leave out, by index, each with the reason."""
    reasons: dict[int, str] = {}
    for group in duplicate_groups(probes):
        straddles = len({files[i].role for i in group}) > 1
        stays = _first_to_stay(files, group, straddles=straddles)
        for i in group:
            if i != stays:
                other = files[stays if stays is not None else next(j for j in group if j != i)]
                straddling = other.role != files[i].role
                across = f" across {files[i].role} and {other.role}" if straddling else ""
                reasons[i] = f"duplicate{across} of {other.package}/{other.path.name}"
    return reasons


def _first_to_stay(
    files: Sequence[CorpusFile], group: Sequence[int], *, straddles: bool
) -> int | None:
    if not straddles:
        return group[0]
    safe = [i for i in group if files[i].role in KEPT_OF_STRADDLING]
    return min(safe, key=lambda i: KEPT_OF_STRADDLING.index(files[i].role), default=None)


def _corpus_file(root: Path, package: str, role: Role, kind: Kind, probe: Probe) -> CorpusFile:
    return CorpusFile(
        path=audio_folder(root, package) / probe.path,
        package=package,
        role=role,
        kind=kind,
        seconds=probe.seconds,
        sample_rate=probe.sample_rate,
        sha256=probe.sha256,
        digest=probe.digest,
    )
