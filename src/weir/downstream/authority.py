"""The authority of a request: `name`, `name:port`, `[v6]` or `[v6]:port` (RFC 3986, section 3.2)."""

import functools
import ipaddress
import re
from typing import Final

_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._~!$&'()*+,;=%-]+))(?::([0-9]{0,5}))?")
LARGEST_PORT: Final = 65535
LONGEST_AUTHORITY: Final = 512
"""Characters: a name has at most 253 (RFC 1035), in percent-encoding a little more."""
_REMEMBERED: Final = 256
# Host headers: most clients send the same few


def host_of(authority: str) -> str | None:
    """Returns the host without its port, in lower case; an IPv6 address without brackets, in its shortest spelling.

    Returns None for anything that is no authority of `http`: user information, a broken bracket, text behind one,
    a zone id, a port that is no number, an empty name.
    """
    found = _HOST.fullmatch(authority)
    if found is None:
        return None
    address, name, port = found.groups()
    if port and int(port) > LARGEST_PORT:
        return None
    if name is not None:
        return name.lower()
    try:
        return str(ipaddress.IPv6Address(address))
    except ValueError:
        return None


@functools.lru_cache(maxsize=_REMEMBERED)
def is_host(authority: bytes) -> bool:
    """Whether a Host header names a host; see `host_of`."""
    return host_of(authority.decode("latin-1")) is not None
