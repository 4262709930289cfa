"""Calls of tools without end, before a running weir with few places: a new client can still list and start."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.rawhttp import LIMIT_SECONDS, Exchange, ScriptedServer, post
from support.weirs import UNTRACED, Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

PLACES, CALLERS, LISTS = 4, 12, 10
CONFIG: Config = {
    **UNTRACED,
    "policies": {"concurrency": {"limit": PLACES, "queue": PLACES, "queue_timeout": "1m"}},
}
CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add"}}'
LIST = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """An upstream that needs a little time for each."""

    async def answer(exchange: Exchange) -> None:
        await asyncio.sleep(0.01)
        await exchange.json(b'{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}')

    async with ScriptedServer(answer) as one:
        yield one


async def test_lists_move_while_calls_take_every_place(server: ScriptedServer, tmp_path: Path) -> None:
    """Each list is served at the first try; calls have most of the places."""

    async def call_for_ever() -> None:
        while True:
            await post(weir.port, CALL)

    with weir_http(tmp_path, {"url": server.url}, CONFIG) as weir:
        async with asyncio.timeout(LIMIT_SECONDS), asyncio.TaskGroup() as group:
            callers = [group.create_task(call_for_ever()) for _ in range(CALLERS)]
            for _ in range(PLACES):
                # each had to wait its turn: all places are taken from now on
                await post(weir.port, CALL)
            assert [200] * LISTS == [(await post(weir.port, LIST)).status for _ in range(LISTS)]
            for caller in callers:
                caller.cancel()
    methods = [json.loads(request.body)["method"] for request in server.got]
    assert methods.count("tools/call") > 2 * methods.count("tools/list")
