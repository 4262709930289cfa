"""Where the machine has no room for a process, weir refuses, and the server is not to blame."""

import json
import resource
import sys
from pathlib import Path

import pytest

from support.processes import Running
from support.rawhttp import Reply, post
from support.stdio_script import COMMAND
from support.weirs import command, weir_http

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="the guardian needs Linux's child subreaper"),
]

LEGACY = b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}'
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
MODERN = json.dumps(
    {"jsonrpc": "2.0", "id": 0, "method": "tools/call", "params": {"name": "echo", "arguments": {}, "_meta": META}}
).encode()
HEADERS = [
    (b"MCP-Protocol-Version", b"2026-07-28"),
    (b"Mcp-Method", b"tools/call"),
    (b"Mcp-Name", b"echo"),
]
BREAKER = {"policies": {"breaker": {"consecutive_failures": 1, "clients": 1}}}


async def asked(weir: Running, body: bytes) -> Reply:
    """One request that needs a process."""
    return await post(weir.port, body, HEADERS if body is MODERN else [])


@pytest.mark.parametrize("body", [LEGACY, MODERN], ids=["legacy", "modern"])
async def test_no_room_for_a_process_is_weirs_refusal(tmp_path: Path, body: bytes) -> None:
    """Once there is room again the next request is served at once: nothing was held against the server."""
    with weir_http(tmp_path, command(COMMAND), BREAKER) as weir:
        assert 200 == (await post(weir.port, LEGACY)).status
        guardian = weir.guardian().pid
        soft, hard = resource.prlimit(guardian, resource.RLIMIT_NOFILE)
        resource.prlimit(guardian, resource.RLIMIT_NOFILE, (8, hard))
        for _ in range(3):
            reply = await asked(weir, body)
            error = json.loads(reply.body)["error"]
            data = error["data"]
            assert (503, "overloaded", "weir") == (reply.status, data["reason"], data["blame"]), reply.body
            assert "(EMFILE)" in error["message"]
            assert "LimitNOFILE" in error["message"]
        resource.prlimit(guardian, resource.RLIMIT_NOFILE, (soft, hard))
        reply = await asked(weir, body)
        assert 200 == reply.status, reply.body
