"""Many clients of one server: what one of them holds is not taken from the others."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mcp import Client

from support.limits import HANG_SECONDS
from support.processes import free_port, running
from support.rawhttp import post, request_bytes
from support.seen import counted
from support.stdio_script import COMMAND
from support.weirs import UNTRACED, command, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

SDK_SERVER = Path(__file__).parents[1] / "support" / "sdk_server.py"
CLIENTS, CONNECTIONS = 12, 4
BREAKER = {
    **UNTRACED,
    "listen": {"diagnostics": "127.0.0.1:0"},
    "policies": {"breaker": {"consecutive_failures": 1, "clients": 1}},
}
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
MODERN = [(b"MCP-Protocol-Version", b"2026-07-28"), (b"Mcp-Method", b"tools/call")]


@contextlib.asynccontextmanager
async def crowd(url: str) -> AsyncIterator[list[Client]]:
    """So many SDK clients, each with a session and its GET stream."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Client(url, mode="legacy")) for _ in range(CLIENTS)]


async def test_a_crowd_of_sdk_clients_with_streams_is_served_over_few_connections(tmp_path: Path) -> None:
    """Each keeps a GET stream open for as long as it lives; their calls need `connections` only while they last."""
    port = free_port()
    with running([sys.executable, SDK_SERVER, "http", str(port)], port=port):
        upstream = {"url": f"http://127.0.0.1:{port}/mcp", "connections": CONNECTIONS}
        with weir_http(tmp_path, upstream, BREAKER) as weir:
            async with asyncio.timeout(HANG_SECONDS), crowd(f"http://127.0.0.1:{weir.port}/mcp") as clients:
                await counted(weir, b'weir_streams_open{upstream="one",kind="get"} %d' % CLIENTS)
                results = await asyncio.gather(*(each.call_tool("add", {"a": 2, "b": 3}) for each in clients))
            assert [{"result": 5}] * CLIENTS == [result.structured_content for result in results]
            assert "circuit" not in weir.log()


def called(tool: str, **arguments: int) -> bytes:
    """A call of the scripted server's, of the revision in which all clients share one process."""
    params = {"name": tool, "arguments": arguments, "_meta": META}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


async def test_a_client_that_does_not_read_holds_up_nobody_on_a_shared_server(tmp_path: Path) -> None:
    """Its 32 MiB wait for it alone; the other caller of the same process is answered meanwhile."""
    with weir_http(tmp_path, command(COMMAND)) as weir:
        reader, writer = await asyncio.open_connection("127.0.0.1", weir.port, limit=1024)
        big = called("big", size=32 * 1024 * 1024 // 4)
        for _ in range(4):
            writer.write(request_bytes("POST", "/mcp", [*MODERN, (b"Mcp-Name", b"big")], big))
        await writer.drain()
        await reader.readexactly(15)
        async with asyncio.timeout(HANG_SECONDS):
            reply = await post(weir.port, called("echo", a=1), [*MODERN, (b"Mcp-Name", b"echo")])
        assert (200, True) == (reply.status, b'\\"a\\": 1' in reply.body), reply.body
        writer.transport.abort()
