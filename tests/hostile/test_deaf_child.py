"""Calls before a stdio server that does not read its input count under the budget."""

import asyncio
import contextlib
import sys
from pathlib import Path

import pytest

from support.rawhttp import JSON_POST, await_head, request_bytes
from support.weirs import UNTRACED, Config, command, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

MIB = 1024 * 1024
CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}'
SMALL: Config = {**UNTRACED, "listen": {"max_buffered": "8MiB", "max_body": "2MiB"}}
"""One client has 2 MiB."""
DEAF = command([sys.executable, "-c", "import time; time.sleep(600)"])


async def test_calls_that_a_child_does_not_read_are_refused_beyond_the_budget(tmp_path: Path) -> None:
    """The third megabyte of one client finds no room, and its client is blamed."""
    async with contextlib.AsyncExitStack() as stack:
        with weir_http(tmp_path, DEAF, SMALL) as weir:
            heads = []
            headers = [*JSON_POST, (b"MCP-Protocol-Version", b"2026-07-28")]
            async with asyncio.TaskGroup() as group:
                for _ in range(5):
                    reader, writer = await asyncio.open_connection("127.0.0.1", weir.port)
                    stack.callback(lambda writer: writer.transport.abort(), writer)
                    writer.write(request_bytes("POST", "/mcp", headers, CALL + b" " * (MIB * 9 // 10)))
                    heads.append(group.create_task(await_head(reader)))
                done, waiting = await asyncio.wait(heads, return_when=asyncio.FIRST_COMPLETED)
                head = done.pop().result()
                for each in waiting:
                    each.cancel()
            assert head.line.startswith(b"HTTP/1.1 503 ")
