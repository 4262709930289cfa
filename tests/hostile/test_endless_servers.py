"""A stdio server that writes without end, to nobody."""

import json
import sys
from pathlib import Path

import pytest

from support.bridges import modern
from support.rawhttp import post
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


async def test_a_server_that_writes_without_end_is_read_at_a_pace(tmp_path: Path) -> None:
    """Its messages reach nobody: weir says so, and serves on."""
    body = modern("x", 1)
    with weir_http(tmp_path, command([sys.executable, "-c", TALKER]), CONFIG) as weir:
        reply = await post(weir.port, body, [*mcp_headers(peek(body))])
        assert 1 == json.loads(reply.body)["id"]
        while "unwanted_output" not in weir.log():
            assert 404 == (await post(weir.port, b"{}", target="/elsewhere")).status
