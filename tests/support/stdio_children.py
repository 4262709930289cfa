"""A child process under test, and what it was heard to say."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import psutil

from support.limits import HANG_SECONDS
from support.stdio_script import COMMAND
from weir.core.events import Emit
from weir.core.outcome import Failed
from weir.protocol.envelope import Message
from weir.upstream.child import Child, ChildSettings
from weir.upstream.guarded import Guarded, Unguarded, launcher

LOOPS = [
    ("asyncio", {"use_uvloop": False}),
    ("asyncio", {"use_uvloop": True}),
]
"""Both event loops: weir runs on uvloop where it can, and their subprocesses differ."""


class Heard:
    """A receiver that keeps everything."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.bodies: list[bytes] = []
        self.overflows = 0
        self.why: list[Failed] = []
        self._changed = asyncio.Event()

    def message(self, message: Message, body: bytes) -> None:
        """Keep one."""
        self.messages.append(message)
        self.bodies.append(body)
        self._changed.set()

    def spoiled(self, message: Message) -> None:
        """Nothing is to be."""
        raise AssertionError(message)

    def overflowed(self) -> None:
        """Count one."""
        self.overflows += 1
        self._changed.set()

    def ended(self, why: Failed) -> None:
        """Keep why."""
        self.why.append(why)
        self._changed.set()

    async def until(self, condition: Callable[["Heard"], bool]) -> None:
        """Wait until enough was heard."""
        async with asyncio.timeout(HANG_SECONDS):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    async def count(self, number: int) -> list[bytes]:
        """That many messages."""
        await self.until(lambda heard: len(heard.bodies) >= number)
        return self.bodies


class Supervised:
    """A child and the task that owns it."""

    def __init__(self, child: Child, heard: Heard, events: list[Any]) -> None:
        self.child = child
        self.heard = heard
        self.events = events
        self.task: asyncio.Task[None] | None = None

    async def gone(self) -> None:
        """Wait for the end of its supervisor."""
        assert self.task is not None
        async with asyncio.timeout(HANG_SECONDS):
            await asyncio.wait([self.task])


def script(*flags: str, **settings: Any) -> ChildSettings:
    """The scripted server, with a short ladder."""
    return ChildSettings(**{"command": (*COMMAND, *flags), "eof_seconds": 0.3, "term_seconds": 0.3, **settings})


@contextlib.asynccontextmanager
async def launching(emit: Emit = lambda event: None) -> AsyncIterator[Guarded | Unguarded]:
    """A way to start processes; nothing that was started is left when the block ends."""
    one = launcher(emit)
    try:
        yield one
    finally:
        await one.aclose()


@contextlib.asynccontextmanager
async def child(settings: ChildSettings, on_stderr: Callable[[bytes], None] | None = None) -> AsyncIterator[Supervised]:
    """A started child; it is stopped when the block ends, and nothing of it is left then."""
    events: list[Any] = []
    async with launching() as started_by, asyncio.TaskGroup() as tasks:
        one = Supervised(Child("script", settings, started_by, events.append, on_stderr), Heard(), events)
        one.task = tasks.create_task(one.child.run(one.heard))
        assert await one.child.started() is None
        pid = one.child.pid
        try:
            yield one
        finally:
            one.child.stop()
            await one.gone()
    assert [] == members(pid)


def members(group: int) -> list[psutil.Process]:
    """The living processes of a group (a zombie is dead)."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
