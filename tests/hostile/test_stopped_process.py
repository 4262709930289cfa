"""weir is stopped and goes on (SIGSTOP, a paused virtual machine): the time that it lost is nobody's fault."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.processes import free_port
from support.rawhttp import LIMIT_SECONDS, Exchange, ScriptedServer, fetch, post
from support.weirs import UNTRACED, Config, command, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

STOP_SECONDS = 4.0
LIMIT = "2s"
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add"}}'
CALLS = 4


class Held:
    """A server that answers when it is told to, and keeps a GET stream open."""

    def __init__(self) -> None:
        self.came = asyncio.Semaphore(0)
        self.may_answer = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        """One request."""
        self.came.release()
        await self.may_answer.wait()
        await exchange.json(b'{"jsonrpc":"2.0","id":1,"result":{}}')


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""
    async with ScriptedServer(Held()) as one:
        yield one


async def test_a_stop_of_weir_costs_no_call_and_opens_no_circuit(server: ScriptedServer, tmp_path: Path) -> None:
    """The answers wait in weir's sockets while every limit passes on the wall. A call in the queue waits on."""
    held, port = server.script, free_port()
    assert isinstance(held, Held)
    config: Config = {
        **UNTRACED,
        "listen": {"diagnostics": f"127.0.0.1:{port}"},
        "policies": {
            "timeout": {"connect": "1s", "attempt": LIMIT, "total": LIMIT, "idle": LIMIT},
            "breaker": {"consecutive_failures": 1, "slow_call": {"over": LIMIT}, "min_calls": 1},
            "concurrency": {"limit": CALLS, "queue_timeout": LIMIT},
        },
    }
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as group:
            calls = [group.create_task(post(weir.port, CALL)) for _ in range(CALLS + 1)]
            for _ in range(CALLS):
                await held.came.acquire()
            os.kill(weir.pid, signal.SIGSTOP)
            held.may_answer.set()
            await asyncio.sleep(STOP_SECONDS)
            os.kill(weir.pid, signal.SIGCONT)
        assert [200] * (CALLS + 1) == [call.result().status for call in calls]
        assert 200 == (await post(weir.port, CALL)).status
        async with asyncio.timeout(LIMIT_SECONDS):
            while not (seconds := await stood_still(port)):
                pass
        assert STOP_SECONDS - 1.0 < seconds < LIMIT_SECONDS


async def stood_still(port: int) -> float:
    """For how long weir says that it has."""
    text = (await fetch(port, "GET", "/metrics")).body.decode()
    found = re.search(r"^weir_stood_still_seconds_total (\S+)", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_a_limit_that_runs_out_after_a_stop_is_the_servers(server: ScriptedServer, tmp_path: Path) -> None:
    """It has had all of its time, and the stop is not taken for it."""
    held = server.script
    assert isinstance(held, Held)
    config: Config = {**UNTRACED, "policies": {"timeout": {"connect": "1s", "attempt": LIMIT, "total": LIMIT}}}
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as group:
            call = group.create_task(post(weir.port, CALL))
            await held.came.acquire()
            os.kill(weir.pid, signal.SIGSTOP)
            await asyncio.sleep(STOP_SECONDS)
            os.kill(weir.pid, signal.SIGCONT)
        held.may_answer.set()
        assert 504 == call.result().status


IN_HALVES = """
import json, os, sys, time
for text in sys.stdin:
    asked = json.loads(text)
    if "id" not in asked:
        continue
    answer = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": {"x": "y" * 1000}})
    if asked["method"] == "tools/call":
        sys.stdout.write(answer[:500]); sys.stdout.flush()
        open(sys.argv[1] + "/half", "w").close()
        while not os.path.exists(sys.argv[1] + "/rest"):
            time.sleep(0.01)
        answer = answer[500:]
    sys.stdout.write(answer + "\\n"); sys.stdout.flush()
"""
INITIALIZE = b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}'


@pytest.mark.parametrize("who", ["weir", "weir and its server"])
async def test_a_stop_in_the_middle_of_a_stdio_servers_answer_costs_nothing(tmp_path: Path, who: str) -> None:
    """Half of the answer came before. Nobody is blamed, and no circuit opens."""
    config: Config = {
        **UNTRACED,
        "policies": {
            "timeout": {"connect": "1s", "attempt": LIMIT, "total": LIMIT, "idle": LIMIT},
            "breaker": {"consecutive_failures": 1, "slow_call": {"over": LIMIT}, "min_calls": 1},
        },
    }
    with weir_http(tmp_path, command([sys.executable, "-c", IN_HALVES, str(tmp_path)]), config) as weir:
        session = [(b"Mcp-Session-Id", (await post(weir.port, INITIALIZE)).get(b"mcp-session-id"))]
        stopped = [weir.pid, *(each.pid for each in weir.children() if who != "weir")]
        async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as group:
            call = group.create_task(post(weir.port, CALL, session))
            while not (tmp_path / "half").exists():  # noqa: ASYNC110 - a file that another process writes
                await asyncio.sleep(0.01)
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            if who == "weir":
                (tmp_path / "rest").touch()
            await asyncio.sleep(STOP_SECONDS)
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            (tmp_path / "rest").touch()
        assert [200, 200] == [call.result().status, (await post(weir.port, CALL, session)).status]
