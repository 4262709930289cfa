"""Who a client is: the peer's address, or what trusted proxies say it is; for limits, a header's hash.

A session id or `clientInfo` is no identity (MCP 2026-07-28, basic/index): clients choose them, and some open a
session for every call.
"""

import hashlib
import ipaddress
from collections.abc import Sequence

from weir.core.call import Call, Headers, header

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
HASH_CHARACTERS = 32  # 128 bits: two clients never share one by chance


class Forwarded:
    """Reads `X-Forwarded-For` as far as it was written by proxies that are trusted."""

    def __init__(self, trusted: Sequence[IpNetwork]) -> None:
        self._trusted = tuple(trusted)

    def client(self, address: str, headers: Headers) -> str:
        """The address of the client: the last one in the chain that is no trusted proxy.

        Whatever stands before it was claimed by that client itself, and is not believed.
        """
        if not self._trusted or not self._is_trusted(address):
            return address
        values = [value for name, value in headers if name == b"x-forwarded-for"]
        for hop in reversed(b",".join(values).decode("latin-1").split(",")):
            claimed = _address(hop)
            if claimed is None:
                break
            address = str(claimed)
            if not self._is_trusted(address):
                break
        return address

    def _is_trusted(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._trusted)


def _address(text: str) -> IpAddress | None:
    """The address in `1.2.3.4`, `1.2.3.4:80`, `::1` or `[::1]:80`, None where there is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


class ClientKey:
    """Tells clients apart: by the hash of the header `name` where a request has it, else by address."""

    def __init__(self, name: bytes) -> None:
        self._name = name.lower()

    def __call__(self, call: Call) -> str:
        """The key of a call's client; "stdio" for the one client on a pipe."""
        value = header(call.headers, self._name) if self._name else b""
        if value:
            return hashlib.sha256(value).hexdigest()[:HASH_CHARACTERS]
        return call.peer.address or "stdio"
