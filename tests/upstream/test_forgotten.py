"""Nothing of an exchange with a server is alive after it has ended, without the garbage collector."""

import asyncio
import gc
from collections.abc import Iterator

import pytest

from support.limits import HANG_SECONDS
from support.pools import pool_to, read_all, start
from support.scripted import Visit, scripted
from weir.upstream.connection import Connection
from weir.upstream.exchange import Exchange, Unanswered
from weir.upstream.http1 import Pool

pytestmark = pytest.mark.anyio


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only counts of references free anything."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def forgotten() -> None:
    """Wait until all is gone.

    Raises:
        TimeoutError: something stays.
    """
    async with asyncio.timeout(HANG_SECONDS):
        while any(isinstance(each, Exchange | Connection) for each in gc.get_objects()):  # noqa: ASYNC110 - memory tells nobody
            await asyncio.sleep(0.01)


async def various(visit: Visit) -> None:
    """Ends as the path says."""
    head, _ = await visit.request()
    if b"/whole" in head:
        await visit.answer(b"x" * 300_000)
    elif b"/cut" in head:
        await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 100_000)
    elif b"/stream" in head:
        await visit.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
    elif b"/garbage" in head:
        await visit.send(b"NONSENSE\r\n\r\n")


async def visited(pool: Pool, target: bytes) -> None:
    """Ask, and read all there is."""
    exchange = await start(pool, target)
    try:
        await exchange.arrived
        if exchange.is_stream:
            await read_all(exchange)
    except Unanswered:
        pass
    finally:
        exchange.close()


@pytest.mark.parametrize("target", [b"/whole", b"/cut", b"/stream", b"/garbage", b"/close"], ids=bytes.decode)
@pytest.mark.usefixtures("no_collector")
async def test_nothing_of_an_exchange_outlives_it(target: bytes) -> None:
    """However it ended."""
    async with scripted(various) as server, pool_to(server) as pool:
        await visited(pool, target)
        await pool.aclose()
        await forgotten()


@pytest.mark.usefixtures("no_collector")
async def test_nothing_of_an_exchange_that_is_given_up_outlives_it() -> None:
    """weir closes it before the reply."""

    async def silent(visit: Visit) -> None:
        await visit.request()
        await visit.gone()

    async with scripted(silent) as server, pool_to(server) as pool:
        exchange = await start(pool)
        exchange.close()
        del exchange
        await forgotten()
