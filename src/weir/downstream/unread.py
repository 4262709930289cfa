"""What a client was sent and has not taken: noticed by timers that run only while there is something."""

import array
import asyncio
import fcntl
import socket
import termios
from collections.abc import Callable

_LOOKS = 4
"""Looks within the limit; a client that stops is found out at the end of the limit's second window at the latest."""
_FAREWELL_SECONDS = 0.05
"""Between looks at a closing TLS connection. Its end would otherwise be the peer's close_notify, or 30 s."""


class Unread:
    """Watches one connection. `give_up` is called when its client has read too slowly for `seconds` while it should."""

    __slots__ = (
        "_farewell",
        "_give_up",
        "_is_held",
        "_least_bytes",
        "_left",
        "_loop",
        "_seconds",
        "_since",
        "_timer",
        "_transport",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        least_bytes_per_second: int,
        give_up: Callable[[], None],
    ) -> None:
        self._least_bytes = max(1, int(least_bytes_per_second * seconds))
        self._transport = transport
        self._loop = loop
        self._seconds = seconds
        self._give_up = give_up
        self._is_held = False
        self._left = 0
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._farewell: asyncio.TimerHandle | None = None

    def held(self) -> None:
        """More waits than is to wait: from now on the client has to take some of it."""
        self._is_held = True
        self._left = self._size()
        self._since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds / _LOOKS, self._look)

    def released(self) -> None:
        """The client has taken enough. The timer finds that out by itself: it may well be needed again."""
        self._is_held = False

    def closing(self) -> None:
        """The connection is to end when all is taken."""
        if self._transport.get_write_buffer_size():
            self.held()
        if self._farewell is None and self._transport.get_extra_info("ssl_object") is not None:
            self._farewell = self._loop.call_later(_FAREWELL_SECONDS, self._part)

    def stop(self) -> None:
        """The connection has ended."""
        for timer in (self._timer, self._farewell):
            if timer is not None:
                timer.cancel()
        self._give_up = _nothing

    def _look(self) -> None:
        self._timer = None
        if not self._is_held:
            return
        now, size = self._loop.time(), self._size()
        if now - self._since >= self._seconds:
            if self._left - size < min(self._least_bytes, self._left):
                self._give_up()
                return
            self._left, self._since = size, now
        self._timer = self._loop.call_later(self._seconds / _LOOKS, self._look)

    def _part(self) -> None:
        """The peer has all of it, the close_notify included: whether it answers that is nobody's concern."""
        if self._size():
            self._farewell = self._loop.call_later(_FAREWELL_SECONDS, self._part)
        else:
            self._transport.abort()

    def _size(self) -> int:
        return self._transport.get_write_buffer_size() + _unacknowledged(self._transport)


def _nothing() -> None:
    """What is called when nobody is there to be told."""


def _unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes in the kernel that the peer's has not taken; 0 where that cannot be told (elsewhere than on Linux)."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    size = array.array("i", [0])
    try:
        # SIOCOUTQ, see tcp(7)
        fcntl.ioctl(connection.fileno() if connection is not None else -1, termios.TIOCOUTQ, size, True)
    except (OSError, ValueError):
        return 0
    return size[0]
