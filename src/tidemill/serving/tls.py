"""HTTPS from two files; whatever is wrong with them is said before the service listens."""

from __future__ import annotations

import ssl
from pathlib import Path

from tidemill.errors import ConfigError


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """What HTTPS needs; ``None`` when neither file is named.

    Only TLS 1.2 and 1.3 are spoken, with what Python's OpenSSL holds for safe.

    Args:
        certificate: PEM file with the certificate, followed by those that vouch for it.
        key: PEM file with its private key, not encrypted: nobody is there to type a password.

    Raises:
        ConfigError: one of the two is missing or unreadable, or they do not belong together.
    """
    if certificate is None and key is None:
        return None
    for path, name, other in ((certificate, "certificate", "key"), (key, "key", "certificate")):
        if path is None:
            raise ConfigError(
                f"a TLS {other} is named, but no {name}", where=f"serve.tls_{name}", mend=f"Name the {name}'s file too."
            )
        _require_readable(path, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(str(certificate), str(key), password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise _unusable(error, certificate, key) from None
    return context


def _require_readable(path: Path, name: str) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the TLS {name} cannot be read ({error.strerror})", where=str(path), mend=f"Check serve.tls_{name}."
        ) from None


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _unusable(error: Exception, certificate: Path | None, key: Path | None) -> ConfigError:
    reason = getattr(error, "reason", None) or str(error)
    if "encrypted" in reason:
        mend = "Decrypt it: `openssl pkey -in KEY -out NEWKEY`, readable by the service alone."
        return ConfigError("the TLS key is encrypted with a password", where=str(key), mend=mend)
    if "KEY_VALUES_MISMATCH" in reason:
        mend = "Name the key that the certificate was made with."
        return ConfigError("the TLS key does not belong to the certificate", where=str(key), mend=mend)
    what = "the TLS certificate and its key cannot be used"
    mend = "Both have to be PEM files, `-----BEGIN CERTIFICATE-----` and `-----BEGIN PRIVATE KEY-----`."
    return ConfigError(f"{what} ({reason.lower().replace('_', ' ')})", where=f"{certificate}, {key}", mend=mend)
