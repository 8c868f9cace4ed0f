"""Untrusted input, damaged at random: recordings, libraries, exported files, the command line.

Each `check_` takes damage that Hypothesis has drawn and fails if anything but an answer or one
readable error comes of it.
"""

import atexit
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from click.testing import CliRunner
from hypothesis import strategies as st

from fingerprint.audio.decode import load_clip
from fingerprint.audio.ffmpeg import pyav_installed
from fingerprint.audio.files import is_control
from fingerprint.audio.source import LONGEST_CLIP
from fingerprint.audio.tags import read_tags
from fingerprint.audio.worker import CRASHED, ConfinedDecoder
from fingerprint.cli import main
from fingerprint.errors import AudioError, LibraryError
from fingerprint.lab.robustness.scenario import answer, begin, entry, path_of
from fingerprint.library.exchange import export_library, import_library
from fingerprint.library.snapshot import take_snapshot
from fingerprint.library.store import Catalog
from fingerprint.library.verify import check
from fingerprint.library.writer import Entry, writing
from fingerprint.types import Tags, Track

RATE = 8_000
FORMATS = {
    "wav": "PCM_16",
    "flac": "PCM_16",
    "ogg": "VORBIS",
    "mp3": "MPEG_LAYER_III",
    "au": "ULAW",
}
# What PyAV writes besides: containers and codecs.
MUXED = {
    "asf": "wmav2",
    "avi": "mp2",
    "caf": "alac",
    "flv": "aac",
    "matroska": "flac",
    "mov": "alac",
    "mp4": "aac",
    "mpegts": "ac3",
    "rm": "ac3",
    "tta": "tta",
    "voc": "pcm_u8",
    "w64": "pcm_s16le",
    "webm": "libopus",
    "wv": "wavpack",
}
EVIL = "\x1b]0;owned\x07 \u202e<b>\n' --\udcff"


@dataclass(frozen=True, slots=True)
class Damage:
    """What is done to a file: bytes put in other's place, then a cut and an insertion."""

    edits: Sequence[tuple[float, bytes]]  # where, as a share of the length, and what
    keep: float  # share of the length
    extra: bytes

    def done_to(self, content: bytes) -> bytes:
        """The damaged content."""
        damaged = bytearray(content)
        for place, piece in self.edits:
            at = int(place * len(damaged))
            damaged[at : at + len(piece)] = piece
        return bytes(damaged[: max(1, int(self.keep * len(damaged)))]) + self.extra


# Headers come first in most files: damage is drawn towards the beginning.
_place = st.floats(0, 1, exclude_max=True).map(lambda share: share**3)
damages = st.builds(
    Damage,
    st.lists(st.tuples(_place, st.binary(min_size=1, max_size=8)), min_size=1, max_size=6),
    st.sampled_from([1.0, 1.0, 0.9, 0.5, 0.1]),
    st.binary(max_size=16),
)
numbers = st.integers(0, 1 << 30)
words = st.one_of(
    st.sampled_from(
        [
            "--id",
            "--missing",
            "--dry-run",
            "--json",
            "*",
            "/music/*",
            "[",
            "-",
            "--",
            "0",
            "-1",
            EVIL,
        ]
    ),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
    st.integers(-(1 << 70), 1 << 70).map(str),
)
commands = st.tuples(
    st.sampled_from(["list", "info", "stats", "remove", "compact", "verify", "import", "export"]),
    st.lists(words, max_size=4),
)


def check_audio(damage: Damage, which: int) -> None:
    """A damaged recording, or several in one file, is decoded to finite samples or refused.

    By a confined process from a file, which it must not crash; and in this one from memory. A
    refusal is one line.
    """
    kinds = [*FORMATS, *(MUXED if pyav_installed() else ())]
    many, kind = divmod(which, len(kinds))
    content = damage.done_to(_recording(kinds[kind]) * (1 + many % 3))
    confined = partial(_decoder().load, longest=LONGEST_CLIP)
    for load, source in ((confined, _file(content)), (load_clip, BytesIO(content))):
        try:
            clip = load(source, RATE)
        except AudioError as error:
            _one_line(str(error))
            _must(CRASHED not in str(error), "the decoder crashed")
        else:
            _must(bool(np.isfinite(clip.samples).all()), "samples that are no numbers")
            _must(0 < clip.duration < 4 * 3600, f"a duration of {clip.duration} s")
    tags = read_tags(_file(content))
    _must(not any(map(is_control, tags.title + tags.artist + tags.album)), "raw tags")


def check_library(damage: Damage, which: int) -> None:
    """A damaged library answers rightly or is refused in one line."""
    with tempfile.TemporaryDirectory(dir=_scratch()) as place:
        folder = Path(place) / "library"
        shutil.copytree(_library(), folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        path = files[which % len(files)]
        path.write_bytes(damage.done_to(path.read_bytes()))
        try:
            catalog = Catalog(folder)
        except LibraryError as error:
            _one_line(str(error))
            return
        try:
            now = take_snapshot(catalog)
            known = {None, path_of(which % 6), *(one.track.path for one in catalog.listed())}
            found = answer(now, catalog, which % 6)
            # A name in the catalog may be altered without SQLite noticing until it is verified.
            _must(bool(check(catalog)) or found in known, f"{found} was never in it")
        except LibraryError as error:
            _one_line(str(error))
        finally:
            catalog.close()


def check_import(damage: Damage, which: int) -> None:
    """A damaged export becomes a library that can be opened, or is refused and leaves nothing."""
    with tempfile.TemporaryDirectory(dir=_scratch()) as place:
        file, folder = Path(place) / "one.fplib", Path(place) / "deep" / "new"
        folder.parent.mkdir()
        file.write_bytes(_reassembled(damage, which))
        try:
            import_library(file, folder)
            catalog = Catalog(folder)
            try:
                answer(take_snapshot(catalog), catalog, which % 6)
            finally:
                catalog.close()
        except LibraryError as error:
            _one_line(str(error))
        found = {path.name for path in Path(place).iterdir()}
        _must(found == {"one.fplib", "deep"}, f"{found} beside the library")
        _must({p.name for p in folder.parent.iterdir()} <= {"new"}, "files beside the library")


def check_command(command: tuple[str, list[str]], which: int) -> None:
    """Whatever is typed, the answer is printable, JSON is JSON, and an error is one line."""
    name, arguments = command
    with tempfile.TemporaryDirectory(dir=_scratch()) as place:
        folder = Path(place) / "library"
        shutil.copytree(_library(), folder)
        extra = ["--json"] if which % 2 and name in ("list", "info", "stats") else []
        safe = [word.replace("/", "_") if name == "export" else word for word in arguments]
        with _working_in(Path(place)):
            done = CliRunner().invoke(main, [name, *safe, *extra, "--library", str(folder)])
        _must(
            done.exception is None or isinstance(done.exception, SystemExit),
            f"{name} {safe}: {done.exception!r}",
        )
        _must(done.exit_code in (0, 1, 2), f"status {done.exit_code}")
        shown = (done.stdout + done.stderr).replace("\n", "")
        _must(not any(map(is_control, shown)) or done.exit_code == 2, f"raw text of {name} {safe}")
        if extra and done.exit_code == 0:
            for line in done.stdout.splitlines():
                json.loads(line, parse_constant=_refuse)


TARGETS: dict[str, tuple[Callable[..., None], st.SearchStrategy[object]]] = {
    "audio": (check_audio, damages),
    "library": (check_library, damages),
    "import": (check_import, damages),
    "command": (check_command, commands),
}


def _must(true: bool, otherwise: str) -> None:
    if not true:
        raise AssertionError(otherwise)


def _one_line(text: str) -> None:
    _must("\n" not in text and bool(text.strip()), f"{text!r} is no line")


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


class _working_in:  # noqa: N801 - reads as words where it is used
    """The current folder for a while."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._before = folder, Path.cwd()

    def __enter__(self) -> None:
        os.chdir(self._folder)

    def __exit__(self, *_exception: object) -> None:
        os.chdir(self._before)


@cache
def _scratch() -> Path:
    """A folder to work in; made once a process, and gone with it."""
    place = Path(tempfile.mkdtemp(prefix="fingerprint-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


def _file(content: bytes) -> Path:
    path = _scratch() / "damaged"
    path.write_bytes(content)
    return path


@cache
def _decoder() -> ConfinedDecoder:
    """One a process; it ends with it."""
    decoder = ConfinedDecoder()
    atexit.register(decoder.close)
    return decoder


@cache
def _recording(kind: str) -> bytes:
    if kind in MUXED:
        return _muxed(kind)
    rng = np.random.default_rng(0)
    samples = 0.3 * np.sin(np.arange(RATE) / 5) + 0.05 * rng.standard_normal(RATE)
    stream = BytesIO()
    with soundfile.SoundFile(
        stream, "w", RATE, 1, subtype=FORMATS[kind], format=kind.upper()
    ) as file:
        with suppress(AttributeError, RuntimeError):
            file.title, file.artist = "A title", "An artist"
        file.write(samples.astype(np.float32))
    return stream.getvalue()


def _muxed(kind: str) -> bytes:
    import av

    rate = 48_000  # which every codec takes
    sound = (9_000 * np.sin(np.arange(rate // 2) / 30)).astype(np.int16)
    stream = BytesIO()
    with av.open(stream, "w", format=kind) as container:
        track: Any = container.add_stream(MUXED[kind], rate=rate)
        track.layout, track.bit_rate = "mono", 128_000
        track.codec_context.open()
        frame = av.AudioFrame.from_ndarray(sound[None], "s16", "mono")
        frame.sample_rate, frame.pts = rate, 0
        frames = av.AudioResampler(track.format, "mono", rate, track.frame_size or None)
        for piece in (*frames.resample(frame), *frames.resample(None), None):
            container.mux(track.encode(piece))
    return stream.getvalue()


@cache
def _library() -> Path:
    folder = _scratch() / "stock"
    begin(folder, "standard")
    with writing(folder) as writer:
        evil = Track(Path("/music/evil" + EVIL), 15.0, Tags(EVIL, EVIL, EVIL))
        writer.add([Entry(evil, entry(7).stamp, entry(7).vectors)])
    return folder


@cache
def _exported() -> bytes:
    file = _scratch() / "stock.fplib"
    export_library(_library(), file)
    return file.read_bytes()


def _reassembled(damage: Damage, which: int) -> bytes:
    """A damaged archive; or a whole one, its check sums right, in which one member is damaged."""
    if which % 4 == 0:
        return damage.done_to(_exported())
    stream = BytesIO()
    with zipfile.ZipFile(BytesIO(_exported())) as old, zipfile.ZipFile(stream, "w") as new:
        names = old.namelist()
        chosen = names[which % len(names)]
        for name in names:
            content = old.read(name)
            if name == chosen:
                content = _damaged_text(content, which) if which % 3 else damage.done_to(content)
            new.writestr(name, content)
        new.writestr("../" * (which % 5) + "evil", b"x")
    return stream.getvalue()


def _damaged_text(content: bytes, which: int) -> bytes:
    """One number or word of a JSON file replaced by something else."""
    values = [b"-1", b"0", b"1e999", b"99999999999999999999", b'"../../x"', b"null", b"[]", b"NaN"]
    parts = content.split(b":")
    at = which // 7 % max(1, len(parts) - 1) + 1
    if at < len(parts):
        _, comma, rest = parts[at].partition(b",")
        parts[at] = values[which % len(values)] + comma + rest
    return b":".join(parts)
