"""A client that opens sessions and leaves, before a server whose processes are slow to end."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from support.bridges import request
from support.rawhttp import Headers, connection, post, request_bytes
from support.stdio_script import COMMAND
from support.weirs import UNTRACED, Config, command, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

PLACES = 4
CONFIG: Config = {
    **UNTRACED,
    "listen": {"trusted_proxies": ["127.0.0.0/8"]},
    "sessions": {"max": PLACES},
}
STUBBORN = command((*COMMAND, "ignore-sigterm", "ignore-eof"))
INITIALIZE = request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}}, 0)
HOSTILE: Headers = [(b"X-Forwarded-For", b"203.0.113.66"), (b"Content-Type", b"application/json")]
HONEST: Headers = [(b"X-Forwarded-For", b"198.51.100.1")]


async def test_a_client_that_opens_sessions_and_leaves_locks_out_nobody(tmp_path: Path) -> None:
    """It gets its share of the places, some while it stays and some while it does not; others begin at once."""
    with weir_http(tmp_path, STUBBORN, CONFIG) as weir:
        async with asyncio.TaskGroup() as tasks, contextlib.AsyncExitStack() as left:
            for _ in range(20):
                _, writer = await left.enter_async_context(connection(weir.port))
                writer.write(request_bytes("POST", "/mcp", HOSTILE, INITIALIZE))
            stayed = [tasks.create_task(post(weir.port, INITIALIZE, HOSTILE)) for _ in range(20)]
        refused = [each.result() for each in stayed if each.result().status == 503]
        assert len(refused) >= 20 - PLACES
        assert all(b"sessions_full" in each.body and b'"downstream"' in each.body for each in refused)
        assert 200 == (await post(weir.port, INITIALIZE, HONEST)).status
        servers = [each for each in weir.children() if str(COMMAND[1]) in each.cmdline()]
        assert len(servers) <= PLACES
