"""The places of one upstream or tool, and the queue before them. Part of `admission`. Pure."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from weir.policies.admission_limit import AdaptiveLimit, Phase

OVERLOAD_SECONDS: Final = 0.1
OVERLOAD_TIMES: Final = 2.0
"""A queue that was never empty for so long, and for so many times what a call takes, is no burst but an overload; and
one that was always empty for so long is none any more."""

OVERLOAD_SHARE: Final = 0.35
"""In an overload as many calls may wait as this share of those that run: each waits for a third of what a call takes.
With fewer, places stayed empty where calls come unevenly."""

RATE_SECONDS: Final = 5.0
"""Over how long the rate is averaged at which calls leave."""

LONGEST_RETRY_SECONDS: Final = 60.0
"""Nobody is told to come back later than that: by then things have changed."""


PASSED_OVER_TIMES: Final = 4
"""A class that waits is passed over this many times in a row at most, plus once for each other class that waited as
long. More urgent classes get four of five places; a client can start (`tools/list`) however many calls wait."""


@dataclass(frozen=True, slots=True)
class Places:
    """`limit` calls run at once (in adaptive mode at most), `queue` wait, none for longer than the timeout."""

    limit: int = 64
    queue: int = 32
    queue_timeout_seconds: float = 5.0
    adaptive: bool = False


class Rank(IntEnum):
    """The classes of traffic, in the order in which they are let in. None is passed over for ever."""

    RETURNING = 0
    CONTROL = 1
    INTERACTIVE = 2
    LIST = 3


class Waiter:
    """One who waits for a place. `wake` is called once, when `is_admitted` or `is_displaced` has become true."""

    __slots__ = ("is_admitted", "is_displaced", "rank", "wake")

    def __init__(self, rank: Rank, wake: Callable[[], None]) -> None:
        self.rank = rank
        self.wake = wake
        self.is_admitted = False
        self.is_displaced = False


class Rate:
    """How often something happens, per second: an average in which the past fades."""

    __slots__ = ("_at", "_count")

    def __init__(self) -> None:
        self._count = 0.0
        self._at = -math.inf

    def note(self, now: float) -> None:
        """It happened."""
        self._count = self._faded(now) + 1.0
        self._at = now

    def per_second(self, now: float) -> float:
        """The rate, 0.0 when nothing is known."""
        return self._faded(now) / RATE_SECONDS

    def _faded(self, now: float) -> float:
        return self._count * math.exp((self._at - now) / RATE_SECONDS)


class Overload:
    """Whether a queue stands, or is a burst that goes by."""

    __slots__ = ("_is_waiting", "_since", "is_standing")

    def __init__(self) -> None:
        self.is_standing = False
        self._is_waiting = False
        self._since = -math.inf

    def note(self, is_waiting: bool, now: float, typical_seconds: float) -> None:
        """Whether somebody waits now."""
        if now - self._since > max(OVERLOAD_SECONDS, OVERLOAD_TIMES * typical_seconds):
            self.is_standing = self._is_waiting
        if is_waiting is not self._is_waiting:
            self._is_waiting, self._since = is_waiting, now


class Bulkhead:
    """The places of one upstream or tool, and the queue before them. `in_use` may exceed a limit that was lowered."""

    def __init__(self, places: Places, name: str) -> None:
        self.name = name
        """"" for an upstream, a tool's name for a tool."""
        self.timeout_seconds = places.queue_timeout_seconds
        self.limit = places.limit
        self.in_use = 0
        self.waiting = 0
        self._queue_limit = places.queue
        self._queues: tuple[dict[Waiter, None], ...] = tuple({} for _ in Rank)
        self._passed_over = [0] * len(Rank)
        self._adaptive = AdaptiveLimit(places.limit) if places.adaptive else None
        self._overload = Overload()
        self._rate = Rate()

    @property
    def capacity(self) -> int:
        """How many calls may run, without the small changes by which an adaptive limit is found."""
        return round(self._adaptive.estimate) if self._adaptive is not None else self.limit

    def enter(self) -> bool:
        """Take a place, if one is free and nobody waits for it."""
        if self.in_use >= self.limit or self.waiting:
            return False
        self.in_use += 1
        return True

    def join(self, waiter: Waiter, now: float) -> bool:
        """Wait for a place; False: there is no room to wait. Somebody less urgent may be displaced.

        The first waiter of a class always has room, beyond the limit if need be: no class is kept out by the others.
        """
        if waiter.rank is Rank.RETURNING:
            # it was counted before it paused: there are no more of these than there were places
            has_room = len(self._queues[Rank.RETURNING]) < self.limit
        else:
            is_first = not self._queues[waiter.rank]
            has_room = self._has_room(now) or (self._queue_limit > 0 and (is_first or self._displace(waiter.rank)))
        if has_room:
            self._queues[waiter.rank][waiter] = None
            self.waiting += 1
            self._note_queue(now)
        return has_room

    def withdraw(self, waiter: Waiter, now: float) -> None:
        """Whoever waited wants no place any more; had it been given one in the same moment, that is free again."""
        if waiter.is_admitted:
            self.leave(now)
        elif waiter in self._queues[waiter.rank]:
            self._remove(waiter)
            self._note_queue(now)

    def leave(self, now: float) -> None:
        """A place is free: whoever is first gets it."""
        self.in_use -= 1
        self._rate.note(now)
        self._let_in(now)

    def retry_after(self, now: float) -> float | None:
        """In how many seconds all that wait now will have been let in, at the rate of late; None: nobody knows."""
        rate = self._rate.per_second(now)
        return min((self.waiting + 1) / rate, LONGEST_RETRY_SECONDS) if rate > 1 / LONGEST_RETRY_SECONDS else None

    # what single calls tell an adaptive limit

    def began(self) -> Phase | None:
        """A call begins in its place. Returns what to tell its end with."""
        if self._adaptive is None:
            return None
        phase = self._adaptive.began(self.in_use >= self.limit)
        self.limit = self._adaptive.limit
        return phase

    def ended(self, phase: Phase | None, seconds: float | None) -> bool:
        """A call was answered after `seconds`, None: it was not. True: the capacity is another one now."""
        if self._adaptive is None or phase is None:
            return False
        before = self.capacity
        if seconds is None:
            self._adaptive.forgotten(phase)
        else:
            self._adaptive.ended(phase, seconds)
        self.limit = self._adaptive.limit
        return self.capacity != before

    def shadow_enter(self) -> str:
        """Count a call in, whatever the limit; what would have become of it, "" for nothing."""
        self.in_use += 1
        if self.in_use <= self.limit:
            return ""
        return "would_queue" if self.in_use <= self.limit + self._queue_limit else "would_refuse"

    def shadow_leave(self) -> None:
        """Count it out."""
        self.in_use -= 1

    def _let_in(self, now: float) -> None:
        if not self.waiting:
            return
        while self.waiting and self.in_use < self.limit:
            waiter = next(iter(self._queues[self._next_turn()]))
            self._remove(waiter)
            self.in_use += 1
            waiter.is_admitted = True
            waiter.wake()
        self._note_queue(now)

    def _next_turn(self) -> Rank:
        """The class that is let in next: the most urgent, unless another one was passed over too often."""
        passed = self._passed_over
        waiting = [rank for rank in Rank if self._queues[rank]]
        turn = max(waiting, key=passed.__getitem__)
        if passed[turn] < PASSED_OVER_TIMES:
            turn = waiting[0]
        for rank in waiting:
            passed[rank] += 1
        passed[turn] = 0
        return turn

    def _has_room(self, now: float) -> bool:
        self._note_queue(now)
        limit = self._queue_limit
        if self._overload.is_standing:
            limit = min(limit, max(1, round(self.capacity * OVERLOAD_SHARE)))
        return self.waiting - len(self._queues[Rank.RETURNING]) < limit

    def _displace(self, rank: Rank) -> bool:
        """Make room: the youngest of the least urgent goes, if it is less urgent than `rank` and not alone of its
        class."""
        for other in reversed(Rank):
            if other <= rank:
                return False
            if len(self._queues[other]) > 1:
                waiter = next(reversed(self._queues[other]))
                self._remove(waiter)
                waiter.is_displaced = True
                waiter.wake()
                return True
        return False

    def _remove(self, waiter: Waiter) -> None:
        del self._queues[waiter.rank][waiter]
        self.waiting -= 1

    def _note_queue(self, now: float) -> None:
        if self._adaptive is not None:
            self._overload.note(self.waiting > 0, now, self._adaptive.typical_seconds)
