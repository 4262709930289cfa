"""A server whose streams end at once and empty is asked for them less and less."""

import asyncio
from pathlib import Path

import pytest

from support.limits import HANG_SECONDS
from support.rawhttp import Exchange, ScriptedServer
from support.weirs import UNTRACED, weir_stdio

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

EVENTS = [(b"Content-Type", b"text/event-stream")]
INITIALIZE = b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}\n'
INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n'
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow"}}\n'


class Restless:
    """Ends each stream at once, after asking to be asked again as soon as can be."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.enough = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        """Answers the handshake; every GET, and the call, ends empty."""
        body = exchange.request.body
        if b'"initialize"' in body:
            result = b'{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}'
            await exchange.reply(200, [(b"Content-Type", b"application/json"), (b"Mcp-Session-Id", b"s")], result)
        elif b'"notifications/' in body:
            await exchange.reply(202, [], b"")
        else:
            if exchange.request.verb == b"GET":
                self.asked.append(asyncio.get_running_loop().time())
            if len(self.asked) >= 4:
                self.enough.set()
            await exchange.reply(200, EVENTS, b"retry: 0\nid: 1\ndata:\n\n")


@pytest.mark.parametrize("messages", [b"", CALL], ids=["listening", "a call that is polled"])
async def test_empty_streams_cost_a_second_and_more(tmp_path: Path, messages: bytes) -> None:
    """`retry: 0` is believed once: from the second empty stream in a row on there is a floor and a back-off."""
    async with ScriptedServer() as server:
        restless = Restless()
        server.script = restless
        with weir_stdio(tmp_path, {"url": server.url}, UNTRACED) as weir:
            weir.stdin.write(INITIALIZE + INITIALIZED + messages)
            weir.stdin.flush()
            async with asyncio.timeout(HANG_SECONDS):
                await restless.enough.wait()
            assert restless.asked[-1] - restless.asked[0] >= (1.0 if messages else 2.9)
            assert "empty_streams" in weir.log()
