"""Who may speak to this port: Host and Origin checks against DNS rebinding.

MCP says that servers MUST validate Origin and answer 403 (2025-11-25, basic/transports, Security
Warning). A page that rebinds its name to loopback carries a foreign Host or Origin; both are checked.
"""

import ipaddress
from dataclasses import dataclass
from typing import Final, NamedTuple

from weir.downstream.authority import host_of

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What is let in beside loopback: three settings name hosts, without ports; `allowed_origins` are whole."""

    allowed_origins: frozenset[str] = frozenset()
    allowed_hosts: frozenset[str] = frozenset()
    public_url_host: str = ""
    listen_host: str = "127.0.0.1"


class Refusal(NamedTuple):
    """The HTTP status and the text of a refusal, and the setting it comes from."""

    status: int
    text: str
    setting: str


_FOREIGN_HOST: Final = Refusal(
    421, "the Host header names neither this machine nor an entry of listen.allowed_hosts", "allowed_hosts"
)
_FOREIGN_ORIGIN: Final = Refusal(403, "the Origin is not in listen.allowed_origins", "allowed_origins")


class Gate:
    """Says whether a request's Host and Origin are ours."""

    def __init__(self, settings: GateSettings) -> None:
        self._origins = {origin.rstrip("/").lower() for origin in settings.allowed_origins}
        self._any_host = "*" in settings.allowed_hosts
        self._hosts = {name.lower() for name in settings.allowed_hosts} | LOOPBACK_NAMES
        if settings.public_url_host:
            self._hosts.add(settings.public_url_host.lower())
        if not _is_wildcard(settings.listen_host):
            self._hosts.add(settings.listen_host.lower())
        self._own_names = self._hosts - {"*"}
        # bounded: only values that passed are remembered, and those are few by nature
        self._passed: set[bytes] = set()

    def refusal(self, host: bytes, origin: bytes) -> Refusal | None:
        """Why the request is refused, None when it is not."""
        if host not in self._passed:
            if not self._is_our_host(host):
                return _FOREIGN_HOST
            self._remember(host)
        if origin and not self._is_our_origin(origin):
            return _FOREIGN_ORIGIN
        return None

    def _remember(self, host: bytes) -> None:
        if len(self._passed) < 1000:
            self._passed.add(host)

    def _is_our_host(self, host: bytes) -> bool:
        # without a Host there is no name a page could have rebound (HTTP/1.0 probes)
        return self._any_host or not host or host_of(host.decode("latin-1")) in self._hosts

    def _is_our_origin(self, origin: bytes) -> bool:
        text = origin.decode("latin-1").rstrip("/").lower()
        if text in self._origins or "*" in self._origins:
            return True
        scheme, separator, authority = text.partition("://")
        return bool(separator) and scheme in ("http", "https") and host_of(authority) in self._own_names


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host
