"""Nothing that a stdio server started outlives weir, however weir and the server end."""

import asyncio
import json
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support.limits import HANG_SECONDS
from support.processes import Running
from support.rawhttp import fetch, post
from support.stdio_script import COMMAND
from support.weirs import UNTRACED, Config, command, weir_http, weir_stdio

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="the guardian needs Linux's child subreaper"),
]

STUBBORN = command([*COMMAND, "ignore-eof", "ignore-sigterm"])
INITIALIZE = b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}'


def called(tool: str) -> bytes:
    """A call of one of the scripted server's tools."""
    params = {"name": tool, "arguments": {}}
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).encode()


def named(body: bytes) -> psutil.Process:
    """The process whose id a tool answered."""
    return psutil.Process(int(json.loads(body)["result"]["content"][0]["text"]))


async def gone(processes: list[psutil.Process]) -> None:
    """Waits until none of the processes lives."""
    _, left = await asyncio.to_thread(psutil.wait_procs, processes, HANG_SECONDS)
    assert [] == [each for each in left if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


async def opened(weir: Running) -> list[tuple[bytes, bytes]]:
    """Opens a session; returns the header that names it."""
    reply = await post(weir.port, INITIALIZE)
    assert 200 == reply.status, weir.log()
    return [(b"Mcp-Session-Id", reply.get(b"mcp-session-id"))]


async def family(weir: Running, session: list[tuple[bytes, bytes]]) -> list[psutil.Process]:
    """The session's server, a grandchild in its group, one that left it, and one that nobody is the parent of."""
    replies = [await post(weir.port, called(tool), session) for tool in ("pid", "fork", "daemon", "orphan")]
    return [named(reply.body) for reply in replies]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
async def test_every_descendant_ends_with_weir(tmp_path: Path, number: signal.Signals) -> None:
    """The server ignores the end of stdin and SIGTERM; two of its children have sessions of their own."""
    with weir_http(tmp_path, STUBBORN, {"drain": {"deadline": "1s"}}) as weir:
        processes = await family(weir, await opened(weir))
        guardian = weir.guardian()
        weir.interrupt(number)
        await gone([*processes, guardian])


async def test_every_descendant_ends_with_a_killed_weir_on_a_pipe(tmp_path: Path) -> None:
    """An editor that kills weir leaves nothing behind."""
    with weir_stdio(tmp_path, STUBBORN) as weir:
        weir.stdin.write(INITIALIZE + b"\n")
        weir.stdin.flush()
        await asyncio.to_thread(weir.stdout.readline)
        processes = [*weir.children(), weir.guardian()]
        weir.interrupt(signal.SIGKILL)
        await gone(processes)
        assert 2 <= len(processes)


async def test_the_end_of_a_session_ends_what_left_the_group(tmp_path: Path) -> None:
    """Playwright's server starts its browser in a session of its own."""
    with weir_http(tmp_path, command(COMMAND)) as weir:
        session, other = await opened(weir), await opened(weir)
        ending = [named((await post(weir.port, called(tool), session)).body) for tool in ("pid", "daemon")]
        staying = named((await post(weir.port, called("daemon"), other)).body)
        assert (await fetch(weir.port, "DELETE", "/mcp", session)).status in (200, 202, 204)
        await gone(ending)
        assert staying.is_running()


async def test_a_guardian_that_is_killed_costs_the_running_servers_only(tmp_path: Path) -> None:
    """The calls under way are answered, with weir to blame; nothing is left over, and the next session works."""
    one_failure: Config = {"policies": {"breaker": {"consecutive_failures": 1, "clients": 1}}}
    with weir_http(tmp_path, STUBBORN, {**UNTRACED, **one_failure}) as weir:
        session = await opened(weir)
        server = named((await post(weir.port, called("pid"), session)).body)
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(post(weir.port, called("never"), session))
            await post(weir.port, called("echo"), session)
            weir.guardian().kill()
        told = json.loads(waiting.result().body)["error"]["data"]
        assert (502, "upstream_exited", "weir") == (waiting.result().status, told["reason"], told["blame"])
        await gone([server])
        again = await opened(weir)
        assert 200 == (await post(weir.port, called("echo"), again)).status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
async def test_a_signal_to_the_whole_group_does_not_end_the_guardian(tmp_path: Path, number: signal.Signals) -> None:
    """Service managers signal every process of a unit; weir still drains, and the calls under way end."""
    with weir_http(tmp_path, command(COMMAND)) as weir:
        session = await opened(weir)
        weir.guardian().send_signal(number)
        assert 200 == (await post(weir.port, called("echo"), session)).status


async def test_the_guardian_is_started_only_for_a_stdio_server_and_knows_no_secrets(tmp_path: Path) -> None:
    """It holds none of weir's environment, and its memory is that of a bare interpreter."""
    with weir_http(tmp_path, command(COMMAND), env={"WEIR_TEST_SECRET": "s3cret"}) as weir:
        assert [] == weir.descendants()
        await opened(weir)
        guardian = weir.guardian()
        assert "WEIR_TEST_SECRET" not in guardian.environ()
        assert guardian.memory_info().rss < 32 * 1024 * 1024


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    """A soft limit below the hard one, for what is started meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = 512
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    yield few
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_servers_keep_the_descriptor_limit_that_weir_was_started_with(
    tmp_path: Path, few_descriptors: int
) -> None:
    """weir raises its own; programs that use select(2) fail beyond 1,024."""
    with weir_http(tmp_path, command(COMMAND)) as weir:
        server = named((await post(weir.port, called("pid"), await opened(weir))).body)
        limits = [resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[0] for process in (server, weir)]
    assert few_descriptors == limits[0] < limits[1]
