"""weir between a crowd of clients and an upstream that fails, stalls, restarts, floods and lies: what always holds."""

import asyncio
import os
from pathlib import Path

import pytest

from support.chaos import Origin
from support.enduring import endure, standing
from support.troubles import (
    deluge,
    deluge_in_stream,
    flood,
    foreign,
    foreign_first,
    foreign_in_stream,
    garbage,
    garbage_in_stream,
    no_http,
    page,
    reset,
    reset_in_stream,
    short,
    sometimes,
    stall,
    stall_in_stream,
    unavailable,
)

pytestmark = pytest.mark.anyio

CALLS = int(os.environ.get("WEIR_CHAOS_CALLS", "1000"))
"""Calls of each scenario; 10000 for the full number."""

SCENARIOS = {
    # a later attempt may be answered at length, too
    "fails": sometimes(0.3, unavailable, reset, reset_in_stream, well=sometimes(0.03, deluge)),
    "stalls": sometimes(0.1, stall, stall_in_stream),
    "floods": sometimes(0.05, flood, deluge, deluge_in_stream),
    "lies": sometimes(0.3, foreign, foreign_in_stream, foreign_first, garbage, page, garbage_in_stream, short, no_http),
}


@pytest.mark.parametrize("name", SCENARIOS)
async def test_what_holds_always_holds_before_an_upstream_that(name: str, tmp_path: Path) -> None:
    """One answer a call, no write twice, retries within the budget, bounded memory, quick recovery."""
    origin = Origin(SCENARIOS[name])
    async with origin.listening(), standing(tmp_path, origin) as stand:
        await endure(stand, name, stand.crowd.call(CALLS))


async def test_what_holds_always_holds_before_an_upstream_that_restarts(tmp_path: Path) -> None:
    """The same while its port is closed and opened again and again, and every connection breaks each time."""
    origin, over = Origin(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        up = asyncio.Event()

        async def restarting() -> None:
            while not over.is_set():
                async with origin.listening():
                    up.set()
                    await asyncio.sleep(0.3)
                await asyncio.sleep(0.1)
            async with origin.listening():
                up.set()
                await done.wait()

        done = asyncio.Event()
        group.create_task(restarting())
        await up.wait()
        async with standing(tmp_path, origin) as stand:
            await endure(stand, "restarts", stand.crowd.call(CALLS), over.set)
        done.set()
