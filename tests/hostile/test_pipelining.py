"""Clients that send the next request, a part of one, or nonsense before they have their answer."""

import asyncio
import socket
import time
import tracemalloc
from typing import Any

import pytest

from support.ports import echo, post, serving
from support.rawhttp import await_head, connection, read_chunks
from weir.downstream.exchange import Exchange

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

GET = b"GET /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIMIT_SECONDS = 20.0


def flood(client: socket.socket, data: bytes) -> bool:
    """Send until the other end takes no more for a while; returns whether that happened."""
    client.settimeout(0.5)
    try:
        client.sendall(data)
    except TimeoutError:
        return True
    return False


async def test_requests_that_wait_behind_another_are_bytes_and_not_exchanges() -> None:
    """One packet must not become thousands of tasks, and a client that goes on sending is left unread."""
    go_on, seen = asyncio.Event(), 0

    async def app(exchange: Exchange) -> None:
        nonlocal seen
        seen += 1
        await go_on.wait()
        exchange.reply(200, [(b"content-length", b"0")], b"")

    many = GET * 500_000
    async with serving(app) as port:
        with socket.create_connection(("127.0.0.1", port.port)) as client:
            tracemalloc.start()
            is_left_unread = await asyncio.to_thread(flood, client, many)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert (1, True) == (seen, is_left_unread)
            # the limit of what waits, the packet that goes over it, and the buffer's reserve
            assert peak < 2_000_000
            go_on.set()
            client.settimeout(LIMIT_SECONDS)
            got = b""
            while got.count(b"HTTP/1.1 200") < 1000:
                got += await asyncio.to_thread(client.recv, 65536)


@pytest.mark.parametrize("at_once", [True, False], ids=["in one packet", "one by one"])
async def test_a_client_that_reads_no_answer_is_given_no_further_ones(*, at_once: bool) -> None:
    """Else each request would add its answer to what weir holds. Once it reads it gets them all."""
    seen, answer = 0, b"x" * 1_000_000

    async def app(exchange: Exchange) -> None:
        nonlocal seen
        seen += exchange.method == "GET"
        exchange.reply(200, [(b"content-length", b"%d" % len(answer))], answer)

    count = 60
    async with serving(app) as port:
        with socket.create_connection(("127.0.0.1", port.port)) as client:
            pieces = [GET * count, *[b""] * count] if at_once else [GET] * count
            for piece in pieces:
                client.sendall(piece)
                # some turns of the loop, in which the server could answer
                await port.ask(post(b""))
            seen_unread = seen
            client.settimeout(LIMIT_SECONDS)
            got = 0
            while got < count * len(answer):
                got += len(await asyncio.to_thread(client.recv, 1_000_000))
    # what the system's buffers take is read, as far as weir can tell
    assert seen_unread < count / 2
    assert seen >= count


async def test_many_pipelined_requests_are_all_answered_in_order() -> None:
    """And cost linear CPU time."""

    async def spent(count: int) -> float:
        times = []
        for _ in range(5):
            began = time.thread_time()
            requests = b"".join(post(b"%d" % number, close=number == count - 1) for number in range(count))
            reply = await port.ask(requests)
            times.append(time.thread_time() - began)
            assert [b"%d" % number for number in range(count)] == [
                part.rpartition(b"\r\n\r\n")[2] for part in reply.split(b"HTTP/1.1 200")[1:]
            ]
        return min(times)

    async with serving(echo) as port:
        once, twice = await spent(1000), await spent(2000)
    assert twice <= 2.5 * once


async def test_pipelined_offers_of_an_upgrade_are_all_answered() -> None:
    """Each begins its request anew; a thousand of them in one packet go no deeper than one."""
    offer = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c")
    requests = b"".join(post(b"x", *offer, close=False) for _ in range(1500)) + post(b"last")
    async with serving(echo) as port:
        reply = await port.ask(requests)
    assert (1501, True) == (reply.count(b"HTTP/1.1 200"), reply.endswith(b"last"))


BEHIND = {
    "half a head": (GET[:-10], b"408"),
    "bytes that are not HTTP": (b"\x16\x03\x01\r\n\r\n", b"400"),
    "a head that is too large": (b"GET / HTTP/1.1\r\nx: " + b"a" * 5000, b"431"),
    "too many headers": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 50 + b"\r\n", b"431"),
    "a head without Host": (b"GET / HTTP/1.1\r\n\r\n", b"400"),
    "a coding that weir does not have": (GET[:-2] + b"Transfer-Encoding: gzip, chunked\r\n\r\n", b"501"),
}


@pytest.mark.parametrize("is_late", [False, True], ids=["in the same packet", "later"])
@pytest.mark.parametrize("behind", BEHIND)
async def test_what_comes_behind_a_call_never_cuts_it(behind: str, is_late: bool) -> None:
    """The call under way ends first; then the next request gets its own answer."""
    rest, status = BEHIND[behind]
    started, heads_are_late = asyncio.Event(), asyncio.Event()

    async def app(exchange: Exchange) -> None:
        body = await exchange.body(1000)
        await exchange.open(200, [])
        started.set()
        await heads_are_late.wait()
        await exchange.write(body)
        await exchange.close()

    limits: dict[str, Any] = {"head_seconds": 0.05, "header_limit_bytes": 2000, "header_limit_count": 20}
    async with serving(app, **limits) as port, connection(port.port) as (reader, writer):
        async with asyncio.timeout(LIMIT_SECONDS):
            first = post(b"whole", close=False)
            writer.write(first if is_late else first + rest)
            await started.wait()
            writer.write(rest if is_late else b"")
            # as long as heads have, and then some
            asyncio.get_running_loop().call_later(0.2, heads_are_late.set)
            head = await await_head(reader)
            assert b"whole" == b"".join([piece async for piece in read_chunks(reader, head, until_close=False)])
            assert status == (await await_head(reader)).line.split()[1]


async def test_a_client_that_leaves_is_noticed_though_it_has_pipelined() -> None:
    """What waits is kept, and the socket is still read."""
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def app(exchange: Exchange) -> None:
        started.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    async with serving(app) as port, asyncio.timeout(LIMIT_SECONDS):
        async with connection(port.port) as (_, writer):
            writer.write(GET * 100)
            await started.wait()
        await cancelled.wait()
