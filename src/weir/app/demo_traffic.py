"""The demo's clients (the SDK's): several at once, each with a tool of its own, and two calls that must fail.

`python -m weir.app.demo_traffic URL` makes the same traffic until it is stopped, for the dashboards.
"""

import asyncio
import itertools
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

from mcp import Client, MCPError
from mcp.shared.dispatcher import ProgressFnT

ANSWER_SECONDS = 15.0
"""Longer than any call takes here: a client that waits for ever would be a demo that hangs."""
_REPORT_PAGES = (2, 3, 4, 6)
_QUERIES = ("low dams", "river gauges", "fish ladders", "spillways")

Arguments = dict[str, Any]


class Lost(NamedTuple):
    """An error that a client got instead of an answer, as weir worded it."""

    tool: str
    text: str
    data: dict[str, Any]


async def _ignore(progress: float, total: float | None, message: str | None) -> None:
    """Progress is asked for all the same: reports come as streams, with something to see in between."""


class Habit(NamedTuple):
    """What one client does: a tool, arguments without end, and a pause between two calls (seconds, at most)."""

    tool: str
    arguments: Callable[[], Iterator[Arguments]]
    pause_seconds: float


HABITS = (
    Habit("search", lambda: ({"query": query} for query in itertools.cycle(_QUERIES)), 0.08),
    Habit("search", lambda: ({"query": query} for query in itertools.cycle(_QUERIES)), 0.08),
    Habit("report", lambda: ({"pages": pages} for pages in itertools.cycle(_REPORT_PAGES)), 0.1),
    Habit("book", lambda: ({"row": row} for row in itertools.count(1)), 0.15),
)


class Traffic:
    """All clients. `sent` counts the tool calls they made; `lost` are the errors they got for an answer."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.sent: Counter[str] = Counter()
        self.lost: list[Lost] = []
        self._open = asyncio.Event()
        self._open.set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._under_way = 0

    async def run(self, enough: asyncio.Event) -> None:
        """Call until there is enough; calls under way are finished."""
        async with asyncio.TaskGroup() as tasks:
            for habit in HABITS:
                tasks.create_task(self._client(habit, enough))

    async def during_outage(self, kill: Callable[[], None], restart: Callable[[], Awaitable[None]]) -> None:
        """One call that loses its server half-way, and one to a server that is not there. The others wait."""
        self._open.clear()
        await self._idle.wait()
        async with Client(self._url, read_timeout_seconds=ANSWER_SECONDS) as client:
            await self._call(client, "report", {"pages": 6}, _then(kill))
            await self._call(client, "search", {"query": "is anybody there"})
            await restart()
        self._open.set()

    async def _client(self, habit: Habit, enough: asyncio.Event) -> None:
        async with Client(self._url, read_timeout_seconds=ANSWER_SECONDS) as client:
            await client.list_tools()
            for arguments in habit.arguments():
                await self._open.wait()
                if enough.is_set():
                    return
                await self._call(client, habit.tool, arguments)
                await asyncio.sleep(random.uniform(0, habit.pause_seconds))

    async def _call(self, client: Client, tool: str, arguments: Arguments, on_progress: ProgressFnT = _ignore) -> None:
        self.sent[tool] += 1
        self._under_way += 1
        self._idle.clear()
        try:
            await client.call_tool(tool, arguments, progress_callback=on_progress)
        except MCPError as error:
            self.lost.append(Lost(tool, error.message, error.data if isinstance(error.data, dict) else {}))
        finally:
            self._under_way -= 1
            if self._under_way == 0:
                self._idle.set()


def _then(act: Callable[[], None]) -> ProgressFnT:
    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        act()

    return on_progress


if __name__ == "__main__":
    asyncio.run(Traffic(sys.argv[1]).run(asyncio.Event()))
