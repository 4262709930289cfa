"""Real processes for tests: started in a group of their own, ready when their port answers, gone afterwards.

Everything here is blocking on purpose: a process is started before the test's own traffic and stopped after it.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from support.limits import HANG_SECONDS

READY_SECONDS = HANG_SECONDS
"""A server that has not opened its port by then never will; npm packages are the slowest."""
STOP_SECONDS = 30.0
"""A process that ignores SIGTERM for as long is killed."""
GUARDIAN = "weir-guardian"
"""The name that upstream/guardian.py gives itself."""
_POLL_SECONDS = 0.02
# below the range that the kernel gives to outgoing connections, so that nobody takes the port before its owner binds it
_PORTS = range(20000, 32000)


class NotReadyError(Exception):
    """The process ended, or its port stayed closed; the text carries what it wrote."""


class Running:
    """A started process and its group. `port` is 0 for a process that does not listen."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, port: int) -> None:
        self.process = process
        self.port = port
        self._log = log

    @property
    def pid(self) -> int:
        """The process id, which is its group's id too."""
        return self.process.pid

    @property
    def stdin(self) -> IO[bytes]:
        """The pipe to the process (only with `pipes=True`)."""
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """The pipe from the process (only with `pipes=True`)."""
        assert self.process.stdout is not None
        return self.process.stdout

    def log(self) -> str:
        """What it has written to stderr (and to stdout, without pipes) so far."""
        return self._log.read_text(errors="replace")

    def rss_bytes(self) -> int:
        """Resident memory of the process itself, without its children."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def descendants(self) -> list[psutil.Process]:
        """Every living process below it."""
        return psutil.Process(self.pid).children(recursive=True)

    def children(self) -> list[psutil.Process]:
        """The living servers that weir started, with what they started."""
        return [process for process in self.descendants() if process.name() != GUARDIAN]

    def guardian(self) -> psutil.Process:
        """The parent of the servers that weir started."""
        [found] = [process for process in self.descendants() if process.name() == GUARDIAN]
        return found

    def interrupt(self, number: int = signal.SIGTERM) -> None:
        """Send one signal to the process alone."""
        self.process.send_signal(number)

    def wait(self, seconds: float = HANG_SECONDS) -> int:
        """Its exit code (negative: the signal that ended it).

        Raises:
            subprocess.TimeoutExpired: it is still running.
        """
        return self.process.wait(seconds)

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """SIGTERM, wait, then SIGKILL to whatever is left of the group."""
        if self.process.poll() is None:
            self.interrupt()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        return self.process.wait()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def await_port(running: Running, seconds: float = READY_SECONDS) -> None:
    """Wait until the process accepts connections on its port.

    Raises:
        NotReadyError: it ended, or the time is up.
    """
    give_up = time.monotonic() + seconds
    while not answers(running.port):
        if running.process.poll() is not None:
            raise NotReadyError(f"{running.process.args!r} ended with {running.process.returncode}:\n{running.log()}")
        if time.monotonic() > give_up:
            raise NotReadyError(f"{running.process.args!r} opened no port in {seconds} s:\n{running.log()}")
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def running(
    argv: Sequence[str | Path],
    *,
    port: int = 0,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pipes: bool = False,
) -> Iterator[Running]:
    """A process while the block lasts; with a port, ready when the block begins.

    Raises:
        NotReadyError: it ended or did not open its port.
    """
    with tempfile.NamedTemporaryFile(prefix="weir-test-", suffix=".log") as log:
        process = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else log,
            stderr=log,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
        one = Running(process, Path(log.name), port)
        try:
            if port:
                await_port(one)
            yield one
        finally:
            one.stop()
