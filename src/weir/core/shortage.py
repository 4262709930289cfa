"""Tells weir's own shortages apart from what a server did."""

import errno
from typing import Final

_FILES: Final = "raise its limit of open files (`ulimit -n`, LimitNOFILE)"
_MEMORY: Final = "give it more"

_NAMED: Final = {
    errno.EMFILE: ("weir has no file descriptor left (EMFILE)", _FILES),
    errno.ENFILE: ("the machine has no file descriptor left (ENFILE)", "raise that limit (fs.file-max)"),
    errno.ENOMEM: ("the machine has no memory left for weir (ENOMEM)", _MEMORY),
    errno.ENOBUFS: ("the machine has no buffer left for a socket (ENOBUFS)", _MEMORY),
    # fork(2), pthread_create(3), connect(2)
    errno.EAGAIN: (
        "the machine has no process, thread or port left for weir (EAGAIN)",
        "raise its limit of processes (`ulimit -u`, TasksMax)",
    ),
    errno.EADDRNOTAVAIL: (
        "every local port towards the server is in use (EADDRNOTAVAIL)",
        "widen their range (net.ipv4.ip_local_port_range)",
    ),
    # see upstream/guarded
    errno.ECANCELED: ("the parent of the stdio servers was killed", "ask again"),
}
"""What is short, and the mend."""

SHORTAGE_RETRY_SECONDS: Final = 1.0
"""What `Retry-After` says where weir is short: calls end all the time, so a place is soon free."""


def is_shortage(error: BaseException) -> bool:
    """Whether the machine refused weir a descriptor, a port, a process or memory: no fault of any server."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _NAMED)


def what_is_short(error: BaseException) -> str:
    """Names the limit of the machine that an error has met, of which `is_shortage` is true, and the mend."""
    return "; ".join(_NAMED[(isinstance(error, OSError) and error.errno) or errno.ENOMEM])
