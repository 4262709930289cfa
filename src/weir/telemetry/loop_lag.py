"""How late the event loop is: what every call in flight waits for when something blocks it."""

import asyncio
from collections.abc import Callable

from weir.telemetry.series import Histogram

# four timers a second cost nothing and see a loop that is blocked for longer than that every time
INTERVAL_SECONDS = 0.25


class LoopLag:
    """Sets a timer again and again and observes how late it fires."""

    def __init__(self, histogram: Histogram, clock: Callable[[], float], interval_seconds: float) -> None:
        self._histogram = histogram
        self._clock = clock
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            due = self._clock() + self._interval_seconds
            await asyncio.sleep(self._interval_seconds)
            self._histogram.observe(max(0.0, self._clock() - due))
