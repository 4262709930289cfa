"""Request bodies that are cut, framed or announced as no honest client would."""

import asyncio
import time
import tracemalloc

import pytest

from support.ports import LIMIT, Port, echo, serving
from support.rawhttp import Reply, await_head, connection, read_chunks
from weir.downstream.exchange import Exchange

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CHUNKED = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECES = 20_000


def in_chunks(size: int, chunk: bytes = b" ") -> bytes:
    """A chunked request whose body comes in `size` chunks; the server closes after it."""
    head = CHUNKED.replace(b"Host", b"Connection: close\r\nHost")
    return head + b"%x\r\n%b\r\n" % (len(chunk), chunk) * size + b"0\r\n\r\n"


async def cpu_seconds(port: Port, request: bytes) -> float:
    """The least CPU time of five such requests, both ends of the connection included."""
    spent = []
    for _ in range(5):
        began = time.thread_time()
        assert (await port.ask(request)).startswith(b"HTTP/1.1 200 ")
        spent.append(time.thread_time() - began)
    return min(spent)


async def test_a_body_in_tiny_chunks_costs_linear_cpu_time() -> None:
    """Twice the chunks take at most two and a half times the time."""
    async with serving(echo) as port:
        once = await cpu_seconds(port, in_chunks(PIECES))
        twice = await cpu_seconds(port, in_chunks(2 * PIECES))
    assert twice <= 2.5 * once


async def test_a_body_in_tiny_chunks_takes_little_more_memory_than_its_size() -> None:
    """A list of pieces of two bytes would take thirty times as much."""
    peaks: list[int] = []

    async def app(exchange: Exchange) -> None:
        tracemalloc.start()
        body = await exchange.body(LIMIT)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        exchange.reply(200, [(b"content-length", b"%d" % len(body))], body)

    async with serving(app) as port:
        reply = await port.ask(in_chunks(100_000, b"ab"))
    assert reply.endswith(b"ab" * 100_000)
    # the body, the buffer it came from, and the bytes of the socket that were being parsed
    assert peaks[0] < 2_000_000


async def test_a_body_is_refused_as_soon_as_it_is_over_the_limit() -> None:
    """Whether or not its end ever comes."""

    async def app(exchange: Exchange) -> None:
        try:
            await exchange.body(1000)
        except Exception as error:  # noqa: BLE001 - its name is the answer
            text = type(error).__name__.encode()
            exchange.reply(413, [(b"content-length", b"%d" % len(text))], text)

    async with serving(app) as port, connection(port.port) as (reader, writer):
        writer.write(CHUNKED + b"1\r\n \r\n" * 1001)
        head = await await_head(reader)
        body = b"".join([piece async for piece in read_chunks(reader, head, until_close=True)])
    assert (413, b"BodyTooLargeError") == (Reply(head.line, head.headers).status, body)


async def test_a_client_that_leaves_is_noticed_behind_a_large_body() -> None:
    """The socket is read while the call is under way, whatever the body's size was."""
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def app(exchange: Exchange) -> None:
        await exchange.body(LIMIT)
        started.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    async with serving(app) as port:
        async with connection(port.port) as (_, writer), asyncio.timeout(20):
            size = 900_000
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
            await started.wait()
        async with asyncio.timeout(20):
            await cancelled.wait()
