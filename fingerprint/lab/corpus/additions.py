"""More music to train on, beside the corpus: scores that are rendered, and songs by formula.

An addition is a role and a folder of its own below the corpus's root: a compressed file and a
record (.json) a piece, manifest.jsonl and dropped.jsonl. The corpus itself does not change. A
piece whose record is there is not made again; delete the folder to make all of them again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import numpy as np

from fingerprint.disk import atomic_write, locked
from fingerprint.errors import AudioError, CorpusError
from fingerprint.lab.corpus.assemble import DROPPED, Dropped, Step
from fingerprint.lab.corpus.config import ADDITIONS, AdditionRole, CorpusConfig, GeneratedConfig
from fingerprint.lab.corpus.debian import download, unpack_audio
from fingerprint.lab.corpus.duplicates import duplicate_groups
from fingerprint.lab.corpus.generate import generate
from fingerprint.lab.corpus.manifest import Corpus, CorpusFile, write_addition, write_lines
from fingerprint.lab.corpus.probe import Probe, probe_file, read_probes, worker_pool
from fingerprint.lab.corpus.render import MIDI, MODULES, SOUNDFONTS, check_renderers, render
from fingerprint.types import Floats

KEPT_RATE = 16_000  # Hz

OnStep = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class Piece:
    """A recording to make: its path below the addition's folder, and the function that makes it."""

    package: str  # whose score it plays
    path: str
    player: str
    make: Callable[[], Floats]  # (T,) at `KEPT_RATE`


@dataclass(frozen=True, slots=True)
class Addition:
    """The files of an addition, and those that were left out."""

    files: tuple[CorpusFile, ...]
    dropped: tuple[Dropped, ...]


def add_music(
    role: AdditionRole,
    config: CorpusConfig,
    root: Path,
    *,
    jobs: int = 1,
    on_step: OnStep = lambda _: None,
) -> Addition:
    """Make an addition to the corpus under `root`, or what is missing of it.

    Raises:
        CorpusError: there is no corpus, the configuration says nothing of this addition, a
            renderer is not installed, or a package cannot be had.
    """
    corpus = Corpus.open(root)
    with locked(root), worker_pool(jobs) as pool:
        pieces = _pieces(role, config, corpus.root, on_step)
        folder = corpus.root / role
        probes = list[Probe]()
        for piece, probe in zip(pieces, pool.map(partial(_made, folder), pieces), strict=True):
            probes.append(probe)
            on_step(Step(len(probes), len(pieces), piece.package, "make"))
        made = _choose(role, config.shortest_music, corpus, pieces, probes)
        write_lines(folder / DROPPED, map(asdict, made.dropped))
        write_addition(corpus.root, role, made.files)
    return made


def _pieces(
    role: AdditionRole, config: CorpusConfig, root: Path, on_step: OnStep
) -> tuple[Piece, ...]:
    if role == "rendered" and config.rendered is not None:
        check_renderers()
        return tuple(_renderings(config, root, on_step))
    if role == "generated" and config.generated is not None:
        return tuple(_songs(config.generated))
    raise CorpusError(f"the list of packages has no section {role!r}; add one to packages.yaml")


def _renderings(config: CorpusConfig, root: Path, on_step: OnStep) -> Iterator[Piece]:
    wanted = config.rendered
    assert wanted is not None  # noqa: S101 - asked before
    packages = dict.fromkeys([*wanted.packages, *(font.package for font in wanted.soundfonts)])
    folders = dict[str, Path]()
    for number, package in enumerate(packages, start=1):
        on_step(Step(number, len(packages), package, "download"))
        folders[package] = _scores(root, package)
    fonts = [_soundfont(folders[font.package], font.file) for font in wanted.soundfonts]
    for package in wanted.packages:
        folder = folders[package]
        for score in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = f"{package}/{score.relative_to(folder).as_posix()}"
            suffix = score.suffix.lower()
            for font in [None] if suffix in MODULES else fonts if suffix in MIDI else []:
                path = f"{name}.{font.stem}.flac" if font else f"{name}.flac"
                if any(fnmatchcase(path, pattern) for pattern in wanted.without):
                    continue
                make = partial(render, score, font, wanted.longest, KEPT_RATE)
                yield Piece(package, path, font.stem if font else "openmpt123", make)


def _scores(root: Path, package: str) -> Path:
    folder = root / "scores" / package
    if folder.exists():
        return folder
    return unpack_audio(download(package, root / "debs"), folder, MODULES | MIDI | SOUNDFONTS)


def _soundfont(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise CorpusError(f"{folder.name} has no soundfont {pattern}; correct packages.yaml")
    return found[0]


def _songs(wanted: GeneratedConfig) -> Iterator[Piece]:
    for seed in range(wanted.first_seed, wanted.first_seed + wanted.songs):
        seconds = round(float(np.random.default_rng(seed).uniform(*wanted.seconds)), 1)
        name = f"song-{seed:05d}-{seconds:g}s.flac"
        yield Piece("generated", name, "formula", partial(generate, seed, seconds, KEPT_RATE))


def _made(folder: Path, piece: Piece) -> Probe:
    """Make a piece and describe it, or read how it was described when it was made."""
    import soundfile

    sound = folder / piece.path
    record = sound.with_suffix(".json")
    if record.exists():
        return read_probes(record)[0]
    try:
        samples = piece.make()
    except AudioError as error:
        probe = Probe(piece.path, error=str(error))
    else:
        sound.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(sound) as draft:
            soundfile.write(draft, samples, KEPT_RATE, format="FLAC")
        probe = probe_file(folder, piece.path)
    write_lines(record, [asdict(probe)])
    return probe


def _choose(
    role: AdditionRole,
    shortest: float,
    corpus: Corpus,
    pieces: Sequence[Piece],
    probes: Sequence[Probe],
) -> Addition:
    """Keep what is long enough and is neither in the corpus nor twice among the pieces."""
    reasons = {i: probe.error for i, probe in enumerate(probes) if probe.error}
    for i, probe in enumerate(probes):
        if not probe.error and probe.seconds < shortest:
            reasons[i] = f"under {shortest:g} s"
    known = _known(corpus)
    # One score by two players is two recordings, however much their loudness may be alike.
    for player in dict.fromkeys(piece.player for piece in pieces):
        played = [i for i, p in enumerate(pieces) if p.player == player and i not in reasons]
        copies = _copies(known, [probes[i] for i in played])
        reasons |= {played[place]: reason for place, reason in copies.items()}
    files = [
        _corpus_file(role, corpus.root, piece.package, probe)
        for i, (piece, probe) in enumerate(zip(pieces, probes, strict=True))
        if i not in reasons
    ]
    dropped = [Dropped(pieces[i].package, pieces[i].path, reasons[i]) for i in sorted(reasons)]
    return Addition(tuple(files), tuple(dropped))


def _copies(known: Sequence[Probe], new: Sequence[Probe]) -> dict[int, str]:
    """Which of the new are copies of known ones, or of earlier new ones; each with the reason."""
    both = [*known, *new]
    return {
        i - len(known): f"duplicate of {both[group[0]].path}"
        for group in duplicate_groups(both)
        for i in group[1:]
        if i >= len(known)
    }


def _known(corpus: Corpus) -> list[Probe]:
    """What the corpus's own music was found to hold, with paths that begin with the package."""
    music = {f.sha256 for f in corpus.files if f.kind == "music" and f.role not in ADDITIONS}
    packages = dict.fromkeys(f.package for f in corpus.files if f.role not in ADDITIONS)
    return [
        replace(probe, path=f"{package}/{probe.path}")
        for package in packages
        for probe in read_probes(corpus.root / "probed" / f"{package}.jsonl")
        if probe.sha256 in music
    ]


def _corpus_file(role: AdditionRole, root: Path, package: str, probe: Probe) -> CorpusFile:
    return CorpusFile(
        path=root / role / probe.path,
        package=package,
        role=role,
        kind="music",
        seconds=probe.seconds,
        sample_rate=probe.sample_rate,
        sha256=probe.sha256,
        digest=probe.digest,
    )
