"""weir with hedging and coalescing on: reads that are one or two at the upstream, writes too, clients that vanish."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from support.chaos import Asked, Origin
from support.crowd import Dialect, Modern, Plain
from support.enduring import SHARED_KINDS, SHARING, endure, standing
from support.troubles import NOTE, reset, reset_in_stream, sometimes, stall, stall_in_stream, unavailable

pytestmark = pytest.mark.anyio

CALLS = int(os.environ.get("WEIR_CHAOS_CALLS", "1000"))
"""Calls of each scenario; 10000 for the full number."""
SERVICE_SECONDS, SLOW_SECONDS = 0.002, 0.06
"""What a call takes, and what one takes that is late enough to be hedged."""


async def served(asked: Asked) -> None:
    """Answer after the usual time, with the state there was at the beginning."""
    await asyncio.sleep(SERVICE_SECONDS)
    await asked.exchange.json(asked.answer())


async def slow(asked: Asked) -> None:
    """Answer late."""
    await asyncio.sleep(SLOW_SECONDS)
    await asked.exchange.json(asked.answer())


async def slow_in_stream(asked: Asked) -> None:
    """A head at once, a notification soon, the answer late."""
    await asked.exchange.open()
    await asyncio.sleep(SERVICE_SECONDS)
    await asked.exchange.write(b"data: " + NOTE + b"\n\n")
    await asyncio.sleep(SLOW_SECONDS)
    await asked.exchange.write(b"data: " + asked.answer() + b"\n\n")
    await asked.exchange.end()


async def stream(asked: Asked) -> None:
    """The answer as an event."""
    await asyncio.sleep(SERVICE_SECONDS)
    await asked.say(NOTE, asked.answer())


async def private(asked: Asked) -> None:
    """An answer with a cookie, which is for one client only."""
    await asyncio.sleep(SERVICE_SECONDS)
    await asked.exchange.json(asked.answer(), headers=[(b"Set-Cookie", b"session=1")])


TROUBLE = sometimes(
    0.15,
    *(slow, slow_in_stream, slow, stream, private, reset, unavailable, reset_in_stream, stall, stall_in_stream),
    well=served,
)


@pytest.mark.parametrize("dialect", [Plain, Modern])
async def test_shared_and_doubled_calls_are_each_callers_own(dialect: Callable[[], Dialect], tmp_path: Path) -> None:
    """All that holds elsewhere; nobody is told less than had been answered when he asked."""
    origin = Origin(TROUBLE)
    crowd = {"kinds": SHARED_KINDS, "speak": lambda client: dialect()}
    async with origin.listening(), standing(tmp_path, origin, SHARING, **crowd) as stand:
        await endure(stand, f"shared, {dialect.__name__}", stand.crowd.call(CALLS))
        joined, alone, hedged, won = [await stand.decided(action) for action in ("joined", "alone", "hedged", "won")]
        attempts, arrivals = await stand.metric("weir_attempts_total"), origin.arrivals()
        print(
            f"{joined:.0f} joined, {alone:.0f} of them alone after all; {hedged:.0f} hedged, {won:.0f} of them won; "
            f"{arrivals} arrivals of {attempts:.0f} attempts"
        )
        assert 0 < joined
        assert 0 < won <= hedged
        # a retry for those who joined a call whose own client has vanished is in nobody's account
        assert arrivals <= attempts + len(stand.crowd.vanished)
        calls = len(stand.crowd.endings) + len(stand.crowd.vanished)
        assert arrivals <= calls - joined + alone + stand.budget()
