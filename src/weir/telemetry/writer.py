"""Lines for stderr, written in batches by a thread of their own: who reads stderr slowly slows nothing else."""

import os
import queue
import select
import threading
from collections.abc import Callable

# a burst of some thousand lines; what comes on top of it is dropped and counted
BUFFER_LIMIT_BYTES = 1024 * 1024
# from here on lines do not wait for the next tick
BATCH_BYTES = 64 * 1024
STDERR = 2
_STUCK_SECONDS = 1.0

Write = Callable[[bytes], None]


class Writer:
    """A bounded buffer of lines. `flush` hands it to the thread, which starts with the first batch."""

    def __init__(self, write: Write, limit_bytes: int = BUFFER_LIMIT_BYTES) -> None:
        self.dropped = 0
        self._write = write
        self._limit_bytes = limit_bytes
        self._lines: list[bytes] = []
        self._size = 0
        self._handed = 0
        # libraries log in threads of their own
        self._lock = threading.Lock()
        self._written = 0
        self._batches: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def add(self, line: bytes) -> None:
        """Take one line, its line feed included; drop it when the reader of stderr is too far behind."""
        size = len(line)
        with self._lock:
            if self._size + self._handed - self._written + size > self._limit_bytes:
                self.dropped += 1
                return
            self._lines.append(line)
            self._size += size
        if self._size >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what is buffered to the thread."""
        if not self._lines:
            return
        with self._lock:
            lines, self._lines = self._lines, []
            self._handed += self._size
            self._size = 0
            if self._thread is None:
                # a daemon: a stderr that nobody reads must not keep the process from ending
                self._thread = threading.Thread(target=self._work, name="weir-stderr", daemon=True)
                self._thread.start()
        self._batches.put(b"".join(lines))

    def close(self, deadline_seconds: float) -> None:
        """Flush, and wait for the thread as long as allowed. Blocks; further lines start a new thread."""
        self.flush()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._batches.put(None)
            thread.join(deadline_seconds)

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                self._write(batch)
            except OSError:
                # stderr is closed: there is no one left to tell
                self.dropped += batch.count(b"\n")
            self._written += len(batch)


def to_stderr(data: bytes, descriptor: int = STDERR) -> None:
    """Write all of `data` to stderr.

    Raises:
        OSError: stderr is closed, or was stuck for too long.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            # shares its open file with a stdout that somebody made non-blocking
            if not select.select([], [descriptor], [], _STUCK_SECONDS)[1]:
                raise
