"""A certificate of our own, for a service in a network at home: kept, so that it has to be accepted only once."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..errors import MissingExtraError, OptionError
from .settings import ServeSettings, is_loopback

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, GeneralName

__all__ = ["DAYS", "certificate_files", "fingerprint", "names_of", "own_addresses"]

DAYS = 397
"""Longest validity that browsers of Apple accept of a certificate (CA/Browser Forum, ballot SC31)."""

_RENEW = timedelta(days=30)
_CERTIFICATE, _KEY = "certificate.pem", "key.pem"


def certificate_files(
    settings: ServeSettings, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> tuple[Path, Path] | None:
    """Return the files of the certificate and its key; None: no TLS.

    A certificate of our own is made in ``state/tls`` and used again at the next start, until 30 days before its end,
    or until the service is reached under a name that it does not have.

    Raises
    ------
    OptionError
        If the files that were named are not a certificate and its key.
    MissingExtraError
        If ``cryptography`` is not installed.
    """
    if settings.tls is None:
        return None
    if isinstance(settings.tls, tuple):
        _check(*settings.tls)
        return settings.tls
    if settings.tls != "self-signed":
        msg = f"tls is {settings.tls!r}, it must be self-signed or two files"
        raise OptionError(msg)
    folder = settings.state / "tls"
    files, names = (folder / _CERTIFICATE, folder / _KEY), names_of(settings)
    if not _usable(files, names, now()):
        _make(folder, names, now())
    return files


def fingerprint(file: Path) -> str:
    """Return the SHA-256 of the first certificate in a PEM file, as browsers show it: hex digits in pairs."""
    text = file.read_text(encoding="ascii")
    end = "-----END CERTIFICATE-----"
    first = text[text.index("-----BEGIN CERTIFICATE-----") : text.index(end) + len(end)]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).digest().hex(":").upper()


def names_of(settings: ServeSettings) -> tuple[str, ...]:
    """Return the names and addresses that a certificate of this service has to carry."""
    named = [settings.host.strip("[]"), *settings.hosts]
    if settings.origin:
        named.append(urlsplit(settings.origin).hostname or "")
    addresses = ("127.0.0.1", "::1") if is_loopback(settings.host) else own_addresses()
    return tuple(dict.fromkeys([*filter(_is_name, named), *own_names(), *addresses]))


def own_names() -> tuple[str, ...]:
    """Return what this machine is called."""
    name = socket.gethostname()
    return tuple(filter(_is_name, dict.fromkeys(("localhost", name, f"{name.partition('.')[0]}.local"))))


def own_addresses() -> tuple[str, ...]:
    """Return the addresses of this machine; that by which it reaches others first, the loopback ones last."""
    found: list[str] = []
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        # Nothing is sent: an address for documentation is only asked the way to.
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))
            found.append(probe.getsockname()[0])
    with suppress(OSError):
        found += [str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(socket.gethostname(), None)]
    outer = [a for a in found if not ip_address(a).is_loopback]
    return tuple(dict.fromkeys([*outer, "127.0.0.1", "::1"]))


def _is_name(text: str) -> bool:
    try:
        return not ip_address(text).is_unspecified
    except ValueError:
        return 0 < len(text) <= 253 and text.isascii() and all(c.isalnum() or c in "-." for c in text)


def _check(certificate: Path, key: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        msg = f"{certificate} and {key} are not a certificate and its key ({reason or 'not readable'})"
        raise OptionError(msg) from error


def _usable(files: tuple[Path, Path], names: tuple[str, ...], now: datetime) -> bool:
    try:
        _check(*files)
    except OptionError:
        return False
    from cryptography import x509

    held = x509.load_pem_x509_certificate(files[0].read_bytes())
    carried = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    known = {*carried.get_values_for_type(x509.DNSName), *map(str, carried.get_values_for_type(x509.IPAddress))}
    return held.not_valid_before_utc <= now < held.not_valid_after_utc - _RENEW and set(names) <= known


def _make(folder: Path, names: tuple[str, ...], now: datetime) -> None:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        package = "cryptography"
        raise MissingExtraError(package, "serve") from error
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = _signed(key, names, now).public_bytes(serialization.Encoding.PEM)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in ((_KEY, private), (_CERTIFICATE, public)):
        _write(folder / name, content)


def _signed(key: EllipticCurvePrivateKey, names: tuple[str, ...], now: datetime) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mien, self-signed")])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now - timedelta(hours=1) + timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _general(name: str) -> GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(path: Path, content: bytes) -> None:
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    partial.replace(path)
