"""The manifest: one JSON line a file of the corpus, after a line that says how rooms are made.

Music that was added to train on is in manifests of its own, so that there may be any or none.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, get_args

from fingerprint.disk import atomic_write
from fingerprint.errors import CorpusError
from fingerprint.lab.corpus.config import (
    ADDITIONS,
    SOUND_ROLES,
    AdditionRole,
    Kind,
    MusicRole,
    Role,
    RoomsConfig,
    Split,
)

FORMAT = 1
MANIFEST = "manifest.jsonl"


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """One audio file and what it is for.

    `path` is absolute; in the manifest it is relative to the corpus, if it lies there.
    """

    path: Path
    package: str
    role: Role
    kind: Kind
    seconds: float
    sample_rate: int  # Hz
    sha256: str  # of the file
    digest: str  # of the decoded sound


@dataclass(frozen=True)
class Corpus:
    """An assembled corpus on disk."""

    root: Path
    files: tuple[CorpusFile, ...]
    rooms: Mapping[Split, RoomsConfig]

    @classmethod
    def open(cls, root: Path) -> Self:
        """Read the manifest under `root`.

        Raises:
            CorpusError: it is missing, damaged or of another format version.
        """
        root = root.resolve()
        remedy = (
            f"run: python -m fingerprint.lab corpus --root {root} (5 GB of downloads; "
            "with --music DIR, of music of your own)"
        )
        if not (root / MANIFEST).exists():
            raise CorpusError(f"there is no corpus at {root}; {remedy}")
        header, files = _read_manifest(root, root / MANIFEST, remedy)
        try:
            rooms: dict[Split, RoomsConfig] = {
                s: RoomsConfig.model_validate_json(json.dumps(r))
                for s, r in header["rooms"].items()
            }
        except (ValueError, KeyError, AttributeError) as error:
            raise _damaged(root / MANIFEST, remedy) from error
        for role in ADDITIONS:
            if (manifest := root / role / MANIFEST).exists():
                again = f"run: python -m fingerprint.lab corpus --root {root} --add {role}"
                files += _read_manifest(root, manifest, again)[1]
        return cls(root, files, rooms)

    def role(self, role: Role) -> tuple[CorpusFile, ...]:
        """Every file of a role, in the order of its manifest."""
        if role not in get_args(Role):
            raise CorpusError(f"no such role: {role}; there are {', '.join(get_args(Role))}")
        return tuple(file for file in self.files if file.role == role)

    def music(self, role: MusicRole) -> tuple[CorpusFile, ...]:
        """The music of a role."""
        return self.role(role)

    def sounds(self, split: Split) -> tuple[CorpusFile, ...]:
        """Speech and effects of a split; split test serves validation and test."""
        return self.role(SOUND_ROLES[split])


def write_manifest(corpus: Corpus) -> Path:
    """Write the manifest of a corpus without its additions, whole or not at all."""
    rooms = {split: json.loads(rooms.model_dump_json()) for split, rooms in corpus.rooms.items()}
    records = [{"format": FORMAT, "rooms": rooms}]
    records += [_to_json(f, corpus.root) for f in corpus.files if f.role not in ADDITIONS]
    return write_lines(corpus.root / MANIFEST, records)


def write_addition(root: Path, role: AdditionRole, files: Iterable[CorpusFile]) -> Path:
    """Write the manifest of an addition, which lies in a folder of its own."""
    records = [{"format": FORMAT}, *(_to_json(file, root) for file in files)]
    return write_lines(root / role / MANIFEST, records)


def _read_manifest(
    root: Path, path: Path, remedy: str
) -> tuple[dict[str, Any], tuple[CorpusFile, ...]]:
    try:
        header, *lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        version = header["format"]
        files = tuple(_from_json(line, root) for line in lines) if version == FORMAT else ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, remedy) from error
    if version != FORMAT:
        raise CorpusError(f"{path} has format {version}, not {FORMAT}; delete it and {remedy}")
    return header, files


def _damaged(path: Path, remedy: str) -> CorpusError:
    return CorpusError(f"cannot read {path}; delete it and {remedy}")


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> Path:
    """Write JSON lines, whole or not at all; a file that says the same already is left alone."""
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as draft:
            draft.write_text(text, encoding="utf-8")
    return path


def _to_json(file: CorpusFile, root: Path) -> dict[str, Any]:
    inside = file.path.is_relative_to(root)
    return asdict(file) | {
        "path": (file.path.relative_to(root) if inside else file.path).as_posix()
    }


def _from_json(record: dict[str, Any], root: Path) -> CorpusFile:
    return CorpusFile(**record | {"path": root / record["path"]})
