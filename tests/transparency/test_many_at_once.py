"""Many clients at once: each hears what was meant for it and nothing else, however answers are ordered."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.limits import HANG_SECONDS
from support.rawhttp import Exchange, Reply, ScriptedServer, post
from support.weirs import UNTRACED, command, weir_http
from transparency.ends import StdioServer, events, stdio_server
from transparency.transcripts import modern

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CALLERS = 200
LIMIT_SECONDS = HANG_SECONDS
HEADERS = [(b"MCP-Protocol-Version", b"2026-07-28"), (b"Mcp-Method", b"tools/call")]


@pytest.fixture
async def server() -> AsyncIterator[StdioServer]:
    """A stdio server whose pipes end here."""
    async with asyncio.TaskGroup() as group, stdio_server(group) as one:
        yield one


def asked(caller: int) -> bytes:
    """Everybody uses the same id and the same progress token."""
    return modern(b"1", b"tools/call", b'"name":"t","caller":%d,' % caller, b'"progressToken":1,')


async def ask(port: int, caller: int) -> Reply:
    """One caller's call."""
    return await post(port, asked(caller), [*HEADERS, (b"Mcp-Name", b"t")])


def heard(reply: Reply) -> list[int]:
    """For whom each message of a reply was meant, in order; ids and tokens must be the caller's own."""
    meant = []
    for message in map(json.loads, events(reply.body)):
        if "method" in message:
            assert 1 == message["params"]["progressToken"]
            meant.append(message["params"]["progress"])
        else:
            assert 1 == message["id"]
            meant.append(message["result"]["caller"])
    return meant


async def play(server: StdioServer) -> None:
    """Take every call, then send each caller its progress and its answer, all mixed up."""
    calls = [json.loads((await server.inbox.get()).body) for _ in range(CALLERS)]
    order = random.Random(7)
    for is_last in (False, True):
        order.shuffle(calls)
        for call in calls:
            await server.say(said(call, is_last=is_last), b"", is_last=is_last)


def said(call: dict[str, dict[str, object]], *, is_last: bool) -> bytes:
    """What the server has to say to one caller."""
    caller = call["params"]["caller"]
    if is_last:
        result = {"resultType": "complete", "caller": caller}
        return json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": result}).encode()
    meta = call["params"]["_meta"]
    assert isinstance(meta, dict)
    params = {"progressToken": meta["progressToken"], "progress": caller}
    return json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}).encode()


async def test_callers_of_one_child_hear_only_their_own(tmp_path: Path, server: StdioServer) -> None:
    """One process, equal ids and tokens: progress and answer of each call reach its caller."""
    with weir_http(tmp_path, command(server.argv), UNTRACED) as weir:
        async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as group:
            replies = [group.create_task(ask(weir.port, caller)) for caller in range(CALLERS)]
            await play(server)
    assert [[caller, caller] for caller in range(CALLERS)] == [heard(reply.result()) for reply in replies]


async def test_callers_of_one_http_server_hear_only_their_own(tmp_path: Path) -> None:
    """More calls than connections to the server: they wait their turn, and none gets another's answer."""

    async def answer(exchange: Exchange) -> None:
        call = json.loads(exchange.request.body)
        await exchange.open()
        for is_last in (False, True):
            await exchange.write(b"data: " + said(call, is_last=is_last) + b"\n\n")
        await exchange.end()

    async with ScriptedServer(answer) as server:
        with weir_http(tmp_path, {"url": server.url, "connections": 20}, UNTRACED) as weir:
            async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as group:
                replies = [group.create_task(ask(weir.port, caller)) for caller in range(CALLERS)]
        assert server.connections <= 20
    assert [[caller, caller] for caller in range(CALLERS)] == [heard(reply.result()) for reply in replies]
