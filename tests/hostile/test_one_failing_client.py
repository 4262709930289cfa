"""A client whose calls fail, before a running weir with a breaker: others are served as before."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.processes import free_port
from support.rawhttp import Exchange, ScriptedServer, post
from support.weirs import UNTRACED, Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

GOOD = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"good"}}'
BAD = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"bad"}}'
HONEST, ATTACKER, OTHER = ([(b"X-Forwarded-For", address)] for address in (b"10.0.0.1", b"10.0.0.2", b"10.0.0.3"))


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """An upstream with a tool that fails."""

    async def answer(exchange: Exchange) -> None:
        if json.loads(exchange.request.body)["params"]["name"] == "bad":
            await exchange.reply(500)
        else:
            await exchange.json(b'{"jsonrpc":"2.0","id":1,"result":{}}')

    async with ScriptedServer(answer) as one:
        yield one


def breaking(**breaker: Any) -> Config:
    """weir with this breaker, behind a proxy that names the clients."""
    return {**UNTRACED, "listen": {"trusted_proxies": ["127.0.0.0/8"]}, "policies": {"breaker": breaker}}


async def test_the_failing_calls_of_one_client_open_no_circuit_for_others(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Neither in a row nor as a share. Where a second client fails too, the circuit opens."""
    with weir_http(tmp_path, {"url": server.url}, breaking()) as weir:
        assert 200 == (await post(weir.port, GOOD, HONEST)).status
        assert [500] * 12 == [(await post(weir.port, BAD, ATTACKER)).status for _ in range(12)]
        assert 200 == (await post(weir.port, GOOD, HONEST)).status
        assert [500] * 5 == [(await post(weir.port, BAD, ATTACKER)).status for _ in range(5)]
        assert 500 == (await post(weir.port, BAD, OTHER)).status
        assert 503 == (await post(weir.port, GOOD, HONEST)).status


async def test_a_client_alone_has_its_circuit(server: ScriptedServer, tmp_path: Path) -> None:
    """Nobody else is served, or the operator asks for `clients: 1`."""
    for config, first in ((breaking(), ATTACKER), (breaking(clients=1), HONEST)):
        with weir_http(tmp_path, {"url": server.url}, config) as weir:
            assert 200 == (await post(weir.port, GOOD, first)).status
            assert [500] * 5 == [(await post(weir.port, BAD, ATTACKER)).status for _ in range(5)]
            assert 503 == (await post(weir.port, GOOD, ATTACKER)).status


async def test_a_server_that_nobody_reaches_is_left_alone_whoever_called(tmp_path: Path) -> None:
    """No client can cause that."""
    with weir_http(tmp_path, {"url": f"http://127.0.0.1:{free_port()}/mcp"}, breaking()) as weir:
        assert [502] * 5 == [(await post(weir.port, GOOD, ATTACKER)).status for _ in range(5)]
        assert 503 == (await post(weir.port, GOOD, HONEST)).status
