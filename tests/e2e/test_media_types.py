"""Media types in any case and with parameters, through every part of weir that looks at them."""

import asyncio
import json
from pathlib import Path

import pytest

from support.rawhttp import LIMIT_SECONDS, Exchange, ScriptedServer, post
from support.seen import shown
from support.talking import CALL, INITIALIZE, ask
from support.weirs import UNTRACED, Config, weir_http, weir_stdio
from weir.protocol import sse

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

SPELLINGS = ["Text/Event-Stream", "TEXT/EVENT-STREAM;charset=UTF-8", "text/event-stream ; charset=utf-8"]
LIST = b'{"jsonrpc":"2.0","id":%b,"method":"tools/list"}'


class Streaming:
    """Answers each request by an event stream whose type is spelled in its own way, once it may."""

    def __init__(self, server: ScriptedServer, spelling: str) -> None:
        self._type = spelling.encode()
        self.may_answer = asyncio.Event()
        server.script = self.answer

    async def answer(self, exchange: Exchange) -> None:
        """One event, and the stream ends."""
        await exchange.open(200, [(b"Content-Type", self._type)])
        await self.may_answer.wait()
        asked = json.loads(exchange.request.body)
        result = {"jsonrpc": "2.0", "id": asked["id"], "result": {"tools": []}}
        await exchange.write(sse.encode(json.dumps(result).encode()))
        await exchange.end()


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_a_shared_event_stream_gives_each_caller_its_own_id(
    server: ScriptedServer, tmp_path: Path, spelling: str
) -> None:
    streaming = Streaming(server, spelling)
    config: Config = {
        **UNTRACED,
        "listen": {"diagnostics": "127.0.0.1:0"},
        "policies": {"coalesce": {"mode": "enforce"}},
    }
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(post(weir.port, LIST % number)) for number in (b"1", b"2")]
            async with asyncio.timeout(LIMIT_SECONDS):
                while json.loads(await shown(weir, "/status"))["in_flight"] != 2:
                    pass
            streaming.may_answer.set()
        bodies = [(await call).body for call in calls]
    assert [1, 2] == [json.loads(body.partition(b"data: ")[2])["id"] for body in bodies]
    assert 1 == len(server.got)


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_an_event_stream_reaches_a_client_on_a_pipe(
    server: ScriptedServer, tmp_path: Path, spelling: str
) -> None:
    Streaming(server, spelling).may_answer.set()
    with weir_stdio(tmp_path, {"url": server.url}) as weir:
        assert 0 == (await ask(weir, INITIALIZE))["id"]
        assert {"jsonrpc": "2.0", "id": 1, "result": {"tools": []}} == await ask(weir, CALL)


async def test_a_type_that_only_begins_like_an_event_stream_is_none(server: ScriptedServer, tmp_path: Path) -> None:
    """Its length stays: nobody adds events to it."""

    async def answer(exchange: Exchange) -> None:
        await exchange.reply(200, [(b"Content-Type", b"text/event-streams")], b'{"jsonrpc":"2.0","id":1,"result":{}}')

    server.script = answer
    with weir_http(tmp_path, {"url": server.url}) as weir:
        reply = await post(weir.port, LIST % b"1")
    assert (b"text/event-streams", b"36") == (reply.get(b"content-type"), reply.get(b"content-length"))
