"""Where aiobreaker keeps a circuit's state. For the breaker alone."""

from datetime import datetime
from typing import Any

import aiobreaker
from aiobreaker.storage.base import CircuitBreakerStorage


class Held(CircuitBreakerStorage):  # type: ignore[misc]  # aiobreaker has no types
    """Where aiobreaker keeps its state. The counter and the wall clock's instant that it also wants decide nothing."""

    def __init__(self) -> None:
        super().__init__("weir")
        self._state = aiobreaker.CircuitBreakerState.CLOSED
        self._opened_at: datetime | None = None

    @property
    def state(self) -> Any:
        """The circuit's state, in aiobreaker's words."""
        return self._state

    @state.setter
    def state(self, state: Any) -> None:
        self._state = state

    @property
    def counter(self) -> int:
        """`Circuit` counts."""
        return 0

    def increment_counter(self) -> None:
        """`Circuit` counts."""

    def reset_counter(self) -> None:
        """`Circuit` counts."""

    @property
    def opened_at(self) -> datetime | None:
        """When it opened, by the wall clock."""
        return self._opened_at

    @opened_at.setter
    def opened_at(self, instant: datetime) -> None:
        self._opened_at = instant
