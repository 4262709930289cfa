"""Tells weir's own shortages apart from what a server did."""

import errno
from typing import Final

_OF_THIS_PROCESS: Final = frozenset(
    {
        errno.EMFILE,  # this process has no descriptor left
        errno.ENFILE,  # the machine has none left
        errno.ENOMEM,
        errno.ENOBUFS,
        errno.EAGAIN,  # no process, thread or local port was to be had (fork(2), connect(2))
        errno.EADDRNOTAVAIL,  # every local port towards this address is in use
    }
)

SHORTAGE_RETRY_SECONDS: Final = 1.0
"""What `Retry-After` says where weir is short: calls end all the time, so a place is soon free."""


def is_shortage(error: BaseException) -> bool:
    """Whether the machine refused weir a descriptor, a port, a process or memory: no fault of any server."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _OF_THIS_PROCESS)
