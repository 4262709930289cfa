"""Durations, sizes and addresses as an operator writes them.

Every error text is written for the operator. `{written}` in it stands for what the file says, quoted,
which only the loader knows: after expansion a value may be a secret, so no text here ever contains one.
"""

import ipaddress
import re
from typing import NamedTuple

from weir.protocol import hosts

DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)?(B|kB|KB|MB|GB|KiB|MiB|GiB)$"
ADDRESS_PATTERN = r"^(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$"

_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(B|kB|KB|MB|GB|KiB|MiB|GiB)")
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}

MAX_SECONDS = 365 * 86400.0
"""A year: a longer duration is a mistake, and timers overflow in places beyond it."""

MAX_BYTES = 1024**4
"""One TiB: a larger limit is a mistake."""

MAX_TEXT_LENGTH = 64
"""No duration or size is written longer."""

MAX_PORT = 65535


class Address(NamedTuple):
    """Where to listen. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Only this machine can reach it."""
        return hosts.is_loopback(self.host)


def duration_seconds(written: object) -> float:
    """`50ms`, `5s`, `1m30s`, `1h` in seconds. Raises ValueError with the mend for anything else."""
    if isinstance(written, int | float) and not isinstance(written, bool):
        raise ValueError("{written} has no unit; write for example '5s' for seconds or '50ms' for milliseconds")
    if not isinstance(written, str) or len(written) > MAX_TEXT_LENGTH or not _DURATION.fullmatch(written):
        raise ValueError("{written} is not a duration; write for example '50ms', '5s', '1m30s' or '1h'")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(written))
    if seconds > MAX_SECONDS:
        raise ValueError("{written} is more than a year; the longest duration is '365d'")
    return round(seconds, 6)


def size_bytes(written: object) -> int:
    """`512KiB`, `4MB`, `16MiB` in bytes. Raises ValueError with the mend for anything else."""
    if isinstance(written, int | float) and not isinstance(written, bool):
        raise ValueError("{written} has no unit; write for example '512KiB' or '16MiB'")
    match = _SIZE.fullmatch(written) if isinstance(written, str) and len(written) <= MAX_TEXT_LENGTH else None
    if match is None:
        raise ValueError("{written} is not a size; write for example '512KiB', '4MB' or '16MiB'")
    size = float(match[1]) * _BYTES[match[2]]
    if size > MAX_BYTES:
        raise ValueError("{written} is more than a TiB; the largest size is '1024GiB'")
    return int(size)


def address(written: object) -> Address:
    """`HOST:PORT`, IPv6 in brackets. Raises ValueError with the mend for anything else."""
    text = str(written) if isinstance(written, int | str) and not isinstance(written, bool) else ""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError(_address_mend(text))
    port = int(match[2])
    if port > MAX_PORT:
        raise ValueError(f"{{written}} has a port above {MAX_PORT}")
    host = match[1]
    if host.startswith("["):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError("{written} is not an IPv6 address with a port; write '[::1]:8931'") from None
    elif reason := hosts.objection(host):
        raise ValueError(f"{{written}} names no host: {reason}")
    return Address(host, port)


def _address_mend(text: str) -> str:
    if text.removeprefix(":").isdigit():
        return (
            "{written} names no host; write '127.0.0.1:PORT' for this machine only, '0.0.0.0:PORT' for every interface"
        )
    if text.count(":") > 1 and "/" not in text:
        return "{written} is not an address; IPv6 goes in brackets: '[::1]:8931'"
    return "{written} is not HOST:PORT; write for example '127.0.0.1:8931'"


def network(written: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A CIDR or a single address. Raises ValueError with the mend for anything else."""
    text = written if isinstance(written, str) else ""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError("{written} has bits set beyond its prefix; '10.0.0.0/8' has none") from None
        raise ValueError("{written} is not a CIDR; write for example '10.0.0.0/8' or 'fd00::/8'") from None
