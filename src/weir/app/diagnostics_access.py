"""Who may read the diagnostics port.

Probes and scrapers (kubelet, Prometheus) send any Host and no credentials, so the pages for them refuse foreign web
pages only. The other pages show calls or change weir: they check Host and Origin against DNS rebinding, and ask for the
token where other machines reach the port.
"""

import base64
import binascii
import hmac
from dataclasses import dataclass, field
from typing import Any

from weir.app.pages import Page, text_page
from weir.core.call import header
from weir.downstream.gate import Gate, GateSettings

_FOREIGN_PAGE = "a web page of another site may not read weir's diagnostics\n"
_FOREIGN_HOST = (
    "the Host header names neither this machine nor an entry of listen.allowed_hosts; add the name there, "
    "or ask by the address that weir listens on\n"
)
_NO_TOKEN = (
    "other machines can reach this port, so this page needs a token and none is set: set listen.diagnostics_token in "
    "weir's configuration (for example '${WEIR_DIAGNOSTICS_TOKEN}' or '${file:/run/secrets/weir}'), restart weir, and "
    "send 'Authorization: Bearer TOKEN'; or bind listen.diagnostics to 127.0.0.1\n"
)
_ASK_FOR_TOKEN = (
    "this page needs the token of listen.diagnostics_token: send 'Authorization: Bearer TOKEN', "
    "or Basic with the token as the password\n"
)
_CHALLENGE = b'Basic realm="weir diagnostics", charset="UTF-8", Bearer realm="weir diagnostics"'


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who is let in."""

    gate: GateSettings = field(default_factory=GateSettings)
    """The names that this port answers to; `allowed_origins` stays empty, as no web page needs this port."""
    token: str = ""
    """Empty for none."""
    is_loopback: bool = True
    """Only this machine reaches the port."""


class Access:
    """Says whether a request may read a page."""

    def __init__(self, settings: AccessSettings) -> None:
        self._gate = Gate(settings.gate)
        self._token = settings.token.encode()
        self._is_loopback = settings.is_loopback

    def open_page(self, headers: Any) -> Page | None:
        """The refusal of a page for probes and scrapers; None when the request may read it."""
        is_foreign = self._gate.refusal(b"localhost", header(headers, b"origin")) is not None
        return text_page(403, _FOREIGN_PAGE) if is_foreign else None

    def guarded_page(self, headers: Any) -> Page | None:
        """The refusal of a page that shows calls or changes weir; None when the request may have it."""
        refusal = self._gate.refusal(header(headers, b"host"), header(headers, b"origin"))
        if refusal is not None:
            return text_page(refusal.status, _FOREIGN_PAGE if refusal.setting == "allowed_origins" else _FOREIGN_HOST)
        if not self._token:
            return None if self._is_loopback else text_page(403, _NO_TOKEN)
        given = _given(header(headers, b"authorization"))
        # in constant time: a comparison that ends early tells how much of a guess is right
        if hmac.compare_digest(given, self._token):
            return None
        return text_page(401, _ASK_FOR_TOKEN, challenge=_CHALLENGE)


def _given(authorization: bytes) -> bytes:
    """The token in a header: that of Bearer, or the password of Basic; empty for none."""
    scheme, _, credentials = authorization.strip().partition(b" ")
    credentials = credentials.strip()
    match scheme.lower():
        case b"bearer":
            return credentials
        case b"basic":
            try:
                return base64.b64decode(credentials, validate=True).partition(b":")[2]
            except binascii.Error:
                return b""
    return b""
