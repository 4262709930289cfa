"""Places and the queue before them in a running weir: who waits, who goes first, who is told what."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.processes import free_port
from support.rawhttp import LIMIT_SECONDS, Exchange, ScriptedServer, fetch, post
from support.weirs import UNTRACED, Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


def request(method: str, number: int) -> bytes:
    """A request."""
    return b'{"jsonrpc":"2.0","id":%d,"method":"%b","params":{"name":"x"}}' % (number, method.encode())


class OneByOne:
    """A server that answers each request when it is told to, and keeps the order in which they came."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self.may_answer = asyncio.Event()
        self.came = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        """One request."""
        number = json.loads(exchange.request.body)["id"]
        self.order.append(number)
        self.came.set()
        await self.may_answer.wait()
        await exchange.json(b'{"jsonrpc":"2.0","id":%d,"result":{}}' % number)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""
    async with ScriptedServer(OneByOne()) as one:
        yield one


async def queued(port: int, count: int) -> None:
    """Wait until so many calls wait."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while True:
            tree = json.loads((await fetch(port, "GET", "/status")).body)
            if tree["upstreams"]["one"]["protections"]["concurrency"][0]["queued"] == count:
                return


async def test_calls_go_before_lists_and_what_is_exempt_does_not_wait(server: ScriptedServer, tmp_path: Path) -> None:
    """One place is taken; a list came first, a call after it, a ping last."""
    played = server.script
    assert isinstance(played, OneByOne)
    port = free_port()
    config: Config = {
        **UNTRACED,
        "listen": {"diagnostics": f"127.0.0.1:{port}"},
        "policies": {"concurrency": {"limit": 1, "queue": 2, "queue_timeout": "15s"}},
    }
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(post(weir.port, request("tools/call", 1)))]
            await played.came.wait()
            for waiting, (method, number) in enumerate([("tools/list", 2), ("tools/call", 3)]):
                tasks.append(group.create_task(post(weir.port, request(method, number))))
                await queued(port, waiting + 1)
            played.came.clear()
            tasks.append(group.create_task(post(weir.port, request("ping", 4))))
            await played.came.wait()
            refused = await post(weir.port, request("tools/list", 5))
            assert (503, "overloaded") == (refused.status, json.loads(refused.body)["error"]["data"]["reason"])
            played.may_answer.set()
        assert [200] * 4 == [task.result().status for task in tasks]
    assert [1, 4, 3, 2] == played.order


SERIAL = """
import json, sys, time
for line in sys.stdin:
    message = json.loads(line)
    time.sleep(0.1)
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {"resultType": "complete"}}), flush=True)
"""
"""A server on a pipe that does one thing at a time."""
HEADERS = [(b"MCP-Protocol-Version", b"2026-07-28"), (b"Mcp-Method", b"tools/call"), (b"Mcp-Name", b"x")]
MODERN = b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"x","_meta":%b}}'
META = b'{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}'


@pytest.mark.parametrize("policies", [{}, {"concurrency": {"mode": "shadow"}}], ids=["unlimited", "shadow"])
async def test_a_server_that_serves_one_call_at_a_time_is_told_of(tmp_path: Path, policies: Config) -> None:
    """As a metric, whether calls are limited or not: more places would only make its clients wait elsewhere."""
    port = free_port()
    config: Config = {
        **UNTRACED,
        "listen": {"diagnostics": f"127.0.0.1:{port}"},
        "policies": policies,
    }
    upstream = {"command": [sys.executable, "-S", "-E", "-c", SERIAL]}
    series = 'weir_policy_level{upstream="one",policy="admission",scope="serial"} 1.0'
    with weir_http(tmp_path, upstream, config) as weir:
        async with asyncio.timeout(LIMIT_SECONDS):
            while series not in (await fetch(port, "GET", "/metrics")).body.decode():
                async with asyncio.TaskGroup() as group:
                    for number in range(5):
                        group.create_task(post(weir.port, MODERN % (number, META), HEADERS))
