"""Long-lived exchanges may be silent: no timer of weir's ends them, and nobody is blamed."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.processes import free_port
from support.rawhttp import JSON_POST, Answer, Exchange, ScriptedServer, ask, fetch, post
from support.weirs import UNTRACED, Config, weir_http
from weir.upstream.sockets import IDLE_SECONDS, INTERVAL_SECONDS, PROBES, keep_alive

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

IDLE: Config = {"timeout": {"idle": "300ms", "attempt": "400ms", "total": "500ms", "connect": "300ms"}}
ANSWER = b'data: {"jsonrpc":"2.0","id":9,"result":{}}\n\n'
ONE = "/servers/one/mcp"
EVENT = b'data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n'


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""
    async with ScriptedServer() as one:
        yield one


def request(method: str) -> bytes:
    """A request."""
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"} if method == "subscriptions/listen" else {}
    params = {"taskId": "t", "_meta": meta}
    return json.dumps({"jsonrpc": "2.0", "id": 9, "method": method, "params": params}).encode()


async def test_a_silent_stream_goes_on_while_a_silent_call_is_ended(server: ScriptedServer, tmp_path: Path) -> None:
    """GET, subscriptions/listen, tasks/result; the head of the last one comes late too."""
    spoken = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        body = exchange.request.body
        if b"tools/call" in body:
            await exchange.gone()
            return
        if b"tasks/result" in body:
            await spoken.wait()
            await exchange.json(b'{"jsonrpc":"2.0","id":9,"result":{}}')
            return
        await exchange.open()
        await exchange.write(b": open\n\n")
        await spoken.wait()
        await exchange.write(EVENT + (ANSWER if body else b""))
        await exchange.end()

    server.script = script
    port = free_port()
    # one server with two names: the calls that end by the limit degrade only the second
    servers = [{"name": name, "url": server.url} for name in ("one", "two")]
    config = {
        **UNTRACED,
        "upstreams": servers,
        "policies": IDLE,
        "listen": {"diagnostics": f"127.0.0.1:{port}"},
    }
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        async with contextlib.AsyncExitStack() as stack:
            streams: list[Answer] = [
                await stack.enter_async_context(
                    ask(weir.port, "GET", ONE, headers=[(b"Accept", b"text/event-stream")])
                ),
                await stack.enter_async_context(
                    ask(weir.port, "POST", ONE, JSON_POST, request("subscriptions/listen"))
                ),
            ]
            async with asyncio.TaskGroup() as group:
                result = group.create_task(post(weir.port, request("tasks/result"), target=ONE))
                # three times the limit that ends a call
                for _ in range(3):
                    call = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}'
                    assert 504 == (await post(weir.port, call, target="/servers/two/mcp")).status
                assert not result.done()
                spoken.set()
            assert b'"result"' in result.result().body
            assert [True, True] == [b"list_changed" in await stream.rest() for stream in streams]
        ready = await fetch(port, "GET", "/readyz")
    assert "healthy" == json.loads(ready.body)["upstreams"]["one"]["state"], ready.body.decode()


def test_dead_peers_are_found_by_the_system() -> None:
    """The only timer that such a connection has."""
    with socket.socket() as sock:
        keep_alive(sock)
        assert 1 == sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        found = [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options]
    assert [IDLE_SECONDS, INTERVAL_SECONDS, PROBES] == found


async def test_both_sides_of_a_running_weir_are_probed(server: ScriptedServer, tmp_path: Path) -> None:
    """As the system shows the timers of its sockets."""

    async def script(exchange: Exchange) -> None:
        await exchange.open()
        await exchange.write(b": open\n\n")
        await exchange.gone()

    server.script = script
    with weir_http(tmp_path, {"url": server.url}, UNTRACED) as weir:
        async with ask(weir.port, "GET", headers=[(b"Accept", b"text/event-stream")]):
            timers = _timers()
    # weir's end of the client's connection, and of the server's
    assert ("02", "02") == (timers.get((weir.port, None)), timers.get((None, server.port)))


def _timers() -> dict[tuple[int | None, int | None], str]:
    """The kind of timer of each established connection, by its local port and by its remote port; 02 is keep-alive."""
    found: dict[tuple[int | None, int | None], str] = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, _, timer, *_ = line.split()
        if state == "01":
            kind = timer.partition(":")[0]
            found[(int(local.partition(":")[2], 16), None)] = kind
            found[(None, int(remote.partition(":")[2], 16))] = kind
    return found
