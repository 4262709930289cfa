"""TLS: reading this side's certificate, and naming the alerts that a server sends."""

import ssl

_ENCRYPTED = (
    "the key is encrypted, and weir has no password for it; write it without one (openssl pkey -in KEY -out NEW)"
)

# what a server sends when the client certificate is absent or not good enough (RFC 8446, section 6.2)
_REFUSALS = frozenset(
    (
        "ACCESS_DENIED",
        "BAD_CERTIFICATE",
        "CERTIFICATE_EXPIRED",
        "CERTIFICATE_REQUIRED",
        "CERTIFICATE_REVOKED",
        "CERTIFICATE_UNKNOWN",
        "HANDSHAKE_FAILURE",
        "UNKNOWN_CA",
        "UNSUPPORTED_CERTIFICATE",
    )
)
_ALERT = "_ALERT_"


class _NoPasswordError(Exception):
    """The key asks for a password."""


def load_certificate(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    """Have a context show the certificate in `cert`; `key` may be in the same file.

    Raises:
        OSError: a file cannot be read, or (its subclass ssl.SSLError) holds nothing usable, or is encrypted.
    """
    try:
        context.load_cert_chain(cert, key, _no_password)
    except _NoPasswordError:
        raise ssl.SSLError(0, _ENCRYPTED) from None


def _no_password() -> str:
    # without this OpenSSL asks at the terminal, or fails with an error that names no reason
    raise _NoPasswordError


def alert_of(error: ssl.SSLError) -> str:
    """The alert that the server sent, as RFC 8446 calls it with underscores; "" when the failure is another one."""
    _, separator, name = (error.reason or "").partition(_ALERT)
    return name if separator else ""


def refuses_certificate(alert: str) -> bool:
    """Whether the alert says that this side's certificate is missing or not accepted."""
    return alert in _REFUSALS


def described(error: ssl.SSLError) -> str:
    """What went wrong after the handshake, in words."""
    alert = alert_of(error)
    if not alert:
        return f"TLS failed ({error.reason or 'no reason given'})"
    name = alert.lower().replace("_", " ")
    if alert == "CERTIFICATE_REQUIRED":
        return f"the server wants a client certificate (TLS alert '{name}')"
    if refuses_certificate(alert):
        return f"the server refused weir's TLS handshake or client certificate (TLS alert '{name}')"
    return f"the server ended the connection with the TLS alert '{name}'"
