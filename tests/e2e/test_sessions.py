"""Sessions whose server goes away, restarts or forgets: the client is told in the words that make it begin anew."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from support.limits import HANG_SECONDS
from support.rawhttp import Exchange, NoReplyError, ScriptedServer, ask, fetch, post
from support.weirs import UNTRACED, Config, command, weir_http, weir_stdio_argv
from transparency.ends import stdio_client

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

INITIALIZE = (
    b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",'
    b'"capabilities":{},"clientInfo":{"name":"test","version":"0"}}}'
)
INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"pid"}}'
OPENED = b'{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}'
CHILD = """
import json, os, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "x", "version": "0"}}
    else:
        result = {"pid": os.getpid()}
    if "id" in message:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""
PID_SERVER: Config = command([sys.executable, "-c", CHILD])


async def open_session(port: int) -> list[tuple[bytes, bytes]]:
    """The header of a new session."""
    session = [(b"Mcp-Session-Id", (await post(port, INITIALIZE)).get(b"mcp-session-id"))]
    assert 202 == (await post(port, INITIALIZED, session)).status
    return session


async def pid(port: int, session: list[tuple[bytes, bytes]]) -> int:
    """Which process answers in that session."""
    reply = await post(port, CALL, session)
    assert 200 == reply.status, reply
    return int(json.loads(reply.body)["result"]["pid"])


async def test_each_session_has_a_child_of_its_own(tmp_path: Path) -> None:
    """Their ids are not to be guessed, and visible ASCII only."""
    with weir_http(tmp_path, PID_SERVER, UNTRACED) as weir:
        sessions = [await open_session(weir.port) for _ in range(3)]
        pids = [await pid(weir.port, session) for session in sessions]
        names = [session[0][1] for session in sessions]
        assert (3, 3) == (len(set(pids)), len(set(names)))
        assert all(len(name) >= 32 and all(0x21 <= byte <= 0x7E for byte in name) for name in names)
        assert pids == [await pid(weir.port, session) for session in sessions]


async def test_a_session_whose_child_died_is_gone(tmp_path: Path) -> None:
    """404, so that the client opens a new one; the others go on."""
    with weir_http(tmp_path, PID_SERVER, UNTRACED) as weir:
        first, second = await open_session(weir.port), await open_session(weir.port)
        async with ask(weir.port, "GET", "/mcp", [(b"Accept", b"text/event-stream"), *first]) as stream:
            os.kill(await pid(weir.port, first), signal.SIGKILL)
            await _ends(stream.rest())
        assert 404 == (await post(weir.port, CALL, first)).status
        assert await pid(weir.port, second)
        assert await pid(weir.port, await open_session(weir.port))


async def _ends(waiting: Awaitable[bytes]) -> None:
    """Properly or broken off: both tell a client that nothing more comes."""
    with contextlib.suppress(NoReplyError):
        await waiting


@pytest.mark.parametrize("verb", ["POST", "GET", "DELETE"])
async def test_a_session_that_never_was_is_404(tmp_path: Path, verb: str) -> None:
    """Not 400 and not a new child: clients begin anew on 404 alone."""
    with weir_http(tmp_path, PID_SERVER, UNTRACED) as weir:
        unknown = [(b"Mcp-Session-Id", b"never-was"), (b"Accept", b"text/event-stream")]
        reply = await fetch(weir.port, verb, "/mcp", unknown, CALL if verb == "POST" else b"")
        assert (404, []) == (reply.status, weir.children())


class Forgetful:
    """An HTTP server that opens sessions and then knows nothing of them."""

    def __init__(self) -> None:
        self.verbs: list[bytes] = []

    async def script(self, exchange: Exchange) -> None:
        """404 for whatever names a session, but for the notification that completes the handshake."""
        request = exchange.request
        self.verbs.append(request.verb)
        if b'"initialize"' in request.body:
            await exchange.json(OPENED, headers=[(b"mcp-session-id", b"s-1")])
        elif request.verb == b"GET":
            await exchange.reply(405)
        elif b"initialized" in request.body:
            await exchange.reply(202)
        else:
            await exchange.reply(404, [(b"content-type", b"text/plain")], b"Session not found")


@pytest.fixture
async def forgetful() -> AsyncIterator[ScriptedServer]:
    """Such a server."""
    async with ScriptedServer(Forgetful().script) as server:
        yield server


async def test_a_forgotten_session_is_404_over_http(tmp_path: Path, forgetful: ScriptedServer) -> None:
    """The server's word, unchanged."""
    with weir_http(tmp_path, {"url": forgetful.url}, UNTRACED) as weir:
        session = await open_session(weir.port)
        reply = await post(weir.port, CALL, session)
    assert (404, b"Session not found") == (reply.status, reply.body)


async def test_a_forgotten_session_is_one_error_on_stdio(tmp_path: Path, forgetful: ScriptedServer) -> None:
    """There is no status on a pipe: the call is answered with an error under its id, and weir goes on."""
    argv = weir_stdio_argv(tmp_path, {"url": forgetful.url}, UNTRACED)
    async with asyncio.TaskGroup() as group, stdio_client(argv, tmp_path / "log", group) as client:
        async with asyncio.timeout(HANG_SECONDS):
            await client.say(INITIALIZE)
            assert OPENED == await client.inbox.get()
            await client.say(INITIALIZED)
            for _ in range(2):
                await client.say(CALL)
                said = json.loads(await client.inbox.get())
                assert (7, True) == (said["id"], "error" in said)
    assert 0 == client.inbox.qsize()
