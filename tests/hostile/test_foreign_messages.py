"""Messages that two readers see differently, and bytes that no reader expects, before a running weir."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support import talking
from support.rawhttp import Exchange, ScriptedServer, post
from support.weirs import UNTRACED, Config, weir_http, weir_stdio

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

COUNTED: Config = {**UNTRACED, "policies": {"rate_limits": [{"per": "client", "limit": 1, "window": "10m"}]}}
JSON_LOGS: Config = {"telemetry": {"traces": {"exporter": "none"}, "logs": {"format": "json", "level": "debug"}}}
TWO_READINGS = {
    "method in another case": b'{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call","params":{"name":"x"}}',
    "escaped method": b'{"jsonrpc":"2.0","id":1,"method":"ping","meth\\u004fd":"tools/call"}',
    "long s": b'{"jsonrpc":"2.0","id":1,"method":"ping","param\xc5\xbf":{"name":"x"}}',
    "hidden in a notification": b'{"jsonrpc":"2.0","method":"notifications/initialized","Method":"tools/call","ID":1}',
    "hidden in an answer": b'{"jsonrpc":"2.0","id":1,"result":{},"Method":"tools/call"}',
    "in a batch": b'[{"jsonrpc":"2.0","id":1,"method":"ping","METHOD":"tools/call"}]',
}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """An upstream that answers under a name that could move a terminal's cursor."""

    async def answer(exchange: Exchange) -> None:
        await exchange.json(b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"},{"name":"\xff"}]}}')

    async with ScriptedServer(answer) as one:
        yield one


@pytest.mark.parametrize("name", TWO_READINGS)
async def test_what_another_reader_may_take_for_a_call_counts(
    server: ScriptedServer, tmp_path: Path, name: str
) -> None:
    """Under every limit: as a ping it would pass them all."""
    with weir_http(tmp_path, {"url": server.url}, COUNTED) as weir:
        statuses = [(await post(weir.port, TWO_READINGS[name])).status for _ in range(2)]
    assert [200, 429] == statuses


async def test_a_batch_of_more_members_than_are_counted_is_refused(server: ScriptedServer, tmp_path: Path) -> None:
    """It would be one call to every limit, and 1,001 to the server."""
    batch = b"[%b]" % b",".join([b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}'] * 1001)
    with weir_http(tmp_path, {"url": server.url}) as weir:
        reply = await post(weir.port, batch)
    assert (400, []) == (reply.status, server.got)


async def test_such_a_batch_of_a_client_on_a_pipe_is_refused_too(server: ScriptedServer, tmp_path: Path) -> None:
    """The client is told why, and its next request is served."""
    batch = b"[%b]" % b",".join([talking.CALL] * 1001)
    with weir_stdio(tmp_path, {"url": server.url}) as weir:
        refused = await talking.ask(weir, batch)
        talking.tell(weir, talking.CALL)
        served = await asyncio.to_thread(weir.stdout.readline)
        await talking.leave(weir)
    assert (-33400, None, "bad_message") == (
        refused["error"]["code"],
        refused["id"],
        refused["error"]["data"]["reason"],
    )
    assert served.startswith(b'{"jsonrpc":"2.0","id":1,"result"')
    assert [talking.CALL] == [each.body for each in server.got if each.body]


MANY = 4 * 1024 * 1024
NASTY = {
    "array of numbers": b"[%b0]" % (b"0," * (MANY // 2)),
    "array of arrays": b"[%b0]" % (b"[]," * (MANY // 3)),
    "twin": b'{"id":1,"method":"x","params":{"a":[%b0],"a":1}}' % (b"[]," * (MANY // 3)),
    "depth": b'{"id":1,"method":"x","params":%b%b}' % (b"[" * (MANY // 2), b"]" * (MANY // 2)),
    "digits": b'{"id":%b,"method":"x"}' % (b"9" * MANY),
    "bad UTF-8": b'{"id":"\xff","method":"tools/call","params":{"name":"\xff"}}',
}


async def test_nasty_bodies_are_answered_and_hold_nobody_up(server: ScriptedServer, tmp_path: Path) -> None:
    """Each is relayed or refused (502: the answer names another id); an honest call beside them is answered."""
    honest = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
    with weir_http(tmp_path, {"url": server.url}) as weir:
        async with asyncio.timeout(60):
            replies = await asyncio.gather(*(post(weir.port, body) for body in NASTY.values()))
            last = await post(weir.port, honest)
        said = weir.log()
    assert all(reply.status in (200, 400, 413, 502, 503) for reply in replies)
    assert (200, True) == (last.status, b"tools" in last.body)
    assert "a bug in weir" not in said


async def test_a_line_of_the_log_shows_nothing_that_changes_how_it_reads(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """Marks of direction, C1 controls and separators of lines are escaped, as JSON escapes them."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a\u202eb\x9bc\u2028d"}}
    with weir_http(tmp_path, {"url": server.url}, JSON_LOGS) as weir:
        await post(weir.port, json.dumps(body, ensure_ascii=False).encode())
        weir.stop()
        lines = weir.log().split("\n")
    (line,) = [line for line in lines if '"tools/call"' in line]
    assert line.isprintable()
    assert "a\u202eb\x9bc\u2028d" == json.loads(line)["tool"]
