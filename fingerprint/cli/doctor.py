"""`fingerprint doctor`: what works on this machine, what does not, and the command to fix it."""

import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import click

from fingerprint.answers import json_line
from fingerprint.audio.files import display_name, without_password
from fingerprint.cli.group import EXTRAS
from fingerprint.cli.opening import open_any, open_model
from fingerprint.cli.options import json_option, library_or_server_option, model_option
from fingerprint.cli.text import counted, error_line, one_line, printable
from fingerprint.errors import FingerprintError, LibraryError
from fingerprint.milvus.address import Address

PORT = 8765
SERVING = tuple(module for module, extra in EXTRAS.items() if extra == "serve")
PHONE = "connect one, or use a phone's: fingerprint serve --host 0.0.0.0 --tls"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; `fix` is a command that repairs it, or empty."""

    what: str
    state: Literal["ok", "missing", "broken"]  # missing: an optional part, not a fault
    says: str
    fix: str = ""


@click.command("doctor")
@library_or_server_option
@model_option
@json_option
@click.pass_context
def doctor_command(
    ctx: click.Context, library: Path | Address | str, model: Path | None, as_json: bool
) -> None:
    """Check what recognition needs, and say how to fix it.

    Exit status: 0 nothing is broken, 1 something is.
    """
    broken = False
    for finding in _findings(library, model):
        broken |= finding.state == "broken"
        if as_json:
            record = asdict(finding) | {"mend": finding.fix}  # its name until the next version
            click.echo(json_line(record).encode("utf-8"))
            continue
        click.echo(printable(f"{finding.state:<8} {finding.what:<11} {finding.says}"))
        if finding.fix:
            click.echo(f"{'':20} {finding.fix}")
    ctx.exit(1 if broken else 0)


def _findings(library: Path | Address | str, model: Path | None) -> Iterator[Finding]:
    looks: list[tuple[str, Callable[[], Finding]]] = [
        ("python", _python),
        ("decoders", _decoders),
        ("confinement", _confinement),
        ("model", lambda: _model(model)),
        ("library", lambda: _library(library, model)),
        ("device", _device),
        ("microphone", _microphone),
        ("serve", _server),
        ("browser", _browser),
        ("pictures", _pictures),
        ("port", _port),
    ]
    for what, look in looks:
        try:
            yield look()
        except ImportError as error:  # a package that every install has
            name = (error.name or "").partition(".")[0]
            fix = f"pip install --force-reinstall {name}" if name else ""
            yield Finding(what, "broken", one_line(str(error)), fix)
        except (FingerprintError, OSError) as error:
            yield Finding(what, "broken", error_line(error))


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", f"Python {version} at {sys.executable}")


def _decoders() -> Finding:
    try:
        import soundfile  # noqa: F401 - it loads libsndfile
    except OSError as error:
        return Finding("decoders", "broken", str(error), "apt-get install libsndfile1")
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
    from fingerprint.audio.decoding_process import confinement

    if sandbox.abi():
        return Finding("confinement", "ok", confinement())
    fix = "start Linux 5.13 or later with landlock among the names of its option lsm="
    return Finding("confinement", "missing", confinement(), fix if sys.platform == "linux" else "")


def _model(file: Path | None) -> Finding:
    try:
        found = open_model(file, "cpu")
    except FingerprintError as error:
        fix = (
            "unset FINGERPRINT_MODEL, leave out --model, or name another file"
            if file
            else "in a checkout: pip install --force-reinstall --no-deps ."
        )
        return Finding("model", "broken", error_line(error), fix)
    return Finding("model", "ok", f"model {found.id[:12]}")


def _library(place: Path | Address | str, file: Path | None) -> Finding:
    return _folder(place, file) if isinstance(place, Path) else _remote(place, file)


def _folder(folder: Path, file: Path | None) -> Finding:
    from fingerprint.library.library import Library

    name, index = display_name(folder), f"{_command('index', folder)} FOLDER"
    if not _exists(folder):
        parent = next(one for one in folder.absolute().parents if _exists(one))
        if _may(parent, os.W_OK):
            return Finding("library", "missing", f"there is none at {name} yet", index)
        says = f"there is none at {name} yet, and you may not make one there"
        return Finding("library", "broken", says, _own(folder))
    parts = (folder, *folder.glob("catalog.db*"), *folder.glob("segments"))
    if not all(_may(one, os.R_OK) for one in parts) or not _may(folder, os.X_OK):
        return Finding("library", "broken", f"you may not read {name}", _own(folder))
    if not any(folder.iterdir()):
        return Finding("library", "missing", f"{name} is empty", index)
    try:
        with Library.open(folder, open_model(file, "cpu")) as opened:
            opened.snapshot()
            held = opened.info().tracks
    except LibraryError as error:
        return Finding("library", "broken", error_line(error), _repair_command(folder))
    tracks = counted(held, "track")
    if not all(_may(one, os.W_OK) for one in parts):
        says = f"{tracks} in {name}, which you may read, but not change"
        return Finding("library", "missing", says, _own(folder))
    if not held:
        return Finding("library", "missing", f"{name} holds no tracks", index)
    return Finding("library", "ok", f"{tracks} in {name}")


def _remote(address: Address | str, file: Path | None) -> Finding:
    name = without_password(str(address))
    try:
        open_any(address, file, "cpu").close()
    except LibraryError as error:
        return Finding("library", "broken", error_line(error), "on its machine: fingerprint doctor")
    return Finding("library", "ok", f"{name} answers, and has the same model")


def _repair_command(folder: Path) -> str:
    """The command that repairs a library which cannot be opened."""
    from fingerprint.library.store import Catalog
    from fingerprint.library.verify import check

    try:
        with closing(Catalog(folder)) as catalog:
            if check(catalog):
                return f"{_command('verify', folder)} --repair"
    except LibraryError:  # the catalog itself is damaged
        pass
    return "fingerprint index --library ANOTHER FOLDER"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:  # of a folder above it
        return False


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _own(folder: Path) -> str:
    """The command that gives a folder, which may not exist yet, to this user."""
    name = shlex.quote(str(folder.absolute()))
    return f'sudo mkdir -p {name} && sudo chown -R "$(id -un)" {name} && chmod -R u+rwX {name}'


def _command(name: str, folder: Path) -> str:
    return f"fingerprint {name} --library {shlex.quote(str(folder))}"


def _device() -> Finding:
    if find_spec("torch") is None:
        return Finding("device", "ok", "the CPU; torch, which training needs, is not installed")
    from fingerprint.machine import pick_device

    device = pick_device("auto")
    return Finding("device", "ok", "a GPU (CUDA)" if device == "cuda" else "the CPU")


def _microphone() -> Finding:
    try:
        import sounddevice
    except ImportError as error:
        fix = "pip install 'fingerprint[microphone]'"
        return Finding("microphone", "missing", str(error), fix)
    except OSError as error:  # the wheels for Linux come without PortAudio
        return Finding("microphone", "missing", str(error), "apt-get install libportaudio2")
    try:
        devices = sounddevice.query_devices()
    except sounddevice.PortAudioError as error:
        return Finding("microphone", "missing", one_line(str(error)), PHONE)
    found = [str(one["name"]) for one in devices if one["max_input_channels"]]
    if not found:
        return Finding("microphone", "missing", "none is connected", PHONE)
    return Finding("microphone", "ok", ", ".join(found))


def _server() -> Finding:
    lacking = [name for name in SERVING if find_spec(name) is None]
    if lacking:
        fix = "pip install 'fingerprint[serve]'"
        return Finding("serve", "missing", f"without {', '.join(lacking)}", fix)
    return Finding("serve", "ok", "the server's packages are installed")


def _browser() -> Finding:
    file = Path(__file__).parents[1] / "serving/static/ort/ort-wasm-simd-threaded.wasm"
    if file.is_file():
        return Finding("browser", "ok", "pages compute fingerprints themselves")
    says = "pages send sound: ONNX Runtime for browsers is not in this install"
    return Finding("browser", "missing", says, "python -m fingerprint.lab onnxruntime-web")


def _pictures() -> Finding:
    if find_spec("matplotlib") is None:
        says = "explain cannot draw without matplotlib"
        return Finding("pictures", "missing", says, "pip install 'fingerprint[explain]'")
    return Finding("pictures", "ok", "explain can draw")


def _port() -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError as error:
            says = f"port {PORT} of this machine: {error.strerror}"
            return Finding("port", "missing", says, "fingerprint serve --port 0")
    return Finding("port", "ok", f"port {PORT} is free")
