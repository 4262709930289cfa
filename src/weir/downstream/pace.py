"""The least rate at which a client must send a body, so that a drip does not hold memory and a place for ever."""


class Pace:
    """Cuts the time of one body into windows, in each of which enough must arrive. Instants are the loop's."""

    __slots__ = ("_least_bytes", "_size", "_window_seconds", "until")

    def __init__(self, now: float, window_seconds: float, bytes_per_second: int) -> None:
        self.until = now + window_seconds
        """When the window ends that runs now."""
        self._window_seconds = window_seconds
        # a window in which nothing comes is always too little
        self._least_bytes = max(1, int(bytes_per_second * window_seconds))
        self._size = 0

    def goes_on(self, size: int) -> bool:
        """The window has ended with so many bytes of the body there: begin the next one, or return False."""
        if size - self._size < self._least_bytes:
            return False
        self._size = size
        self.until += self._window_seconds
        return True
