"""What stdio servers write to stderr, as lines of weir's own log."""

from collections.abc import Callable

from weir.core.events import Emit, LimitReached
from weir.telemetry import redact
from weir.telemetry.log import Log

LINES_A_SECOND = 100
"""For all processes of one server together: a start or a traceback fits, and nobody reads more."""
LINE_LIMIT_BYTES = 4096
"""Of one line; the log itself cuts texts shorter than this, in characters."""


KEY_LINES = 200
"""Of one private key; a server that begins one and never ends it is heard again after as many."""


class _KeyLines:
    """Takes private keys out of lines that come one by one: the name of what they are stands in the first only."""

    def __init__(self) -> None:
        self._is_inside = False
        self._count = 0

    def without(self, line: str) -> str:
        """What may be shown of the next line."""
        self._count = self._count + 1 if self._is_inside else 0
        if self._count > KEY_LINES:
            self._is_inside = False
        line, self._is_inside = redact.without_key_blocks(line, is_inside=self._is_inside)
        return line


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
        keys = _KeyLines()

        def take(data: bytes) -> None:
            nonlocal held
            *lines, held = (held + data).split(b"\n")
            held = held[:LINE_LIMIT_BYTES]
            for line in lines:
                self._take(keys.without(line[:LINE_LIMIT_BYTES].decode(errors="replace")).strip())

        return take

    def _take(self, line: str) -> None:
        if not line:
            return
        now = self._clock()
        if now - self._since >= 1.0:
            self._since, self._count = now, 0
        self._count += 1
        if self._count <= LINES_A_SECOND:
            self._log.write("info", "server stderr", {"upstream": self._upstream, "line": line})
        elif self._count == LINES_A_SECOND + 1:
            self._emit(LimitReached(self._upstream, "stderr_lines"))
