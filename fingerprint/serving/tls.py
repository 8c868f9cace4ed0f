"""A self-signed certificate for https, without which browsers do not allow the microphone.

The browser warns once. The certificate is kept on disk, so that the warning does not come back.
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

LIFETIME = timedelta(days=397)  # the longest that browsers accept
RENEW_BEFORE = timedelta(days=7)  # its end


def certificate(folder: Path, names: tuple[str, ...]) -> tuple[Path, Path]:
    """The files of a certificate for these host names and addresses, and of its private key.

    They are made unless there are such files, for all of these names and still valid for a while.
    """
    file, key = folder / "certificate.pem", folder / "key.pem"
    if not (key.is_file() and file.is_file() and _is_valid(file.read_bytes(), names)):
        folder.mkdir(parents=True, exist_ok=True)
        signed, private_key = _self_signed(names)
        _write_private(key, private_key)
        _write_private(file, signed)
    return file, key


def addresses(host: str) -> tuple[str, ...]:
    """Host names and addresses by which clients may reach a server on `host`."""
    own = (socket.gethostname(), f"{socket.gethostname()}.local", "localhost", "127.0.0.1")
    if host in ("0.0.0.0", "::"):  # noqa: S104 - only compared
        return (_outgoing_address(), *own)
    return (host, *own)


def qr_code(url: str) -> str:
    """A QR code for a terminal."""
    from io import StringIO

    text = StringIO()
    segno.make(url, error="l", micro=False).terminal(text, compact=True, border=2)
    return text.getvalue()


def _outgoing_address() -> str:
    """This machine's address on its network: that of a UDP socket, which sends no packet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address: str = probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"
    return address


def _is_valid(content: bytes, names: tuple[str, ...]) -> bool:
    """Whether a certificate is for all of these names, and does not expire soon."""
    try:
        existing = x509.load_pem_x509_certificate(content)
        extension = existing.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except ValueError:
        return False
    listed = {str(name.value) for name in extension.value}
    left = existing.not_valid_after_utc - datetime.now(UTC)
    return set(names) <= listed and left > RENEW_BEFORE


def _self_signed(names: tuple[str, ...]) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fingerprint")])
    now = datetime.now(UTC)
    signed = (
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
    private_key = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return signed.public_bytes(serialization.Encoding.PEM), private_key


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_private(path: Path, content: bytes) -> None:
    """Write a file that has mode 600 from its creation on."""
    path.unlink(missing_ok=True)
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "wb") as file:
        file.write(content)
