"""From weir's monotonic clock to the wall clock that spans are stamped with."""

from collections.abc import Callable
from typing import Any, Final

from weir.core.events import StoodStill

# how long a span may follow a wall clock that has been set anew
REFRESH_SECONDS: Final = 60.0
_NS: Final = 1_000_000_000


class EpochClock:
    """Turns instants into nanoseconds since 1970. `refresh` follows a wall clock that was set anew."""

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self.clock = clock
        self._wall = wall
        self._offset = 0.0
        self._offset_ns = 0
        self.refresh()

    def handlers(self) -> dict[type, Callable[[Any], None]]:
        """weir's clock stands still with the process, and the wall's does not."""
        return {StoodStill: lambda event: self.refresh()}

    def refresh(self) -> None:
        """Compare the two clocks again."""
        self._offset = self._wall() - self.clock()
        self._offset_ns = int(self._offset * _NS)

    def seconds(self, instant: float) -> float:
        """Unix time in seconds."""
        return instant + self._offset

    def __call__(self, instant: float) -> int:
        # added as integers: a float of 1.7e18 is a quarter of a microsecond coarse
        return int(instant * _NS) + self._offset_ns
