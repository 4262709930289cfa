"""What a server may have carried out is not asked for again; one caller's ending is not another caller's."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.rawhttp import Exchange, Headers, ScriptedServer, post
from support.weirs import UNTRACED, Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

RETRY: Config = {"backoff": {"initial": "5ms", "max": "10ms"}, "budget": {"ratio": 1, "min_per_second": 100}}
RETRYING: Config = {**UNTRACED, "policies": {"retry": RETRY}}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""
    async with ScriptedServer() as one:
        yield one


def request(method: str, request_id: int = 1, **params: Any) -> bytes:
    """A request."""
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}).encode()


def answer(exchange: Exchange, text: str = "x") -> bytes:
    """A result for a request."""
    raw_id = json.loads(exchange.request.body)["id"]
    return json.dumps({"jsonrpc": "2.0", "id": raw_id, "result": {"text": text}}).encode()


ERROR = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"busy"}}'
AFTER: Headers = [(b"Retry-After", b"0")]
WRITE, READ = request("tools/call", name="add"), request("tools/list")


@pytest.mark.parametrize(
    ("expected", "asked", "status", "headers", "body"),
    [
        (1, WRITE, 503, AFTER, b"busy"),
        (1, WRITE, 503, AFTER, ERROR),
        (1, WRITE, 503, [], b""),
        (1, WRITE, 502, AFTER, b"busy"),
        (1, WRITE, 429, AFTER, b'{"jsonrpc":"2.0","id":1,"result":{}}'),
        (1, request("tools/call", name="safe", task={"ttl": 1}), 503, AFTER, b"busy"),
        (3, WRITE, 429, AFTER, b"slow down"),
        (3, WRITE, 429, [], ERROR),
        (3, READ, 503, AFTER, b"busy"),
        (3, READ, 503, AFTER, ERROR),
        (3, request("tools/call", name="safe"), 503, AFTER, b"busy"),
    ],
    ids=[
        *("write 503", "write 503 error", "write 503 empty", "write 502", "write 429 result", "task 503"),
        *("write 429", "write 429 error", "read 503", "read 503 error", "safe tool 503"),
    ],
)
async def test_only_what_proves_that_nothing_was_done_repeats_a_write(
    server: ScriptedServer, tmp_path: Path, expected: int, asked: bytes, status: int, headers: Headers, body: bytes
) -> None:
    """As the server counts it; the reply passes as it came."""

    async def refuse(exchange: Exchange) -> None:
        await exchange.reply(status, headers, body)

    server.script = refuse
    upstream = {"url": server.url, "tools": {"safe": {"retry": "always"}}}
    with weir_http(tmp_path, upstream, RETRYING) as weir:
        reply = await post(weir.port, asked)
    assert (expected, status, body) == (len(server.got), reply.status, reply.body)


async def test_a_client_without_a_session_ends_nobody_elses_work(server: ScriptedServer, tmp_path: Path) -> None:
    """B withdraws id 1, which A has too: A's second try goes on. weir withdraws A's first try under no id of A's."""
    hedged, released = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        body = json.loads(exchange.request.body)
        if body["method"] == "notifications/cancelled":
            await exchange.reply(202)
        elif body["id"] == 1:
            await exchange.gone()
        else:
            hedged.set()
            await released.wait()
            await exchange.json(answer(exchange, "second"))

    server.script = script
    upstream = {"url": server.url, "tools": {"look": {"hedge": {"mode": "enforce", "after": "20ms"}}}}
    with weir_http(tmp_path, upstream, RETRYING) as weir:
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(post(weir.port, request("tools/call", name="look")))
            await hedged.wait()
            cancel = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"B"}}'
            assert 202 == (await post(weir.port, cancel)).status
            released.set()
        assert b"second" in asking.result().body
    told = [body for each in server.got if b"notifications/cancelled" in (body := each.body)]
    assert [cancel] == told


@pytest.mark.parametrize(("name", "tries"), [("params", 2), ("task", 1)])
async def test_a_call_that_asks_for_a_task_is_not_made_twice_at_once(
    server: ScriptedServer, tmp_path: Path, name: str, tries: int
) -> None:
    """The server would have two tasks. Another late call of the tool is made twice."""
    both = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        if len(server.got) == tries:
            both.set()
        await both.wait()
        await asyncio.sleep(0.1)
        await exchange.json(answer(exchange))

    server.script = slow
    upstream = {"url": server.url, "tools": {"look": {"hedge": {"mode": "enforce", "after": "20ms"}}}}
    more: dict[str, Any] = {"task": {"ttl": 1000}} if name == "task" else {}
    with weir_http(tmp_path, upstream, RETRYING) as weir:
        reply = await post(weir.port, request("tools/call", name="look", **more))
    assert (200, tries) == (reply.status, len(server.got))


@pytest.mark.parametrize("named", [b"Authorization", b"close, authorization", b"x-api-key"])
async def test_a_header_that_stays_on_its_hop_shares_no_answer(
    server: ScriptedServer, tmp_path: Path, named: bytes
) -> None:
    """The server answers B as a stranger, so B must not be given what it told A."""
    header = named.split(b", ")[-1]
    asked, released = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        secret = exchange.request.get(header)
        if secret:
            asked.set()
            await released.wait()
        else:
            released.set()
        await exchange.json(answer(exchange, secret.decode() or "stranger"))

    server.script = script
    config = {**UNTRACED, "policies": {"coalesce": {"mode": "enforce"}}}
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(post(weir.port, READ, [(header, b"secret")]))
            await asked.wait()
            second = await post(weir.port, READ, [(header, b"secret"), (b"Connection", named)])
    assert (b"stranger" in second.body, b"secret" in first.result().body) == (True, True)
