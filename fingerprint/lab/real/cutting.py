"""Cut a set of real recordings out of one long recording of tracks that were played."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from filecmp import cmp
from itertools import chain, count
from pathlib import Path

import soundfile

from fingerprint.audio.decode import load_clip
from fingerprint.audio.files import display_name
from fingerprint.disk import atomic_write
from fingerprint.errors import AudioError, CorpusError
from fingerprint.lab.benchmark.run import OnProgress, Progress
from fingerprint.lab.real.folder import (
    MANIFEST,
    REFERENCES,
    Line,
    Role,
    read_manifest,
    write_manifest,
)
from fingerprint.lab.real.matched_filter import RATE, Placed, Recording

QUERY_RATE = 16_000  # Hz; phones send no more
QUERIES = "queries"


@dataclass(frozen=True, slots=True)
class Passage:
    """A query to cut, from `second` of the recording on, which is at `offset` in the track."""

    second: float
    offset: float
    likeness: float  # cosine of the whitened spectrograms


@dataclass(frozen=True, slots=True)
class Found:
    """The result for one track. Without `passages` it is left out, for the reason `why`."""

    track: Path
    placed: Placed | None = None
    passages: tuple[Passage, ...] = ()
    why: str = ""
    role: Role | None = None

    @property
    def span(self) -> tuple[float, float]:
        """The seconds of the recording between which it was found; 0, 0 if it is left out."""
        if self.placed is None or not self.passages:
            return 0.0, 0.0
        begin, end = self.placed.first, self.placed.last
        return self.placed.second_of_recording(begin), self.placed.second_of_recording(end)


@dataclass(frozen=True, slots=True)
class Labels:
    """The manifest's entries that all queries share."""

    device: str = ""
    place: str = ""
    licence: str = ""


def cut_recording(
    recording: Path,
    tracks: Sequence[Path],
    folder: Path,
    *,
    seconds: float = 10.0,
    gap: float = 5.0,
    labels: Labels = Labels(),
    on_progress: OnProgress = lambda _: None,
) -> list[Found]:
    """Find each track in the recording and add queries of it to the set in `folder`.

    Queries are `seconds` long and `gap` seconds apart, where the track was surely found. A new
    song gets the role that fewer songs have; one that is in the set already keeps its own. Nothing
    is written if no track is found. Returns the result for every track, in their order.

    Raises:
        AudioError: the recording cannot be read.
        CorpusError: the folder holds queries of a recording of this name, or no set.
    """
    lines = read_manifest(folder) if (folder / MANIFEST).exists() else ()
    prefix = f"{QUERIES}/{display_name(recording.stem)}-"  # a manifest is text, whatever names are
    if any(re.fullmatch(rf"{re.escape(prefix)}\d+\.flac", line.query) for line in lines):
        raise CorpusError(
            f"{display_name(folder)} holds queries of a recording called "
            f"{display_name(recording.stem)}: rename this one, or name another folder"
        )
    source = Recording(load_clip(recording, QUERY_RATE))
    found = []
    for number, track in enumerate(tracks, start=1):
        found.append(_find(source, track, seconds, gap))
        on_progress(Progress("tracks", number, len(tracks)))
    found = _one_at_a_time(found)
    return _write(source, found, folder, lines, prefix, seconds, labels)


def _find(source: Recording, path: Path, seconds: float, gap: float) -> Found:
    try:
        track = load_clip(path, RATE)
    except AudioError as error:
        return Found(path, why=str(error))
    placed = source.find(track)
    if placed is None:
        return Found(path, why="it is too short to be found")
    if not placed.is_sure:
        likely = f" for sure: by chance with up to {placed.chance:.1%}" if placed.chance < 1 else ""
        return Found(path, placed, why=f"it was not found{likely}")
    begin = max(0.0, placed.second_of_recording(placed.first))
    end = min(source.clip.duration, placed.second_of_recording(placed.last))
    passages = []
    while begin + seconds <= end:
        likeness = source.likeness(track, placed, begin, seconds)
        passages.append(Passage(begin, placed.second_of_track(begin), likeness))
        begin += seconds + gap
    why = "" if passages else "it plays for less than the length of a query"
    return Found(path, placed, tuple(passages), why)


def _one_at_a_time(found: Sequence[Found]) -> list[Found]:
    """Of tracks that were found at the same time, such as two files of a recording, the surest."""
    kept: list[Found] = []
    for one in sorted(found, key=lambda one: -one.placed.evidence if one.placed else 0.0):
        rival = next((other for other in kept if _overlap(one, other)), None)
        if rival is None:
            kept.append(one)
        else:
            why = f"{display_name(rival.track)} was found at that time, and with more evidence"
            kept.append(replace(one, passages=(), why=why))
    by_track = {one.track: one for one in kept}
    return [by_track[one.track] for one in found]


def _overlap(one: Found, other: Found) -> bool:
    """Whether they share more than half of the shorter one's time."""
    (begin, end), (other_begin, other_end) = one.span, other.span
    shared = min(end, other_end) - max(begin, other_begin)
    return shared > 0.5 * min(end - begin, other_end - other_begin) > 0


def _write(
    source: Recording,
    found: Sequence[Found],
    folder: Path,
    before: Sequence[Line],
    prefix: str,
    seconds: float,
    labels: Labels,
) -> list[Found]:
    """Write references and queries, and the manifest last."""
    lines, done = list(before), []
    for one in found:
        if not one.passages:
            done.append(one)
            continue
        reference = _reference(one.track, folder)
        song = Path(reference).name
        role = _role(song, lines)
        for passage in one.passages:
            query = f"{prefix}{len(lines) - len(before) + 1:03d}.flac"
            first = round(passage.second * QUERY_RATE)
            samples = source.clip.samples[first : first + round(seconds * QUERY_RATE)]
            (folder / QUERIES).mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / query, samples, QUERY_RATE, "PCM_16")
            line = Line(
                query=query,
                reference=reference,
                offset_s=round(passage.offset, 4),
                song=song,
                role=role,
                matched_filter=round(passage.likeness, 3),
                device=labels.device,
                place=labels.place,
                licence=labels.licence,
            )
            lines.append(line)
        done.append(replace(one, role=role))
    if len(lines) > len(before):
        write_manifest(folder, lines)
    return done


def _reference(track: Path, folder: Path) -> str:
    """Copy the track into the set, unless it is there; returns its name in it."""
    references = folder / REFERENCES
    references.mkdir(parents=True, exist_ok=True)
    stem, suffix = display_name(track.stem), display_name(track.suffix)
    for name in chain([f"{stem}{suffix}"], (f"{stem}-{n}{suffix}" for n in count(2))):
        copy = references / name
        if not copy.exists():
            with atomic_write(copy) as draft:
                shutil.copyfile(track, draft)
        if cmp(track, copy, shallow=False):
            break
    return f"{REFERENCES}/{name}"


def _role(song: str, lines: Sequence[Line]) -> Role:
    """The song's role if it has one, else the one that fewer songs have."""
    roles = {line.song: line.role for line in lines}
    counts = list(roles.values())
    fewer: Role = "report" if counts.count("tune") > counts.count("report") else "tune"
    return roles.get(song, fewer)
