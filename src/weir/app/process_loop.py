"""The event loop of weir: timers that stand still with the process, and the watch that tells of it.

Every timer of the process comes from `call_later` or `call_at` of this loop, `asyncio.timeout` and `asyncio.sleep`
included. A timer that was set before the process stood still does not fire when the process wakes: first the loop reads
the sockets, and the timer goes on with the time that it had left.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVarTuple

import uvloop

from weir.core.events import Emit, StoodStill
from weir.core.process_clock import TICK_SECONDS, ProcessClock

Ts = TypeVarTuple("Ts")

READ_FIRST_SECONDS = 0.5
"""After the process stood still no timer fires for so long: what has come meanwhile is read and dealt with first."""


class ProcessTimer(asyncio.TimerHandle):
    """One timer. asyncio's handles have no public way to set a timer anew, so this one holds the loop's own."""

    __slots__ = ("_act", "_due_at", "_own", "_pauses", "_process_loop", "_values")

    def __init__(
        self,
        loop: "ProcessLoop",
        delay: float,
        act: Callable[..., object],
        values: tuple[Any, ...],
        context: Context | None,
    ) -> None:
        # TimerHandle.__init__ is not called: it is the loop's own timer that asyncio knows
        self._process_loop = loop
        self._act = act
        self._values = values
        self._context = context
        self._due_at = loop.clock() + delay
        self._pauses = loop.clock.pauses
        self._own = loop.set_timer(delay, self._fire, context)

    def cancel(self) -> None:
        """See asyncio.TimerHandle."""
        self._own.cancel()

    def cancelled(self) -> bool:
        """See asyncio.TimerHandle."""
        return self._own.cancelled()

    def when(self) -> float:
        """See asyncio.TimerHandle."""
        return self._due_at

    def _fire(self) -> None:
        loop = self._process_loop
        left = self._due_at - loop.clock()
        pauses = loop.clock.pauses
        if pauses == self._pauses:
            self._act(*self._values)
            return
        self._pauses = pauses
        self._own = loop.set_timer(max(left, READ_FIRST_SECONDS), self._fire, self._context)


class ProcessLoop(uvloop.Loop):
    """uvloop with timers that stand still with the process."""

    def __init__(self, clock: ProcessClock) -> None:
        super().__init__()
        self.clock = clock

    def time(self) -> float:
        """The loop's clock is the one of all of weir."""
        return self.clock()

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio.AbstractEventLoop."""
        if delay <= 0:
            return super().call_later(delay, callback, *args, context=context)
        return ProcessTimer(self, delay, callback, args, context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio.AbstractEventLoop."""
        return self.call_later(when - self.clock(), callback, *args, context=context)

    def set_timer(self, delay: float, fire: Callable[[], None], context: Context | None) -> asyncio.TimerHandle:
        """A timer of uvloop's own, which goes on while the process stands still."""
        return super().call_later(delay, fire, context=context)


async def watch_process(clock: ProcessClock, emit: Emit) -> None:
    """Read the clock at every tick, and tell for how long the process stood still. Ends by being cancelled."""
    clock.watch()
    try:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            seconds = clock.untold()
            if seconds:
                emit(StoodStill(seconds))
    finally:
        clock.unwatch()
