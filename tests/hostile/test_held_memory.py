"""What clients make weir hold: all bodies share a budget, of which one client has a quarter, and drips have an end."""

import asyncio
import contextlib
import json
import socket
from pathlib import Path

import pytest

from support.limits import HANG_SECONDS
from support.rawhttp import JSON_POST, Answer, Exchange, ScriptedServer, ask, await_head, post, request_bytes
from support.seen import counted, shown
from support.weirs import UNTRACED, Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

MIB = 1024 * 1024
CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}'
RESULT = b'{"jsonrpc":"2.0","id":7,"result":{}}'
SMALL: Config = {
    **UNTRACED,
    "listen": {"diagnostics": "127.0.0.1:0", "max_buffered": "8MiB", "max_body": "2MiB", "body_silence": "1s"},
}
"""One client has 2 MiB."""


def abort(writer: asyncio.StreamWriter) -> None:
    """Close at once. Until then this keeps the writer, which closes when it is forgotten."""
    writer.transport.abort()


async def answering(exchange: Exchange) -> None:
    """A result for each call."""
    await exchange.json(RESULT)


async def half_a_body(stack: contextlib.AsyncExitStack, port: int, source: str) -> asyncio.StreamReader:
    """An upload of 1.5 MiB that stops after 1 MiB."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    stack.callback(abort, writer)
    head = request_bytes("POST", "/mcp", [*JSON_POST, (b"Content-Length", b"%d" % (3 * MIB // 2))])
    writer.write(head + b"x" * MIB)
    await writer.drain()
    return reader


async def is_held(port: bytes, least: int) -> bool:
    """Whether weir holds so many bytes."""
    return int(json.loads(port)["held"]["buffered_bytes"]["held"]) >= least


async def test_one_client_has_a_quarter_of_the_budget_and_others_are_served(tmp_path: Path) -> None:
    """Half-open uploads of one client are refused beyond its share; another client's call passes."""
    config: Config = {**SMALL, "listen": {**SMALL["listen"], "body_silence": "60s"}}
    async with ScriptedServer(answering) as upstream, contextlib.AsyncExitStack() as stack:
        with weir_http(tmp_path, {"url": upstream.url}, config) as weir:
            await half_a_body(stack, weir.port, "127.0.0.1")
            async with asyncio.timeout(20):
                while not await is_held(await shown(weir, "/status"), MIB):  # noqa: ASYNC110 - a page
                    await asyncio.sleep(0.01)
            second = await half_a_body(stack, weir.port, "127.0.0.1")
            head = await await_head(second)
            assert head.line.startswith(b"HTTP/1.1 503 ")
            assert b"1" == head.get(b"retry-after")
            body = await second.readexactly(int(head.get(b"content-length")))
            data = json.loads(body)["error"]["data"]
            assert ("overloaded", "downstream") == (data["reason"], data["blame"])
            other, writer = await asyncio.open_connection("127.0.0.1", weir.port, local_addr=("127.0.0.2", 0))
            stack.callback(abort, writer)
            writer.write(request_bytes("POST", "/mcp", JSON_POST, CALL + b" " * MIB))
            assert (await await_head(other)).line.startswith(b"HTTP/1.1 200 ")
            await counted(weir, b'weir_limit_reached_total{upstream="one",limit="max_buffered_of_client"} 1')


async def test_a_body_that_comes_in_drips_is_ended(tmp_path: Path) -> None:
    """A byte now and then is no progress; the room it took is free again."""
    async with ScriptedServer(answering) as upstream, contextlib.AsyncExitStack() as stack:
        with weir_http(tmp_path, {"url": upstream.url}, SMALL) as weir:
            reader, writer = await asyncio.open_connection("127.0.0.1", weir.port)
            stack.callback(abort, writer)
            writer.write(request_bytes("POST", "/mcp", [*JSON_POST, (b"Content-Length", b"1000")]))

            async def drip() -> None:
                for _ in range(1000):
                    writer.write(b" ")
                    await asyncio.sleep(0.1)

            async with asyncio.TaskGroup() as group:
                dripping = group.create_task(drip())
                head = await await_head(reader)
                dripping.cancel()
            assert head.line.startswith(b"HTTP/1.1 408 ")
            await counted(weir, b'weir_limit_reached_total{upstream="one",limit="body_silence"} 1')


async def test_a_reply_beyond_the_budget_is_streamed(tmp_path: Path) -> None:
    """It arrives whole, and the server is not asked to say it again."""

    async def large(exchange: Exchange) -> None:
        await exchange.json(b'{"jsonrpc":"2.0","id":7,"result":{"t":"' + b"x" * 3 * MIB + b'"}}')

    async with ScriptedServer(large) as upstream:
        with weir_http(tmp_path, {"url": upstream.url}, SMALL) as weir:
            reply = await post(weir.port, CALL)
            assert (200, 3 * MIB) == (reply.status, len(json.loads(reply.body)["result"]["t"]))
            await counted(weir, b'weir_limit_reached_total{upstream="one",limit="reply_buffer"} 1')
            assert not await is_held(await shown(weir, "/status"), 1)


async def test_a_client_that_reads_in_drips_is_cut_off(tmp_path: Path) -> None:
    """A kilobyte now and then is too little of 20 MB."""
    gone = asyncio.Event()

    async def flood(exchange: Exchange) -> None:
        await exchange.open(200, [(b"content-type", b"application/json")])
        try:
            for _ in range(400):
                await exchange.write(b"x" * 65536)
        except ConnectionError:
            gone.set()
            raise

    config: Config = {**SMALL, "listen": {**SMALL["listen"], "client_read": "1s", "min_rate": "100kB"}}
    async with ScriptedServer(flood) as upstream, contextlib.AsyncExitStack() as stack:
        with weir_http(tmp_path, {"url": upstream.url}, config) as weir:
            reader, writer = await asyncio.open_connection("127.0.0.1", weir.port, limit=1024)
            stack.callback(abort, writer)
            writer.write(request_bytes("POST", "/mcp", JSON_POST, CALL))
            answer = Answer(await await_head(reader), reader, writer)
            assert 200 == answer.head.status

            async def drip() -> None:
                with contextlib.suppress(ConnectionError):
                    while await reader.read(1024):  # noqa: ASYNC110 - it reads slowly
                        await asyncio.sleep(0.3)

            async with asyncio.timeout(20), asyncio.TaskGroup() as group:
                dripping = group.create_task(drip())
                await gone.wait()
                dripping.cancel()
            await counted(weir, b'weir_limit_reached_total{limit="client_read"} 1')


async def test_bodies_that_end_early_leave_nothing_behind(tmp_path: Path) -> None:
    """Uploads that are closed before their end, and whole ones, one after the other: memory is where it was."""
    config: Config = {**UNTRACED, "listen": {"diagnostics": "127.0.0.1:0"}}
    async with ScriptedServer(answering) as upstream:
        with weir_http(tmp_path, {"url": upstream.url}, config) as weir:
            before = 0
            for number in range(40):
                reader, writer = await asyncio.open_connection("127.0.0.1", weir.port)
                whole = CALL + b" " * (8 * MIB)
                sent = whole[: 7 * MIB] if number % 2 else whole
                writer.write(
                    request_bytes("POST", "/mcp", [*JSON_POST, (b"Content-Length", b"%d" % len(whole))]) + sent
                )
                await writer.drain()
                if number % 2 == 0:
                    assert (await await_head(reader)).line.startswith(b"HTTP/1.1 200 ")
                writer.transport.abort()
                if number == 5:
                    before = weir.rss_bytes()
            async with asyncio.timeout(20):
                while b'"held": 0,' not in await shown(weir, "/status"):  # noqa: ASYNC110 - a page
                    await asyncio.sleep(0.01)
            assert weir.rss_bytes() < before + 64 * MIB


async def test_an_event_that_finds_no_room_is_relayed_unread(tmp_path: Path) -> None:
    """Where there is room it is held back until it has ended, so that it can be judged."""

    async def half_an_event(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.write(b'data: {"jsonrpc":"2.0","method":"x","params":"' + b"x" * (3 * MIB))
        await exchange.gone()

    async with ScriptedServer(half_an_event) as upstream:
        with weir_http(tmp_path, {"url": upstream.url}, SMALL) as weir:
            async with asyncio.timeout(HANG_SECONDS):
                async with ask(weir.port, "POST", "/mcp", JSON_POST, CALL) as answer:
                    came = 0
                    while came < 2 * MIB:
                        came += len(await answer.chunk())
                while b'"held": 0,' not in await shown(weir, "/status"):  # noqa: ASYNC110 - a page
                    await asyncio.sleep(0.01)
            await counted(weir, b'weir_limit_reached_total{upstream="one",limit="sse_event"} 1')


@pytest.mark.parametrize("has_ended", [True, False], ids=["ended", "still sent"])
async def test_a_shared_reply_that_its_first_caller_did_not_read_leaves_nothing_behind(
    tmp_path: Path, *, has_ended: bool
) -> None:
    """Before and after the server has ended the reply: what waited for the caller counts no more."""
    waits = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        note = b'data: {"jsonrpc":"2.0","method":"x","params":"' + b"x" * 16_000 + b'"}\n\n'
        await exchange.open(200, [(b"content-type", b"text/event-stream"), (b"connection", b"close")])
        while not await is_held(await shown(weir, "/status"), 300_000):
            await exchange.write(note)
        if has_ended:
            await exchange.write(b"data: " + RESULT + b"\n\n")
            await exchange.end()
            await exchange.gone()
        waits.set()
        await exchange.gone()

    config: Config = {
        **UNTRACED,
        "listen": {"diagnostics": "127.0.0.1:0"},
        "policies": {"coalesce": {"mode": "enforce"}},
    }
    async with ScriptedServer(stream) as upstream, contextlib.AsyncExitStack() as stack:
        with weir_http(tmp_path, {"url": upstream.url}, config) as weir:
            async with asyncio.timeout(HANG_SECONDS):
                unread = stack.enter_context(socket.socket())
                unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                unread.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(unread, ("127.0.0.1", weir.port))
                body = b'{"jsonrpc":"2.0","id":7,"method":"tools/list"}'
                await loop.sock_sendall(unread, request_bytes("POST", "/mcp", JSON_POST, body))
                await waits.wait()
                unread.close()
                while b'"held": 0,' not in await shown(weir, "/status"):  # noqa: ASYNC110 - a page
                    await asyncio.sleep(0.01)
