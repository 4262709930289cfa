"""What all rate limits of a process keep: a window for each key, and the bounds on them. Part of `rate_limit`. Pure.

Keys are names that callers may invent, so each address (IPv6: each /64) holds at most a share of the memory. The share
is a ninth of the room that is still free: one address alone gets a tenth of everything, and however many addresses
fill their shares, some room stays free for an address that comes for the first time. Further keys of an address that
has used up its share count together, in one window of that address and limit. Only when all room is taken do the keys
of several addresses count together. Calls that count together are not counted under their keys: a limit that is not
per client lets pass, for each address that used up its share, at most the limit once more.
"""

import math
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from weir.core.origin import network_of
from weir.core.outcome import Mode
from weir.policies.rate_limit_window import Counts, Holder, SpilledWindow, Window, window_for

KEYS_LIMIT: Final = 100_000
"""Keys in all limits together: more clients and tools than one process serves in a window, unless one makes them up."""

BYTES_LIMIT: Final = 64_000_000
"""What all keys together may take, as `entry_bytes` and `Window.counts_bytes` reckon it."""

ENTRY_BYTES: Final = 400
"""What a key takes beside its text and its counts: the window, its array's head, its place in the table."""

EVICTIONS_AT_ONCE: Final = 64
EVICTION_ROUNDS: Final = 4
"""Keys that one round lets go of, and rounds that one call may need: no call pays for all."""

FREE_TIMES: Final = 9
"""One address may hold a key while this many times what it holds is free: alone it gets a tenth of all."""

_SHARED_KEY: Final = "\0"


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

    def __init__(
        self, keys_limit: int = KEYS_LIMIT, bytes_limit: int = BYTES_LIMIT, free_times: int = FREE_TIMES
    ) -> None:
        self._free_times = free_times
        self._keys_limit = keys_limit
        self._bytes_limit = bytes_limit
        self.keys = 0
        self.bytes = 0
        self.in_hand: list[Window] = []
        """Those that the call in progress has been given: not to be let go of, although they may be empty yet."""
        self.own = Holder("weir")
        """Holds the keys that no caller can invent; it has no share to keep to."""
        self._holders: dict[str, Holder] = {}
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

    def holder(self, address: str | None) -> Holder:
        """Who a key of this address belongs to; None: the key is none that a caller can invent."""
        if address is None:
            return self.own
        network = network_of(address)
        return self._holders.get(network) or Holder(network)

    def is_shared_out(self, holder: Holder) -> bool:
        """The holder has a share, and keeps to it."""
        return holder is not self.own and self._free_times > 0

    def reserve(self, size: int, keys: int, now: float, holder: Holder | None = None) -> bool:
        """Room for so many bytes and keys of a holder; False: there is none, although empty windows were let go of.

        With no holder given the share of nobody is looked at.
        """
        for _ in range(EVICTION_ROUNDS):
            if self._fits(size, keys, holder):
                return True
            if now < self._full_until or not self._evict(now):
                return False
        return self._fits(size, keys, holder)

    def pay(self, holder: Holder, size: int, keys: int) -> None:
        """Count what a holder takes, or with negative numbers what it gives back."""
        self.bytes += size
        self.keys += keys
        holder.bytes += size
        holder.keys += keys
        if not keys or holder is self.own:
            return
        if holder.keys:
            self._holders[holder.network] = holder
        else:
            self._holders.pop(holder.network, None)

    def _fits(self, size: int, keys: int, holder: Holder | None) -> bool:
        free_bytes, free_keys = self._bytes_limit - self.bytes - size, self._keys_limit - self.keys - keys
        if free_bytes < 0 or free_keys < 0:
            return False
        if holder is None or not self.is_shared_out(holder) or holder.keys + keys <= 1:
            return True
        # each address has one more: the window in which its further keys count together
        is_within = not keys or (holder.keys + keys) * self._free_times <= free_keys - len(self._holders)
        return is_within and (holder.bytes + size) * self._free_times <= free_bytes

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
        self._shared = self._window_of(ledger.own)
        self._spilled: set[str] = set()
        self.overflows = 0
        """How often calls counted in the shared window."""
        self._shared.grow(0.0, self._limit)
        ledger.pay(ledger.own, self._shared.counts_bytes, 0)

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def empty_at(self) -> float:
        """From when on a window may be let go of."""
        return next(iter(self._windows.values())).empty_at if self._windows else math.inf

    def place(self, key: str, now: float, count: int = 1, address: str | None = None) -> Counts:
        """Where so many calls of a key count: in its own window, if there is room for it.

        `address` is the caller's; None: no caller can invent such keys.
        """
        window = self._windows.get(key)
        if window is None:
            return self._new(key, now, count, self._ledger.holder(address))
        self._ledger.in_hand.append(window)
        is_spilled = bool(self._spilled) and key in self._spilled
        if not is_spilled and not window.growth_bytes(now, count):
            return window
        if self._grow(window, now, count, is_spilled):
            self._spilled.discard(key)
            return window
        self._spilled.add(key)
        self._overflow()
        return SpilledWindow(window, self._common(window.holder, now), self._limit)

    def _new(self, key: str, now: float, count: int, holder: Holder) -> Counts:
        window = self._window_of(holder)
        size = entry_bytes(key, window)
        if self._ledger.reserve(size, 1, now, holder):
            self._ledger.pay(holder, size, 1)
            if self._grow(window, now, min(count, self._limit), True):
                self._windows[key] = window
                self._ledger.in_hand.append(window)
                return window
            self._ledger.pay(holder, -size, -1)
        self._overflow()
        return self._common(holder, now)

    def _window_of(self, holder: Holder) -> Window:
        return window_for(self._limit, self._seconds, holder)

    def _common(self, holder: Holder, now: float) -> Window:
        """Where further keys of a holder count together; those of one that holds nothing, with everybody's."""
        key = _SHARED_KEY + holder.network
        window = self._windows.get(key)
        if window is None:
            if not holder.keys or not self._ledger.is_shared_out(holder):
                return self._shared
            window = self._window_of(holder)
            window.grow(0.0, self._limit)
            size = entry_bytes(key, window)
            if not self._ledger.reserve(size, 0, now):
                return self._shared
            self._ledger.pay(holder, size, 0)
            self._windows[key] = window
        self._windows.move_to_end(key)
        self._ledger.in_hand.append(window)
        return window

    def _overflow(self) -> None:
        self.overflows += 1
        self._overflowed()

    def _grow(self, window: Window, now: float, count: int, may_have_shared: bool) -> bool:
        """Make room for so many calls. What counted together may be the key's own: it counts as such from now on."""
        holder, before = window.holder, window.counts_bytes
        shared = [one for one in self._shares(holder) if one.empty_at > now] if may_have_shared else []
        size = window.most_bytes - before if shared else window.growth_bytes(now, count)
        if not self._ledger.reserve(size, 0, now, holder):
            return False
        for one in shared:
            window.absorb(one, now)
        window.grow(now, count)
        self._ledger.pay(holder, window.counts_bytes - before, 0)
        return True

    def _shares(self, holder: Holder) -> list[Window]:
        own = self._windows.get(_SHARED_KEY + holder.network)
        return [self._shared] if own is None else [own, self._shared]

    def drop_unused(self, key: str) -> None:
        """Let go of a window that holds nothing: its first calls were refused."""
        window = self._windows.get(key)
        if window is not None and window.empty_at == -math.inf:
            self._remove(key, window)

    def _remove(self, key: str, window: Window) -> None:
        del self._windows[key]
        self._spilled.discard(key)
        self._ledger.pay(window.holder, -entry_bytes(key, window), -1 if key[:1] != _SHARED_KEY else 0)

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

    def remaining(self, key: str, now: float, address: str | None = None) -> int:
        """How many more calls of a key would pass now."""
        return max(0, math.floor(self._limit - self._counted(key, address).used(now)))

    def reset(self, key: str, now: float, address: str | None = None) -> float:
        """Seconds until the whole limit is there again for a key, if nothing more is taken."""
        return max(0.0, self._counted(key, address).empty_at - now)

    def _counted(self, key: str, address: str | None) -> Window:
        window = self._windows.get(key)
        return window if window is not None else self._shares(self._ledger.holder(address))[0]
