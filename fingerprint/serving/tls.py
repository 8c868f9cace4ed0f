"""A certificate of our own, for a browser gives the microphone to pages of https only.

It is signed by nobody: the phone asks once whether to trust it. It is kept, so that it asks once.
"""

import ipaddress
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import segno
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=397)  # what browsers accept
LEAST_LEFT = timedelta(days=7)


def certificate(folder: Path, names: tuple[str, ...]) -> tuple[Path, Path]:
    """The files of a certificate for these host names and addresses, and of its key.

    Made where there is none, or one for others, or one that ends soon.
    """
    file, key = folder / "certificate.pem", folder / "key.pem"
    if not (key.is_file() and file.is_file() and _is_good(file.read_bytes(), names)):
        folder.mkdir(parents=True, exist_ok=True)
        made, secret = _made(names)
        _write(key, secret)
        _write(file, made)
    return file, key


def addresses(host: str) -> tuple[str, ...]:
    """Names and addresses by which others may reach a server on `host`."""
    own = (socket.gethostname(), f"{socket.gethostname()}.local", "localhost", "127.0.0.1")
    if host in ("0.0.0.0", "::"):  # noqa: S104 - it only asks
        return (_outward(), *own)
    return (host, *own)


def qr_code(url: str) -> str:
    """A QR code for a terminal."""
    from io import StringIO

    text = StringIO()
    segno.make(url, error="l", micro=False).terminal(text, compact=True, border=2)
    return text.getvalue()


def _outward() -> str:
    """The address of this machine on its network; no packet is sent to find out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            found: str = probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"
    return found


def _is_good(content: bytes, names: tuple[str, ...]) -> bool:
    try:
        found = x509.load_pem_x509_certificate(content)
        known = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except ValueError:
        return False
    listed = {str(name.value) for name in known}
    left = found.not_valid_after_utc - datetime.now(UTC)
    return set(names) <= listed and left > LEAST_LEFT


def _made(names: tuple[str, ...]) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fingerprint")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return made.public_bytes(serialization.Encoding.PEM), secret


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: Path, content: bytes) -> None:
    """For the user's eyes only, from the first byte on."""
    path.unlink(missing_ok=True)
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "wb") as file:
        file.write(content)
