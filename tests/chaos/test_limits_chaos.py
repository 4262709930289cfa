"""weir with limits before a large crowd: what is refused costs the upstream nothing, what is taken is given back."""

import asyncio
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from support.chaos import Asked, Origin
from support.crowd import READ, WRITE, Ending
from support.enduring import VANISHING, Stand, standing
from support.troubles import stall

pytestmark = pytest.mark.anyio

CALLS = int(os.environ.get("WEIR_CHAOS_CALLS", "1000"))
"""Calls of each scenario; 10000 for the full number."""
CLIENTS = 48
PLACES, QUEUE = 8, 8
SERVICE_SECONDS = 0.005
WINDOW_SECONDS, PER_UPSTREAM, PER_TOOL = 0.5, 100, 20
LATE_SECONDS = 0.1
"""How much later than it was let pass a call may arrive on a busy machine."""
REFUSALS = {"rate_limited", "overloaded"}
STALL_SECONDS = 3.0
"""How long a server stalls, and for how long it is used again before that must go as well as before."""
BACK_SECONDS = 1.0
"""After the stall calls have their places back when their attempts have timed out, the machine's lateness included."""

TIMES = {"timeout": {"connect": "500ms", "attempt": "500ms", "total": "4s"}}
FIXED: dict[str, Any] = {**TIMES, "concurrency": {"limit": PLACES, "queue": QUEUE, "queue_timeout": "200ms"}}
ADAPTIVE: dict[str, Any] = {**TIMES, "concurrency": {"limit": 32, "queue": 64, "adaptive": True}}
RATED: dict[str, Any] = {
    **TIMES,
    "rate_limits": [
        {"per": "upstream", "limit": PER_UPSTREAM, "window": "500ms"},
        {"per": "tool", "limit": PER_TOOL, "window": "500ms"},
    ],
}


async def served(asked: Asked) -> None:
    """Answer after the usual time."""
    await asyncio.sleep(SERVICE_SECONDS)
    await asked.exchange.json(asked.answer())


class Workers:
    """A server that works on so many calls at once; the others wait in it."""

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)

    async def __call__(self, asked: Asked) -> None:
        async with self._free:
            await served(asked)


async def check(stand: Stand, origin: Origin) -> None:
    """Each call was answered or refused once; what was refused never arrived; what arrived is what weir tried."""
    crowd = stand.crowd
    await stand.settled()
    arrived = {number for _, number in origin.seen}
    refused = {ending.number for ending in crowd.endings if ending.what in REFUSALS}
    answered = {ending.number for ending in crowd.endings if ending.what == "ok"}
    attempts = await stand.metric("weir_attempts_total")
    print(f"{len(refused)} refused; {origin.arrivals()} arrivals of {attempts:.0f} attempts; {origin.most} at once")
    assert [] == crowd.wrong[:8]
    assert [] == origin.errors
    assert set() == refused & arrived
    assert set() == answered - arrived
    assert 0 == origin.repeats()
    assert origin.arrivals() <= attempts
    if not crowd.vanished:
        assert len(crowd.endings) - len(refused) == origin.arrivals() == attempts


async def all_places(stand: Stand, origin: Origin) -> None:
    """As many calls as there are places are with the upstream at one time."""
    together = asyncio.Barrier(PLACES)

    async def meet(asked: Asked) -> None:
        async with asyncio.timeout(0.4):
            await together.wait()
        await served(asked)

    origin.trouble, stand.crowd.vanishing, before = meet, 0.0, len(stand.crowd.endings)
    await stand.crowd.call(PLACES, PLACES)
    assert ["ok"] * PLACES == [ending.what for ending in stand.crowd.endings[before:]]


@pytest.mark.parametrize("vanishing", [0.0, VANISHING])
async def test_a_fixed_number_of_places_is_never_exceeded_and_never_lost(vanishing: float, tmp_path: Path) -> None:
    """Most of the crowd is refused, some go while they wait or run; afterwards every place is there."""
    origin = Origin(served)
    async with origin.listening(), standing(tmp_path, origin, FIXED, vanishing=vanishing) as stand:
        began = time.monotonic()
        await stand.crowd.call(CALLS, CLIENTS)
        ends, seconds = dict(stand.crowd.ends()), time.monotonic() - began
        print(f"\nplaces: {CALLS} calls in {seconds:.1f} s: {ends}, {len(stand.crowd.vanished)} vanished")
        if not vanishing:
            # an upstream learns that a client has gone later than weir, which gives its place away meanwhile
            assert origin.most <= PLACES
        await check(stand, origin)
        await all_places(stand, origin)


def most_within(instants: list[float], seconds: float) -> int:
    """The largest number of instants within any such time."""
    first, most = 0, 0
    for last, instant in enumerate(instants):
        while instants[first] <= instant - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize("vanishing", [0.0, VANISHING])
async def test_no_window_has_more_calls_than_its_limit(vanishing: float, tmp_path: Path) -> None:
    """At the upstream, by its own clock; what was refused never came there."""
    origin = Origin(served)
    async with origin.listening(), standing(tmp_path, origin, RATED, vanishing=vanishing) as stand:
        began = time.monotonic()
        await stand.crowd.call(CALLS, CLIENTS)
        seconds = time.monotonic() - began
        window = WINDOW_SECONDS - LATE_SECONDS
        most = most_within([instant for instant, _ in origin.arrived_at], window)
        of_tools = {
            tool: most_within([instant for instant, kind in origin.arrived_at if kind == tool], window)
            for tool in (READ, WRITE)
        }
        print(
            f"\nrates: {CALLS} calls in {seconds:.1f} s: {dict(stand.crowd.ends())}, {len(stand.crowd.vanished)}"
            f" vanished; most in a window {most} of {PER_UPSTREAM}, of a tool {of_tools} of {PER_TOOL}"
        )
        assert most <= PER_UPSTREAM
        assert max(of_tools.values()) <= PER_TOOL
        await check(stand, origin)


async def test_an_adaptive_limit_is_found_again_after_a_stall(tmp_path: Path) -> None:
    """A server of eight workers stalls for seconds; soon after, as much gets through as before."""
    calls = max(CALLS, 4000)
    origin = Origin(Workers(PLACES))
    async with origin.listening(), standing(tmp_path, origin, ADAPTIVE) as stand:
        before = await goodput(stand, calls)
        limit_before = await stand.metric("weir_policy_level", 'scope="limit"')
        origin.trouble = stall
        await stand.crowd.call_for(STALL_SECONDS, CLIENTS)
        limit_stalled = await stand.metric("weir_policy_level", 'scope="limit"')
        origin.trouble = Workers(PLACES)
        ended = time.monotonic()
        await stand.crowd.call_for(STALL_SECONDS, CLIENTS)
        after = await goodput(stand, calls)
        limit_after = await stand.metric("weir_policy_level", 'scope="limit"')
        back = min(each for ending in stand.crowd.endings if (each := answered_at(ending) - ended) > 0)
        print(
            f"\nadaptive: {before:.0f} calls/s, limit {limit_before:.0f}; stalled: limit {limit_stalled:.0f}; "
            f"{after:.0f} calls/s, limit {limit_after:.0f}; first answer {back:.2f} s after the stall; "
            f"{dict(stand.crowd.ends())}, {len(stand.crowd.vanished)} vanished"
        )
        await check(stand, origin)
        assert after >= 0.7 * before
        assert back <= BACK_SECONDS


def answered_at(ending: Ending) -> float:
    """When a call had its answer; never, if it had none."""
    return ending.began + ending.seconds if ending.what == "ok" else -math.inf


async def goodput(stand: Stand, calls: int) -> float:
    """Answers a second."""
    began, before = time.monotonic(), stand.crowd.ends()["ok"]
    await stand.crowd.call(calls, CLIENTS)
    return (stand.crowd.ends()["ok"] - before) / (time.monotonic() - began)
