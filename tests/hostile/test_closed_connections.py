"""A server that closes unused connections early: nearly no call ends with nobody knowing whether it ran."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.early_ends import CALLERS, early_server, ends
from support.rawhttp import Exchange, ScriptedServer, post
from support.weirs import UNTRACED, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CALLS = 300


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""
    async with ScriptedServer() as one:
        yield one


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.01], ids=["at once", "1 ms", "10 ms"])
async def test_a_server_that_closes_early_costs_few_unknown_outcomes(tmp_path: Path, seconds: float) -> None:
    """At most one for each client: the first ones tell weir how the server is."""
    async with early_server(seconds) as server:
        url = f"http://127.0.0.1:{server.port}/mcp"
        with weir_http(tmp_path, {"url": url}, UNTRACED) as weir:
            found = await ends(weir.port, CALLS, 2 * seconds)
    assert CALLS == found.total()
    assert CALLS - CALLERS <= found["result"], found


@pytest.mark.parametrize(
    ("method", "expected"), [("tools/list", b'"result"'), ("tools/call", b'"error"')], ids=["read", "write"]
)
async def test_a_read_on_a_connection_that_ends_is_asked_again_and_a_write_is_not(
    server: ScriptedServer, tmp_path: Path, method: str, expected: bytes
) -> None:
    """Without any policy: weir kept the connection, so its end is weir's matter where asking twice changes nothing."""

    async def script(exchange: Exchange) -> None:
        if len(server.got) == 2:
            exchange.abort()
        else:
            await exchange.json(b'{"jsonrpc":"2.0","id":7,"result":{}}')

    server.script = script
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": {"name": "x"}}).encode()
    with weir_http(tmp_path, {"url": server.url}, UNTRACED) as weir:
        first, second = await post(weir.port, body), await post(weir.port, body)
    assert (True, True) == (b'"result"' in first.body, expected in second.body)
    assert (3 if method == "tools/list" else 2) == len(server.got)


async def test_a_read_that_ends_a_new_connection_is_not_asked_again(server: ScriptedServer, tmp_path: Path) -> None:
    """That is no matter of an unused connection, and only a policy tries again."""

    async def script(exchange: Exchange) -> None:
        exchange.abort()

    server.script = script
    with weir_http(tmp_path, {"url": server.url}, UNTRACED) as weir:
        reply = await post(weir.port, b'{"jsonrpc":"2.0","id":7,"method":"tools/list"}')
    assert (502, 1) == (reply.status, len(server.got))
