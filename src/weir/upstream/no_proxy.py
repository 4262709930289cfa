"""NO_PROXY: which servers are reached without the proxy.

There is no standard. An entry is `*`, a name (it means what is below it too; a dot or `*.` before it changes nothing),
an address, or a range; each may carry a port. Entries stand apart by commas or blanks.
"""

import ipaddress
import re
from collections.abc import Iterator

from weir.protocol import hosts
from weir.protocol.numbers import whole_number

MAX_PORT = 65535
MAX_ENTRIES = 1000
"""More are no list that anybody wrote; each is looked at once for an upstream, at the start."""

_SEPARATORS = re.compile(r"[,\s]+")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Whether a server is reached directly. `host` is as in a URL, without brackets."""
    name, address = hosts.plain(host), _address(host)
    return any(_matches(name, address, port, entry) for entry in _entries(no_proxy))


def unreadable(no_proxy: str) -> list[str]:
    """The entries that match nothing, because they are neither a name, nor an address, nor a range."""
    return [entry for entry in _entries(no_proxy) if entry != "*" and _split(entry) is None]


def _entries(no_proxy: str) -> Iterator[str]:
    yield from [entry for entry in _SEPARATORS.split(no_proxy) if entry][:MAX_ENTRIES]


def _matches(name: str, address: IpAddress | None, port: int, entry: str) -> bool:
    if entry == "*":
        return True
    parts = _split(entry)
    if parts is None or parts[1] not in (None, port):
        return False
    network = _network(parts[0])
    if address is not None or network is not None:
        # an address is never a part of a name: `0.0.1` does not mean 10.0.0.1
        return address is not None and network is not None and address in network
    return name == parts[0] or name.endswith("." + parts[0])


def _split(entry: str) -> tuple[str, int | None] | None:
    """The host of an entry as it is compared, and its port; None for what is neither."""
    host, port = entry, ""
    if entry.startswith("["):
        host, closed, rest = entry[1:].partition("]")
        if not closed or rest[:1] not in ("", ":"):
            return None
        port = rest[1:] if rest else ""
        is_bare = not rest
    else:
        is_bare = entry.count(":") != 1
        if not is_bare:
            host, _, port = entry.partition(":")
    number = None if is_bare else whole_number(port, MAX_PORT)
    if not is_bare and number is None:
        return None
    if _network(host) is not None:
        return host, number
    name = _ascii(hosts.plain(host.removeprefix("*").removeprefix(".")))
    return (name, number) if name and not hosts.objection(name) else None


def _ascii(name: str) -> str:
    """An international name as DNS has it; empty for what is none."""
    try:
        return name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return ""


def _network(text: str) -> Network | None:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    mapped = network.network_address.ipv4_mapped if network.version == 6 else None
    if mapped is None or network.prefixlen < 96:
        return network
    return ipaddress.ip_network(f"{mapped}/{network.prefixlen - 96}", strict=False)


def _address(host: str) -> IpAddress | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address
