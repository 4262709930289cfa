"""The machine's limits: weir raises what it may, names the one that it meets, and blames no server for it."""

import json
import resource
import sys
from pathlib import Path

import pytest

from support.processes import Running, running
from support.rawhttp import Exchange, ScriptedServer
from support.stdio_script import COMMAND
from support.talking import CALL, INITIALIZE, ask, leave
from support.weirs import UNTRACED, Config, command, weir_stdio, weir_stdio_argv

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are set as on Linux"),
]

TOUCHY: Config = {**UNTRACED, "policies": {"breaker": {"consecutive_failures": 1, "clients": 1}}}
FEW = 96


@pytest.mark.parametrize("upstream", ["url", "command"])
async def test_the_soft_limit_of_descriptors_is_raised_for_a_client_on_a_pipe_too(
    tmp_path: Path, upstream: str
) -> None:
    """The server keeps what weir was started with."""
    told = {"url": "http://127.0.0.1:1/mcp"} if upstream == "url" else command(COMMAND)
    argv = weir_stdio_argv(tmp_path, told)
    script = f'ulimit -S -n {FEW}; exec "$@"'
    with running(["sh", "-c", script, "sh", *argv], pipes=True) as weir:
        await ask(weir, INITIALIZE)
        soft, hard = resource.prlimit(weir.pid, resource.RLIMIT_NOFILE)
        assert FEW < soft == hard
        for child in weir.children() if upstream == "command" else []:
            assert FEW == resource.prlimit(child.pid, resource.RLIMIT_NOFILE)[0]
        await leave(weir)


def squeezed(weir: Running) -> tuple[int, int]:
    """Leave weir no further descriptor. Returns its limits as they were."""
    before = resource.prlimit(weir.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(weir.pid, resource.RLIMIT_NOFILE, (0, before[1]))
    return before


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_no_descriptor_for_a_connection_is_named_and_weirs_fault(
    server: ScriptedServer, tmp_path: Path, host: str
) -> None:
    """Nor is a name unknown because the resolver got none; the next call is served, no circuit has opened."""

    async def answer(exchange: Exchange) -> None:
        raw_id = json.loads(exchange.request.body)["id"]
        result = json.dumps({"jsonrpc": "2.0", "id": raw_id, "result": {}}).encode()
        await exchange.json(result, headers=[(b"Connection", b"close")])

    server.script = answer
    with weir_stdio(tmp_path, {"url": f"http://{host}:{server.port}/mcp"}, TOUCHY) as weir:
        await ask(weir, INITIALIZE)
        before = squeezed(weir)
        error = (await ask(weir, CALL))["error"]
        resource.prlimit(weir.pid, resource.RLIMIT_NOFILE, before)
        answered = await ask(weir, CALL)
        await leave(weir)
    assert "weir has no file descriptor left (EMFILE)" in error["message"]
    assert ("overloaded", "weir", 1000) == tuple(error["data"][name] for name in ("reason", "blame", "retryAfterMs"))
    assert {} == answered["result"]
