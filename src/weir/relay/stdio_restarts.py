"""When a server that ends as soon as it is started may be started again."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartSettings:
    """A server that lived for `healthy_seconds` or has answered something was worth its start."""

    healthy_seconds: float = 5.0
    initial_seconds: float = 0.5
    max_seconds: float = 30.0


class Restarts:
    """The pause before the next start: none at first, then doubled by every start that led to nothing."""

    def __init__(self, settings: RestartSettings) -> None:
        self._settings = settings
        self._failures = 0
        self._not_before = 0.0

    def ended(self, now: float, lived_seconds: float, *, has_answered: bool) -> None:
        """A server ended without being asked to."""
        if has_answered or lived_seconds >= self._settings.healthy_seconds:
            self._failures = 0
            return
        self._failures += 1
        # the exponent is bounded too: 2.0 ** 1024 is an error
        pause = self._settings.initial_seconds * 2.0 ** min(self._failures - 1, 32)
        self._not_before = now + min(pause, self._settings.max_seconds)

    def wait_seconds(self, now: float) -> float:
        """How long no server may be started, 0 when it may."""
        return max(0.0, self._not_before - now) if self._failures else 0.0
