"""A stdio server that writes without end, to nobody."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from support.bridges import modern
from support.limits import HANG_SECONDS
from support.rawhttp import post
from support.seen import logged
from support.weirs import UNTRACED, Config, command, weir_http
from weir.protocol.envelope import peek
from weir.protocol.headers import mcp_headers

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CONFIG: Config = {**UNTRACED, "listen": {"diagnostics": "127.0.0.1:0"}}
TALKER = """
import json, sys, threading
line = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x" * 100}}) + "\\n"
def flood():
    while True:
        sys.stdout.write(line * 1000); sys.stdout.flush()
for text in sys.stdin:
    asked = json.loads(text)
    if "id" in asked:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": {}}) + "\\n"); sys.stdout.flush()
        threading.Thread(target=flood, daemon=True).start()
"""


async def test_a_server_that_writes_without_end_is_read_at_a_pace_and_then_ended(tmp_path: Path) -> None:
    """Its messages reach nobody: weir says so, serves on, names what it ends, and starts the server again."""
    body = modern("x", 1)
    with weir_http(tmp_path, command([sys.executable, "-c", TALKER]), CONFIG) as weir:
        reply = await post(weir.port, body, [*mcp_headers(peek(body))])
        assert 1 == json.loads(reply.body)["id"]
        while "unwanted_output" not in weir.log():
            assert 404 == (await post(weir.port, b"{}", target="/elsewhere")).status
        async with asyncio.timeout(HANG_SECONDS):
            await logged(weir, "a server that writes without end is ended")
            while 200 != (await post(weir.port, body, [*mcp_headers(peek(body))])).status:  # noqa: ASYNC110 - it starts
                await asyncio.sleep(0.1)
