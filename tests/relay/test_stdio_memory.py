"""What is left in memory of a session that has ended, with the garbage collector off."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

from support.bridges import Client, bridge
from support.stdio_children import LOOPS

pytestmark = pytest.mark.anyio


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both event loops."""
    return request.param


async def test_nothing_of_a_session_outlives_its_process() -> None:
    """A client that opens sessions in a row would otherwise grow weir until the collector runs."""
    gc.disable()
    try:
        async with bridge() as upstream:
            client = Client(upstream)
            await client.initialize()
            await client.tool("pid")
            session = upstream._sessions[client.session]
            freed: list[asyncio.Event] = []
            for each in (session, session.router, session.pipe):
                freed.append(asyncio.Event())
                weakref.finalize(each, freed[-1].set)
            del session, each
            await client.delete()
            async with asyncio.timeout(60):
                for event in freed:
                    await event.wait()
    finally:
        gc.enable()
