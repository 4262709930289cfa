"""The HTTP server's own behaviour, over real sockets with a tiny application behind it."""

import asyncio
import contextlib
import time
from socket import SO_RCVBUF, SOL_SOCKET, socket
from typing import Any

import pytest

from support.limits import HANG_SECONDS
from support.ports import LIMIT, echo, post, serving
from weir.core.call import NOWHERE, Call, Peer, Transport
from weir.downstream.asgi import asgi
from weir.downstream.exchange import Exchange

pytestmark = pytest.mark.anyio


async def test_a_request_is_answered_and_the_connection_closed_on_request() -> None:
    """The plain case; weir adds neither `server` nor `date`."""
    async with serving(echo) as port:
        reply = await port.ask(post(b"hello"))
    assert b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello" == reply


async def test_pipelined_requests_are_answered_in_order() -> None:
    """HTTP/1.1 allows a client to send the next request before the answer."""
    async with serving(echo) as port:
        reply = await port.ask(post(b"one", close=False) + post(b"two", close=False) + post(b"three"))
    assert [b"one", b"two", b"three"] == [part.rpartition(b"\r\n\r\n")[2] for part in _replies(reply)]


async def test_too_many_header_bytes_are_431() -> None:
    """Whether they come as one header or many."""
    async with serving(echo, header_limit_bytes=1000) as port:
        one = await port.ask(post(b"", b"x-long: " + b"a" * 2000))
        endless = await port.ask(b"POST /mcp HTTP/1.1\r\nx-never-ends: " + b"a" * 3000)
    assert one.startswith(b"HTTP/1.1 431 ")
    assert endless.startswith(b"HTTP/1.1 431 ")
    assert ["header_size", "header_size"] == port.limits


async def test_too_many_headers_are_431() -> None:
    """A flood of tiny headers costs memory too."""
    async with serving(echo, header_limit_count=10) as port:
        reply = await port.ask(post(b"", *[b"x-%d: 1" % number for number in range(20)]))
    assert reply.startswith(b"HTTP/1.1 431 ")
    assert ["header_count"] == port.limits


async def test_a_head_that_dribbles_is_408() -> None:
    """A slow-loris holds a connection, not a worker, and not for long."""
    async with serving(echo, head_seconds=0.05) as port:
        reply = await port.ask(b"POST /mcp HTTP/1.1\r\nhost: loc")
    assert reply.startswith(b"HTTP/1.1 408 ")


async def test_a_silent_connection_is_closed() -> None:
    """Nothing asked, nothing answered."""
    async with serving(echo, head_seconds=0.05) as port:
        assert b"" == await port.ask(b"")


async def test_a_body_that_stalls_ends_the_wait() -> None:
    """The application is told by TimeoutError."""
    seen: list[str] = []

    async def app(exchange: Exchange) -> None:
        try:
            await exchange.body(LIMIT)
        except TimeoutError:
            seen.append("timeout")
        exchange.reply(408, [(b"content-length", b"0"), (b"connection", b"close")], b"")

    async with serving(app, body_silence_seconds=0.05) as port:
        reply = await port.ask(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc")
    assert (["timeout"], True) == (seen, reply.startswith(b"HTTP/1.1 408 "))


async def test_what_is_not_http_is_400() -> None:
    """And the connection closes."""
    async with serving(echo) as port:
        reply = await port.ask(b"\x16\x03\x01 not http at all\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 400 ")


async def test_100_continue_is_sent_when_the_body_is_wanted() -> None:
    """curl waits for it with large bodies."""
    async with serving(echo) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        async with asyncio.timeout(HANG_SECONDS):
            assert b"HTTP/1.1 100 Continue\r\n\r\n" == await reader.readuntil(b"\r\n\r\n")
            writer.write(b"ok")
            assert b"ok" == (await reader.readuntil(b"ok"))[-2:]
        writer.close()


async def test_a_vanished_client_cancels_what_is_done_for_it() -> None:
    """So that the upstream exchange is closed at once."""
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def app(exchange: Exchange) -> None:
        started.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    async with serving(app) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port.port)
        writer.write(post(b"x", close=False))
        async with asyncio.timeout(HANG_SECONDS):
            await started.wait()
            writer.transport.abort()
            await cancelled.wait()


async def test_a_slow_reader_holds_the_writer() -> None:
    """Backpressure: `write` returns only when the client's connection takes more."""
    written = 0

    async def app(exchange: Exchange) -> None:
        nonlocal written
        await exchange.open(200, [])
        while True:
            await exchange.write(b"x" * 65536)
            written += 65536
            await asyncio.sleep(0)

    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port, limit=1024)
        writer.write(post(b"", close=False))
        async with asyncio.timeout(HANG_SECONDS):
            await reader.readuntil(b"\r\n\r\n")
            before = -1
            while before != written:
                before = written
                for _ in range(50):
                    await asyncio.sleep(0)
        # what the kernel's two socket buffers hold, and no more
        assert written < 16 * 1024 * 1024
        writer.transport.abort()


async def test_what_is_written_in_one_turn_arrives_in_one_piece() -> None:
    """Head, event and end together cost one system call; each alone goes out at once."""
    go_on = asyncio.Event()

    async def app(exchange: Exchange) -> None:
        await exchange.open(200, [])
        await go_on.wait()
        await exchange.write(b"one")
        await exchange.write(b"two")
        await exchange.close()

    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        writer.write(post(b"", close=False))
        async with asyncio.timeout(HANG_SECONDS):
            await reader.readuntil(b"\r\n\r\n")
            go_on.set()
            assert b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n" == await reader.read(1000)
        writer.close()


async def test_a_reply_that_stops_short_closes_the_connection() -> None:
    """Only that tells the client that bytes are missing."""

    async def app(exchange: Exchange) -> None:
        exchange.reply(200, [(b"content-length", b"10")], b"short")

    async with serving(app) as port:
        reply = await port.ask(post(b"", close=False))
    assert reply.endswith(b"\r\n\r\nshort")


FORGED = b"\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("status", "headers", "body", "sent"),
    [(200, [(b"content-length", b"5")], b"hello" + FORGED, b"hello"), (204, [], FORGED, b""), (304, [], FORGED, b"")],
    ids=["length", "204", "304"],
)
async def test_nothing_is_written_behind_the_declared_length(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes, sent: bytes
) -> None:
    """It would be taken for the next caller's reply; the connection ends instead."""

    async def app(exchange: Exchange) -> None:
        await exchange.open(status, headers)
        await exchange.write(body)
        await exchange.close()

    async with serving(app) as port:
        reply = await port.ask(post(b"", close=False) + post(b"", close=False))
    assert (1, True) == (reply.count(b"HTTP/1.1"), reply.endswith(b"\r\n\r\n" + sent))


async def test_an_event_stream_has_no_length() -> None:
    """What is added to a stream, or left out of it, would not fit a length that its server declared."""

    async def app(exchange: Exchange) -> None:
        await exchange.open(200, [(b"content-length", b"7"), (b"content-type", b"Text/Event-Stream"), (b"x", b"y")])
        await exchange.write(b"data: 1\n\n")
        await exchange.close()

    async with serving(app) as port:
        reply = await port.ask(post(b""))
    head, _, body = reply.partition(b"\r\n\r\n")
    assert (True, False, b"9\r\ndata: 1\n\n\r\n0\r\n\r\n") == (b"chunked" in head, b"content-length" in head, body)


async def test_a_reply_has_one_head() -> None:
    """A second one is not written, whoever asks for it."""

    async def app(exchange: Exchange) -> None:
        await exchange.open(200, [(b"content-length", b"4")])
        await exchange.open(500, [])
        exchange.reply(500, [(b"content-length", b"0")], b"")
        await exchange.write(b"body")
        await exchange.close()

    async with serving(app) as port:
        reply = await port.ask(post(b""))
    assert (1, True) == (reply.count(b"HTTP/1.1"), reply.endswith(b"\r\n\r\nbody"))


async def test_a_reply_that_was_never_finished_has_no_end() -> None:
    """A proper end would claim that all is there."""

    async def app(exchange: Exchange) -> None:
        await exchange.open(200, [])
        await exchange.write(b"some")
        await asyncio.sleep(0)

    async with serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        writer.write(post(b"", close=False))
        received = b""
        async with asyncio.timeout(HANG_SECONDS):
            with contextlib.suppress(ConnectionResetError):
                while piece := await reader.read(1000):
                    received += piece
        writer.close()
    assert not received.endswith(b"0\r\n\r\n")


async def test_a_head_request_and_a_204_have_no_body() -> None:
    """HTTP framing: the next reply would start in the middle otherwise."""

    async def app(exchange: Exchange) -> None:
        if exchange.path == b"/empty":
            exchange.reply(204, [], b"")
        else:
            exchange.reply(200, [(b"content-length", b"5")], b"hello")

    async with serving(app) as port:
        reply = await port.ask(
            b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\nGET /empty HTTP/1.1\r\nhost: x\r\n\r\n"
            b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
    assert (
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"
    ) == reply


async def test_an_http_1_0_client_gets_a_body_that_ends_with_the_connection() -> None:
    """Chunked coding is unknown to it."""

    async def app(exchange: Exchange) -> None:
        await exchange.open(200, [])
        await exchange.write(b"a")
        await exchange.write(b"b")
        await exchange.close()

    async with serving(app) as port:
        reply = await port.ask(b"GET / HTTP/1.0\r\n\r\n")
    assert b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nab" == reply


async def test_a_target_in_absolute_form_is_the_path_in_it() -> None:
    """As clients of forward proxies send it (RFC 9112, section 3.2.2)."""

    async def app(exchange: Exchange) -> None:
        exchange.reply(200, [(b"connection", b"close")], exchange.path + b"|" + exchange.query)

    async with serving(app) as port:
        reply = await port.ask(b"GET http://localhost/mcp?a=b HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert b"/mcp|a=b" in reply


async def test_an_asgi_application_is_served_too() -> None:
    """For what is not on the data path."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x-path", scope["raw_path"])]})
        await send({"type": "http.response.body", "body": body[::-1]})

    async with serving(asgi(app)) as port:
        reply = await port.ask(post(b"abc"))
    assert reply.startswith(b"HTTP/1.1 201 Created\r\nx-path: /mcp\r\n")
    assert b"cba" in reply


def _replies(data: bytes) -> list[bytes]:
    return [b"HTTP/1.1" + part for part in data.split(b"HTTP/1.1")[1:]]


async def test_a_client_that_takes_nothing_is_cut_off() -> None:
    """What is done for it ends, and the limit is told; the writer alone would wait for ever."""
    cancelled = asyncio.Event()

    async def app(exchange: Exchange) -> None:
        await exchange.open(200, [])
        try:
            while True:
                await exchange.write(b"x" * 65536)
        finally:
            cancelled.set()

    async with serving(app, client_read_seconds=0.2) as port, asyncio.timeout(HANG_SECONDS):
        _, writer = await asyncio.open_connection("127.0.0.1", port.port, limit=1024)
        writer.write(post(b"", close=False))
        await cancelled.wait()
        assert ["client_read"] == port.limits
        writer.transport.abort()


async def test_what_a_client_takes_to_read_is_told_to_its_call() -> None:
    """While the reply waits, and however the wait ends."""
    ended = asyncio.Event()
    call = Call(upstream="one", peer=Peer(Transport.HTTP), sink=NOWHERE, received_at=0.0)
    stood: list[bool] = []

    async def app(exchange: Exchange) -> None:
        exchange.replies_to(call, time.monotonic)
        await exchange.open(200, [])
        asyncio.get_running_loop().call_later(0.1, lambda: stood.append(call.is_standing))
        try:
            while True:
                await exchange.write(b"x" * 65536)
        finally:
            ended.set()

    async with serving(app, client_read_seconds=0.2) as port, asyncio.timeout(HANG_SECONDS):
        _, writer = await asyncio.open_connection("127.0.0.1", port.port, limit=1024)
        writer.write(post(b"", close=False))
        await ended.wait()
        writer.transport.abort()
    assert [True] == stood
    assert (True, False) == (call.client_seconds >= 0.2, call.is_standing)


async def test_a_client_that_takes_some_now_and_then_is_not_cut_off() -> None:
    """However long it takes in all."""

    async def app(exchange: Exchange) -> None:
        exchange.reply(200, [(b"content-length", b"16000000")], b"x" * 16_000_000)

    async with serving(app, client_read_seconds=0.4) as port, asyncio.timeout(HANG_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        writer.write(post(b""))
        received = 0
        for _ in range(8):
            await asyncio.sleep(0.2)
            received += len(await reader.read(1_000_000))
        while piece := await reader.read(1_000_000):
            received += len(piece)
        writer.close()
    assert [] == port.limits
    assert received > 16_000_000


async def test_a_client_that_has_taken_everything_may_be_idle() -> None:
    """The limit is for what waits, not for the connection."""

    async def app(exchange: Exchange) -> None:
        exchange.reply(200, [(b"content-length", b"16000000")], b"x" * 16_000_000)

    async with serving(app, client_read_seconds=0.1) as port, asyncio.timeout(HANG_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        for _ in range(2):
            writer.write(post(b"", close=False))
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(16_000_000)
            await asyncio.sleep(0.4)
        writer.close()
    assert [] == port.limits


async def test_a_small_reply_that_is_not_taken_ends_with_its_connection() -> None:
    """Too little to hold the writer, and yet the connection would wait for its client for ever."""

    async def app(exchange: Exchange) -> None:
        exchange.reply(200, [(b"content-length", b"60000")], b"x" * 60_000)

    async with serving(app, send_buffer=4096, client_read_seconds=0.2) as port, asyncio.timeout(HANG_SECONDS):
        with socket() as client:
            client.setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port.port))
            client.sendall(post(b""))
            while not port.limits:  # noqa: ASYNC110 - the server tells by a list
                await asyncio.sleep(0.01)
    assert ["client_read"] == port.limits
