"""What stdio servers write to stderr, as lines of weir's own log."""

from collections.abc import Callable

from weir.core.events import Emit, LimitReached
from weir.telemetry.log import Log

LINES_A_SECOND = 100
"""For all processes of one server together: a start or a traceback fits, and nobody reads more."""
LINE_LIMIT_BYTES = 4096
"""Of one line; the log itself cuts texts shorter than this, in characters."""


class ServerStderr:
    """The stderr of all processes of one server. Lines over the limit are left out, and that is counted."""

    def __init__(self, upstream: str, log: Log, emit: Emit, clock: Callable[[], float]) -> None:
        self._upstream = upstream
        self._log = log
        self._emit = emit
        self._clock = clock
        self._since = -1.0
        self._count = 0

    def reader(self) -> Callable[[bytes], None]:
        """For one process: takes bytes as they come. A last line without its end is not written."""
        held = b""

        def take(data: bytes) -> None:
            nonlocal held
            *lines, held = (held + data).split(b"\n")
            held = held[:LINE_LIMIT_BYTES]
            for line in lines:
                self._take(line)

        return take

    def _take(self, line: bytes) -> None:
        line = line[:LINE_LIMIT_BYTES].strip()
        if not line:
            return
        now = self._clock()
        if now - self._since >= 1.0:
            self._since, self._count = now, 0
        self._count += 1
        if self._count <= LINES_A_SECOND:
            self._log.write(
                "info", "server stderr", {"upstream": self._upstream, "line": line.decode(errors="replace")}
            )
        elif self._count == LINES_A_SECOND + 1:
            self._emit(LimitReached(self._upstream, "stderr_lines"))
