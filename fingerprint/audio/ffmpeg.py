"""Decoding through FFmpeg: PyAV, or the `ffmpeg` program where PyAV is not installed.

Both get an allow-list of containers and codecs (`formats`), so that a playlist in disguise is
refused before it is read. A packet that cannot be decoded is replaced by silence of its length, and
decoding continues with the next one.
"""

import importlib
import logging
import os
import pkgutil
import re
import shutil
import struct
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import count
from tempfile import TemporaryFile
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fingerprint.audio.files import without_password
from fingerprint.audio.formats import CODEC_WHITELIST, CODECS, FORMAT_WHITELIST
from fingerprint.audio.frames import mpeg_frame_bytes
from fingerprint.audio.joined import KINDS, Part, id3_size, promised_end
from fingerprint.audio.report import DecodeReport, clock
from fingerprint.errors import AudioError
from fingerprint.types import Clip, Floats

PROTOCOLS = "file,fd,pipe"
# For network streams: protocols that read no files, and formats that fetch further addresses.
NETWORK_PROTOCOLS = (
    "crypto,data,ffrtmpcrypt,ffrtmphttp,http,httpproxy,https,mmsh,mmst,rtmp,rtmpe,rtmps,rtmpt,"
    "rtmpte,rtmpts,rtp,srt,srtp,tcp,tls,udp,udplite"
)
NETWORK_FORMATS = f"{FORMAT_WHITELIST},dash,hls,rtp,rtsp,sdp"
TIMEOUT = 20.0  # s without a byte after which a network stream has broken off
CHUNK = 16_384  # sample frames that are averaged and resampled at a time
LIVE_CHUNK = 1_024  # for a live stream, so that samples come without delay
AU_HEADER = struct.Struct(">4s5I")  # magic, offset of the samples, bytes, encoding, Hz, channels
CANCELLED = 1e-3  # share of the loudest channel's energy; channels with a weaker mean cancel
INAUDIBLE = 1e-5  # a track that never exceeds this is silent, where there is another one
HOLE = 0.05  # s from the end of a frame to the next time stamp, from which it is a gap
LONGEST_HOLE = 10.0  # s; a longer jump of time stamps is a new time line, not a gap
DEMUX_ERRORS = 50  # in one file, after which the rest is given up
# Containers whose header or index counts the samples; of others FFmpeg estimates the length.
COUNTED = frozenset(
    {
        "aiff",
        "ape",
        "au",
        "avi",
        "caf",
        "dsf",
        "flac",
        "iff",
        "mov",
        "mpc",
        "shn",
        "tak",
    }
    | {"tta", "voc", "w64", "wsd", "wv"}
)
PACKED = frozenset({"mpeg", "mpegts"})  # half of a broadcast at a low bit rate is packaging
HEADED = frozenset({"flac", "ogg"})  # pictures and padding are before the first packet
DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
SCALES = {"u8": 128.0, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63}
NO_SOUND = (0.25, 1 << 16)  # share and bytes of a file beside its packets that are more than tags
ID3_HEADER = 10  # bytes
RESCUED = 1 << 20  # bytes of junk before a recording that are skipped
# How a container begins, where it needs one.
BEGINNINGS = re.compile(b"|".join(kind.pattern for kind in KINDS), re.DOTALL)
# Containers before which FFmpeg expects no ID3.
UNTAGGED = re.compile(rb"OggS|RI(FF|FX)|RF64|FORM|.{4}ftyp|\x1aE\xdf\xa3|0&\xb2u", re.DOTALL)
# How other recordings begin: MPEG audio, AAC, AC-3, DTS, AMR, TrueHD, a broadcast, a disc; TAK,
# Shorten and WSD, in which the header of a WAV may lie; MOV and Ogg without a beginning; or ID3.
OTHERS = re.compile(
    rb"ID3|\xff[\xe0-\xff]|\x56[\xe0-\xff]|\x0b\x77|\x77\x0b|#!AMR|\x47|\0\0\x01\xba|.{4}\xf8\x72\x6f"
    rb"|\x7f\xfe\x80\x01|\xfe\x7f\x01\x80|\x1f\xff\xe8\0|\xff\x1f\0\xe8"
    rb"|tBaK|ajkg|1bit|FORM|.{4}(moov|mdat|wide|free|skip|pnot)|OggS",
    re.DOTALL,
)
# A WAV with a header of the long form, WAVE_FORMAT_EXTENSIBLE.
EXTENSIBLE = re.compile(rb"fmt \x28\0\0\0\xfe\xff")
# What FFmpeg says where the bytes end within a sample, or a header does not say how many there are.
OF_PCM = re.compile(r"[Pp]acket corrupt|Invalid PCM packet")
# What FFmpeg says of an end that is torn, or of tracks and tags, which are not decoded.
TORN = re.compile(
    r"ended prematurely|partial file|incomplete frame|[Pp]acket corrupt|size mismatch|exhausted"
)
IMMATERIAL = re.compile(
    r"not on whitelist|Could not find codec parameters|Unsupported codec|Incorrect BOM"
    r"|Error reading (comment )?frame|invalid sync code|invalid frame header|attached pic|mjpeg|png"
    r"|Unknown cover|Invalid UTF"
)


class DecoderError(Exception):
    """A decoder gives no audio, or no more; its message follows "cannot read song.m4a: "."""


class MissingTrackError(DecoderError):
    """The file has no audio track of that number."""


def mono(samples: Floats | Sequence[Floats]) -> Floats:
    """One channel for several, each (T,).

    Their mean; or the loudest one if they cancel, as the two channels of a balanced line do.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # `decode` sets such samples to zero
        # Five times as fast as np.mean where the channels are interleaved in memory.
        total: Floats = samples[0].astype(np.float32)
        for channel in samples[1:]:
            total += channel
        if len(samples) > 1:
            total /= np.float32(len(samples))
            energies = [float(np.dot(channel, channel)) for channel in samples]
            if float(np.dot(total, total)) < CANCELLED * max(energies):
                # Of several equally loud channels, always the first.
                loud = next(i for i, one in enumerate(energies) if one >= max(energies) / 2)
                total = samples[loud].astype(np.float32)
    return total


def pyav_installed() -> bool:
    """Whether PyAV can be imported."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


def program_installed() -> bool:
    """Whether there is an `ffmpeg` program."""
    return shutil.which("ffmpeg") is not None


def pyav_chunks(
    file: BinaryIO | Part, report: DecodeReport, stream: int | None = None
) -> Iterator[Clip]:
    """Mono chunks at the file's own rate, which may change within the file.

    `stream` is the number of an audio track, from 1 on; without it the default track is taken, or
    the first that decodes and is not silent.

    Raises:
        DecoderError: there is no audio, or the rest cannot be read.
    """
    import av

    losses = _Losses()
    try:
        with _words(av, losses.words), _opened(av, file, losses.words) as container:
            tracks = _tracks(container, stream)
            if not tracks:
                which = f"no audio track {stream}" if stream else "no sound"
                raise DecoderError(f"it has {which}")
            decoded = _pyav_tracks(av, file, container, tracks, report, losses)
            # Silence is held back only where another track may be decoded in its place.
            yield from next(decoded) if len(tracks) == 1 else _first_audible(decoded)
    except av.error.MemoryError:
        raise
    except (av.FFmpegError, ValueError, OverflowError) as error:  # a frame that makes no sense
        raise DecoderError(f"damaged ({error})") from error


def import_all() -> None:
    """Import the modules that PyAV imports only when a file needs them, such as for subtitles."""
    import av

    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in {"av.__main__", "av.datasets"}:  # a program, and downloads
            importlib.import_module(module.name)


def program_chunks(
    file: BinaryIO | Part, report: DecodeReport, stream: int | None = None
) -> Iterator[Clip]:
    """As `pyav_chunks`, by the `ffmpeg` program."""
    numbers = count() if stream is None else [stream - 1]
    with _on_disk(file) as number:
        yield from _first_audible(_program_track(number, i, report) for i in numbers)


def network_chunks(url: str) -> Iterator[Clip]:
    """Mono chunks of a stream at its own rate, until it ends. PyAV only.

    Raises:
        AudioError: PyAV is missing, or the stream cannot be opened, has no sound, or breaks off.
    """
    name = without_password(url)
    try:
        import av
    except ImportError as error:
        raise AudioError(
            f"cannot open {name}: streams need PyAV: pip install 'fingerprint[ffmpeg]'"
        ) from error
    try:
        with av.open(
            url,
            metadata_errors="replace",
            timeout=(TIMEOUT, TIMEOUT),
            options={
                "seekable": "0",  # looking for the end of a broadcast would reconnect
                "protocol_whitelist": NETWORK_PROTOCOLS,
                "format_whitelist": NETWORK_FORMATS,
                "codec_whitelist": CODEC_WHITELIST,
            },
        ) as container:
            if not container.streams.audio:
                raise AudioError(f"cannot open {name}: it has no sound")
            packets = container.demux(container.streams.audio[0])
            yield from _decoded(av, packets, _Losses(), chunk=LIVE_CHUNK)
    except (av.FFmpegError, OSError) as error:
        raise AudioError(
            f"cannot read {name}: {error.strerror or without_password(str(error))}"
        ) from error


def _first_audible(tracks: Iterable[Iterator[Clip]]) -> Iterator[Clip]:
    """The first of several tracks that is not silent; the first of all if every one is.

    Until a track gives a sample that is not silent, its silence is only counted.
    """
    silence: list[tuple[int, int]] = []  # of the first track: lengths and rates
    failure: DecoderError | None = None
    for track in tracks:
        held: list[tuple[int, int]] = []
        try:
            for chunk in track:
                if not np.abs(chunk.samples).max(initial=0) <= INAUDIBLE:  # or not a number
                    yield from _zeros(held)
                    yield chunk
                    yield from track
                    return
                held.append((len(chunk.samples), chunk.sample_rate))
        except MissingTrackError as error:
            failure = failure or error
            break
        except DecoderError as error:
            failure = failure or error
        silence = silence or held
    yield from _zeros(silence)
    if failure and not silence:
        raise failure


def _zeros(lengths: Iterable[tuple[int, int]]) -> Iterator[Clip]:
    return (Clip(np.zeros(size, np.float32), rate) for size, rate in lengths)


@contextmanager
def _opened(av: Any, file: BinaryIO | Part, words: list[str]) -> Iterator[Any]:
    """The container, from where it begins, should there be junk before it."""
    options = {
        "protocol_whitelist": PROTOCOLS,
        "format_whitelist": FORMAT_WHITELIST,
        "codec_whitelist": CODEC_WHITELIST,
    }
    failure: DecoderError | None = None
    for begin in _beginnings(file):
        words.clear()
        try:
            container = av.open(_Source(file, begin), metadata_errors="replace", options=options)
        except av.error.ArgumentError:  # what FFmpeg says of a container off the list
            failure = failure or DecoderError("not audio, or of a kind that is not read")
        except av.FFmpegError as error:
            failure = failure or DecoderError(f"not audio, or damaged ({error.strerror})")
        else:
            with container:
                yield container
            return
    raise failure or DecoderError("not audio")


def _beginnings(file: BinaryIO | Part) -> list[int]:
    """Where a recording may begin: at the first byte, or at the first known signature."""
    tag = id3_size(file)
    file.seek(tag)
    if tag and UNTAGGED.match(file.read(12)):
        return [tag, 0]
    file.seek(0)
    head = file.read(RESCUED)
    found = BEGINNINGS.search(head)
    if found is None and id3_size(file) >= file.seek(0, 2):  # its length is wrong
        return [0, ID3_HEADER]
    if found is None or not found.start():
        return [0]
    return [0, found.start()] if OTHERS.match(head) else [found.start(), 0]


class _Source:
    """A file from `begin` on, as PyAV reads it."""

    def __init__(self, file: BinaryIO | Part, begin: int) -> None:
        self.name = str(getattr(file, "name", ""))
        self.read = file.read
        self._file, self._begin = file, begin
        self.seek(0)

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell() - self._begin

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of a file; -1 for an impossible position, which a damaged header may name."""
        try:
            return self._file.seek(offset + (0 if whence else self._begin), whence) - self._begin
        except (OSError, ValueError, OverflowError):
            return -1


def _tracks(container: Any, stream: int | None) -> list[int]:
    """Numbers of the audio tracks to try, those that are marked as the default first."""
    audio = container.streams.audio
    contexts = enumerate(one.codec_context for one in audio)  # None for a codec of no name
    known = [i for i, context in contexts if context and context.codec.name in CODECS]
    if stream is not None:
        return [stream - 1] if stream - 1 in known else []
    return sorted(known, key=lambda i: not int(audio[i].disposition) & 1)


class _Losses:
    """Packets that could not be decoded, gaps in the time line, and FFmpeg's own messages."""

    def __init__(self) -> None:
        self.packets = 0
        self.first = 0.0  # s; where the first is
        self.missing = 0.0  # s of silence that stand for what is lost
        self.jumps: list[tuple[float, float]] = []  # s: where and how long
        self.last: Any = None  # packet that was decoded
        self.begin = 0  # where in the file the first packet is
        self.bytes = 0  # of all packets
        self.errors = 0  # of the demuxer
        self.words: list[str] = []
        self.confirmed = 0  # words after which sound came

    def at(self, where: float) -> None:
        if not self.packets and not self.missing:
            self.first = where

    def forget(self, immaterial: re.Pattern[str]) -> None:
        """Drop words that are of no importance for this codec."""
        material = [not immaterial.search(text) for text in self.words]
        self.confirmed = sum(material[: self.confirmed])
        self.words[:] = [text for text, kept in zip(self.words, material, strict=True) if kept]

    def tell(self, report: DecodeReport, unused: float) -> None:
        """Add the losses to a report."""
        where = f"the first at {clock(self.first)}"
        if self.packets:
            many = "1 damaged packet" if self.packets == 1 else f"{self.packets} damaged packets"
            report.add("packets", f"{many}, {where}", self.missing)
        elif self.missing:
            report.add("gap", f"{self.missing:.1f} s are missing, {where}", self.missing)
        for place, seconds in self.jumps[:2]:
            report.add("gap", f"its time stamps jump by {seconds:.1f} s at {clock(place)}")
        torn = self.last is not None and mpeg_frame_bytes(bytes(self.last)[:4]) > self.last.size + 1
        if torn or any(map(TORN.search, self.words[self.confirmed :])):
            report.add("cut", "it breaks off within a packet")
        if unused:
            report.add("length", f"{unused:.0%} of its bytes are no sound that can be read")
        if self.confirmed and not report.damage:
            report.add("decoder", f"damaged ({self.words[0]})")


def _is_tag(packet: Any) -> bool:
    """Whether a packet holds tags behind the sound, as of an MP3, rather than sound."""
    head = bytes(packet)[:16]
    return head.startswith((b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"3DI")) or not head.strip(
        b"\0 "
    )


def _pyav_tracks(
    av: Any,
    file: BinaryIO | Part,
    container: Any,
    tracks: list[int],
    report: DecodeReport,
    losses: _Losses,
) -> Iterator[Iterator[Clip]]:
    """Each of several tracks; the first from the open container."""
    yield _pyav_track(av, file, container.streams.audio[tracks[0]], report, losses)
    for index in tracks[1:]:
        losses = _Losses()
        with _words(av, losses.words), _opened(av, file, losses.words) as again:
            yield _pyav_track(av, file, again.streams.audio[index], report, losses)


def _pyav_track(
    av: Any, file: BinaryIO | Part, stream: Any, report: DecodeReport, losses: _Losses
) -> Iterator[Clip]:
    container, started = stream.container, False
    stream.codec_context.thread_count = 1  # files are decoded side by side
    if stream.codec_context.name == "pcm_f24le" and EXTENSIBLE.search(_head(file)):
        raise DecoderError("24 bits in 32, which FFmpeg takes for the floats of Cool Edit")
    if stream.codec_context.name == "flac":
        stream.codec_context.options = {"err_detect": "crccheck"}
    report.announced = _announced(file, container, stream)
    report.metadata = {**container.metadata, **stream.metadata}
    for chunk in _decoded(av, _packets(av, container, stream, losses), losses):
        started = True
        yield chunk
    if stream.codec_context.name.startswith("pcm_"):  # a cut is told by the length
        losses.forget(OF_PCM)
    losses.tell(report, _unused(container, file, losses))
    if losses.errors > DEMUX_ERRORS:
        raise DecoderError("too much of it is damaged")
    if not started:
        raise DecoderError("not audio, or damaged (nothing in it can be decoded)")


def _head(file: BinaryIO | Part) -> bytes:
    """The first bytes of a file; its position is restored."""
    at = file.tell()
    file.seek(0)
    head = file.read(4096)
    file.seek(at)
    return head


def _unused(container: Any, file: BinaryIO | Part, losses: _Losses) -> float:
    """The share of a file's bytes that are not used, if it is too much for tags.

    They are in no packet; or behind the end by the header, which knows of pictures and the like.
    """
    names = set(container.format.name.split(","))
    if names & PACKED:
        return 0.0
    size, end = file.seek(0, 2), promised_end(file)
    size -= max(id3_size(file), losses.begin if names & HEADED else 0)
    unused = size - max(losses.bytes, end or 0)
    many = len(container.streams) == 1 and unused > max(NO_SOUND[0] * size, NO_SOUND[1])
    return unused / size if many else 0.0


def _announced(file: BinaryIO | Part, container: Any, stream: Any) -> float:
    """Seconds by the container's header; 0 where FFmpeg has only estimated them."""
    names = set(container.format.name.split(","))
    if "avi" in names and (
        stream.codec_context.name.startswith("adpcm")  # FFmpeg writes a wrong one
        or promised_end(file) is None  # it is not finished
    ):
        return 0.0
    if names & COUNTED and stream.duration:
        seconds = float(stream.duration * stream.time_base)
        if "mov" in names and container.duration and stream.start_time:
            # The first fragments are missing, as in a broadcast that is recorded from its middle.
            begin = float(stream.start_time * stream.time_base)
            seconds = min(seconds, container.duration / 1_000_000 - begin)
        return seconds
    if names & {"matroska", "flv", "rm"} and len(container.streams) == 1 and container.duration:
        return float((container.duration - max(0, container.start_time or 0)) / 1_000_000)
    return 0.0


def _packets(av: Any, container: Any, stream: Any, losses: _Losses) -> Iterator[Any]:
    """Every packet of a stream, except those that the demuxer cannot read."""
    while True:
        try:
            yield from container.demux(stream)
        except av.error.EOFError:
            return
        except (av.error.MemoryError, av.error.PyAVCallbackError):
            raise
        except IndexError:  # a packet of a track that the header did not list
            continue
        except av.FFmpegError:
            losses.errors += 1
            if losses.errors > DEMUX_ERRORS:
                return
        else:
            return


def _decoded(
    av: Any, packets: Iterable[Any], losses: _Losses, *, chunk: int = CHUNK
) -> Iterator[Clip]:
    """Packets to mono chunks, with silence for what is missing between two time stamps."""
    line = _TimeLine(av, losses)
    try:
        for packet in packets:
            for frame in _frames(av, packet, line.position, losses):
                if before := line.take(frame):
                    yield from before
            if line.waiting >= chunk:
                yield from line.chunks(chunk)
    except (av.FFmpegError, OSError):  # a stream that breaks off
        yield from line.rest()
        raise
    yield from line.rest()


def _frames(av: Any, packet: Any, position: float, losses: _Losses) -> list[Any]:
    """The frames of a packet; if it cannot be decoded, none, and a loss at `position` (s)."""
    frames: list[Any] = []
    if not losses.bytes:
        losses.begin = packet.pos or 0
    losses.bytes += packet.size
    try:
        frames = packet.decode()
    except av.error.MemoryError:
        raise
    except av.FFmpegError as error:
        if not packet.size or isinstance(error, av.error.EOFError):
            pass
        elif _is_tag(packet):
            del losses.words[losses.confirmed :]
        else:
            losses.at(position)
            losses.packets += 1
    else:
        if frames:
            losses.last = packet
            losses.confirmed = len(losses.words)
    return frames


class _TimeLine:
    """Joins frames to chunks of a fixed size, and fills gaps between time stamps with silence."""

    def __init__(self, av: Any, losses: _Losses) -> None:
        self._av, self._losses = av, losses
        self._fifo = av.AudioFifo()
        self._layout: tuple[str, int, int] | None = None
        self._rate = 0
        self._due: float | None = None  # s; where the next frame belongs
        self.position = 0.0  # s that were taken
        self.waiting = 0  # samples in the queue

    def take(self, frame: Any) -> list[Clip]:
        """Queue a frame; returns the chunks before it if the layout changes or there is a gap.

        This runs once a packet, every 20 ms of sound: no generator, few attributes.
        """
        before: list[Clip] = []
        layout = (frame.format.name, frame.layout.nb_channels, frame.sample_rate)
        if layout != self._layout:
            before += self.rest()
            self._layout, self._rate = layout, frame.sample_rate
        time = frame.time
        if time is not None and self._due is not None and time - self._due > HOLE:
            before += self._hole(time - self._due)
        samples = frame.samples
        seconds = samples / self._rate
        self._due = None if time is None else time + seconds
        self.position += seconds
        frame.pts = None  # the queue would compare it
        self._fifo.write(frame)
        self.waiting += samples
        return before

    def chunks(self, size: int) -> Iterator[Clip]:
        """All whole chunks in the queue."""
        while self.waiting >= size:
            self.waiting -= size
            yield _clip(self._fifo.read(size), self._rate)

    def rest(self) -> Iterator[Clip]:
        """The rest of the queue; the next frame may have another layout."""
        if self.waiting:
            self.waiting = 0
            yield _clip(self._fifo.read(), self._rate)
        self._fifo = self._av.AudioFifo()

    def _hole(self, seconds: float) -> Iterator[Clip]:
        if seconds > LONGEST_HOLE:
            self._losses.jumps.append((self.position, seconds))
            return
        yield from self.rest()
        yield Clip(np.zeros(round(seconds * self._rate), np.float32), self._rate)
        self._losses.at(self.position)
        self._losses.missing += seconds
        self.position += seconds


def _clip(frame: Any, rate: int) -> Clip:
    kind, count, many = frame.format.packed.name, frame.samples, frame.layout.nb_channels
    # PyAV gives more planes than there are channels from the eighth on: do not touch these.
    planes = [np.frombuffer(plane, DTYPES[kind]) for plane in frame.planes[:many]]
    if frame.format.is_planar:
        channels = [plane[:count] for plane in planes]
    else:
        channels = [planes[0][first : many * count : many] for first in range(many)]
    if kind != "flt":
        channels = [_scaled(channel, kind) for channel in channels]
    return Clip(mono(channels), rate)


def _scaled(values: NDArray[Any], kind: str) -> Floats:
    """Integers, or floats of 64 bits, as samples from -1 to 1."""
    samples = values.astype(np.float32)
    if kind == "u8":
        samples -= np.float32(128)
    samples *= np.float32(1 / SCALES.get(kind, 1.0))
    return samples


@contextmanager
def _words(av: Any, words: list[str]) -> Iterator[None]:
    """Collect the errors that FFmpeg's libraries log; PyAV would drop them."""

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = " ".join(record.getMessage().split())
            said = record.levelno >= logging.ERROR or TORN.search(text)
            if text and said and len(words) < 20 and not IMMATERIAL.search(text):
                words.append(text)

    logger, collector = logging.getLogger("libav"), Collector()
    level, propagates = av.logging.get_level(), logger.propagate
    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)  # or the next file's words would begin with these
    logger.setLevel(logging.WARNING)
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagates
        av.logging.set_level(level)


def _program_track(number: int, index: int, report: DecodeReport) -> Iterator[Clip]:
    started = False
    with scratch() as log:
        # Sun AU: big-endian floats after a header that can be written to a pipe.
        command = ["ffmpeg", "-nostdin", "-v", "error", "-protocol_whitelist", PROTOCOLS]
        command += ["-format_whitelist", FORMAT_WHITELIST, "-codec_whitelist", CODEC_WHITELIST]
        command += ["-i", f"file:/dev/fd/{number}", "-map", f"0:a:{index}", "-c:a", "pcm_f32be"]
        command += ["-f", "au", "-"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, pass_fds=(number,)
        ) as process:
            try:
                assert process.stdout is not None  # noqa: S101, it is a pipe
                for chunk in _au_chunks(process.stdout):
                    started = True
                    yield chunk
                process.wait()
            finally:
                process.kill()  # when only the start was wanted
        log.seek(0)
        said = [re.sub(r"\[[^]]*\] ", "", line.decode(errors="replace").strip()) for line in log]
        said = [line for line in said if line and not IMMATERIAL.search(line)]
        if not started:
            kind = MissingTrackError if index else DecoderError
            raise kind(f"not audio, or damaged ({(said or ['it has no sound'])[0]})")
        if said:
            report.add("decoder", f"damaged ({said[0]})")


@contextmanager
def _on_disk(file: BinaryIO | Part) -> Iterator[int]:
    """The number of an open file with the same bytes, for a program that must be able to seek."""
    if not isinstance(file, BytesIO | Part):
        yield file.fileno()
        return
    with scratch() as copy:
        file.seek(0)
        shutil.copyfileobj(file, copy)
        copy.flush()
        yield copy.fileno()


def scratch() -> BinaryIO:
    """A temporary file, deleted when closed; in memory if this process may not create files."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("fingerprint"), "w+b")
    return TemporaryFile()


def _au_chunks(stream: IO[bytes]) -> Iterator[Clip]:
    header = stream.read(AU_HEADER.size)
    if len(header) < AU_HEADER.size:
        return
    _, offset, _, _, rate, channels = AU_HEADER.unpack(header)
    stream.read(offset - AU_HEADER.size)
    frame = 4 * channels  # bytes
    while data := stream.read(CHUNK * frame):
        samples = np.frombuffer(data[: len(data) // frame * frame], dtype=">f4")
        if len(samples):
            yield Clip(mono(samples.astype(np.float32).reshape(-1, channels).T), rate)
