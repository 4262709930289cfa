"""Clients that number every request 1, before a stdio server behind a running weir."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from support import talking
from support.bridges import tool
from support.processes import Running
from support.rawhttp import Headers, post
from support.stdio_script import COMMAND
from support.weirs import UNTRACED, Config, command, weir_http, weir_stdio

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

IMPATIENT: Config = {**UNTRACED, "policies": {"timeout": {"connect": "1500ms", "attempt": "1500ms", "total": "2s"}}}
SLOW = tool("never", 1)


async def session(weir: Running) -> Headers:
    """The headers of a session that has begun."""
    reply = await post(weir.port, talking.INITIALIZE)
    headers = [(b"mcp-session-id", reply.get(b"mcp-session-id"))]
    await post(weir.port, talking.INITIALIZED, headers)
    return headers


async def call(weir: Running, headers: Headers, body: bytes) -> Any:
    """The answer to a call."""
    return json.loads((await post(weir.port, body, headers)).body)


def said(answer: Any) -> tuple[Any, Any]:
    """Id and text of an answer."""
    return answer["id"], answer["result"]["content"][0]["text"]


async def reached(weir: Running, headers: Headers) -> None:
    """Wait until the server has read the handshake, one call, and the questions about that."""
    asked = 1
    while said(await call(weir, headers, tool("lines", 2)))[1] != str(3 + asked):
        asked += 1


async def test_two_calls_in_flight_under_one_id_get_their_own_answers(tmp_path: Path) -> None:
    """The server answers the second first, and then both, each under the id that it was asked by."""
    with weir_http(tmp_path, command(COMMAND)) as weir:
        headers = await session(weir)
        answer = '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"%s"}]}}'
        both = [answer % ("$ID", "second"), answer % ("1", "first")]
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(call(weir, headers, SLOW))
            await reached(weir, headers)
            second = await call(weir, headers, tool("say", 1, lines=both))
    assert [(1, "first"), (1, "second")] == [said(first.result()), said(second)]


@pytest.mark.parametrize("how", ["limit", "hang-up"])
async def test_a_call_given_up_answers_no_later_one(tmp_path: Path, how: str) -> None:
    """The server answers it late, just before the call that has its id now."""
    with weir_http(tmp_path, command(COMMAND), IMPATIENT if how == "limit" else UNTRACED) as weir:
        headers = await session(weir)
        async with asyncio.TaskGroup() as tasks:
            given_up = tasks.create_task(call(weir, headers, SLOW))
            await reached(weir, headers)
            if how == "limit":
                assert "error" in await given_up
            given_up.cancel()
        late = '{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"late"}]}}'
        own = '{"jsonrpc":"2.0","id":$ID,"result":{"content":[{"type":"text","text":"own"}]}}'
        answers = [await call(weir, headers, tool("say", 1, lines=lines)) for lines in ([late, own], [own], [own])]
    assert [(1, "own")] * 3 == [said(each) for each in answers]


async def test_a_client_on_a_pipe_may_number_every_request_1(tmp_path: Path) -> None:
    """Two in flight, one cancelled and never answered, one more: nobody hangs."""
    own = '{"jsonrpc":"2.0","id":$ID,"result":{"content":[{"type":"text","text":"%s"}]}}'
    cancel = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}'
    with weir_stdio(tmp_path, command(COMMAND)) as weir:
        await talking.ask(weir, talking.INITIALIZE)
        talking.tell(weir, talking.INITIALIZED, SLOW, cancel, tool("say", 1, lines=[own % "a"]))
        one = await talking.hear(weir)
        two = await talking.ask(weir, tool("say", 1, lines=[own % "b"]))
        await talking.leave(weir)
    assert [(1, "a"), (1, "b")] == [said(one), said(two)]


async def test_an_id_written_as_a_fraction_gives_one_answer(tmp_path: Path) -> None:
    """`7.0` for `7`: the client hears no error behind it."""
    with weir_stdio(tmp_path, command(COMMAND)) as weir:
        await talking.ask(weir, talking.INITIALIZE)
        one = await talking.ask(weir, tool("say", 7, lines=['{"jsonrpc":"2.0","id":7.0,"result":{}}']))
        two = await talking.ask(weir, tool("id", 8))
        await talking.leave(weir)
    assert (7, 8) == (one["id"], two["id"])
    assert "result" in one
