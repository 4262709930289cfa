"""What a running weir tries again, and what it does not: as the server counts it."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.rawhttp import Exchange, ScriptedServer, post
from support.weirs import UNTRACED, Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

PLENTY = {"backoff": {"initial": "5ms", "max": "10ms"}, "budget": {"ratio": 1, "min_per_second": 100}}
TOOLS = [
    {"name": "look", "inputSchema": {}, "annotations": {"readOnlyHint": True}},
    {"name": "set", "inputSchema": {}, "annotations": {"idempotentHint": True}},
    {"name": "add", "inputSchema": {}},
]


def call(tool: str) -> bytes:
    """A tools/call."""
    return b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"%b"}}' % tool.encode()


def list_tools() -> bytes:
    """A tools/list."""
    return b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'


def retrying(**more: Any) -> Config:
    """A weir that tries again."""
    retry = {**PLENTY, **more.pop("retry", {})}
    return {**UNTRACED, "policies": {"retry": retry, **more}}


def calls(server: ScriptedServer, tool: str) -> int:
    """How often the server was asked for it."""
    return sum(b'"name":"%b"' % tool.encode() in request.body for request in server.got)


class FailingCalls:
    """Lists its tools, and breaks the connection at every call of one."""

    async def __call__(self, exchange: Exchange) -> None:
        """One request."""
        if b"tools/list" in exchange.request.body:
            await exchange.json(json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": TOOLS}}).encode())
        else:
            exchange.abort()


@pytest.mark.parametrize("trusts", [True, False])
async def test_what_a_trusted_server_calls_repeatable_is_tried_again(
    server: ScriptedServer, tmp_path: Path, trusts: bool
) -> None:
    """Once a list has said so, and only from a server that the operator trusts; all else ends as unknown."""
    server.script = FailingCalls()
    with weir_http(tmp_path, {"url": server.url}, retrying(retry={"trust_annotations": trusts})) as weir:
        reasons = [await reason(weir.port, call("look"))]
        assert 200 == (await post(weir.port, list_tools())).status
        before = calls(server, "look")
        reasons += [await reason(weir.port, call(tool)) for tool in ("look", "set", "add")]
    expected = 3 if trusts else 1
    assert (1, expected, expected, 1) == (
        before,
        calls(server, "look") - before,
        calls(server, "set"),
        calls(server, "add"),
    )
    assert ["outcome_unknown", *(["upstream_reset"] * 2 if trusts else ["outcome_unknown"] * 2), "outcome_unknown"] == (
        reasons
    )


async def reason(port: int, body: bytes) -> str:
    """What a call comes to."""
    tree = json.loads((await post(port, body)).body)
    return "ok" if "result" in tree else str(tree["error"]["data"]["reason"])


DYING = """
import json, os, pathlib, sys
for line in sys.stdin:
    message = json.loads(line)
    if message["method"] == "tools/list":
        result = {"tools": json.loads(sys.argv[2])}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
    elif message["method"] == "tools/call":
        with pathlib.Path(sys.argv[1]).open("a") as record:
            record.write(message["params"]["name"] + "\\n")
        os._exit(3)
"""
"""A server on a pipe that dies of every call."""
MODERN = [(b"MCP-Protocol-Version", b"2026-07-28")]
ENVELOPE = '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}'


def modern(method: str, name: str = "") -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A request of 2026-07-28, and its headers."""
    headers = [*MODERN, (b"Mcp-Method", method.encode()), *([(b"Mcp-Name", name.encode())] if name else [])]
    params = f'{{"name":"{name}",{ENVELOPE}}}' if name else f"{{{ENVELOPE}}}"
    return f'{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{params}}}'.encode(), headers


async def test_so_it_is_before_a_server_on_a_pipe(tmp_path: Path) -> None:
    """A tool that may run twice does, in a process that was started again; one that may not did once."""
    record = tmp_path / "record"
    upstream = {"command": [sys.executable, "-S", "-E", "-c", DYING, str(record), json.dumps(TOOLS)]}
    retry = {"trust_annotations": True, "attempts": 10, "backoff": {"initial": "200ms", "max": "400ms"}}
    with weir_http(tmp_path, upstream, retrying(retry=retry)) as weir:
        assert b'"result"' in (await post(weir.port, *modern("tools/list"))).body
        for name in ("add", "look"):
            assert b'"error"' in (await post(weir.port, *modern("tools/call", name))).body
    ran = record.read_text().split()
    assert 1 == ran.count("add")
    assert 2 <= ran.count("look") <= 10


async def test_a_write_that_ran_into_a_limit_may_have_run(server: ScriptedServer, tmp_path: Path) -> None:
    """504, the timer, and how to find out; it was sent once."""

    async def silent(exchange: Exchange) -> None:
        await exchange.gone()

    server.script = silent
    with weir_http(tmp_path, {"url": server.url}, retrying(timeout={"attempt": "300ms"})) as weir:
        reply = await post(weir.port, call("add"))
    error = json.loads(reply.body)["error"]
    assert (504, "outcome_unknown", "attempt", 300) == (
        reply.status,
        error["data"]["reason"],
        error["data"]["timer"],
        error["data"]["afterMs"],
    )
    assert "tool 'add' may or may not have run. Find out with a call that only reads" in error["message"]
    assert 1 == calls(server, "add")


async def test_a_wait_that_is_longer_than_what_is_left_is_the_callers(server: ScriptedServer, tmp_path: Path) -> None:
    """It is told at once, by the server's own answer and header."""

    async def busy(exchange: Exchange) -> None:
        await exchange.reply(503, [(b"Retry-After", b"30")], b"busy")

    server.script = busy
    with weir_http(tmp_path, {"url": server.url}, retrying(timeout={"total": "10s", "attempt": "10s"})) as weir:
        began = time.monotonic()
        reply = await post(weir.port, list_tools())
        assert time.monotonic() - began < 2
    assert (503, b"30", b"busy", 1) == (reply.status, reply.get(b"retry-after"), reply.body, len(server.got))


async def test_a_wait_that_fits_is_waited_for(server: ScriptedServer, tmp_path: Path) -> None:
    """Also for a write: it was not done, says the server. The first try has the caller's id, the second another one."""

    async def busy_once(exchange: Exchange) -> None:
        if len(server.got) == 1:
            await exchange.reply(429, [(b"Retry-After", b"1")], b"busy")
        else:
            await exchange.json(b'{"jsonrpc":"2.0","id":%b,"result":{}}' % json.dumps(ids(server)[-1]).encode())

    server.script = busy_once
    with weir_http(tmp_path, {"url": server.url}, retrying()) as weir:
        began = time.monotonic()
        reply = await post(weir.port, call("add"))
        assert 1.0 <= time.monotonic() - began < 3
    assert (200, b'{"jsonrpc":"2.0","id":7,"result":{}}') == (reply.status, reply.body)
    first, second = ids(server)
    assert (7, True) == (first, str(second).startswith("weir-"))


def ids(server: ScriptedServer) -> list[Any]:
    """Those of the requests that came."""
    return [json.loads(request.body)["id"] for request in server.got]
