"""Nothing of an exchange is alive after its connection has ended, without the garbage collector."""

import asyncio
import gc
from collections.abc import Iterator

import pytest

from support.limits import HANG_SECONDS
from support.ports import LIMIT, echo, post, serving
from weir.downstream.body_errors import BodyTooLargeError, ClientGoneError
from weir.downstream.exchange import Exchange
from weir.downstream.server import ClientConnection

pytestmark = pytest.mark.anyio

BODY = b"x" * 300_000


class Remembered:
    """An application that keeps weak references to what it has served."""

    def __init__(self) -> None:
        self.served = 0

    async def __call__(self, exchange: Exchange) -> None:
        self.served += 1
        if exchange.path == b"/waiting":
            await exchange.open(200, [(b"content-type", b"text/event-stream")])
            await asyncio.get_running_loop().create_future()
        try:
            await echo(exchange)
        except (BodyTooLargeError, ClientGoneError, TimeoutError):
            exchange.reply(400, [(b"content-length", b"0"), (b"connection", b"close")], b"")


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only counts of references free anything."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alive() -> list[str]:
    """Exchanges and connections that are still there."""
    return [type(each).__name__ for each in gc.get_objects() if isinstance(each, Exchange | ClientConnection)]


async def forgotten() -> None:
    """Wait until all is gone.

    Raises:
        TimeoutError: something stays.
    """
    async with asyncio.timeout(HANG_SECONDS):
        while alive():  # noqa: ASYNC110 - what is freed tells nobody
            await asyncio.sleep(0.01)


REQUESTS = {
    "complete": post(BODY),
    "gone before the end of the body": post(BODY)[:200_000],
    "gone before the reply": post(b"").replace(b"/mcp", b"/waiting"),
    "too large": post(b"").replace(b"content-length: 0", b"content-length: %d" % (LIMIT + 1)),
    "malformed": b"NONSENSE\r\n\r\n",
    "half a head": b"POST /mcp HTTP/1.1\r\nhost: x\r\n",
    "nothing": b"",
    "upgrade": post(b"{}", b"connection: upgrade", b"upgrade: h2c"),
    "pipelined": post(BODY, close=False) * 3,
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.usefixtures("no_collector")
async def test_nothing_of_an_exchange_outlives_its_connection(name: str) -> None:
    """However it ended."""
    async with serving(Remembered(), body_silence_seconds=0.2, head_seconds=0.2) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        writer.write(REQUESTS[name])
        if name in ("complete", "too large", "malformed", "gone before the reply"):
            await reader.read(10)
        else:
            await asyncio.sleep(0.05)
        writer.transport.abort()
        await forgotten()


@pytest.mark.usefixtures("no_collector")
async def test_nothing_outlives_a_body_that_did_not_come_in_time() -> None:
    """weir ends it."""
    async with serving(Remembered(), body_silence_seconds=0.1) as port:
        assert (await port.ask(post(BODY)[:-1])).startswith(b"HTTP/1.1 400 ")
        await forgotten()
