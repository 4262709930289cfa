"""Faults in a running weir: injected from the configuration and by command, seen by clients, gone by themselves."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.processes import Running, free_port
from support.rawhttp import JSON_POST, LIMIT_SECONDS, Exchange, ScriptedServer, post
from support.weirs import UNTRACED, Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

READ = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"read_file"}}'
WRITE = b'{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"write_file"}}'


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """An upstream that answers everything."""
    async with ScriptedServer() as one:

        async def answer(exchange: Exchange) -> None:
            raw_id = json.dumps(json.loads(exchange.request.body)["id"]).encode()
            await exchange.json(b'{"jsonrpc":"2.0","id":%b,"result":{}}' % raw_id)

        one.script = answer
        yield one


def allowing(port: int, *inject: Config, **more: Any) -> Config:
    """A configuration with faults and a diagnostics port."""
    listen = {"diagnostics": f"127.0.0.1:{port}"}
    return {**UNTRACED, "listen": listen, "faults": {"allow": True, "inject": list(inject)}, **more}


async def fault(port: int, *arguments: str) -> tuple[int, str]:
    """Run `weir fault`: exit code and output."""
    command = [sys.executable, "-m", "weir", "fault", *arguments, "--diagnostics", f"127.0.0.1:{port}"]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    return done.returncode, done.stdout + done.stderr


async def reason(weir: Running, body: bytes) -> str:
    """What a call comes to: ok, or the reason of its error."""
    reply = await post(weir.port, body)
    tree = json.loads(reply.body)
    return "ok" if "result" in tree else str(tree["error"].get("data", {}).get("reason", tree["error"]["code"]))


async def test_a_fault_is_injected_and_cleared_by_command(server: ScriptedServer, tmp_path: Path) -> None:
    """For the tool that was named, and nobody else."""
    port = free_port()
    with weir_http(tmp_path, {"url": server.url}, allowing(port)) as weir:
        assert "ok" == await reason(weir, READ)
        code, line = await fault(port, "add", "--upstream", "one", "--tool", "read_file", "--reset")
        assert (0, "f1  one read_file  100 %  reset  (600 s left)\n") == (code, line)
        assert ["upstream_reset", "ok"] == [await reason(weir, body) for body in (READ, WRITE)]
        assert (0, "1 cleared\n") == await fault(port, "clear")
        assert "ok" == await reason(weir, READ)


async def test_a_fault_of_the_configuration_ends_by_itself(server: ScriptedServer, tmp_path: Path) -> None:
    """Nobody has to remember it."""
    config = allowing(free_port(), {"upstream": "one", "error": -32603, "expires": "3s"})
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        assert "-32603" == await reason(weir, READ)
        async with asyncio.timeout(LIMIT_SECONDS):
            while await reason(weir, READ) != "ok":
                pass


async def test_a_fault_is_retried_as_a_real_one_would_be(server: ScriptedServer, tmp_path: Path) -> None:
    """Of lists whose attempts fail now and then the callers hear nothing."""
    retry = {
        "attempts": 10,
        "backoff": {"initial": "1ms", "max": "2ms"},
        "budget": {"ratio": 1, "min_per_second": 1000},
    }
    config = allowing(free_port(), {"upstream": "one", "status": 503, "percent": 20}, policies={"retry": retry})
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        reasons = {
            await reason(weir, b'{"jsonrpc":"2.0","id":%d,"method":"tools/list"}' % number) for number in range(40)
        }
        assert {"ok"} == reasons
        assert 40 == len(server.got)


async def test_without_leave_there_are_no_faults(server: ScriptedServer, tmp_path: Path) -> None:
    """Neither by command nor by request; and the answer says how to give it."""
    port = free_port()
    config = {**UNTRACED, "listen": {"diagnostics": f"127.0.0.1:{port}"}}
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        code, text = await fault(port, "add", "--upstream", "one", "--reset")
        assert (1, True) == (code, text.startswith("faults are not allowed here; set 'faults: {allow: true}'"))
        reply = await post(port, b'{"upstream":"one","reset":true}', JSON_POST, "/faults")
        assert 403 == reply.status
        assert "ok" == await reason(weir, READ)
