"""`fingerprint serve`: a library over HTTP, and the page that listens."""

import logging
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from fingerprint.audio.files import display_name
from fingerprint.cli.opening import open_model, open_with, require_library
from fingerprint.cli.options import FILE, Finite, library_or_milvus_option, model_option
from fingerprint.cli.progress import note
from fingerprint.errors import ConfigError
from fingerprint.machine import available_cores
from fingerprint.milvus.address import Address

if TYPE_CHECKING:
    from fingerprint.library.library import Library

log = logging.getLogger("fingerprint.serving")
SHORTEST_TOKEN = 16  # characters


@click.command("serve")
@library_or_milvus_option
@model_option
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; 0.0.0.0: all, so that other machines reach the server.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    metavar="N",
    default=8765,
    show_default=True,
    help="Port to listen on; 0 for any that is free.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    default=available_cores,
    show_default="all cores",
    help="Number of queries that are answered at the same time.",
)
@click.option(
    "--token-file",
    type=FILE,
    metavar="FILE",
    help="File with the token that clients must send to upload or remove.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="HOST",
    help="Host name that clients use for the server, beside its addresses and its own name.",
)
@click.option(
    "--tls",
    is_flag=True,
    help="Serve https with a certificate of its own, and show a QR code: phones give their "
    "microphone to https only.",
)
@click.option("--certificate", type=FILE, metavar="FILE", help="Serve https with this certificate.")
@click.option("--key", type=FILE, metavar="FILE", help="Private key of --certificate.")
@click.option(
    "--log",
    "journal",
    type=FILE,
    metavar="FILE",
    show_default="in memory",
    help="Keep a log of recognised tracks in this SQLite file.",
)
@click.option(
    "--log-days",
    type=Finite(min=0),
    metavar="DAYS",
    default=30.0,
    show_default=True,
    help="Days for which the log is kept; 0: no log.",
)
@click.option("--webhook", metavar="URL", help="POST every recognised track to this address.")
@click.option(
    "--webhook-secret-file", type=FILE, metavar="FILE", help="Key that signs calls of --webhook."
)
@click.option("--json-log", is_flag=True, help="Log lines as JSON objects.")
@click.option("--quiet", is_flag=True, help="Log errors only.")
def serve_command(
    library: Path | Address,
    model: Path | None,
    host: str,
    port: int,
    workers: int,
    token_file: Path | None,
    names: tuple[str, ...],
    tls: bool,
    certificate: Path | None,
    key: Path | None,
    journal: Path | None,
    log_days: float,
    webhook: str | None,
    webhook_secret_file: Path | None,
    json_log: bool,
    quiet: bool,
) -> None:
    """Serve the library: a page that listens, and an HTTP API.

    Stops on Ctrl-C or SIGTERM, after it has answered the requests in flight. Uploading and removing
    need the token of --token-file; without one they are allowed on the loopback address only.
    """
    from fingerprint.serving.server import is_loopback, listening_socket, log_to_stderr, run
    from fingerprint.serving.settings import Settings

    names = tuple(map(_host_name, names))
    settings = Settings(
        workers=workers,
        names=names,
        token=_token(token_file),
        open_writes=is_loopback(host),
        journal=journal,
        keep_days=log_days,
        webhook=_webhook(webhook, webhook_secret_file),
        webhook_secret=_secret(webhook_secret_file),
    )
    files = _certificate(certificate, key, host if tls else None, names)
    listener = listening_socket(host, port)
    opened = _opened(library, model, workers)
    log_to_stderr(as_json=json_log, quiet=quiet)
    if not settings.open_writes and settings.token is None:
        log.warning("Uploading and removing are off: they need --token-file on this address.")
    run(
        opened,
        settings,
        listener,
        certificate=files,
        on_ready=lambda: _greet(host, listener.getsockname()[1], https=bool(files), tls=tls),
    )


def _greet(host: str, port: int, *, https: bool, tls: bool) -> None:
    scheme = "https" if https else "http"
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"Serving on {scheme}://{shown}:{port}")
    if not tls:
        return
    from fingerprint.serving.server import is_loopback

    if is_loopback(host):
        note("A phone does not reach this address: add --host 0.0.0.0 for that.")
    else:
        from fingerprint.serving.tls import addresses, qr_code

        url = f"https://{addresses(host)[0]}:{port}"
        note(f"{qr_code(url)}\nOpen {url} on the phone, and trust the certificate once.")


def _certificate(
    certificate: Path | None, key: Path | None, host: str | None, names: tuple[str, ...]
) -> tuple[Path, Path] | None:
    if (certificate is None) != (key is None):
        raise click.UsageError("--certificate and --key go together")
    if certificate is not None and key is not None:
        from fingerprint.serving.server import check_certificate

        check_certificate(certificate, key)
        return certificate, key
    if host is None:
        return None
    import platformdirs

    from fingerprint.serving import tls

    folder = platformdirs.user_data_path("fingerprint") / "tls"
    return tls.certificate(folder, (*tls.addresses(host), *names))


def _host_name(name: str) -> str:
    """A host name as browsers send it."""
    try:
        found = name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        found = ""
    if not re.fullmatch(r"[a-z0-9._-]+", found):
        raise click.UsageError(f"--name takes a host name alone, as music.example: not {name}")
    return found


def _webhook(url: str | None, secret: Path | None) -> str | None:
    try:
        parts = urlsplit(url or "")
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # of the port, or an address that is cut off
        usable = False
    if url is not None and not usable:
        raise click.UsageError("--webhook needs an address of http or https")
    if url is not None and secret is None:
        raise click.UsageError("--webhook needs --webhook-secret-file, whose key signs the calls")
    return url


def _opened(place: Path | Address, model: Path | None, workers: int) -> "Library":
    """The library, which may be empty, since music can be uploaded."""
    require_library(place)
    threads = max(1, available_cores() // workers)
    return open_with(place, open_model(model, "cpu", threads=threads))


def _secret(file: Path | None) -> str:
    from fingerprint.serving.webhooks import key_of

    secret = _token(file) or ""
    try:
        key_of(secret)
    except ValueError as error:
        raise ConfigError(f"{file}: after whsec_ there must be base64") from error
    return secret


def _token(file: Path | None) -> str | None:
    if file is None:
        return None
    token = file.read_text(encoding="utf-8", errors="replace").strip() if file.exists() else ""
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise ConfigError(
            f"{display_name(file)}: a token of at least {SHORTEST_TOKEN} letters is needed; make "
            "one with: python3 -c 'import secrets; print(secrets.token_urlsafe())' > "
            f"{shlex.quote(str(file))}"
        )
    return token
