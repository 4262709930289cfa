"""When a child writes so much that nobody wants that weir must read it more slowly, and when it must end."""

RATE_BYTES = 2 * 1024 * 1024
"""Unwanted bytes a second that are read in the long run: they cost the event loop a few percent of a core."""
BURST_BYTES = 64.0 * 1024 * 1024
"""Read at full speed: four lines of the largest size, or a long start."""
END_SECONDS = 30.0
"""A child that has used up its burst and goes on for so long writes without end."""
LINE_BYTES = 256
"""What a line costs beside its bytes, so that short lines are paced too."""
EXCUSE_BYTES = 256 * 1024
"""Unwanted bytes that each answer excuses: a caller must not be able to have a talkative server ended."""


class Flood:
    """A bucket that time and answers fill, and unwanted bytes empty."""

    def __init__(self, now: float) -> None:
        self._level = BURST_BYTES
        self._at = now
        self._since: float | None = None

    def waste(self, size: float, now: float) -> None:
        """So many unwanted bytes were read."""
        self._fill(now)
        self._level -= size
        if self._level <= 0 and self._since is None:
            self._since = now

    def excuse(self) -> None:
        """The child answered somebody."""
        self._level = min(BURST_BYTES, self._level + EXCUSE_BYTES)

    def pause_seconds(self) -> float:
        """How long nothing is to be read now."""
        return max(0.0, -self._level / RATE_BYTES)

    def is_endless(self, now: float) -> bool:
        """It has gone on for too long."""
        return self._since is not None and now - self._since >= END_SECONDS

    def _fill(self, now: float) -> None:
        self._level = min(BURST_BYTES, self._level + (now - self._at) * RATE_BYTES)
        self._at = now
        if self._level >= BURST_BYTES:
            self._since = None
