"""Whether a server works on one call at a time, seen from when calls begin and end. Part of `admission`. Pure.

A server that takes calls one by one ends them in the order they came, and each takes as long from the end of the one
before as a call takes that found the server free. A server that works on several at once lets one overtake another, or
ends them closer together than that.
"""

from typing import Final

EVIDENCE: Final = 8
"""Calls in a row that waited for the one before, until a server is taken for a serial one. One that did not is enough
for the opposite."""

EARLY_SHARE: Final = 0.5
"""A call says something when it came in the first half of the time that the one before took: later, it would end as
late anyhow."""

TOO_QUICK_SHARE: Final = 0.5
TOO_SLOW_TIMES: Final = 2.0
"""A call that ends in less than this share of a call's own time after the one before was worked on beside it. One that
takes several times as long is of another kind, and says nothing."""

OPEN_LIMIT: Final = 10_000
"""Calls watched at a time, more than any limit lets in."""

_WEIGHT: Final = 0.2


class SerialWatch:
    """Calls of one server. `is_serial` is False until it has been seen."""

    __slots__ = ("_alone_seconds", "_evidence", "_free_at", "_open", "_turn", "is_serial")

    def __init__(self) -> None:
        self.is_serial = False
        self._open: dict[int, float] = {}
        self._turn = 0
        self._evidence = 0
        self._alone_seconds = 0.0
        """What a call takes that found the server free."""
        self._free_at = 0.0
        """The call that is open longest could have the server for itself from then on."""

    def began(self, now: float) -> int:
        """A call begins. Returns what to tell its end with."""
        if not self._open:
            self._free_at = now
        self._turn += 1
        if len(self._open) < OPEN_LIMIT:
            self._open[self._turn] = now
        return self._turn

    def ended(self, turn: int, now: float) -> bool:
        """A call was answered. True: `is_serial` has changed."""
        began_at = self._open.pop(turn, None)
        if began_at is None:
            return False
        if any(other < turn for other in self._open):
            return self._saw_another_beside()
        free_at, self._free_at = self._free_at, now
        if began_at >= free_at:
            self._alone_seconds += (now - began_at - self._alone_seconds) * (_WEIGHT if self._alone_seconds else 1.0)
            return False
        return self._judge(began_at, free_at, now)

    def forgotten(self, turn: int) -> None:
        """A call ended without an answer: when the server was done with it nobody knows."""
        if self._open.pop(turn, None) is not None:
            self._evidence = 0

    def _judge(self, began_at: float, free_at: float, now: float) -> bool:
        """A call ended that had come while the one before it was open, in its turn."""
        own_seconds, alone = now - free_at, self._alone_seconds
        if not alone:
            return False
        if own_seconds < TOO_QUICK_SHARE * alone:
            return self._saw_another_beside()
        if free_at - began_at >= EARLY_SHARE * alone and own_seconds <= TOO_SLOW_TIMES * alone:
            self._evidence += 1
        if self._evidence < EVIDENCE or self.is_serial:
            return False
        self.is_serial = True
        return True

    def _saw_another_beside(self) -> bool:
        was_serial, self.is_serial, self._evidence = self.is_serial, False, 0
        return was_serial
