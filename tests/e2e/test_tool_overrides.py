"""What a running weir does for single tools: windows and places of their own."""

import asyncio
import json
from pathlib import Path

import pytest

from support.processes import free_port
from support.rawhttp import LIMIT_SECONDS, Exchange, ScriptedServer, fetch, post
from support.weirs import UNTRACED, Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


def call(tool: str, number: int = 1) -> bytes:
    """A tools/call."""
    return b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"%b"}}' % (number, tool.encode())


async def answer(exchange: Exchange) -> None:
    """At once."""
    await exchange.json(b'{"jsonrpc":"2.0","id":%d,"result":{}}' % json.loads(exchange.request.body)["id"])


async def test_a_tool_has_windows_of_its_own(server: ScriptedServer, tmp_path: Path) -> None:
    """One refuses, one only counts; other tools and lists know nothing of them."""
    server.script = answer
    limits = [{"limit": 2, "window": "1m"}, {"per": "client", "limit": 1, "window": "1m", "mode": "shadow"}]
    diagnostics = free_port()
    config: Config = {**UNTRACED, "listen": {"diagnostics": f"127.0.0.1:{diagnostics}"}}
    with weir_http(tmp_path, {"url": server.url, "tools": {"costly": {"rate_limits": limits}}}, config) as weir:
        replies = [await post(weir.port, call("costly")) for _ in range(3)]
        assert [200, 200, 429] == [reply.status for reply in replies]
        error = json.loads(replies[2].body)["error"]
        assert ("rate_limited", "tool") == (error["data"]["reason"], error["data"]["scope"])
        assert "2 calls of tool 'costly' per 60 s" in error["message"]
        assert [200] * 3 == [(await post(weir.port, call("other"))).status for _ in range(3)]
        metrics = (await fetch(diagnostics, "GET", "/metrics")).body.decode()
    series = 'weir_policy_decisions_total{upstream="one",policy="rate_limit",'
    assert series + 'action="refused",mode="enforce"} 1' in metrics
    assert series + 'action="would_refuse",mode="shadow"} 2' in metrics


async def test_a_tool_has_places_of_its_own(server: ScriptedServer, tmp_path: Path) -> None:
    """While its only place is taken its calls are refused, and all others pass."""
    entered, may_answer = asyncio.Event(), asyncio.Event()

    async def one_by_one(exchange: Exchange) -> None:
        if b'"slow"' in exchange.request.body:
            entered.set()
            await may_answer.wait()
        await answer(exchange)

    server.script = one_by_one
    tools = {"slow": {"concurrency": {"limit": 1, "queue": 0}}}
    with weir_http(tmp_path, {"url": server.url, "tools": tools}) as weir:
        async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as group:
            first = group.create_task(post(weir.port, call("slow", 1)))
            await entered.wait()
            refused = await post(weir.port, call("slow", 2))
            assert (503, 200) == (refused.status, (await post(weir.port, call("other", 3))).status)
            assert "tool" == json.loads(refused.body)["error"]["data"]["scope"]
            may_answer.set()
        assert 200 == first.result().status
        assert 200 == (await post(weir.port, call("slow", 4))).status


async def test_a_tool_that_only_reads_is_called_once_for_all_who_ask(server: ScriptedServer, tmp_path: Path) -> None:
    """Each has its own answer; another tool is called for each."""
    asked: list[str] = []
    diagnostics, may_answer = free_port(), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        asked.append(json.loads(exchange.request.body)["params"]["name"])
        await may_answer.wait()
        await answer(exchange)

    server.script = slow
    config: Config = {**UNTRACED, "listen": {"diagnostics": f"127.0.0.1:{diagnostics}"}}
    tools = {"find": {"coalesce": {"mode": "enforce"}}}
    with weir_http(tmp_path, {"url": server.url, "tools": tools}, config) as weir:
        async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as group:
            tasks = [group.create_task(post(weir.port, call("find", number))) for number in range(5)]
            tasks += [group.create_task(post(weir.port, call("add", number))) for number in range(5, 7)]
            while json.loads((await fetch(diagnostics, "GET", "/status")).body)["in_flight"] != len(tasks):
                pass
            may_answer.set()
        assert [*range(7)] == [json.loads(task.result().body)["id"] for task in tasks]
    assert ["add", "add", "find"] == sorted(asked)


async def test_a_tool_is_tried_again_and_timed_in_its_own_way(server: ScriptedServer, tmp_path: Path) -> None:
    """Where the policies of all are off, or more patient."""
    asked: list[str] = []

    async def fail(exchange: Exchange) -> None:
        asked.append(json.loads(exchange.request.body)["params"]["name"])
        if asked[-1] == "silent":
            await asyncio.get_running_loop().create_future()
        exchange.abort()

    server.script = fail
    tools = {
        "often": {"retry": {"safe": "always", "mode": "enforce", "attempts": 4, "backoff": {"initial": "1ms"}}},
        "silent": {"timeout": {"mode": "enforce", "attempt": "50ms"}},
    }
    retry = {"mode": "off", "budget": {"min_per_second": 10}}
    policies = {"timeout": {"mode": "shadow", "attempt": "60s"}, "retry": retry}
    config: Config = {**UNTRACED, "policies": policies}
    with weir_http(tmp_path, {"url": server.url, "tools": tools}, config) as weir:
        replies = [await post(weir.port, call(name)) for name in ("often", "other", "silent")]
    assert [502, 502, 504] == [reply.status for reply in replies]
    assert ["often"] * 4 + ["other", "silent"] == asked
