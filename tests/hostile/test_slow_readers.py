"""Clients that do not read their large replies, before a running weir with few places: others have the places."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.rawhttp import LIMIT_SECONDS, Exchange, ScriptedServer, post
from support.weirs import UNTRACED, Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

PLACES = 2
LARGE = 24 * 1024 * 1024
CONFIG: Config = {**UNTRACED, "policies": {"concurrency": {"limit": PLACES, "queue": 8, "queue_timeout": "20s"}}}
SMALL_ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{}}'
SMALL_CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"small"}}'


@pytest.fixture(params=["json", "events"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[ScriptedServer]:
    """An upstream with one tool of large replies, as one body or as an event stream."""

    async def answer(exchange: Exchange) -> None:
        name = json.loads(exchange.request.body)["params"]["name"]
        text = b"x" * (LARGE if name == "large" else 1)
        body = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"%b"}]}}' % text
        if request.param == "json" or name == "small":
            await exchange.json(body)
        else:
            await exchange.open()
            note = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"%b"}}' % (b"x" * 1024 * 1024)
            for _ in range(LARGE // len(note)):
                await exchange.write(b"data: " + note + b"\n\n")
            await exchange.write(b"data: " + SMALL_ANSWER + b"\n\n")
            await exchange.end()

    async with ScriptedServer(answer) as one:
        yield one


async def ask_and_not_read(port: int) -> socket.socket:
    """Ask for a large reply, wait for its head and read no more."""
    body = SMALL_CALL.replace(b"small", b"large")
    loop, one = asyncio.get_running_loop(), socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.setblocking(False)
    await loop.sock_connect(one, ("127.0.0.1", port))
    head = b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    await loop.sock_sendall(one, head % len(body) + body)
    assert b"HTTP/1.1 200" == (await loop.sock_recv(one, 12))
    return one


async def test_clients_that_do_not_read_hold_no_place(server: ScriptedServer, tmp_path: Path) -> None:
    """As many as there are places; the next caller is served all the same."""
    with weir_http(tmp_path, {"url": server.url}, CONFIG) as weir:
        async with asyncio.timeout(LIMIT_SECONDS):
            slow = [await ask_and_not_read(weir.port) for _ in range(PLACES)]
            assert [200] * 3 == [(await post(weir.port, SMALL_CALL)).status for _ in range(3)]
        for one in slow:
            one.close()
