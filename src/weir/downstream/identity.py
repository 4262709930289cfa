"""Who a client is: the peer's address, or what trusted proxies say it is; for limits, a header's hash.

A session id or `clientInfo` is no identity (MCP 2026-07-28, basic/index): clients choose them, and some open a
session for every call.
"""

import hashlib
import ipaddress
from collections.abc import Sequence

from weir.core.call import Call, Headers, header
from weir.protocol.numbers import whole_number

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
ADDRESS_LIMIT_CHARACTERS = 60
"""The longest address is 45 characters, with brackets and a port 53; longer text is not looked at."""

HOPS_LIMIT = 32
"""Proxies that a request is followed through; more than a handful of one's own is a mistake or an attack."""

LARGEST_PORT = 65535
_MAPPED_BITS = 96  # of ::ffff:0:0/96, RFC 4291, section 2.5.5.2
HASH_CHARACTERS = 32  # 128 bits: two clients never share one by chance


def address_of(text: str) -> IpAddress | None:
    """Reads `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]` or `[::1]:80`; returns None for anything else.

    An IPv4 address in its IPv6 form (`::ffff:1.2.3.4`, which a listener on `[::]` sees) is the IPv4 address. A zone id
    has a meaning only on the machine that wrote it, and is no part of an address here.
    """
    text = text.strip(" \t")
    if len(text) > ADDRESS_LIMIT_CHARACTERS:
        return None
    port = ""
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        if not bracket or "." in text.partition(":")[0] or (port and not port.startswith(":")):
            return None
        port = port[1:] if port else ""
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
    if port and whole_number(port, LARGEST_PORT) is None:
        return None
    return _bare(text)


def _bare(text: str) -> IpAddress | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.scope_id is not None:
        return None
    return address.ipv4_mapped or address


def peer_address(text: str) -> str:
    """Returns the address of a connection's other end as weir names it everywhere: no zone, IPv4 as IPv4."""
    address = address_of(text.partition("%")[0])
    return text if address is None else str(address)


class Forwarded:
    """Reads `X-Forwarded-For` as far as it was written by proxies that are trusted."""

    def __init__(self, trusted: Sequence[IpNetwork]) -> None:
        self._trusted = tuple(map(_unmapped, trusted))

    def is_proxy(self, address: str) -> bool:
        """Whether the address is a trusted proxy's, which speaks for many clients."""
        return self._is_trusted(address_of(address))

    def client(self, address: str, headers: Headers) -> str:
        """The address of the client: the last one in the chain that is no trusted proxy.

        Whatever stands before it was claimed by that client itself, and is not believed. Text that is no address ends
        the chain: the client is then the last proxy that is known.
        """
        if not self._trusted or not self._is_trusted(address_of(address)):
            return address
        values = [value for name, value in headers if name == b"x-forwarded-for"]
        hops = b",".join(values).rsplit(b",", HOPS_LIMIT)[-HOPS_LIMIT:]
        for hop in reversed(hops):
            claimed = address_of(hop.decode("latin-1"))
            if claimed is None:
                break
            address = str(claimed)
            if not self._is_trusted(claimed):
                break
        return address

    def _is_trusted(self, address: IpAddress | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)


def _unmapped(network: IpNetwork) -> IpNetwork:
    """A network of IPv4 addresses in their IPv6 form is a network of IPv4 addresses."""
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


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
