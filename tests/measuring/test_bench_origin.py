"""The HTTP server at the far end, over a real socket."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from bench.lines import call_result
from bench.origin import Origin, post_reply, sse_event

from support.limits import HANG_SECONDS

pytestmark = pytest.mark.anyio

CALL = b'{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"echo"}}'


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """An origin of its own."""
    server = await asyncio.get_running_loop().create_server(Origin, "127.0.0.1", 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


def post(body: bytes) -> bytes:
    """The bytes of a POST."""
    return b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def test_a_post_is_answered_once_it_is_complete(port: int) -> None:
    """A request in pieces gives one answer, and the connection serves the next one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    expected = post_reply(CALL)
    async with asyncio.timeout(HANG_SECONDS):
        for piece in (post(CALL)[:20], post(CALL)[20:-4], post(CALL)[-4:], post(CALL)):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        assert expected + expected == await reader.readexactly(2 * len(expected))
    writer.close()


async def test_a_get_is_a_stream_that_stays_open(port: int) -> None:
    """Its head and a first comment come at once, its end does not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(HANG_SECONDS):
        writer.write(b"GET /mcp HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"text/event-stream" in await reader.readuntil(b"\r\n\r\n")
        assert b": open" in await reader.readuntil(b"\n\n")
    assert not reader.at_eof()
    writer.close()


async def test_the_sse_tool_is_answered_as_one_event() -> None:
    """The event carries the very bytes of the JSON reply."""
    reply = post_reply(CALL.replace(b"echo", b"sse"))
    assert sse_event(call_result(b"5")) in reply
    assert reply.endswith(b"0\r\n\r\n")


async def test_a_notification_is_accepted() -> None:
    """202 without a body."""
    assert post_reply(b'{"method":"notifications/initialized"}').startswith(b"HTTP/1.1 202 ")
