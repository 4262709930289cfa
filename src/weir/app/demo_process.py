"""The demo's programs: started in groups of their own, ready when they say so, gone afterwards."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

START_SECONDS = 30.0
"""Python alone takes seconds to start on a slow machine."""
STOP_SECONDS = 5.0
_POLL_SECONDS = 0.05
_TAIL_BYTES = 2000


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


class Process:
    """One program, a module of ours. Its group is its own: a Ctrl-C on the terminal is for the demo alone."""

    def __init__(self, module: str, arguments: list[str], log: Path) -> None:
        self._module = module
        self._arguments = arguments
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, is_ready: Callable[[], bool]) -> None:
        """Start it, and wait until it is ready.

        Raises:
            DemoError: it ended, or took too long.
        """
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self._module, *self._arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        give_up = time.monotonic() + START_SECONDS
        while not is_ready():
            if self._process.returncode is not None or time.monotonic() > give_up:
                tail = self.written()[-_TAIL_BYTES:].decode(errors="replace")
                raise DemoError(f"`python -m {self._module}` did not start:\n{tail}")
            await asyncio.sleep(_POLL_SECONDS)

    def written(self) -> bytes:
        """Its output so far."""
        return self._log.read_bytes() if self._log.exists() else b""

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to end; insist when it does not."""
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        except asyncio.CancelledError:
            self.kill()
            raise

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
