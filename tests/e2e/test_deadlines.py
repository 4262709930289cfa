"""Deadlines in a running weir: what the caller gets, what the server is told, and whose time is not counted."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.processes import Running, free_port
from support.rawhttp import JSON_POST, LIMIT_SECONDS, Exchange, Reply, Request, ScriptedServer, ask, post
from support.scripted import black_hole
from support.weirs import UNTRACED, Config, weir_http
from weir.policies.deadline_wire import DEADLINE_HEADER
from weir.protocol.shapes import DEADLINE_KEY

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"slow"}}'
MODERN = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"slow","_meta":%b}}' % (
    b'{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}'
)
OK = b'{"jsonrpc":"2.0","id":7,"result":{}}'
SESSION = [(b"Mcp-Session-Id", b"s-1"), (b"MCP-Protocol-Version", b"2025-11-25")]
ENVELOPE = [(b"MCP-Protocol-Version", b"2026-07-28"), (b"Mcp-Method", b"tools/call"), (b"Mcp-Name", b"slow")]


def limits(**timeout: Any) -> Config:
    """weir with these timers."""
    return {**UNTRACED, "policies": {"timeout": timeout}}


class Silent:
    """A server that answers no call, takes every notification, and notices when it is left."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.told = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        """One request."""
        if b'"notifications/' in exchange.request.body:
            await exchange.reply(202)
            self.told.set()
            return
        await exchange.gone()
        self.left.set()


def error_of(reply: Reply) -> dict[str, Any]:
    """The JSON-RPC error that the caller got."""
    tree = json.loads(reply.body)
    assert 7 == tree["id"]
    error: dict[str, Any] = tree["error"]
    return error


def notifications(server: ScriptedServer) -> list[Request]:
    """Those that the server got."""
    return [request for request in server.got if b'"notifications/' in request.body]


async def test_a_legacy_server_is_told_that_nobody_waits_any_more(server: ScriptedServer, tmp_path: Path) -> None:
    """Its exchange ends, and `notifications/cancelled` comes with the session and the request's id."""
    server.script = silent = Silent()
    with weir_http(tmp_path, {"url": server.url}, limits(attempt="500ms")) as weir:
        reply = await post(weir.port, CALL, SESSION)
        assert 504 == reply.status
        error = error_of(reply)
        data = error["data"]
        assert ("upstream_timeout", "attempt", 500) == (data["reason"], data["timer"], data["afterMs"])
        assert ("upstream", True) == (data["blame"], data["sent"])
        assert "no answer within 0.5 s (timer 'attempt'); weir was waiting for the MCP server" in error["message"]
        async with asyncio.timeout(LIMIT_SECONDS):
            await silent.left.wait()
            await silent.told.wait()
    (told,) = notifications(server)
    assert 7 == json.loads(told.body)["params"]["requestId"]
    assert b"s-1" == told.get(b"mcp-session-id")


async def test_a_modern_servers_exchange_just_ends(server: ScriptedServer, tmp_path: Path) -> None:
    """From 2026-07-28 on that is the cancellation, and a notification would be a mistake."""
    server.script = silent = Silent()
    with weir_http(tmp_path, {"url": server.url}, limits(attempt="500ms")) as weir:
        assert 504 == (await post(weir.port, MODERN, ENVELOPE)).status
        async with asyncio.timeout(LIMIT_SECONDS):
            await silent.left.wait()
        server.script = answers
        assert 200 == (await post(weir.port, MODERN, ENVELOPE)).status
    assert [] == notifications(server)


async def answers(exchange: Exchange) -> None:
    """At once."""
    await exchange.json(OK)


async def test_the_server_learns_how_long_weir_waits(server: ScriptedServer, tmp_path: Path) -> None:
    """In `_meta` and in a header; nothing of that without the policy."""
    server.script = answers
    with weir_http(tmp_path, {"url": server.url}, limits(total="90s")) as weir:
        assert OK == (await post(weir.port, CALL)).body
    with weir_http(tmp_path, {"url": server.url}) as weir:
        assert OK == (await post(weir.port, CALL, [(DEADLINE_HEADER, b"1234")])).body
    with_policy, without = server.got
    told = json.loads(with_policy.body)["params"]["_meta"][DEADLINE_KEY]
    assert b"%d" % told == with_policy.get(DEADLINE_HEADER)
    assert 80_000 < told <= 90_000
    assert (CALL, b"1234") == (without.body, without.get(DEADLINE_HEADER))


async def test_weir_before_weir_waits_no_longer_than_the_first(server: ScriptedServer, tmp_path: Path) -> None:
    """The second one ends the call when the first one's total is over, and says whose time it was."""
    server.script = Silent()
    with weir_http(tmp_path, {"url": server.url}, limits(total="60s")) as second:
        reply = await post(second.port, CALL, [(DEADLINE_HEADER, b"400")])
    error = error_of(reply)
    assert (504, "total", 400, "downstream") == (
        reply.status,
        error["data"]["timer"],
        error["data"]["afterMs"],
        error["data"]["blame"],
    )


async def test_of_two_weirs_in_a_row_the_second_stops_when_the_first_does(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """It was told how long the first one waits, and leaves the server by then although its own limit is far."""
    server.script = silent = Silent()
    with weir_http(tmp_path, {"url": server.url}, limits(total="60s", attempt="60s")) as second:
        behind = {"url": f"http://127.0.0.1:{second.port}/mcp"}
        with weir_http(tmp_path, behind, limits(total="800ms", attempt="700ms", connect="500ms")) as first:
            began = time.monotonic()
            assert 504 == (await post(first.port, CALL)).status
            async with asyncio.timeout(LIMIT_SECONDS):
                await silent.left.wait()
            assert 0.6 < time.monotonic() - began < 2.0
    (asked,) = server.got
    told = json.loads(asked.body)["params"]["_meta"][DEADLINE_KEY]
    assert 0 < told <= 800
    assert b"%d" % told == asked.get(DEADLINE_HEADER)


async def test_progress_keeps_a_call_alive(server: ScriptedServer, tmp_path: Path) -> None:
    """Two seconds of work, with an attempt's limit of one."""

    async def working(exchange: Exchange) -> None:
        await exchange.open()
        for step in range(8):
            await asyncio.sleep(0.25)
            params = b'{"progressToken":1,"progress":%d}' % step
            await exchange.write(b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":%b}\n\n' % params)
        await exchange.write(b"data: %b\n\n" % OK)
        await exchange.end()

    server.script = working
    with weir_http(tmp_path, {"url": server.url}, limits(attempt="1s", total="30s")) as weir:
        reply = await post(weir.port, CALL)
    assert 8 == reply.body.count(b"notifications/progress")
    assert OK in reply.body


async def test_the_time_that_the_client_takes_is_not_the_servers(server: ScriptedServer, tmp_path: Path) -> None:
    """It is asked, and thinks for longer than an attempt may take."""
    answered = asyncio.Event()

    async def asking(exchange: Exchange) -> None:
        if b'"result"' in exchange.request.body:
            await exchange.reply(202)
            answered.set()
            return
        await exchange.open()
        await exchange.write(b'data: {"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{}}\n\n')
        await answered.wait()
        await exchange.write(b"data: %b\n\n" % OK)
        await exchange.end()

    server.script = asking
    with weir_http(tmp_path, {"url": server.url}, limits(attempt="500ms", total="6s")) as weir:
        async with ask(weir.port, "POST", "/mcp", [*JSON_POST, *SESSION], CALL) as answer:
            assert b"sampling/createMessage" in await answer.event()
            await asyncio.sleep(2.0)
            assert 202 == (await post(weir.port, b'{"jsonrpc":"2.0","id":"q","result":{}}', SESSION)).status
            assert OK in await answer.event()


async def asking(exchange: Exchange) -> None:
    """Asks the client, and waits until it is hung up on."""
    if b'"notifications/' in exchange.request.body:
        await exchange.reply(202)
        return
    await exchange.open()
    await exchange.write(b'data: {"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}\n\n')
    await exchange.gone()


async def test_a_client_that_is_asked_and_says_nothing_is_given_up(server: ScriptedServer, tmp_path: Path) -> None:
    """After client_input; the failure is the stream's last event, and names what was asked."""
    server.script = asking
    with weir_http(tmp_path, {"url": server.url}, limits(client_input="500ms")) as weir:
        async with ask(weir.port, "POST", "/mcp", [*JSON_POST, *SESSION], CALL) as answer:
            await answer.event()
            last = json.loads((await answer.event()).partition(b"data:")[2])
    assert ("client_input", "downstream") == (last["error"]["data"]["timer"], last["error"]["data"]["blame"])
    assert "waiting for the client's answer to elicitation/create" in last["error"]["message"]


CONNECT_SECONDS, LATE_SECONDS, MACHINE_SECONDS = 0.3, 0.1, 0.15
"""The limit, what an answer may take beyond it, and what a busy test machine may add."""
LIST = b'{"jsonrpc":"2.0","id":7,"method":"tools/list"}'


def at(port: int) -> Config:
    """An upstream there."""
    return {"url": f"http://127.0.0.1:{port}/mcp"}


async def test_reaching_a_server_that_never_answers_has_one_limit_for_all_tries(tmp_path: Path) -> None:
    """Three retries are allowed, and there is no time for one."""
    retry = {"attempts": 4, "backoff": {"initial": "50ms"}, "budget": {"ratio": 1, "min_per_second": 100}}
    policies = {"timeout": {"connect": "300ms"}, "retry": retry}
    with black_hole() as (_, port), weir_http(tmp_path, at(port), {**UNTRACED, "policies": policies}) as weir:
        await post(weir.port, LIST)
        began = time.monotonic()
        reply = await post(weir.port, LIST)
        seconds = time.monotonic() - began
    error = error_of(reply)
    assert (504, "connect", False) == (reply.status, error["data"]["timer"], error["data"]["sent"])
    assert CONNECT_SECONDS <= seconds <= CONNECT_SECONDS + LATE_SECONDS + MACHINE_SECONDS


async def test_tries_that_are_refused_at_once_end_with_the_time_to_connect(tmp_path: Path) -> None:
    """Ten are allowed, with waits of up to two seconds; the waits are spent of it too."""
    retry = {"attempts": 10, "backoff": {"initial": "100ms"}, "budget": {"ratio": 1, "min_per_second": 100}}
    policies = {"timeout": {"connect": "300ms"}, "retry": retry}
    with weir_http(tmp_path, at(free_port()), {**UNTRACED, "policies": policies}) as weir:
        for _ in range(5):
            began = time.monotonic()
            assert "upstream_connect_error" == error_of(await post(weir.port, LIST))["data"]["reason"]
            assert time.monotonic() - began <= CONNECT_SECONDS + LATE_SECONDS + MACHINE_SECONDS


@pytest.mark.parametrize("is_stdio", [False, True], ids=["http", "stdio"])
async def test_silence_has_a_limit_of_its_own_for_a_tool(
    server: ScriptedServer, is_stdio: bool, tmp_path: Path
) -> None:
    """And one for all others, which is longer."""
    server.script = Silent()
    command: Config = {"command": [sys.executable, "-c", RECORDING, str(tmp_path / "record")]}
    upstream = {**(command if is_stdio else {"url": server.url}), "tools": {"slow": {"timeout": {"idle": "300ms"}}}}
    with weir_http(tmp_path, upstream, limits(idle="20s")) as weir:
        headers = [(b"Mcp-Session-Id", await initialized(weir))] if is_stdio else []
        error = error_of(await post(weir.port, CALL, headers))
        assert ("idle", 300) == (error["data"]["timer"], error["data"]["afterMs"])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await post(weir.port, CALL.replace(b"slow", b"other"), headers)


async def test_a_tool_may_ask_the_client_for_longer_than_others(server: ScriptedServer, tmp_path: Path) -> None:
    """Its own limit holds while the client is asked."""
    server.script = asking
    upstream = {"url": server.url, "tools": {"slow": {"timeout": {"client_input": "400ms"}}}}
    with weir_http(tmp_path, upstream, limits(client_input="60s")) as weir:
        async with ask(weir.port, "POST", "/mcp", [*JSON_POST, *SESSION], CALL) as answer:
            await answer.event()
            data = json.loads((await answer.event()).partition(b"data:")[2])["error"]["data"]
    assert ("client_input", 400) == (data["timer"], data["afterMs"])


RECORDING = """
import json, pathlib, sys
for line in sys.stdin:
    with pathlib.Path(sys.argv[1]).open("a") as record:
        record.write(line)
    message = json.loads(line)
    if message["method"] == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {}}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""
"""A server on a pipe that keeps what it reads, and answers no call."""


@pytest.mark.parametrize("is_modern", [False, True])
async def test_a_server_on_a_pipe_is_told_in_every_revision(is_modern: bool, tmp_path: Path) -> None:
    """There is no exchange that could end."""
    record = tmp_path / "record"
    upstream = {"command": [sys.executable, "-c", RECORDING, str(record)]}
    with weir_http(tmp_path, upstream, limits(attempt="500ms")) as weir:
        headers = ENVELOPE if is_modern else [(b"Mcp-Session-Id", await initialized(weir))]
        assert 504 == (await post(weir.port, MODERN if is_modern else CALL, headers)).status
        weir.stop()
    *_, called, told = map(json.loads, record.read_text().splitlines())
    assert ("notifications/cancelled", called["id"]) == (told["method"], told["params"]["requestId"])
    assert 0 < called["params"]["_meta"][DEADLINE_KEY] <= 120_000


async def initialized(weir: Running) -> bytes:
    """A session with the server."""
    reply = await post(
        weir.port,
        b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}',
    )
    return reply.get(b"mcp-session-id")
