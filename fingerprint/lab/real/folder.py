"""A folder of real recordings: queries, the tracks they are from, and a manifest of both.

    manifest.jsonl     one query a line, see `Line`
    queries/           what the microphones recorded
    references/        the tracks that were played, and others for the library to hold

docs/evaluation.md says how to make one.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fingerprint.audio.files import display_name, find_audio, reason
from fingerprint.errors import CorpusError
from fingerprint.library.writer import absolute

MANIFEST = "manifest.jsonl"
REFERENCES = "references"
NOISE_FLOOR = 0.05  # of `matched_filter`; below it the music lies under the noise

Name = Annotated[str, Field(min_length=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Role = Literal["tune", "report"]


class Line(BaseModel):
    """One line of the manifest. Paths are relative to the folder.

    `reference` is null for an unknown query, one whose track is in no library. `offset_s` is the
    second of the reference at which the query begins; null where it was not measured.
    `also_correct` are other files of the same recording. `matched_filter` is the cosine of the
    whitened spectrograms of query and reference at the true place: null if no place stood out,
    absent if it was not measured.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    query: Name
    reference: Name | None
    offset_s: Finite | None
    song: Name
    also_correct: tuple[Name, ...] = ()
    role: Role = "report"
    matched_filter: Finite | None = None
    overlap_s: Finite | None = None
    source: str = ""
    device: str = ""
    place: str = ""
    licence: str = ""
    confidence: str = ""

    @model_validator(mode="after")
    def _unknown_says_no_more(self) -> Self:
        if self.reference is None and (self.offset_s is not None or self.also_correct):
            raise ValueError("a query without reference has neither offset_s nor also_correct")
        return self

    @property
    def under_noise(self) -> bool:
        """Whether `matched_filter` was measured and is below the noise floor."""
        looked = self.reference is not None and "matched_filter" in self.model_fields_set
        return looked and (self.matched_filter is None or self.matched_filter < NOISE_FLOOR)


@dataclass(frozen=True)
class RealSet:
    """The queries of a folder, and all the tracks that it has for the library."""

    root: Path
    lines: tuple[Line, ...]
    references: tuple[Path, ...]

    @classmethod
    def open(cls, root: Path) -> Self:
        """Read and check the manifest.

        Raises:
            CorpusError: it is missing or empty, a line is wrong, or names a file that is missing.
            AudioError: the folder of references cannot be read.
        """
        root = root.resolve()
        lines = read_manifest(root)
        if not lines:
            raise CorpusError(f"{display_name(root / MANIFEST)} lists no queries")
        folder = root / REFERENCES
        found = find_audio([folder]) if folder.is_dir() else ()
        named = (root / name for line in lines for name in _tracks(line))
        return cls(root, lines, tuple(dict.fromkeys(map(absolute, [*found, *named]))))

    def file(self, name: str) -> Path:
        """The path of a file that a line names, as the library knows it."""
        return absolute(self.root / name)

    def correct(self, line: Line) -> frozenset[Path]:
        """Every track that is a right answer."""
        return frozenset(map(self.file, _tracks(line)))

    @cached_property
    def of_song(self) -> dict[str, frozenset[Path]]:
        """Every track of a song that any of its lines names."""
        songs: dict[str, frozenset[Path]] = {}
        for line in self.lines:
            songs[line.song] = songs.get(line.song, frozenset()) | self.correct(line)
        return songs


def read_manifest(root: Path) -> tuple[Line, ...]:
    """The lines of a folder's manifest, each checked alone and against the others.

    Raises:
        CorpusError: it cannot be read, or a line is wrong or names a file that is missing.
    """
    path = root / MANIFEST
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"cannot read {display_name(path)}: {reason(error)}") from error
    lines: list[Line] = []
    for number, record in enumerate(text.split("\n"), start=1):
        if not record.strip():
            continue
        try:
            lines.append(Line.model_validate_json(record))
            _check(lines, root)
        except ValueError as error:
            where = f"{display_name(path)}, line {number}"
            raise CorpusError(f"{where}: {_what(error)}") from error
    return tuple(lines)


def write_manifest(root: Path, lines: Sequence[Line]) -> None:
    """Write the lines, without keys that are not set."""
    from fingerprint.lab.corpus.manifest import write_lines

    write_lines(
        root / MANIFEST, [json.loads(line.model_dump_json(exclude_unset=True)) for line in lines]
    )


def _check(lines: Sequence[Line], root: Path) -> None:
    """Whether the last line goes with those before it and with the files.

    Raises:
        ValueError: it does not.
    """
    *before, line = lines
    for other in before:
        if other.query == line.query:
            raise ValueError(f"query: {display_name(line.query)} is listed before")
        if other.song == line.song and other.role != line.role:
            raise ValueError(f"role: the song {line.song!r} has the role {other.role} before")
    for name in (line.query, *_tracks(line)):
        if not (root / name).is_file():
            raise ValueError(f"there is no file {display_name(root / name)}")


def _tracks(line: Line) -> tuple[str, ...]:
    return () if line.reference is None else (line.reference, *line.also_correct)


def _what(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    return f"{key}: {first['msg']}" if key else first["msg"]
