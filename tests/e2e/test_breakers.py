"""Breakers in a running weir: what opens them, whom they keep away, and how they close."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.rawhttp import LIMIT_SECONDS, Exchange, ScriptedServer, post
from support.weirs import UNTRACED, Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


def call(tool: str = "add") -> bytes:
    """A tools/call."""
    return b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"%b"}}' % tool.encode()


PING = b'{"jsonrpc":"2.0","id":7,"method":"ping"}'
NOTE = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'


class Played:
    """A server whose tools fail or are slow, as told."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.pause_seconds = 0.0

    async def __call__(self, exchange: Exchange) -> None:
        """One request."""
        message = json.loads(exchange.request.body)
        name = message.get("params", {}).get("name", "")
        await asyncio.sleep(self.pause_seconds)
        if "id" not in message:
            await exchange.reply(202)
        elif name in self.failing:
            await exchange.reply(500)
        else:
            await exchange.json(b'{"jsonrpc":"2.0","id":7,"result":{}}')


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""
    async with ScriptedServer(Played()) as one:
        yield one


def played(server: ScriptedServer) -> Played:
    """What it plays."""
    assert isinstance(server.script, Played)
    return server.script


def breaking(**breaker: Any) -> Config:
    """weir with this breaker."""
    return {**UNTRACED, "policies": {"breaker": breaker}}


async def statuses(port: int, *bodies: bytes) -> list[int]:
    """Those of the replies, one after the other."""
    return [(await post(port, body)).status for body in bodies]


async def test_it_opens_lets_probes_pass_and_closes(server: ScriptedServer, tmp_path: Path) -> None:
    """While it is open only what must not be refused arrives; the callers' own next calls are the probes."""
    play = played(server)
    play.failing = {"add"}
    config = breaking(consecutive_failures=2, open_for="500ms", half_open_probes=2)
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        assert [500, 500, 503, 503] == await statuses(weir.port, *[call()] * 4)
        assert 2 == len(server.got)
        assert [200, 202] == await statuses(weir.port, PING, NOTE)
        refused = json.loads((await post(weir.port, call())).body)["error"]
        assert ("circuit_open", "upstream") == (refused["data"]["reason"], refused["data"]["scope"])
        assert 0 < refused["data"]["retryAfterMs"] <= 500
        play.failing.clear()
        arrived = len(server.got)
        async with asyncio.timeout(LIMIT_SECONDS):
            while (await post(weir.port, call())).status != 200:
                pass
        assert arrived + 1 == len(server.got)
        assert [200] * 5 == await statuses(weir.port, *[call()] * 5)


async def test_a_slow_server_opens_it(server: ScriptedServer, tmp_path: Path) -> None:
    """Its answers are right, and late."""
    played(server).pause_seconds = 0.3
    config = breaking(slow_call={"over": "200ms", "rate": 1.0}, min_calls=3)
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        assert [200, 200, 200, 503] == await statuses(weir.port, *[call()] * 4)
        text = json.loads((await post(weir.port, call())).body)["error"]["message"]
    assert "has been answering too slowly" in text


async def test_one_failing_tool_keeps_nobody_from_the_others(server: ScriptedServer, tmp_path: Path) -> None:
    """Each tool that is configured has its own circuit."""
    played(server).failing = {"bad"}
    upstream = {"url": server.url, "tools": {"bad": {}, "good": {}}}
    with weir_http(tmp_path, upstream, breaking(scope="tool", consecutive_failures=2)) as weir:
        assert [500, 500, 503] == await statuses(weir.port, *[call("bad")] * 3)
        assert [200, 200] == await statuses(weir.port, call("good"), call("other"))
        refused = json.loads((await post(weir.port, call("bad"))).body)["error"]
    assert ("tool", True) == (refused["data"]["scope"], refused["message"].startswith("Tool 'bad' of MCP server 'one'"))


async def test_a_tool_may_have_a_breaker_of_its_own(server: ScriptedServer, tmp_path: Path) -> None:
    """One that is slow by nature is allowed to be; for all others the same time is too long."""
    played(server).pause_seconds = 0.3
    tools = {"slow": {"breaker": {"slow_call": {"over": "5s"}}}}
    config = breaking(slow_call={"over": "200ms", "rate": 0.3}, min_calls=2)
    with weir_http(tmp_path, {"url": server.url, "tools": tools}, config) as weir:
        assert [200] * 4 == await statuses(weir.port, *[call("slow")] * 4)
        assert [200, 200, 503] == await statuses(weir.port, *[call("other")] * 3)
