"""Where a caller sits: the network by which weir tells callers apart who may choose their own names.

A caller with a client key invents as many keys as it likes; its address it does not choose. With IPv6 it chooses the
lower 64 bits: a host gets a whole /64 (RFC 6177), so the /64 stands for the caller.
"""

import functools
import ipaddress

IPV6_PREFIX_BITS = 64

_REMEMBERED = 1024
# callers whose next call asks again: parsing an address takes longer than all else that a call costs here


@functools.lru_cache(maxsize=_REMEMBERED)
def network_of(address: str) -> str:
    """The address itself, or the /64 of an IPv6 address. Text that is no address stands for itself."""
    if ":" not in address:
        return address
    try:
        number = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if number.ipv4_mapped is not None:
        return str(number.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(number), IPV6_PREFIX_BITS), strict=False))
