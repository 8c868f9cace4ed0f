"""`fingerprint doctor`: what works on this machine, what does not, and the command to fix it."""

import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import click

from fingerprint.answers import json_line
from fingerprint.audio.files import display_name
from fingerprint.cli.options import json_option, library_option, model_option
from fingerprint.cli.text import counted, printable, reason
from fingerprint.errors import FingerprintError

PORT = 8765


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; `mend` is a command that fixes it, or empty."""

    what: str
    state: Literal["ok", "missing", "broken"]  # missing: an optional part, not a fault
    says: str
    mend: str = ""


@click.command("doctor")
@library_option
@model_option
@json_option
@click.pass_context
def doctor_command(ctx: click.Context, library: Path, model: Path | None, as_json: bool) -> None:
    """Check what recognition needs, and say what to install.

    Exit status: 0 nothing is broken, 1 something is.
    """
    broken = False
    for finding in _findings(library, model):
        broken |= finding.state == "broken"
        if as_json:
            click.echo(json_line(asdict(finding)).encode("utf-8"))
            continue
        click.echo(printable(f"{finding.state:<8} {finding.what:<11} {finding.says}"))
        if finding.mend:
            click.echo(f"{'':20} {finding.mend}")
    ctx.exit(1 if broken else 0)


def _findings(library: Path, model: Path | None) -> Iterator[Finding]:
    looks: list[Callable[[], Finding]] = [
        _python,
        _decoders,
        _confinement,
        lambda: _model(model),
        lambda: _library(library, model),
        _device,
        _microphone,
        _server,
        _browser,
        _port,
    ]
    for look in looks:
        try:
            yield look()
        except (FingerprintError, OSError) as error:
            yield Finding(look.__name__.strip("_<>"), "broken", reason(error))


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", f"Python {version} at {sys.executable}")


def _decoders() -> Finding:
    from fingerprint.audio import ffmpeg

    if ffmpeg.pyav_installed():
        return Finding("decoders", "ok", "PyAV and libsndfile: every format")
    if ffmpeg.program_installed():
        return Finding("decoders", "ok", "the ffmpeg program and libsndfile: every format")
    return Finding(
        "decoders",
        "missing",
        "libsndfile alone: WAV, FLAC, Ogg, Opus, MP3; no M4A, WMA, video",
        "pip install 'fingerprint[ffmpeg]'",
    )


def _confinement() -> Finding:
    from fingerprint.audio import sandbox
    from fingerprint.audio.worker import confinement

    return Finding("confinement", "ok" if sandbox.abi() else "missing", confinement())


def _model(file: Path | None) -> Finding:
    from fingerprint.cli.opening import open_model

    try:
        found = open_model(file, "cpu")
    except FingerprintError as error:
        return Finding(
            "model", "broken", reason(error), "pip install --force-reinstall fingerprint"
        )
    return Finding("model", "ok", f"model {found.id[:12]}")


def _library(folder: Path, file: Path | None) -> Finding:
    from fingerprint.cli.opening import open_model
    from fingerprint.library.library import Library

    name = display_name(folder)
    if not folder.exists():
        mend = "fingerprint index FOLDER"
        return Finding("library", "missing", f"there is none at {name} yet", mend)
    try:
        with Library.open(folder, open_model(file, "cpu")) as opened:
            opened.snapshot()
            tracks = opened.info().tracks
    except FingerprintError as error:
        return Finding("library", "broken", reason(error), "fingerprint verify --repair")
    if not tracks:
        return Finding("library", "missing", f"{name} is empty", "fingerprint index FOLDER")
    return Finding("library", "ok", f"{counted(tracks, 'track')} in {name}")


def _device() -> Finding:
    if find_spec("torch") is None:
        return Finding("device", "ok", "the CPU; torch, which training needs, is not installed")
    from fingerprint.machine import pick_device

    device = pick_device("auto")
    return Finding("device", "ok", "a GPU (CUDA)" if device == "cuda" else "the CPU")


def _microphone() -> Finding:
    mend = "pip install 'fingerprint[microphone]'; on Linux also: apt-get install libportaudio2"
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        return Finding("microphone", "missing", str(error), mend)
    found = [one for one in sounddevice.query_devices() if one["max_input_channels"]]
    if not found:
        return Finding("microphone", "missing", "none is connected")
    return Finding("microphone", "ok", ", ".join(str(one["name"]) for one in found))


def _server() -> Finding:
    needed = ("fastapi", "uvicorn", "httptools", "websockets", "prometheus_client", "PIL", "segno")
    lacking = [name for name in needed if find_spec(name) is None]
    if lacking:
        mend = "pip install 'fingerprint[serve]'"
        return Finding("serve", "missing", f"without {', '.join(lacking)}", mend)
    return Finding("serve", "ok", "the server's packages are installed")


def _browser() -> Finding:
    file = Path(__file__).parents[1] / "serving/static/ort/ort-wasm-simd-threaded.wasm"
    if file.is_file():
        return Finding("browser", "ok", "pages compute fingerprints themselves")
    says = "pages send sound: ONNX Runtime for browsers is not in this install"
    mend = "in a checkout: python scripts/onnxruntime_web.py, then pip install ."
    return Finding("browser", "missing", says, mend)


def _port() -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError as error:
            says = f"port {PORT} of this machine: {error.strerror}"
            return Finding("port", "missing", says, "fingerprint serve --port 0")
    return Finding("port", "ok", f"port {PORT} is free")
