"""A shortage of connections is weir's refusal: never the server's fault, never a reason to open its circuit."""

import asyncio
import contextlib
import json
import resource
from pathlib import Path

import pytest

from support.rawhttp import (
    JSON_POST,
    Answer,
    Exchange,
    ScriptedServer,
    ask,
    await_head,
    connection,
    post,
    request_bytes,
)
from support.seen import counted, shown
from support.weirs import UNTRACED, Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}'
LISTEN: Config = {"listen": {"diagnostics": "127.0.0.1:0"}}
TOUCHY: Config = {"policies": {"breaker": {"consecutive_failures": 1}, "timeout": {"connect": "300ms"}}}
"""One failure of the server's opens its circuit."""
EVENT_STREAM = ((b"Accept", b"text/event-stream"),)


async def streaming(exchange: Exchange) -> None:
    """GET streams last for ever; calls are answered."""
    if exchange.request.verb == b"GET":
        await exchange.open()
        await exchange.write(b": there\n\n")
        await exchange.gone()
    else:
        await exchange.json(b'{"jsonrpc":"2.0","id":7,"result":{}}')


async def open_streams(stack: contextlib.AsyncExitStack, port: int, count: int) -> list[Answer]:
    """So many GET streams."""
    return [await stack.enter_async_context(ask(port, "GET", "/mcp", EVENT_STREAM)) for _ in range(count)]


async def test_streams_do_not_take_the_places_of_requests(tmp_path: Path) -> None:
    """More streams are open than there are places for requests, and each call is still answered."""
    config: Config = {**UNTRACED, **LISTEN, **TOUCHY}
    async with ScriptedServer(streaming) as upstream, contextlib.AsyncExitStack() as stack:
        with weir_http(tmp_path, {"url": upstream.url, "connections": 2}, config) as weir:
            streams = await open_streams(stack, weir.port, 12)
            assert {200} == {each.head.status for each in streams}
            for _ in range(5):
                assert 200 == (await post(weir.port, CALL)).status


async def test_a_full_table_of_streams_is_weirs_refusal(tmp_path: Path) -> None:
    """The stream beyond it is refused, its client is told when to come back, and calls pass as before."""
    config: Config = {**UNTRACED, **LISTEN, **TOUCHY}
    async with ScriptedServer(streaming) as upstream, contextlib.AsyncExitStack() as stack:
        with weir_http(tmp_path, {"url": upstream.url, "connections": 2, "streams": 1}, config) as weir:
            await open_streams(stack, weir.port, 1)
            [refused] = await open_streams(stack, weir.port, 1)
            error = json.loads(await refused.rest())["error"]
            assert (503, "overloaded") == (refused.head.status, error["data"]["reason"])
            assert b"1" == refused.head.get(b"retry-after")
            assert 200 == (await post(weir.port, CALL)).status
            await counted(weir, b'weir_limit_reached_total{upstream="one",limit="streams"} 1')


async def test_a_full_pool_opens_no_circuit(tmp_path: Path) -> None:
    """Calls that found no free connection are refused and blamed on weir; the server is asked again at once."""
    release = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        if b"slow" in exchange.request.body:
            await release.wait()
        await exchange.json(b'{"jsonrpc":"2.0","id":7,"result":{}}')

    config: Config = {**UNTRACED, **LISTEN, **TOUCHY}
    async with ScriptedServer(slow) as upstream, asyncio.TaskGroup() as group:
        with weir_http(tmp_path, {"url": upstream.url, "connections": 1}, config) as weir:
            held = group.create_task(post(weir.port, CALL.replace(b"echo", b"slow")))
            replies = await asyncio.gather(*(post(weir.port, CALL) for _ in range(8)))
            data = [json.loads(each.body)["error"]["data"] for each in replies]
            assert [("overloaded", "weir")] * 8 == [(each["reason"], each["blame"]) for each in data]
            release.set()
            assert 200 == (await held).status
            assert 200 == (await post(weir.port, CALL)).status
            assert b'"state": "healthy"' in await shown(weir, "/status")


async def test_no_descriptor_for_a_connection_is_weirs_refusal(tmp_path: Path) -> None:
    """The limit of descriptors falls below what weir uses: calls are refused, and pass again once it rises."""
    async with ScriptedServer(streaming) as upstream:
        with weir_http(tmp_path, {"url": upstream.url}, {**UNTRACED, **LISTEN, **TOUCHY}) as weir:
            async with connection(weir.port) as (reader, writer):
                writer.write(request_bytes("GET", "/nowhere"))
                head = await await_head(reader)
                await reader.readexactly(int(head.get(b"content-length")))
                before = resource.prlimit(weir.pid, resource.RLIMIT_NOFILE)
                resource.prlimit(weir.pid, resource.RLIMIT_NOFILE, (0, before[1]))
                writer.write(request_bytes("POST", "/mcp", JSON_POST, CALL))
                refused = Answer(await await_head(reader), reader, writer)
                error = json.loads(await refused.rest())["error"]
                resource.prlimit(weir.pid, resource.RLIMIT_NOFILE, before)
            assert "weir has no file descriptor left (EMFILE)" in error["message"]
            assert ("overloaded", "weir") == (error["data"]["reason"], error["data"]["blame"])
            assert 200 == (await post(weir.port, CALL)).status
