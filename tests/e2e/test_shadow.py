"""Each policy in shadow, in a running weir: the call goes through as if there were none, and what it would have done
is counted."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from support.processes import free_port
from support.rawhttp import LIMIT_SECONDS, Exchange, Reply, ScriptedServer, fetch, post
from support.weirs import UNTRACED, Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

SLOW_SECONDS = 0.6
Script = Callable[[Exchange], Awaitable[None]]


def read(number: int = 1) -> bytes:
    """A tools/list."""
    return b'{"jsonrpc":"2.0","id":%d,"method":"tools/list"}' % number


async def answer(exchange: Exchange) -> None:
    """At once."""
    await exchange.json(b'{"jsonrpc":"2.0","id":%d,"result":{}}' % json.loads(exchange.request.body)["id"])


async def answer_late(exchange: Exchange) -> None:
    """Later than any policy here waits."""
    await asyncio.sleep(SLOW_SECONDS)
    await answer(exchange)


async def fail(exchange: Exchange) -> None:
    """As a gateway does."""
    await exchange.reply(502)


def counted(metrics: str, policy: str, action: str) -> int:
    """How often a policy would have done something."""
    series = f'weir_policy_decisions_total{{upstream="one",policy="{policy}",action="{action}",mode="shadow"}} '
    return sum(int(float(line.removeprefix(series))) for line in metrics.splitlines() if line.startswith(series))


@pytest.mark.parametrize(
    ("section", "script", "together", "policy", "actions"),
    [
        ({"timeout": {"attempt": "200ms", "total": "10s"}}, answer_late, False, "deadline", {"would_time_out": 2}),
        ({"timeout": {"idle": "200ms", "connect": "30s"}}, answer_late, False, "deadline", {"would_time_out": 2}),
        ({"retry": {"budget": {"min_per_second": 10}}}, fail, False, "retry", {"would_retry": 2}),
        ({"breaker": {"consecutive_failures": 1}}, fail, False, "breaker", {"would_refuse": 1}),
        ({"concurrency": {"limit": 1, "queue": 0}}, answer_late, True, "admission", {"would_refuse": 1}),
        ({"concurrency": {"limit": 1, "queue": 1}}, answer_late, True, "admission", {"would_queue": 1}),
        ({"coalesce": {}}, answer_late, True, "coalesce", {"would_join": 1}),
        ({"hedge": {"after": "100ms"}}, answer_late, False, "hedge", {"would_hedge": 2}),
    ],
    ids=["timeout", "silence", "retry", "breaker", "no place", "a queue", "coalesce", "hedge"],
)
async def test_a_policy_in_shadow_counts_and_changes_nothing(
    server: ScriptedServer,
    tmp_path: Path,
    section: dict[str, dict[str, Any]],
    script: Script,
    together: bool,
    policy: str,
    actions: dict[str, int],
) -> None:
    """Two calls: each is one attempt, with the server's own answer as it came."""
    server.script = script
    (name, said), port = *section.items(), free_port()
    policies = {name: {"mode": "shadow", **said}}
    config: Config = {**UNTRACED, "listen": {"diagnostics": f"127.0.0.1:{port}"}, "policies": policies}
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        replies = await two(weir.port, together=together)
        metrics = (await fetch(port, "GET", "/metrics")).body.decode()
    bodies = [b'{"jsonrpc":"2.0","id":%d,"result":{}}' % number for number in (1, 2)]
    expected = [(502, b"")] * 2 if script is fail else [(200, body) for body in bodies]
    assert expected == [(reply.status, reply.body) for reply in replies]
    assert {read(1), read(2)} == {request.body for request in server.got}
    assert 2 == len(server.got)
    assert actions == {action: counted(metrics, policy, action) for action in actions}
    assert f'policy="{policy}",action="{next(iter(actions))}",mode="enforce"' not in metrics


async def two(port: int, *, together: bool) -> list[Reply]:
    """Two calls, one after the other or at once."""
    async with asyncio.timeout(LIMIT_SECONDS):
        if not together:
            return [await post(port, read(number)) for number in (1, 2)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(post(port, read(number))) for number in (1, 2)]
        return [task.result() for task in tasks]


async def test_every_single_rate_limit_has_its_own_shadow(server: ScriptedServer, tmp_path: Path) -> None:
    """Two watch, one holds: what it refuses is counted by those as well, each for itself."""
    server.script = answer
    port = free_port()
    limits = [
        {"per": "client", "limit": 1, "window": "1m", "mode": "shadow"},
        {"per": "global", "limit": 2, "window": "1m", "mode": "shadow"},
        {"per": "upstream", "limit": 3, "window": "1m"},
        {"per": "upstream", "limit": 1, "window": "1m", "mode": "off"},
    ]
    config: Config = {**UNTRACED, "listen": {"diagnostics": f"127.0.0.1:{port}"}, "policies": {"rate_limits": limits}}
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        assert [200, 200, 200, 429] == [(await post(weir.port, read(number))).status for number in range(4)]
        metrics = (await fetch(port, "GET", "/metrics")).body.decode()
    assert 3 + 2 == counted(metrics, "rate_limit", "would_refuse")
    assert 'policy="rate_limit",action="refused",mode="enforce"} 1' in metrics
    assert 3 == len(server.got)


async def test_a_breaker_in_shadow_moves_and_says_so(server: ScriptedServer, tmp_path: Path) -> None:
    """Its moves are counted apart from those of one that acts."""
    server.script = fail
    port = free_port()
    breaker = {"mode": "shadow", "consecutive_failures": 2}
    config: Config = {**UNTRACED, "listen": {"diagnostics": f"127.0.0.1:{port}"}, "policies": {"breaker": breaker}}
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        assert [502] * 4 == [(await post(weir.port, read(number))).status for number in range(4)]
        metrics = (await fetch(port, "GET", "/metrics")).body.decode()
    assert 'before="closed",after="open",reason="consecutive_failures",mode="shadow"} 1' in metrics
    assert (4, 2) == (len(server.got), counted(metrics, "breaker", "would_refuse"))
