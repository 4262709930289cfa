"""The sockets weir listens on, bound before anything starts so that a taken port is one clear error."""

import errno
import socket

from weir.config.quantities import Address
from weir.core.shortage import is_shortage, what_is_short
from weir.upstream.sockets import keep_alive


class ListenError(Exception):
    """An address cannot be listened on. The text names the address and the mend."""


def bind(address: Address, key: str) -> socket.socket:
    """A listening socket. `key` is the configuration key the address comes from.

    Raises:
        ListenError: the address is taken, not ours, or not allowed.
    """
    try:
        family, kind, proto, _, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no host name"
        raise ListenError(f"{key}: cannot resolve {address}: {reason}") from None
    try:
        listener = socket.socket(family, kind, proto)
    except OSError as error:
        raise ListenError(f"{key}: cannot listen on {address}: {_mend(error)}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # a client that is gone without a word leaves its streams open: they have no other timer
        keep_alive(listener)
        listener.bind(target)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ListenError(f"{key}: cannot listen on {address}: {_mend(error)}") from None
    listener.setblocking(False)
    return listener


def _mend(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; stop the other program or choose another port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    if error.errno == errno.EACCES:
        return "not allowed (ports below 1024 need privileges); choose a higher port"
    if is_shortage(error):
        return what_is_short(error)
    return error.strerror or str(error)
