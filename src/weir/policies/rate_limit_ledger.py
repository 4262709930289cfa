"""What all rate limits of a process keep: a window for each key, and the bounds on them. Part of `rate_limit`. Pure."""

import math
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from weir.core.outcome import Mode
from weir.policies.rate_limit_window import Counts, SpilledWindow, Window, window_for

KEYS_LIMIT = 100_000
"""Keys in all limits together: more clients and tools than one process serves in a window, unless one makes them up."""

BYTES_LIMIT = 64_000_000
"""What all keys together may take, as `entry_bytes` and `Window.counts_bytes` reckon it."""

ENTRY_BYTES = 400
"""What a key takes beside its text and its counts: the window, its array's head, its place in the table."""

EVICTIONS_AT_ONCE = 64
"""Keys that one call may let go of, so that no call pays for all."""


@dataclass(frozen=True, slots=True)
class RateLimitSettings:
    """One limit on calls of one `tool`, or of all (""). `per` names what is counted apart: client, tool, upstream,
    method_class, global."""

    per: tuple[str, ...]
    limit: int
    window_seconds: float
    mode: Mode = Mode.ENFORCE
    tool: str = ""


def entry_bytes(key: str, window: Window) -> int:
    """What a key takes in memory."""
    return ENTRY_BYTES + sys.getsizeof(key) + window.counts_bytes


class Ledger:
    """What all rate limits of a process keep, and the bounds on it."""

    def __init__(self, keys_limit: int = KEYS_LIMIT, bytes_limit: int = BYTES_LIMIT) -> None:
        self._keys_limit = keys_limit
        self._bytes_limit = bytes_limit
        self.keys = 0
        self.bytes = 0
        self.in_hand: list[Window] = []
        """Those that the call in progress has been given: not to be let go of, although they may be empty yet."""
        self._tables: list[Table] = []
        self._global: dict[RateLimitSettings, Table] = {}
        self._full_until = -math.inf

    def table(self, settings: RateLimitSettings, overflowed: Callable[[], None]) -> "Table":
        """A table for one limit of one upstream, or the one that a limit over all upstreams shares."""
        is_global = "global" in settings.per
        same = replace(settings, per=tuple(sorted(settings.per)))
        if is_global and same in self._global:
            return self._global[same]
        table = Table(settings, self, overflowed)
        self._tables.append(table)
        if is_global:
            self._global[same] = table
        return table

    def reserve(self, size: int, keys: int, now: float) -> bool:
        """Room for so many bytes and keys; False: there is none, although empty windows were let go of."""
        while self.bytes + size > self._bytes_limit or self.keys + keys > self._keys_limit:
            if now < self._full_until or not self._evict(now):
                return False
        self.release(-size, -keys)
        return True

    def release(self, size: int, keys: int) -> None:
        """They are not needed any more."""
        self.bytes -= size
        self.keys -= keys

    def _evict(self, now: float) -> bool:
        freed = sum(table.evict(now) for table in self._tables)
        if not freed:
            self._full_until = min((table.empty_at for table in self._tables), default=math.inf)
        return freed > 0


class Table:
    """The windows of one limit by key, in the order of their last calls. `overflowed` hears of every shared use."""

    def __init__(self, settings: RateLimitSettings, ledger: Ledger, overflowed: Callable[[], None]) -> None:
        self._limit = settings.limit
        self._seconds = settings.window_seconds
        self._ledger = ledger
        self._overflowed = overflowed
        self._windows: OrderedDict[str, Window] = OrderedDict()
        # where keys count that have no room of their own, and which of those with a window have calls there
        self._shared: Window = window_for(self._limit, self._seconds)
        self._spilled: set[str] = set()
        self.overflows = 0
        """How often calls counted in the shared window."""
        self._shared.grow(0.0, self._limit)
        ledger.release(-self._shared.counts_bytes, 0)

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def empty_at(self) -> float:
        """From when on a window may be let go of."""
        return next(iter(self._windows.values())).empty_at if self._windows else math.inf

    def place(self, key: str, now: float, count: int = 1) -> Counts:
        """Where so many calls of a key count: in its own window, if there is room for it."""
        window = self._windows.get(key)
        if window is None:
            return self._new(key, now, count)
        self._ledger.in_hand.append(window)
        is_spilled = bool(self._spilled) and key in self._spilled
        if not is_spilled and not window.growth_bytes(now, count):
            return window
        if self._grow(window, now, count, is_spilled):
            self._spilled.discard(key)
            return window
        self._spilled.add(key)
        self._overflow()
        return SpilledWindow(window, self._shared, self._limit)

    def _new(self, key: str, now: float, count: int) -> Counts:
        window = window_for(self._limit, self._seconds)
        size = entry_bytes(key, window)
        if self._ledger.reserve(size, 1, now):
            if self._grow(window, now, min(count, self._limit), True):
                self._windows[key] = window
                self._ledger.in_hand.append(window)
                return window
            self._ledger.release(size, 1)
        self._overflow()
        return self._shared

    def _overflow(self) -> None:
        self.overflows += 1
        self._overflowed()

    def _grow(self, window: Window, now: float, count: int, may_have_shared: bool) -> bool:
        """Make room for so many calls. What of the shared window may be the key's own counts as such from now on."""
        absorbs = may_have_shared and self._shared.empty_at > now
        before = window.counts_bytes
        size = window.most_bytes - before if absorbs else window.growth_bytes(now, count)
        if not self._ledger.reserve(size, 0, now):
            return False
        if absorbs:
            window.absorb(self._shared, now)
        window.grow(now, count)
        self._ledger.release(size - (window.counts_bytes - before), 0)
        return True

    def drop_unused(self, key: str) -> None:
        """Let go of a window that holds nothing: its first calls were refused."""
        window = self._windows.get(key)
        if window is not None and window.empty_at == -math.inf:
            self._remove(key, window)

    def _remove(self, key: str, window: Window) -> None:
        del self._windows[key]
        self._spilled.discard(key)
        self._ledger.release(entry_bytes(key, window), 1)

    def touch(self, key: str) -> None:
        """It is the last to be let go of."""
        if key in self._windows:
            self._windows.move_to_end(key)

    def evict(self, now: float) -> int:
        """Let go of windows that are empty, of those used longest ago; returns of how many."""
        freed = 0
        while self._windows and freed < EVICTIONS_AT_ONCE:
            key, window = next(iter(self._windows.items()))
            if window.empty_at > now or any(window is one for one in self._ledger.in_hand):
                break
            self._remove(key, window)
            freed += 1
        return freed

    def remaining(self, key: str, now: float) -> int:
        """How many more calls of a key would pass now."""
        window = self._windows.get(key, self._shared)
        return max(0, math.floor(self._limit - window.used(now)))

    def reset(self, key: str, now: float) -> float:
        """Seconds until the whole limit is there again for a key, if nothing more is taken."""
        return max(0.0, self._windows.get(key, self._shared).empty_at - now)
