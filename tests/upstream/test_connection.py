"""One connection: every way a server may answer, and every way it may fail to."""

import asyncio
import tracemalloc
from typing import Any

import pytest

from support.pools import ask, pool_to, read_all, start
from support.scripted import ENOUGH_SECONDS, Script, Visit, scripted
from weir.core.outcome import FailureKind, Sent
from weir.upstream.connection import MAX_HEAD_BYTES, MAX_HEADERS
from weir.upstream.exchange import Unanswered
from weir.upstream.http1 import PoolSettings

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"
SSE_HEAD = OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Both loops: weir runs on uvloop where there is one."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


def saying(*pieces: bytes) -> Script:
    """A server that answers every request with these bytes, and closes after the last one when it says so."""

    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.send(*pieces)
            if b"close" in pieces[0].lower():
                return

    return script


def saying_once(*pieces: bytes) -> Script:
    """A server that answers one request with these bytes and closes."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(*pieces)

    return script


async def failure_of(script: Script, settings: PoolSettings | None = None) -> Unanswered:
    """How an exchange with this server fails, head or body."""
    async with scripted(script) as server, pool_to(server, settings) as pool:
        with pytest.raises(Unanswered) as caught:
            await read_all(await ask(pool))
    return caught.value


async def test_a_reply_with_a_length_is_complete() -> None:
    """Status, headers in their order with names in lower case, body."""
    reply = OK + b"Content-Length: 2\r\nSet-Cookie: a=1\r\nDate: today\r\nSet-Cookie: b=2\r\nX-Empty:\r\n\r\nhi"
    async with scripted(saying(reply)) as server, pool_to(server) as pool:
        exchange = await ask(pool)
        assert (200, b"hi", False) == (exchange.status, exchange.body(), exchange.is_stream)
        assert [
            (b"content-length", b"2"),
            (b"set-cookie", b"a=1"),
            (b"date", b"today"),
            (b"set-cookie", b"b=2"),
            (b"x-empty", b""),
        ] == exchange.headers
        assert exchange.sent_at <= exchange.first_byte_at


async def test_what_is_sent_is_what_was_asked() -> None:
    """Request line, headers, body."""
    seen: list[tuple[bytes, bytes]] = []

    async def script(visit: Visit) -> None:
        seen.append(await visit.request())
        await visit.answer(b"{}")

    async with scripted(script) as server, pool_to(server) as pool:
        await ask(pool, b"/mcp?a=b", body=b'{"a":1}', headers=[(b"mcp-session-id", b"s")])
    head = b"POST /mcp?a=b HTTP/1.1\r\nhost: test\r\nmcp-session-id: s\r\ncontent-length: 7\r\n\r\n"
    assert [(head, b'{"a":1}')] == seen


async def test_a_large_request_arrives_whole() -> None:
    """Also when the socket does not take it in one go."""
    body, seen = b"x" * 5_000_000, []

    async def script(visit: Visit) -> None:
        seen.append((await visit.request())[1])
        await visit.answer(b"{}")

    async with scripted(script) as server, pool_to(server) as pool:
        await ask(pool, body=body)
    assert [body] == seen


async def test_a_chunked_reply_is_put_together_without_its_trailers() -> None:
    """The transfer coding is one hop's matter."""
    reply = OK + b"Transfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n"
    async with scripted(saying(reply)) as server, pool_to(server) as pool:
        for _ in range(2):
            exchange = await ask(pool)
            assert b"abcde" == exchange.body()
            assert [(b"transfer-encoding", b"chunked")] == exchange.headers
        assert 1 == server.connections


async def test_a_reply_without_a_length_ends_with_its_connection() -> None:
    """Close-delimited, as HTTP/1.0 servers do it."""
    async with scripted(saying_once(OK + b"\r\nab", b"cd")) as server, pool_to(server) as pool:
        for _ in range(2):
            assert b"abcd" == (await ask(pool)).body()
        assert 2 == server.connections


@pytest.mark.parametrize(
    "reply",
    [
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        OK + b"Content-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n",
        OK + b"Content-Length: 2\r\n\r\nhiHTT",
        OK + b"Content-Length: 2\r\n\r\nhi{}",
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhimore",
    ],
)
async def test_a_connection_that_may_not_be_used_again_is_not(reply: bytes) -> None:
    """The server said so, or sent more than its reply: what follows would be read as the next reply."""
    async with scripted(saying(reply)) as server, pool_to(server) as pool:
        for _ in range(2):
            assert b"hi" == (await ask(pool)).body()
        assert 2 == server.connections


async def test_a_connection_that_speaks_unasked_is_closed() -> None:
    """Bytes behind a reply that come later are no reply either."""
    spoken = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.answer(b"{}")
        await visit.send(OK + b"Content-Length: 6\r\n\r\nforged")
        await visit.gone()
        spoken.set()

    async with scripted(script) as server, pool_to(server) as pool:
        await ask(pool)
        async with asyncio.timeout(ENOUGH_SECONDS):
            await spoken.wait()
        assert b"{}" == (await ask(pool)).body()
        assert 2 == server.connections


@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"])
async def test_interim_replies_are_skipped(interim: bytes) -> None:
    """100 and 103 say nothing about the request's outcome."""
    reply = OK + b"Content-Length: 2\r\n\r\nhi"
    for pieces in ((interim, interim, reply), (interim + reply,)):
        async with scripted(saying(*pieces)) as server, pool_to(server) as pool:
            for _ in range(2):
                exchange = await ask(pool)
                assert (200, b"hi", [(b"content-length", b"2")]) == (exchange.status, exchange.body(), exchange.headers)
            assert 1 == server.connections


async def test_a_flood_of_interim_replies_is_cut_off() -> None:
    """They are not body, and what is not body is limited."""

    async def script(visit: Visit) -> None:
        await visit.request()
        while True:
            await visit.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    assert FailureKind.PROTOCOL is (await failure_of(script)).kind


@pytest.mark.parametrize(
    ("verb", "reply"),
    [
        (b"DELETE", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"POST", b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n"),
        (b"HEAD", OK + b"Content-Length: 1000\r\n\r\n"),
        (b"HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n"),
        (b"HEAD", OK + b"Content-Type: text/event-stream\r\n\r\n"),
    ],
)
async def test_replies_that_have_no_body_are_complete_at_their_head(verb: bytes, reply: bytes) -> None:
    """Whatever their headers say about a body."""
    async with scripted(saying(reply)) as server, pool_to(server) as pool:
        for _ in range(2):
            exchange = await ask(pool, verb=verb, body=b"")
            assert (b"", False) == (exchange.body(), exchange.is_stream)


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 099 Too Low\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
        OK + b"Transfer-Encoding: gzip\r\n\r\nabc",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        OK + b"X: a\r\n b\r\n\r\n",
        OK + b"X y: a\r\n\r\n",
        OK + b"X: a\0b\r\n\r\n",
        OK + b"X: " + b"a" * (MAX_HEAD_BYTES + 1) + b"\r\n\r\n",
        OK + b"X: a\r\n" * (MAX_HEADERS + 1) + b"\r\n",
        OK + b"X: " + b"a" * 1_000_000,
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: a\r\n" * 20_000,
        OK + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 1_000_000,
    ],
)
async def test_what_is_no_honest_reply_is_a_protocol_failure(reply: bytes) -> None:
    """Nonsense, smuggling attempts, endless heads."""
    failure = await failure_of(saying_once(reply))
    assert FailureKind.PROTOCOL is failure.kind
    assert Sent.NO is not failure.sent
    assert "\n" not in failure.detail


@pytest.mark.parametrize("by_reset", [False, True])
@pytest.mark.parametrize(
    ("said", "sent"),
    [
        (b"", Sent.YES),
        (b"HTTP/1.1 2", Sent.YES),
        (OK + b"Content-Length: 5\r\n\r\nhi", Sent.ANSWERED),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhi", Sent.ANSWERED),
        (SSE_HEAD + b"5\r\nhi", Sent.ANSWERED),
    ],
)
async def test_a_connection_that_ends_early_says_how_far_it_got(said: bytes, sent: Sent, by_reset: bool) -> None:
    """Closed or reset: nothing of the reply, or its head."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(said)
        await asyncio.sleep(0.05 if by_reset else 0)  # a reset throws away what the client has not read yet
        if by_reset:
            visit.reset()

    failure = await failure_of(script)
    assert (FailureKind.RESET, sent) == (failure.kind, failure.sent)


async def test_a_reply_without_a_length_that_is_reset_is_no_reply() -> None:
    """Only a clean end says that it was all."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(OK + b"\r\nhalf")
        await asyncio.sleep(0.05)
        visit.reset()

    assert FailureKind.RESET is (await failure_of(script)).kind


async def test_an_event_stream_begins_at_its_head() -> None:
    """Before its first byte of body; what follows is read as it comes."""
    go_on = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD)
        for data in (b"one", b"two"):
            await go_on.wait()
            go_on.clear()
            await visit.chunk(data)
        await visit.chunk(b"")

    async with scripted(script) as server, pool_to(server) as pool:
        exchange = await ask(pool)
        assert exchange.is_stream
        for expected in (b"one", b"two"):
            go_on.set()
            async with asyncio.timeout(ENOUGH_SECONDS):
                assert expected == await exchange.read()
        assert b"" == await read_all(exchange)


@pytest.mark.parametrize("framing", [b"Content-Length: 100000\r\n\r\n", b"X: no length\r\n\r\n"])
async def test_a_body_beyond_the_buffer_is_a_stream(framing: bytes) -> None:
    """Announced or not."""
    body = bytes(range(250)) * 400
    settings = PoolSettings(reply_buffer_bytes=10_000)
    async with scripted(saying_once(OK + framing, body)) as server, pool_to(server, settings) as pool:
        exchange = await ask(pool)
        assert exchange.is_stream
        assert body == await read_all(exchange)


async def test_a_slow_reader_slows_the_server_down() -> None:
    """What nobody reads stays on the wire, not in memory; and all of it comes in the end."""
    total, piece = 64_000_000, b"x" * 64_000
    sent, is_stuck = 0, asyncio.Event()

    async def script(visit: Visit) -> None:
        nonlocal sent
        await visit.request()
        await visit.send(OK + b"Content-Type: text/event-stream\r\n\r\n")
        while sent < total:
            visit.writer.write(piece)
            sent += len(piece)
            try:
                async with asyncio.timeout(0.5):
                    await visit.writer.drain()
            except TimeoutError:
                is_stuck.set()
                await visit.writer.drain()

    async with scripted(script) as server, pool_to(server) as pool:
        exchange = await ask(pool)
        async with asyncio.timeout(ENOUGH_SECONDS):
            await is_stuck.wait()
        # the buffers of two sockets on loopback; the client itself holds well below a megabyte
        assert sent < 20_000_000
        received = 0
        async with asyncio.timeout(ENOUGH_SECONDS * 2):
            while data := await exchange.read():
                received += len(data)
                assert len(data) < 1_000_000
        assert total == received


async def test_a_reader_that_catches_up_late_still_frees_the_connection() -> None:
    """A complete reply may wait for its reader while the connection carries the next one."""
    body = b"y" * 150_000
    reply = OK + b"Content-Type: text/event-stream\r\nContent-Length: 150000\r\n\r\n"
    async with scripted(saying(reply + body)) as server, pool_to(server) as pool:
        first = await ask(pool)
        first_half = await first.read()
        second = await ask(pool)
        assert body == first_half + await read_all(first)
        assert body == await read_all(second)


async def test_a_megabyte_costs_two() -> None:
    """A large JSON result exists once in pieces and once as a whole, never more."""
    size = 4_000_000
    async with (
        scripted(saying(OK + b"Content-Length: %d\r\n\r\n" % size, b"x" * size)) as server,
        pool_to(server) as pool,
    ):
        tracemalloc.start()
        try:
            exchange = await start(pool)
            await exchange.arrived
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            assert size == len(exchange.body())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak - before < size * 1.1
