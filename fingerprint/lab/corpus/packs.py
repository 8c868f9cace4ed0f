"""The corpus for training in a few small folders, to be sent to a machine without a network.

A pack is a folder of Ogg Opus streams of about a quarter of an hour, mono at the model's rate; the
first one also holds `index.json`, which says what recordings the streams are made of, and the
impulse responses. Music by formula is not packed: it is made where it is used.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fingerprint.errors import CorpusError
from fingerprint.lab.corpus.config import ADDITIONS, RESPONSE_ROLES, Role, Split
from fingerprint.lab.corpus.generate import generate
from fingerprint.lab.corpus.manifest import Corpus, CorpusFile
from fingerprint.lab.corpus.probe import to_int16
from fingerprint.lab.corpus.recordings import Recordings, load_recordings
from fingerprint.lab.corpus.rooms import Responses, load_responses

INDEX = "index.json"
RESPONSES = "responses.npz"
STREAM_SECONDS = 900
COMPRESSION = 0.955  # of libsndfile: about 18 kbit/s at 8 kHz
SONG_SECONDS = 45.0  # of music by formula


@dataclass(frozen=True, slots=True)
class Stream:
    """A file of recordings end to end."""

    name: str  # pack/file
    role: Role
    lengths: list[int]  # samples of each recording
    kinds: list[str]


def write_packs(
    corpus: Corpus,
    folder: Path,
    sample_rate: int,
    *,
    megabytes: float,
    longest: float,
    roles: Sequence[Role] = ("validation", "sounds-test", "sounds-train", "train", "rendered"),
) -> Iterator[Stream]:
    """Encode the roles into packs of at most `megabytes` each, yielding what was written.

    Args:
        corpus: what to encode.
        folder: where the packs go, as `pack-0`, `pack-1` and so on.
        sample_rate: Hz.
        megabytes: of a pack.
        longest: s of a recording that are kept; of a rendered one at most `SONG_SECONDS`.
        roles: in this order; those of which the corpus has nothing are left out.
    """
    import soundfile

    pack, room, streams = -1, 0.0, list[Stream]()
    for role in roles:
        if not any(file.role == role for file in corpus.files):
            continue
        recordings = load_recordings(corpus, role, sample_rate)
        kept = min(longest, SONG_SECONDS) if role in ADDITIONS else longest
        for number, members in enumerate(_grouped(recordings, sample_rate, kept)):
            samples = np.concatenate([sound for sound, _ in members])
            estimate = len(samples) / sample_rate * 18_500 / 8
            if room < estimate:
                pack, room = pack + 1, megabytes * 1e6
                (folder / f"pack-{pack}").mkdir(parents=True, exist_ok=True)
                if pack == 0:
                    room -= _write_responses(corpus, folder / "pack-0", sample_rate)
            stream = Stream(
                f"pack-{pack}/{role}-{number:03d}.opus",
                role,
                [len(sound) for sound, _ in members],
                [kind for _, kind in members],
            )
            path = folder / stream.name
            soundfile.write(
                path,
                samples,
                sample_rate,
                format="OGG",
                subtype="OPUS",
                compression_level=COMPRESSION,
            )
            room -= path.stat().st_size
            streams.append(stream)
            yield stream
    index = {"sample_rate": sample_rate, "streams": [_document(stream) for stream in streams]}
    (folder / "pack-0" / INDEX).write_text(json.dumps(index), encoding="utf-8")


def _grouped(
    recordings: Recordings, sample_rate: int, longest: float
) -> Iterator[list[tuple[NDArray[np.int16], str]]]:
    """Recordings, cut to their middles, in groups of about a stream."""
    group, filled = list[tuple[NDArray[np.int16], str]](), 0
    for i, file in enumerate(recordings.files):
        sound = recordings.recording(i)
        spare = max(0, len(sound) - round(longest * sample_rate))
        sound = sound[spare // 2 : len(sound) - (spare - spare // 2)]
        group.append((sound, file.kind))
        filled += len(sound)
        if filled >= STREAM_SECONDS * sample_rate:
            yield group
            group, filled = [], 0
    if group:
        yield group


def _write_responses(corpus: Corpus, pack: Path, sample_rate: int) -> int:
    arrays = {}
    for split in RESPONSE_ROLES:
        responses = load_responses(corpus, split, sample_rate)
        arrays[f"rooms-{split}"] = responses.rooms.astype(np.float16)
        arrays[f"devices-{split}"] = responses.devices.astype(np.float16)
    np.savez_compressed(pack / RESPONSES, **arrays)  # type: ignore[arg-type]
    return (pack / RESPONSES).stat().st_size


def _document(stream: Stream) -> dict[str, Any]:
    return {name: getattr(stream, name) for name in Stream.__slots__}


@dataclass(frozen=True, slots=True)
class Packs:
    """The packs in a folder; missing ones are skipped."""

    folder: Path
    sample_rate: int
    streams: tuple[Stream, ...]

    @classmethod
    def open(cls, folder: Path) -> "Packs":
        """Find the packs in a folder.

        Raises:
            CorpusError: the first pack is missing.
        """
        path = folder / "pack-0" / INDEX
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            streams = tuple(Stream(**stream) for stream in document["streams"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"{folder} holds no packs of a corpus: {error}") from error
        here = tuple(stream for stream in streams if (folder / stream.name).exists())
        return cls(folder, document["sample_rate"], here)

    def recordings(self, roles: Sequence[Role], *, songs: int = 0) -> Recordings:
        """Decode the roles on all cores; of music by formula make `songs` songs.

        Raises:
            CorpusError: no pack has one of these roles.
        """
        sounds, files = list[NDArray[np.int16]](), list[CorpusFile]()
        for role in roles:
            if role == "generated":
                sounds += _songs(songs, self.sample_rate)
                files += _files(role, ["music"] * songs)
                continue
            streams = [stream for stream in self.streams if stream.role == role]
            if not streams:
                raise CorpusError(f"no pack in {self.folder} has the role {role}")
            with ThreadPoolExecutor() as pool:
                sounds += [sound for part in pool.map(self._decode, streams) for sound in part]
            files += _files(role, [kind for stream in streams for kind in stream.kinds])
        starts = np.cumsum([0, *map(len, sounds)], dtype=np.int64)
        return Recordings(np.concatenate(sounds), starts, tuple(files))

    def responses(self, split: Split) -> Responses:
        """The impulse responses of a split."""
        with np.load(self.folder / "pack-0" / RESPONSES) as arrays:
            return Responses(
                arrays[f"rooms-{split}"].astype(np.float32),
                arrays[f"devices-{split}"].astype(np.float32),
            )

    def _decode(self, stream: Stream) -> list[NDArray[np.int16]]:
        import soundfile

        samples, _ = soundfile.read(self.folder / stream.name, dtype="int16")
        ends = np.cumsum(stream.lengths)
        whole = np.pad(samples, (0, max(0, int(ends[-1]) - len(samples))))
        return np.split(whole[: ends[-1]], ends[:-1])


def _songs(count: int, sample_rate: int) -> list[NDArray[np.int16]]:
    with ProcessPoolExecutor() as pool:
        return list(pool.map(_song, range(1, count + 1), [sample_rate] * count, chunksize=4))


def _song(seed: int, sample_rate: int) -> NDArray[np.int16]:
    return to_int16(generate(seed, SONG_SECONDS, sample_rate))


def _files(role: Role, kinds: Sequence[str]) -> list[CorpusFile]:
    return [
        CorpusFile(Path(f"{role}-{i}"), "", role, kind, 0.0, 0, "", "")  # type: ignore[arg-type]
        for i, kind in enumerate(kinds)
    ]


def split_of(roles: Sequence[Role]) -> Split:
    """Sounds and responses go with the music: those of training, or those of tests."""
    return "train" if set(roles) <= {"train", *ADDITIONS} else "test"
