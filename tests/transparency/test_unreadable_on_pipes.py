"""Messages that not every reader takes for JSON, with a pipe on either side: one clear answer, and all else goes on."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.limits import HANG_SECONDS
from support.rawhttp import Exchange, ScriptedServer, fetch, post
from support.weirs import UNTRACED, command, weir_http, weir_stdio_argv
from transparency.ends import StdioServer, stdio_client, stdio_server
from transparency.exchanges import BODIES, CALL, RESULT
from transparency.transcripts import modern

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

OPENING = b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{}}}'
OPENED = b'{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18","capabilities":{}}}'
UNREADABLE = ["plain nonsense", "cut off", "rubbish after", "not UTF-8", "UTF-16", "spaces only"]
LENIENT = ["NaN and Infinity", "lone surrogate", "raw control character", "byte order mark", "20000 deep"]
ONE_LINE = [name for name in (*UNREADABLE, *LENIENT) if b"\n" not in BODIES[name] and BODIES[name].strip()]


@pytest.fixture
async def server() -> AsyncIterator[StdioServer]:
    """A stdio server whose pipes end here."""
    async with asyncio.TaskGroup() as group, stdio_server(group) as one:
        yield one


async def opened(port: int, server: StdioServer) -> list[tuple[bytes, bytes]]:
    """The header of a session that has just been opened."""
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(post(port, OPENING))
        await server.inbox.get()
        await server.say(OPENED, b"0", is_last=True)
    return [(b"Mcp-Session-Id", opening.result().get(b"mcp-session-id"))]


@pytest.mark.parametrize("name", UNREADABLE)
async def test_before_a_stdio_server_weir_says_what_it_cannot_read(
    tmp_path: Path, server: StdioServer, name: str
) -> None:
    """400 and -32700 under a null id: a line that is no JSON would only confuse the server; the session goes on."""
    with weir_http(tmp_path, command(server.argv), UNTRACED) as weir:
        session = await opened(weir.port, server)
        reply = await post(weir.port, BODIES[name], session)
        assert 400 == reply.status
        assert (-32700, None) == (json.loads(reply.body)["error"]["code"], json.loads(reply.body)["id"])
        assert await call_goes_on(weir.port, server, session)
        await fetch(weir.port, "DELETE", "/mcp", session)


async def call_goes_on(port: int, server: StdioServer, session: list[tuple[bytes, bytes]]) -> bool:
    """A call after it is heard and answered as ever."""
    async with asyncio.TaskGroup() as group:
        call = group.create_task(post(port, CALL, session))
        async with asyncio.timeout(HANG_SECONDS):
            heard = await server.inbox.get()
        await server.say(RESULT, b"7", is_last=True)
    return (CALL, RESULT) == (heard.body, call.result().body)


@pytest.mark.parametrize("name", LENIENT)
async def test_what_only_some_can_read_gets_one_answer(tmp_path: Path, server: StdioServer, name: str) -> None:
    """The server's own if weir can pass it on, else weir's; the session goes on."""
    with weir_http(tmp_path, command(server.argv), UNTRACED) as weir:
        session = await opened(weir.port, server)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(post(weir.port, BODIES[name], session))
            heard = group.create_task(server.inbox.get())
            await asyncio.wait([asked, heard], return_when=asyncio.FIRST_COMPLETED, timeout=HANG_SECONDS)
            if heard.done():
                await server.say(RESULT, b"7", is_last=True)
            heard.cancel()
        reply = asked.result()
        assert (reply.status, reply.body) == (200, RESULT) or (reply.status, b"-32700" in reply.body) == (400, True)
        assert await call_goes_on(weir.port, server, session)
        await fetch(weir.port, "DELETE", "/mcp", session)


async def test_a_message_over_several_lines_is_one_line_for_a_stdio_server(tmp_path: Path, server: StdioServer) -> None:
    """Line ends between tokens mean nothing in JSON and everything on a pipe; no other byte changes."""
    with weir_http(tmp_path, command(server.argv), UNTRACED) as weir:
        session = await opened(weir.port, server)
        async with asyncio.TaskGroup() as group:
            group.create_task(post(weir.port, BODIES["pretty with CRLF"], session))
            heard = (await server.inbox.get()).body
            await server.say(RESULT, b"7", is_last=True)
        assert without_space(BODIES["pretty with CRLF"]) == without_space(heard)
        await fetch(weir.port, "DELETE", "/mcp", session)


def without_space(body: bytes) -> bytes:
    """Enough for bodies whose strings hold none."""
    return b"".join(body.split())


@pytest.mark.parametrize("name", ONE_LINE)
async def test_a_line_that_weir_cannot_read_reaches_an_http_server_as_it_is(tmp_path: Path, name: str) -> None:
    """The server judges it, and what it says comes back."""
    said = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}'

    async def judge(exchange: Exchange) -> None:
        await exchange.json(said, 400)

    async with ScriptedServer(judge) as server, asyncio.TaskGroup() as group:
        argv = weir_stdio_argv(tmp_path, {"url": server.url}, UNTRACED)
        async with stdio_client(argv, tmp_path / "log", group) as client, asyncio.timeout(HANG_SECONDS):
            await client.say(BODIES[name])
            got = await client.inbox.get()
    assert [BODIES[name]] == [request.body for request in server.got if request.verb == b"POST"]
    assert b'"error"' in got


async def test_two_modern_clients_that_use_one_id_do_not_meet(tmp_path: Path, server: StdioServer) -> None:
    """They share the child; each gets its own result under the id that it used."""
    asked = [modern(b"1", b"tools/call", b'"name":"%b",' % name) for name in (b"first", b"second")]
    headers = [(b"MCP-Protocol-Version", b"2026-07-28"), (b"Mcp-Method", b"tools/call")]
    with weir_http(tmp_path, command(server.argv), UNTRACED) as weir:
        async with asyncio.TaskGroup() as group:
            calls = [
                group.create_task(post(weir.port, body, [*headers, (b"Mcp-Name", name)]))
                for body, name in zip(asked, (b"first", b"second"), strict=True)
            ]
            heard = [json.loads((await server.inbox.get()).body) for _ in asked]
            for message in reversed(heard):
                result = {"resultType": "complete", "said": message["params"]["name"]}
                body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
                await server.say(body, b"", is_last=True)
    replies = [json.loads(call.result().body) for call in calls]
    assert [(1, "first"), (1, "second")] == [(reply["id"], reply["result"]["said"]) for reply in replies]
