"""How long an unused connection to one server is reused: learned from the ends that the server made. Pure.

A server that closes unused connections early ends a request that crosses its close, and nobody knows whether it was
carried out. After one such end connections are reused for half as long as that one had been unused, or not at all.
"""

import math
from typing import Final

from weir.protocol.numbers import whole_number

SHORTEST_SECONDS: Final = 0.05
"""A connection that may be reused for less than this is not reused: the next request would come too late anyway."""

FORGET_SECONDS: Final = 60.0
"""After this time without an early end a server is taken to keep connections again, for instance after its restart."""


MAX_KEEP_IDLE_SECONDS: Final = 60.0
"""How long an unused connection is kept at most, also where the server announces more."""

KEEP_ALIVE_MARGIN_SECONDS: Final = 1.0
"""Taken off an announced timeout: the server's clock started earlier than ours."""


def announced_seconds(keep_alive: bytes) -> float | None:
    """Returns how long to keep an unused connection by the server's `Keep-Alive`; None when it does not say."""
    found = None
    for part in keep_alive.split(b","):
        name, _, number = part.strip().partition(b"=")
        seconds = whole_number(number)
        if name.lower() == b"timeout" and seconds is not None:
            found = max(0.0, min(seconds - KEEP_ALIVE_MARGIN_SECONDS, MAX_KEEP_IDLE_SECONDS))
    return found


class Reuse:
    """What one server's ends say."""

    __slots__ = ("_until", "limit_seconds")

    def __init__(self) -> None:
        self.limit_seconds = math.inf
        """A connection that has been unused for longer is not reused."""
        self._until = math.inf

    def ended_early(self, unused_seconds: float, now: float) -> None:
        """The server ended a connection that had been unused for so long, or a request that was sent on it then."""
        half = unused_seconds / 2
        self.limit_seconds = min(self.limit_seconds, half if half >= SHORTEST_SECONDS else 0.0)
        self._until = now + FORGET_SECONDS

    def outlived(self) -> None:
        """A connection stood for as long as weir keeps unused ones."""
        self.limit_seconds = self._until = math.inf

    def allows(self, unused_seconds: float, now: float) -> bool:
        """Whether a connection that has been unused for so long may be reused."""
        if now >= self._until:
            self.outlived()
        return unused_seconds < self.limit_seconds

    def is_off(self, now: float) -> bool:
        """Whether no connection is reused."""
        return not self.allows(0.0, now)
