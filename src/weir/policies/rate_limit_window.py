"""How many calls there were in the last while: the windows that rate limits count in. Part of `rate_limit`. Pure.

A window holds the calls of one key. A call at `t` counts until `t + seconds`, and at that instant no more.
"""

import math
import operator
from array import array
from typing import Final, Protocol

EXACT_LIMIT: Final = 1000
"""Up to this limit every call's instant is kept: 8 bytes each, so that one key takes no more than 8 kB."""

SLICES: Final = 10
"""A larger limit is counted in so many slices of its window: an eleventh is the one that its left edge is in."""

_STAMP_BYTES: Final = 8
_FIRST_RING: Final = 4
# a call's millionth: what sums of shares may be off by
_PRECISION: Final = 1e-6


class Counts(Protocol):
    """Calls that count. `count` calls are taken together, after `wait` has said 0.0."""

    def wait(self, now: float, count: int) -> float:
        """Seconds until so many more fit, if nothing more is taken; 0.0: now; inf: never."""

    def take(self, now: float, count: int) -> None:
        """Count them. `now` is never before that of the last call."""

    def give_back(self, taken_at: float, count: int) -> None:
        """As if those of that instant had never been. What has left the window since is left alone."""

    def used(self, now: float) -> float:
        """How many are in the window."""


class Holder:
    """What the keys of one address take, in all limits together. The ledger counts it."""

    __slots__ = ("bytes", "keys", "network")

    def __init__(self, network: str) -> None:
        self.network = network
        self.keys = 0
        self.bytes = 0


NOBODY: Final = Holder("")


class ExactWindow:
    """Keeps the instant of every call, up to `limit` of them, in a ring that grows as it needs to."""

    __slots__ = ("_limit", "_next", "_seconds", "_size", "_stamps", "empty_at", "holder")

    def __init__(self, limit: int, seconds: float, holder: Holder = NOBODY) -> None:
        self.holder = holder
        self._limit = limit
        self._seconds = seconds
        self._stamps = array("d")
        self._size = 0
        self._next = 0
        self.empty_at = -math.inf

    def wait(self, now: float, count: int = 1) -> float:
        """The call that has to leave first is known by its place: no counting."""
        surplus = self._size + count - self._limit
        if surplus <= 0:
            return 0.0
        if count > self._limit:
            return math.inf
        return max(0.0, self._stamp(surplus - 1) + self._seconds - now)

    def take(self, now: float, count: int = 1) -> None:
        """Put the instants into the ring."""
        if self._size + count > len(self._stamps):
            self.grow(now, count)
        for _ in range(count):
            self._stamps[self._next] = now
            self._next = (self._next + 1) % len(self._stamps)
        self._size += count
        self.empty_at = now + self._seconds

    def give_back(self, taken_at: float, count: int = 1) -> None:
        """Close the gap that the instants leave: those behind it move up. Most often there are few."""
        end = self._size
        while end and self._stamp(end - 1) > taken_at:
            end -= 1
        begin = end
        while begin and end - begin < count and self._stamp(begin - 1) == taken_at:
            begin -= 1
        if begin == end:
            return
        ring, oldest = len(self._stamps), self._next - self._size
        for place in range(end, self._size):
            self._stamps[(oldest + begin + place - end) % ring] = self._stamp(place)
        self._size -= end - begin
        self._next = (oldest + self._size) % ring
        self.empty_at = self._stamp(self._size - 1) + self._seconds if self._size else -math.inf

    def used(self, now: float) -> int:
        """By bisection: instants are in their order."""
        low, high = 0, self._size
        while low < high:
            middle = (low + high) // 2
            if self._stamp(middle) + self._seconds <= now:
                low = middle + 1
            else:
                high = middle
        return self._size - low

    def growth_bytes(self, now: float, count: int) -> int:
        """0 as long as the ring has room, or can make it by forgetting."""
        if self._size + count <= len(self._stamps):
            return 0
        self._forget(now)
        return (self._ring_for(count) - len(self._stamps)) * _STAMP_BYTES

    def grow(self, now: float, count: int) -> None:
        """What has left makes room first."""
        self._forget(now)
        ring = self._ring_for(count)
        if ring > len(self._stamps):
            self._fill([self._stamp(place) for place in range(self._size)], ring)

    def absorb(self, other: "Window", now: float) -> None:
        """Count what another holds too. Of more than the limit the newest are enough: it is them one waits for."""
        assert isinstance(other, ExactWindow), "windows of one limit are of one kind"
        self._forget(now)
        other._forget(now)
        both = sorted(window._stamp(place) for window in (self, other) for place in range(window._size))[-self._limit :]
        self._size = len(both)
        self._fill(both, self._ring_for(0))
        self.empty_at = both[-1] + self._seconds if both else self.empty_at

    @property
    def counts_bytes(self) -> int:
        """The ring."""
        return len(self._stamps) * _STAMP_BYTES

    @property
    def most_bytes(self) -> int:
        """The ring, when it holds the limit."""
        return self._limit * _STAMP_BYTES

    def _stamp(self, place: int) -> float:
        """The instant at a place, the oldest first."""
        return self._stamps[(self._next - self._size + place) % len(self._stamps)]

    def _forget(self, now: float) -> None:
        while self._size and self._stamp(0) + self._seconds <= now:
            self._size -= 1

    def _ring_for(self, count: int) -> int:
        """The size of ring that holds `count` more: doubled until it does, never more than the limit."""
        ring = len(self._stamps) or _FIRST_RING
        while ring < self._size + count:
            ring *= 2
        return max(len(self._stamps), min(ring, self._limit))

    def _fill(self, stamps: list[float], ring: int) -> None:
        self._stamps = array("d", stamps + [0.0] * (ring - len(stamps)))
        self._size = len(stamps)
        self._next = self._size % ring if ring else 0


class CountedWindow:
    """Counts calls by slice, in a memory that does not depend on the limit; the slice at the edge counts by its share.

    The window's left edge is in one slice, of n calls. Some x of them, 0 <= x <= n, are still in the window; which, is
    not known. When a share f of that slice has left, n(1 - f) of its calls are taken to be in; all others are counted
    as they are. So, against the true count:

        -n f  <=  estimate - true  <=  n (1 - f)

    that is, never off by more than the calls of one slice, a tenth of a window. A limit of L lets at most L + n f calls
    into any window; calls that come evenly have n = L / 10, f on average 1/2, and are counted exactly.
    """

    __slots__ = ("_at", "_counts", "_last", "_limit", "_slice_seconds", "_total", "holder")

    def __init__(self, limit: int, seconds: float, holder: Holder = NOBODY) -> None:
        self.holder = holder
        self._limit = limit
        self._slice_seconds = seconds / SLICES
        self._counts = array("q", [0] * (SLICES + 1))
        self._total = 0
        self._at = 0
        self._last = -math.inf

    @property
    def empty_at(self) -> float:
        """When the slice of the last call has left."""
        return (self._last + SLICES + 1) * self._slice_seconds if self._total else -math.inf

    def wait(self, now: float, count: int = 1) -> float:
        """Slices leave one after the other, each at its own rate: until so many have left that the rest fits."""
        if count > self._limit:
            return math.inf
        surplus = self.used(now) + count - self._limit - _PRECISION
        if surplus <= 0:
            return 0.0
        seconds, left_share = 0.0, 1.0 - (now / self._slice_seconds - self._at)
        for number in range(self._at - SLICES, self._at + 1):
            leaving = self._counts[number % (SLICES + 1)]
            if leaving * left_share >= surplus:
                return seconds + surplus / leaving * self._slice_seconds
            surplus -= leaving * left_share
            seconds += left_share * self._slice_seconds
            left_share = 1.0
        return seconds

    def take(self, now: float, count: int = 1) -> None:
        """Into the slice of now."""
        self._advance(now)
        self._counts[self._at % (SLICES + 1)] += count
        self._total += count
        self._last = float(self._at)

    def give_back(self, taken_at: float, count: int = 1) -> None:
        """Out of the slice of that instant."""
        number = int(taken_at / self._slice_seconds)
        if number >= self._at - SLICES:
            self._counts[number % (SLICES + 1)] -= count
            self._total -= count

    def used(self, now: float) -> float:
        """The estimate."""
        self._advance(now)
        gone_share = now / self._slice_seconds - self._at
        return self._total - self._counts[(self._at - SLICES) % (SLICES + 1)] * gone_share

    def growth_bytes(self, now: float, count: int) -> int:
        """It never grows."""
        return 0

    def grow(self, now: float, count: int) -> None:
        """Nothing to do."""

    def absorb(self, other: "Window", now: float) -> None:
        """Count what another holds too. Slices of all windows of a limit are of the same instants."""
        assert isinstance(other, CountedWindow), "windows of one limit are of one kind"
        self._advance(now)
        other._advance(now)
        self._counts = array("q", map(operator.add, self._counts, other._counts))
        self._total += other._total
        self._last = max(self._last, other._last)

    @property
    def counts_bytes(self) -> int:
        """The slices."""
        return len(self._counts) * _STAMP_BYTES

    @property
    def most_bytes(self) -> int:
        """No more."""
        return self.counts_bytes

    def _advance(self, now: float) -> None:
        at = int(now / self._slice_seconds)
        if at <= self._at:
            return
        for number in range(max(self._at + 1, at - SLICES), at + 1):
            self._total -= self._counts[number % (SLICES + 1)]
            self._counts[number % (SLICES + 1)] = 0
        self._at = at


Window = ExactWindow | CountedWindow
"""The calls of one key. `empty_at`: from when on it holds nothing, if nothing more is taken; -inf: it never did.

`holder` is the address that it is counted against, for the ledger that keeps it."""


class SpilledWindow:
    """A window that cannot grow, and the one that many keys share: further calls count there.

    Both together stay within the limit, so that the key gets no more than it should.
    """

    __slots__ = ("_limit", "_own", "_shared")

    def __init__(self, own: Window, shared: Window, limit: int) -> None:
        self._own = own
        self._shared = shared
        self._limit = limit

    def wait(self, now: float, count: int) -> float:
        """At most so long: until the later of both is empty, when neither alone is what is in the way."""
        if self.used(now) + count <= self._limit:
            return 0.0
        empty_at = max(self._own.empty_at, self._shared.empty_at)
        return max(self._own.wait(now, count), self._shared.wait(now, count)) or max(0.0, empty_at - now)

    def take(self, now: float, count: int) -> None:
        """In the shared one."""
        self._shared.take(now, count)

    def give_back(self, taken_at: float, count: int) -> None:
        """To the shared one."""
        self._shared.give_back(taken_at, count)

    def used(self, now: float) -> float:
        """Those of both."""
        return self._own.used(now) + self._shared.used(now)


def window_for(limit: int, seconds: float, holder: Holder = NOBODY) -> Window:
    """An empty window for a limit."""
    kind = ExactWindow if limit <= EXACT_LIMIT else CountedWindow
    return kind(limit, seconds, holder)
