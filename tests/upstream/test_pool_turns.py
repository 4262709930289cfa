"""The pool, when several things happen in one turn of the loop."""

import asyncio
import time
from collections.abc import Callable

import pytest

from support.pools import ask, start
from support.scripted import ENOUGH_SECONDS, Visit, scripted
from weir.upstream.connection import Connection
from weir.upstream.dialing import Dialer, origin_of
from weir.upstream.http1 import Pool, PoolSettings

pytestmark = pytest.mark.anyio


class Remembering(Dialer):
    """It keeps what it dialled."""

    def __init__(self, url: str) -> None:
        super().__init__(origin_of(url), None, None)
        self.dialled: list[Connection] = []

    async def dial(self, protocol: Callable[[], Connection]) -> Connection:
        """See Dialer."""
        connection = await super().dial(protocol)
        self.dialled.append(connection)
        return connection


async def test_a_connection_that_ends_on_its_way_to_one_who_has_left_is_forgotten() -> None:
    """Freed, lost, and its next user cancelled, all before that one ran: it is not kept, and nothing watches it."""
    looks = 0

    def clock() -> float:
        nonlocal looks
        looks += 1
        return time.monotonic()

    async def brief(visit: Visit) -> None:
        while await visit.request():
            # kept for no time at all, so that whatever is kept is looked at at once
            await visit.send(b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nhi")

    async with scripted(brief) as server:
        dialer = Remembering(server.url("http"))
        pool = Pool(dialer, PoolSettings(connections=1), clock)
        async with asyncio.timeout(ENOUGH_SECONDS), asyncio.TaskGroup() as group:
            await start(pool)
            second = group.create_task(start(pool))
            await asyncio.sleep(0)
            (connection,) = dialer.dialled
            connection.data_received(b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nhi")
            connection.connection_lost(None)
            second.cancel()
        looks = 0
        await asyncio.sleep(0.1)
        assert looks < 10
        assert (await ask(pool)).status == 200
        await pool.aclose()
