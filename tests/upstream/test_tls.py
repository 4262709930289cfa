"""TLS: certificates that cannot be read, and what alerts say."""

import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from weir.upstream.tls import alert_of, described, load_certificate, refuses_certificate


def failed(reason: str | None) -> ssl.SSLError:
    """An error as OpenSSL's binding raises it."""
    error = ssl.SSLError(1, "[SSL] whatever")
    error.reason = reason  # type: ignore[assignment]  # None where OpenSSL gave no reason
    return error


@pytest.mark.parametrize(
    ("reason", "alert", "is_refusal", "text"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "CERTIFICATE_REQUIRED", True, "wants a client certificate"),
        ("TLSV1_ALERT_UNKNOWN_CA", "UNKNOWN_CA", True, "TLS alert 'unknown ca'"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "BAD_CERTIFICATE", True, "TLS alert 'bad certificate'"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "HANDSHAKE_FAILURE", True, "TLS alert 'handshake failure'"),
        ("TLSV1_ALERT_DECODE_ERROR", "DECODE_ERROR", False, "ended the connection with the TLS alert 'decode error'"),
        ("TLSV1_ALERT_INTERNAL_ERROR", "INTERNAL_ERROR", False, "TLS alert 'internal error'"),
        ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "", False, "TLS failed (DECRYPTION_FAILED_OR_BAD_RECORD_MAC)"),
        (None, "", False, "TLS failed (no reason given)"),
    ],
    ids=["required", "unknown ca", "bad", "handshake", "decode", "internal", "own", "none"],
)
def test_an_alert_is_named(reason: str | None, alert: str, is_refusal: bool, text: str) -> None:
    """Only those about this side's certificate prove that nothing was carried out."""
    error = failed(reason)
    assert (alert, is_refusal) == (alert_of(error), refuses_certificate(alert))
    assert text in described(error)


def test_an_encrypted_key_is_named_as_that(tmp_path: Path) -> None:
    """Nobody is asked for a password at a terminal."""
    leaf = trustme.CA().issue_cert("localhost")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    sealed = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "key.pem").write_bytes(sealed)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(OSError, match="the key is encrypted") as raised:
        load_certificate(context, str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    assert raised.value.strerror is not None
