"""How long sessions last, as a running weir measures it: on both sides, in every pairing, with `/status` agreeing."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.processes import Running, free_port
from support.rawhttp import Exchange, ScriptedServer, fetch, post
from support.seen import counted, diagnostics_port, shown
from support.weirs import UNTRACED, Config, command, weir_http, weir_stdio

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

WATCHED: Config = {**UNTRACED, "listen": {"diagnostics": "127.0.0.1:0"}}
INITIALIZE = (
    b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",'
    b'"capabilities":{},"clientInfo":{"name":"test","version":"0"}}}'
)
OPENED = (
    b'{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},'
    b'"serverInfo":{"name":"x","version":"0"}}}'
)
CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}'
CHILD = f"""
import json, sys
for line in sys.stdin:
    if json.loads(line).get("method") == "initialize":
        print({OPENED.decode()!r}, flush=True)
"""
SIDES = {"client": "server", "server": "client"}
"""Which metric each side of weir is in: towards clients it is the server."""


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """An HTTP server with sessions."""

    async def script(exchange: Exchange) -> None:
        if exchange.request.verb == b"GET":
            await exchange.reply(405)
        elif exchange.request.verb == b"DELETE":
            await exchange.reply(200)
        elif b"initialize" in exchange.request.body:
            await exchange.json(OPENED, headers=[(b"Mcp-Session-Id", b"s-1")])
        else:
            await exchange.reply(404)

    async with ScriptedServer(script) as one:
        yield one


def upstream_of(kind: str, server: ScriptedServer) -> dict[str, Any]:
    """The HTTP server, or a command."""
    return {"url": server.url} if kind == "http" else dict(command([sys.executable, "-c", CHILD]))


async def sessions(weir: Running) -> dict[str, int]:
    """How many are open on each side, says /status."""
    one = json.loads(await shown(weir, "/status"))["upstreams"]["one"]
    found: dict[str, int] = one["sessions"]
    return found


async def are_open(weir: Running, number: int) -> None:
    """So many on both sides, in both places."""
    for side in SIDES:
        await counted(weir, b'weir_sessions_open{upstream="one",side="%b"} %d' % (side.encode(), number))
    assert dict.fromkeys(SIDES, number) == await sessions(weir)


@pytest.mark.parametrize("kind", ["http", "stdio"])
async def test_a_session_over_http_is_measured_on_both_sides(server: ScriptedServer, tmp_path: Path, kind: str) -> None:
    """From `initialize` to DELETE."""
    with weir_http(tmp_path, upstream_of(kind, server), WATCHED) as weir:
        opened = await post(weir.port, INITIALIZE)
        session = [(b"Mcp-Session-Id", opened.get(b"mcp-session-id")), (b"MCP-Protocol-Version", b"2025-11-25")]
        await are_open(weir, 1)
        assert 200 == (await fetch(weir.port, "DELETE", "/mcp", session)).status
        await are_open(weir, 0)
        text = (await shown(weir, "/metrics")).decode()
    for side, name in SIDES.items():
        assert f'weir_sessions_closed_total{{upstream="one",side="{side}",reason="deleted"}} 1' in text
        sample = f'mcp_{name}_session_duration_seconds_count{{upstream="one",mcp_protocol_version="2025-11-25"}} 1'
        assert sample in text


async def test_a_session_that_the_server_has_forgotten_has_ended(server: ScriptedServer, tmp_path: Path) -> None:
    """404 under its id."""
    with weir_http(tmp_path, {"url": server.url}, WATCHED) as weir:
        await post(weir.port, INITIALIZE)
        await are_open(weir, 1)
        assert 404 == (await post(weir.port, CALL, [(b"Mcp-Session-Id", b"s-1")])).status
        await are_open(weir, 0)


@pytest.mark.parametrize("kind", ["http", "stdio"])
async def test_a_client_on_the_pipe_has_a_session_too(server: ScriptedServer, tmp_path: Path, kind: str) -> None:
    """It is there until weir stops."""
    config = {**WATCHED, "listen": {"http": f"127.0.0.1:{free_port()}", "diagnostics": "127.0.0.1:0"}}
    with weir_stdio(tmp_path, upstream_of(kind, server), config) as weir:
        weir.stdin.write(INITIALIZE + b"\n")
        weir.stdin.flush()
        assert b'"id":0' in await asyncio.to_thread(weir.stdout.readline)
        assert await diagnostics_port(weir)
        await are_open(weir, 1)
        # not here in the loop: the server has to answer its DELETE
        await asyncio.to_thread(weir.stop)
