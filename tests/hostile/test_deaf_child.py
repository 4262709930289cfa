"""Calls before a stdio server that does not read its input count under the budget."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.bridges import modern
from support.limits import HANG_SECONDS
from support.processes import Running
from support.rawhttp import JSON_POST, await_head, connection, request_bytes
from support.seen import shown
from support.weirs import UNTRACED, Config, command, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

MIB = 1024 * 1024
NAMED = [(b"MCP-Protocol-Version", b"2026-07-28"), (b"MCP-Method", b"tools/call"), (b"MCP-Name", b"echo")]
HEADERS = [*JSON_POST, *NAMED]
CALL = modern("echo", 7)
SMALL: Config = {**UNTRACED, "listen": {"diagnostics": "127.0.0.1:0", "max_buffered": "8MiB", "max_body": "2MiB"}}
"""One client has 2 MiB."""
DEAF = command([sys.executable, "-c", "import time; time.sleep(600)"])


async def test_calls_that_a_child_does_not_read_are_refused_beyond_the_budget(tmp_path: Path) -> None:
    """The third megabyte of one client finds no room, and its client is blamed."""
    async with contextlib.AsyncExitStack() as stack:
        with weir_http(tmp_path, DEAF, SMALL) as weir:
            heads = []
            async with asyncio.TaskGroup() as group:
                for _ in range(5):
                    reader, writer = await asyncio.open_connection("127.0.0.1", weir.port)
                    stack.callback(lambda writer: writer.transport.abort(), writer)
                    writer.write(request_bytes("POST", "/mcp", HEADERS, CALL + b" " * (MIB * 9 // 10)))
                    heads.append(group.create_task(await_head(reader)))
                done, waiting = await asyncio.wait(heads, return_when=asyncio.FIRST_COMPLETED)
                head = done.pop().result()
                for each in waiting:
                    each.cancel()
            assert head.line.startswith(b"HTTP/1.1 503 ")


async def test_what_a_child_has_not_read_counts_when_its_caller_has_gone(tmp_path: Path) -> None:
    """Calls that are left one after the other would else fill weir, a line for each server."""
    body = CALL + b" " * (MIB * 18 // 10)
    with weir_http(tmp_path, DEAF, SMALL) as weir:
        async with asyncio.timeout(HANG_SECONDS):
            async with connection(weir.port) as (_, writer):
                writer.write(request_bytes("POST", "/mcp", HEADERS, body))
                await until(weir, lambda held: held > 3 * MIB)
            await until(weir, lambda held: held < 2 * MIB)
            async with connection(weir.port) as (reader, writer):
                writer.write(request_bytes("POST", "/mcp", HEADERS, body))
                head = await await_head(reader)
            await until(weir, lambda held: MIB < held < 2 * MIB)
    assert head.line.startswith(b"HTTP/1.1 503 ")


async def until(weir: Running, is_so: Callable[[int], bool]) -> None:
    """Wait for what /status says that weir holds: of a call, its body and the copy that is on its way."""
    while not is_so(int(json.loads(await shown(weir, "/status"))["held"]["buffered_bytes"]["held"])):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
