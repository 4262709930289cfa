"""A monotonic clock that stands still with the process: a deadline moves by the time for which weir could not run.

A process is stopped (SIGSTOP), its virtual machine is paused, its laptop sleeps, or something keeps the event loop's
thread: when it runs again, every deadline has passed on the wall, and the answers wait unread in its sockets. That time
is no evidence against a server or a client. Somebody reads this clock at least every `TICK_SECONDS`
(`app/process_loop`), so a longer gap between two readings is time in which the process stood still.
"""

import math
from collections.abc import Callable
from typing import Final

TICK_SECONDS: Final = 0.25
"""How often the clock is read at least; a deadline moves by up to so much more than the process stood still."""

STOOD_STILL_SECONDS: Final = 1.0
"""A longer gap between two readings is left out of the time. A busy loop is late by less."""


class ProcessClock:
    """Reads a monotonic clock, in seconds, and leaves out the gaps. It leaves out nothing unless it is watched."""

    __slots__ = ("_last", "_left_out", "_read", "_untold", "pauses")

    def __init__(self, read: Callable[[], float]) -> None:
        self._read = read
        self._last = math.inf
        self._left_out = 0.0
        self._untold = 0.0
        self.pauses = 0
        """How often the process has stood still."""

    def __call__(self) -> float:
        """The time that the process could use so far."""
        read = self._read()
        gap = read - self._last
        if gap >= 0.0:
            self._last = read
            if gap > STOOD_STILL_SECONDS:
                self._left_out += gap
                self._untold += gap
                self.pauses += 1
        return read - self._left_out

    def watch(self) -> None:
        """From now on somebody reads the clock at every tick."""
        self._last = self._read()

    def unwatch(self) -> None:
        """Nobody does any more."""
        self._last = math.inf

    def untold(self) -> float:
        """For how long the process has stood still since this was asked last, in seconds."""
        self()
        seconds, self._untold = self._untold, 0.0
        return seconds
