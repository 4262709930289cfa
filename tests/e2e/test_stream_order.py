"""A session's GET stream that came first is not overtaken by the POST behind it while it is being connected."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme

from support.processes import Running, free_port
from support.rawhttp import LIMIT_SECONDS, Exchange, Reply, ScriptedServer, fetch, post
from support.talking import CALL
from support.weirs import UNTRACED, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

SLOW = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow"}}'
MINE = [(b"Mcp-Session-Id", b"abc")]


class Front:
    """A TCP proxy before a server: connections from number `held_from` on are held until they are released."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = 0
        self.held_from = 10_000
        self.count = 0
        self.released = asyncio.Event()
        self.tasks: list[asyncio.Task[Any] | None] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes both ways."""
        self.count += 1
        self.tasks.append(asyncio.current_task())
        try:
            if self.count >= self.held_from:
                await self.released.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pass(reader, back))
                    group.create_task(_pass(there, writer))
            finally:
                back.transport.abort()
        finally:
            writer.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
        writer.transport.abort()
    except ConnectionError:
        pass


@asynccontextmanager
async def fronted(server: ScriptedServer) -> AsyncIterator[Front]:
    """A front before a server."""
    front = Front(server.port)
    listening = await asyncio.start_server(front, "127.0.0.1", 0)
    front.port = listening.sockets[0].getsockname()[1]
    try:
        yield front
    finally:
        listening.close()
        for task in filter(None, front.tasks):
            task.cancel()
        await asyncio.gather(*filter(None, front.tasks), return_exceptions=True)


class Server:
    """Answers calls; one named slow when it may."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.has_slow = asyncio.Event()
        self.has_listener = asyncio.Event()
        self.has_head = True

    async def __call__(self, exchange: Exchange) -> None:
        """As a server with a stream."""
        if exchange.request.verb == b"GET":
            self.has_listener.set()
            if self.has_head:
                await exchange.open()
            await exchange.gone()
            return
        if b"slow" in exchange.request.body:
            self.has_slow.set()
            await self.may_answer.wait()
        message = json.loads(exchange.request.body)
        await exchange.json(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {}}).encode())


async def in_flight(diagnostics: int, calls: int, streams: int) -> None:
    """Wait until weir has so many calls and streams."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while True:
            one = json.loads((await fetch(diagnostics, "GET", "/status")).body)["upstreams"]["one"]
            if (one["in_flight"], one["streams"]) == (calls, streams):
                return


class Scene(NamedTuple):
    """A session whose stream is being connected over TLS, while another connection stands ready."""

    server: ScriptedServer
    front: Front
    scripted: Server
    weir: Running
    diagnostics: int
    listening: "asyncio.Task[Reply]"


@asynccontextmanager
async def connecting(folder: Path, **config: Any) -> AsyncIterator[Scene]:
    """The scene, at the moment when the next POST comes."""
    authority, scripted, diagnostics = trustme.CA(), Server(), free_port()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    config = {**UNTRACED, "listen": {"diagnostics": f"127.0.0.1:{diagnostics}"}, **config}
    async with ScriptedServer(scripted, tls=context) as server, fronted(server) as front:
        upstream = {"url": f"https://localhost:{front.port}/mcp", "tls": {"ca": str(folder / "ca.pem")}}
        with weir_http(folder, upstream, config) as weir:
            async with asyncio.TaskGroup() as group, asyncio.timeout(LIMIT_SECONDS):
                slow = group.create_task(post(weir.port, SLOW, MINE))
                await scripted.has_slow.wait()
                front.held_from = 2
                listening = group.create_task(fetch(weir.port, "GET", "/mcp", MINE))
                await in_flight(diagnostics, 1, 1)
                scripted.may_answer.set()
                await slow
                yield Scene(server, front, scripted, weir, diagnostics, listening)
                listening.cancel()


async def test_a_post_waits_for_the_stream_of_its_session(tmp_path: Path) -> None:
    async with connecting(tmp_path) as scene, asyncio.TaskGroup() as group:
        behind = group.create_task(post(scene.weir.port, CALL, MINE))
        await in_flight(scene.diagnostics, 1, 1)
        scene.front.released.set()
        assert 200 == (await behind).status
        assert [b"POST", b"GET", b"POST"] == [request.verb for request in scene.server.got]


@pytest.mark.parametrize("headers", [[(b"Mcp-Session-Id", b"other")], []], ids=["another session", "no session"])
async def test_what_is_of_no_such_session_waits_for_nothing(tmp_path: Path, headers: list[tuple[bytes, bytes]]) -> None:
    async with connecting(tmp_path) as scene:
        assert 200 == (await post(scene.weir.port, CALL, headers)).status
        scene.front.released.set()
        await scene.scripted.has_listener.wait()
        assert [b"POST", b"POST", b"GET"] == [request.verb for request in scene.server.got]


async def test_a_stream_whose_head_does_not_come_holds_nothing_up(tmp_path: Path) -> None:
    """Some servers write it with the first event only."""
    async with connecting(tmp_path) as scene, asyncio.TaskGroup() as group:
        scene.scripted.has_head = False
        behind = group.create_task(post(scene.weir.port, CALL, MINE))
        scene.front.released.set()
        assert 200 == (await behind).status
        assert [b"POST", b"GET", b"POST"] == [request.verb for request in scene.server.got]


async def test_a_stream_that_cannot_be_connected_frees_what_is_behind_it(tmp_path: Path) -> None:
    """The connect limit is the longest wait."""
    async with connecting(tmp_path, policies={"timeout": {"connect": "1s"}}) as scene:
        assert 200 == (await post(scene.weir.port, CALL, MINE)).status
        assert 504 == (await scene.listening).status
        assert [b"POST", b"POST"] == [request.verb for request in scene.server.got]


async def test_a_client_that_gives_its_stream_up_frees_what_is_behind_it(tmp_path: Path) -> None:
    async with connecting(tmp_path) as scene, asyncio.TaskGroup() as group:
        behind = group.create_task(post(scene.weir.port, CALL, MINE))
        await in_flight(scene.diagnostics, 1, 1)
        scene.listening.cancel()
        assert 200 == (await behind).status
