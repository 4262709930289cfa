"""Places for sessions on one stdio server, with real processes."""

import asyncio
from typing import Any

import pytest

from support.bridges import Client, Clock, Events, bridge, notification, request
from support.stdio_children import LOOPS, script
from weir.core.events import ChildExited, ChildStarted, SessionClosed
from weir.core.outcome import Blame, Outcome, RefusalKind, Refused
from weir.relay.stdio_server import StdioSettings
from weir.relay.stdio_sweep import WaitSettings

pytestmark = pytest.mark.anyio
INITIALIZE = request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}}, 0)
FOUR = StdioSettings("script", sessions_max=4)
# looked at often, by the clock that stands still until a test moves it
WATCHFUL = StdioSettings("script", sessions_max=4, waits=WaitSettings(keepalive_seconds=0.04))


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops."""
    return request.param


def blamed(outcome: Outcome) -> Blame:
    """Who is blamed for a refused session."""
    assert isinstance(outcome, Refused), outcome
    assert RefusalKind.SESSIONS_FULL is outcome.kind
    return outcome.blame


async def test_one_client_does_not_take_the_last_places() -> None:
    """Beyond a half it may hold a quarter; a /64 of IPv6 is one client."""
    async with bridge(FOUR) as upstream:
        for host in (1, 2, 3):
            await Client(upstream, address=f"2001:db8::{host}").initialize()
        assert Blame.DOWNSTREAM is blamed(await Client(upstream, address="2001:db8::4").post(INITIALIZE))
        await Client(upstream, address="2001:db8:0:1::1").initialize()
        assert Blame.WEIR is blamed(await Client(upstream, address="192.0.2.1").post(INITIALIZE))


async def test_sessions_that_never_spoke_end_first_when_places_are_short() -> None:
    """Half a minute after `initialize`; those that sent anything stay."""
    events, clock = Events(), Clock()
    async with bridge(WATCHFUL, emit=events, clock=clock) as upstream:
        spoken, silent, third = (Client(upstream, address=f"192.0.2.{host}") for host in (1, 2, 3))
        for client in (spoken, silent):
            await client.initialize()
        await spoken.post(notification("notifications/initialized", {}))
        clock.now += 29
        await third.initialize()
        clock.now += 2
        await events.until(SessionClosed)
        assert ["evicted"] == [event.reason for event in events.of(SessionClosed)]
        assert RefusalKind.UNKNOWN_SESSION is getattr(await silent.tool("pid"), "kind", None)
        assert not isinstance(await spoken.tool("pid"), Refused)


async def test_a_process_keeps_its_place_until_it_has_ended() -> None:
    """Sessions that begin and end do not pile up processes that ignore SIGTERM; a newcomer waits for a place."""
    events = Events()
    child = script("ignore-sigterm", "ignore-eof")
    async with bridge(StdioSettings("script", sessions_max=1), child, events) as upstream, asyncio.TaskGroup() as tasks:
        client, alive = Client(upstream), 0
        for _ in range(3):
            await client.initialize()
            await client.delete()
            client.session = ""
            alive = max(alive, len(events.of(ChildStarted)) - len(events.of(ChildExited)))
        waiting = tasks.create_task(client.post(INITIALIZE))
        await asyncio.sleep(0)
        assert Blame.DOWNSTREAM is blamed(await client.post(INITIALIZE)), "one place ends, one waits for it"
        assert not isinstance(await waiting, Refused)
    assert 1 == alive
