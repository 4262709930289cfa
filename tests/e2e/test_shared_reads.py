"""Reads through a running weir that coalesces and hedges: one call for many, two tries for one, each its own answer."""

import asyncio
import json
from pathlib import Path

import pytest

from support.processes import free_port
from support.rawhttp import LIMIT_SECONDS, Exchange, ScriptedServer, fetch, post
from support.weirs import UNTRACED, Config, weir_http
from weir.protocol import sse

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CALLERS = 20


def read(raw_id: int | str, method: str = "tools/list") -> bytes:
    """A request."""
    return json.dumps({"jsonrpc": "2.0", "id": raw_id, "method": method, "params": {}}).encode()


def coalescing(diagnostics: int) -> Config:
    """Every equal read is one call."""
    listen = {"diagnostics": f"127.0.0.1:{diagnostics}"}
    return {**UNTRACED, "listen": listen, "policies": {"coalesce": {"mode": "enforce"}}}


def result(exchange: Exchange) -> bytes:
    """The answer under the id that came."""
    return json.dumps(
        {"jsonrpc": "2.0", "id": json.loads(exchange.request.body)["id"], "result": {"tools": []}}
    ).encode()


def ids(bodies: list[bytes]) -> list[int | str]:
    """The ids of the answers, whether they came as JSON or as an event."""
    texts = [body.partition(b"data: ")[2] or body for body in bodies]
    return [json.loads(text)["id"] for text in texts]


class Slow:
    """Answers when it is told to."""

    def __init__(self, server: ScriptedServer, *, streams: bool) -> None:
        self.may_answer = asyncio.Event()
        self._streams = streams
        server.script = self.answer

    async def answer(self, exchange: Exchange) -> None:
        """As JSON, or as the event stream that SDK servers send."""
        if self._streams:
            await exchange.open()
        await self.may_answer.wait()
        if self._streams:
            await exchange.write(sse.encode(result(exchange)))
            await exchange.end()
        else:
            await exchange.json(result(exchange))


async def in_flight(diagnostics: int, count: int) -> None:
    """Wait until weir has so many calls."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while json.loads((await fetch(diagnostics, "GET", "/status")).body)["in_flight"] != count:
            pass


@pytest.mark.parametrize("streams", [False, True])
async def test_many_equal_lists_are_one_call(server: ScriptedServer, tmp_path: Path, streams: bool) -> None:
    """Every caller has its own answer; one that leaves takes nobody along, even if it was the first."""
    slow, diagnostics = Slow(server, streams=streams), free_port()
    with weir_http(tmp_path, {"url": server.url}, coalescing(diagnostics)) as weir:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(post(weir.port, read("first")))
            await in_flight(diagnostics, 1)
            calls = [group.create_task(post(weir.port, read(number))) for number in range(CALLERS)]
            await in_flight(diagnostics, 1 + CALLERS)
            first.cancel()
            await in_flight(diagnostics, CALLERS)
            slow.may_answer.set()
        replies = [call.result() for call in calls]
        assert [200] * CALLERS == [reply.status for reply in replies]
        assert list(range(CALLERS)) == ids([reply.body for reply in replies])
        assert 1 == len(server.got)


async def test_other_credentials_are_other_calls(server: ScriptedServer, tmp_path: Path) -> None:
    """However equal the questions."""
    slow, diagnostics = Slow(server, streams=False), free_port()
    with weir_http(tmp_path, {"url": server.url}, coalescing(diagnostics)) as weir:
        async with asyncio.TaskGroup() as group:
            for name in (b"Authorization", b"Cookie", b"X-Api-Key"):
                for value in (b"alice", b"bob"):
                    group.create_task(post(weir.port, read(1), [(name, value)]))
            await in_flight(diagnostics, 6)
            slow.may_answer.set()
        assert 6 == len(server.got)


async def test_named_headers_tell_callers_apart_and_others_do_not(server: ScriptedServer, tmp_path: Path) -> None:
    """Beside Authorization, which always does."""
    slow, diagnostics = Slow(server, streams=False), free_port()
    config = {**coalescing(diagnostics), "policies": {"coalesce": {"mode": "enforce", "headers": ["X-Tenant"]}}}
    callers = [(b"a", b"x", b"1"), (b"a", b"x", b"2"), (b"b", b"x", b"1"), (b"a", b"y", b"1")]
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        async with asyncio.TaskGroup() as group:
            for token, tenant, other in callers:
                headers = [(b"Authorization", token), (b"X-Tenant", tenant), (b"X-Other", other)]
                group.create_task(post(weir.port, read(1), headers))
            await in_flight(diagnostics, len(callers))
            slow.may_answer.set()
    pairs = {(request.get(b"authorization"), request.get(b"x-tenant")) for request in server.got}
    assert (3, {(b"a", b"x"), (b"b", b"x"), (b"a", b"y")}) == (len(server.got), pairs)


LISTED = (
    b'{"jsonrpc":"2.0","id":1,"result":{"tools":['
    b'{"name":"look","inputSchema":{},"annotations":{"readOnlyHint":true}},'
    b'{"name":"set","inputSchema":{},"annotations":{"idempotentHint":true}}]}}'
)


@pytest.mark.parametrize("trusts", [True, False])
async def test_of_tools_only_those_that_a_trusted_server_calls_read_only_run_twice_at_once(
    server: ScriptedServer, tmp_path: Path, trusts: bool
) -> None:
    """Repeatable is not enough, and neither is a hint of a server that nobody trusts."""

    async def answer(exchange: Exchange) -> None:
        message = json.loads(exchange.request.body)
        if message["method"] == "tools/list":
            await exchange.json(LISTED)
            return
        if message.get("id") == 7:
            await asyncio.sleep(0.6)
        await exchange.json(json.dumps({"jsonrpc": "2.0", "id": message.get("id"), "result": {}}).encode())

    server.script = answer
    policies = {"hedge": {"mode": "enforce", "after": "100ms"}, "retry": {"trust_annotations": trusts}}
    with weir_http(tmp_path, {"url": server.url}, {**UNTRACED, "policies": policies}) as weir:
        await post(weir.port, read(1))
        for name in ("look", "set"):
            body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": name}}).encode()
            assert b'"id":7' in (await post(weir.port, body)).body.replace(b" ", b"")
    asked = [request.body for request in server.got if b"tools/call" in request.body]
    assert (2 if trusts else 1, 1) == (
        sum(b'"look"' in body for body in asked),
        sum(b'"set"' in body for body in asked),
    )


@pytest.mark.parametrize("streams", [False, True])
async def test_a_late_read_is_tried_twice_and_answered_once(
    server: ScriptedServer, tmp_path: Path, streams: bool
) -> None:
    """Under the caller's id, at the pace of the quicker try; the other one is hung up on."""
    gone = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        if streams:
            await exchange.open()
        if len(server.got) == 1:
            await exchange.gone()
            gone.set()
        elif streams:
            await exchange.write(sse.encode(result(exchange)))
            await exchange.end()
        else:
            await exchange.json(result(exchange))

    server.script = answer
    hedging: Config = {**UNTRACED, "policies": {"hedge": {"mode": "enforce", "after": "200ms"}, "retry": {}}}
    with weir_http(tmp_path, {"url": server.url}, hedging) as weir:
        reply = await post(weir.port, read("mine"))
        assert (200, ["mine"]) == (reply.status, ids([reply.body]))
        async with asyncio.timeout(LIMIT_SECONDS):
            await gone.wait()
        # The one hung up on is told so in words too, by a notification that may be there by now or not.
        told = [json.loads(request.body) for request in server.got]
        sent = [message["id"] for message in told if "id" in message]
        assert (2, "mine", True) == (len(sent), sent[0], sent[1] != "mine")
