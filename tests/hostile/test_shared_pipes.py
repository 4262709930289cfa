"""Two clients, one of them hostile, before a stdio server that they share (2026-07-28)."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from support.bridges import modern, notification, request
from support.processes import Running
from support.rawhttp import Headers, ask, post
from support.stdio_script import COMMAND
from support.weirs import UNTRACED, Config, command, weir_http
from weir.protocol.envelope import peek
from weir.protocol.headers import mcp_headers

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CONFIG: Config = {**UNTRACED, "listen": {"diagnostics": "127.0.0.1:0"}}
SHARED = command(COMMAND)
MODERN: Headers = [(b"MCP-Protocol-Version", b"2026-07-28")]
LOG_LEVEL = {"io.modelcontextprotocol/logLevel": "info"}
SECRET = "what was asked for by A"
HANG_SECONDS = 60
DONE = '{"jsonrpc":"2.0","id":$ID,"result":{"content":[{"type":"text","text":"done"}]}}'


def headers(body: bytes) -> Headers:
    """The headers that mirror a body."""
    return [*mcp_headers(peek(body)), (b"accept", b"application/json, text/event-stream")]


async def call(port: int, body: bytes) -> tuple[int, list[Any]]:
    """Status and messages of a reply."""
    reply = await post(port, body, headers(body))
    blocks = [line.removeprefix(b"data: ") for line in reply.body.split(b"\n") if line.startswith((b"data: ", b"{"))]
    return reply.status, [json.loads(block) for block in blocks]


def unanswered() -> bytes:
    """A call of which the server tells progress, and no more."""
    meta = {**LOG_LEVEL, "progressToken": 1}
    line = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": "$TOKEN", "progress": 1}}
    return modern("say", 1, meta, lines=[json.dumps(line).replace('"$TOKEN"', "$TOKEN")])


async def last_id(port: int) -> int:
    """The id under which the server knows the newest request."""
    _, (answer,) = await call(port, modern("id", "probe"))
    return int(answer["result"]["content"][0]["text"]) - 1


async def lines_read(port: int) -> int:
    """How many lines the server has read, with the one that asks."""
    _, (answer,) = await call(port, modern("lines"))
    return int(answer["result"]["content"][0]["text"])


async def told_of_cancel(weir: Running) -> None:
    """Wait until the server has read that a caller left."""
    async with asyncio.timeout(HANG_SECONDS):
        while "told: " not in weir.log():
            await call(weir.port, modern("pid"))


async def test_what_a_server_says_for_a_client_that_left_reaches_no_other(tmp_path: Path) -> None:
    """Logs, progress, a nameless error and a question: all for A, who left; B has the only open call."""
    with weir_http(tmp_path, SHARED, CONFIG) as weir:
        body = unanswered()
        async with ask(weir.port, "POST", "/mcp", headers(body), body):
            number = await last_id(weir.port)
        await told_of_cancel(weir)
        progress = {"progressToken": number, "progress": 1, "message": SECRET}
        lines = [
            notification("notifications/message", {"level": "info", "data": SECRET}),
            notification("notifications/progress", progress),
            notification("notifications/tools/list_changed", {"why": SECRET}),
            request("elicitation/create", {"message": SECRET}, "q"),
            json.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": -32603, "message": SECRET}}).encode(),
        ]
        texts = [line.decode() for line in lines]
        status, messages = await call(weir.port, modern("say", 1, LOG_LEVEL, lines=[*texts, DONE]))
        assert 200 == status
        assert SECRET not in json.dumps(messages)
        assert ["done"] == [each["result"]["content"][0]["text"] for each in messages]


async def test_nobody_answers_or_cancels_for_another_client(tmp_path: Path) -> None:
    """Posted answers and cancellations go nowhere, by any id; B's call is answered all the same."""
    with weir_http(tmp_path, SHARED, CONFIG) as weir:
        body = unanswered()
        meta = json.loads(body)["params"]["_meta"]
        async with ask(weir.port, "POST", "/mcp", headers(body), body) as waiting:
            number = await last_id(weir.port)
            for raw_id in (1, number, str(number)):
                for attack in (
                    notification("notifications/cancelled", {"requestId": raw_id}),
                    json.dumps({"jsonrpc": "2.0", "id": raw_id, "result": {}}).encode(),
                ):
                    assert 202 == (await post(weir.port, attack, MODERN)).status
            as_request = request("notifications/cancelled", {"requestId": number, "_meta": meta})
            assert 400 == (await call(weir.port, as_request))[0]
            answer = DONE.replace("$ID", str(number))
            assert 200 == (await call(weir.port, modern("say", 2, lines=[answer, DONE])))[0]
            assert b"done" in await waiting.rest()
        assert "told: " not in weir.log()


@pytest.mark.parametrize(
    "raw_id", ["9" * 5000, '"' + "9" * 5000 + '"', "[[[]]]", "1e400"], ids=["digits", "text", "array", "infinite"]
)
async def test_an_odd_id_costs_one_line(tmp_path: Path, raw_id: str) -> None:
    """The server serves on, for all its callers."""
    with weir_http(tmp_path, SHARED, CONFIG) as weir:
        _, (before,) = await call(weir.port, modern("pid"))
        lines = [f'{{"jsonrpc":"2.0","id":{raw_id},"result":{{}}}}', f'{{"jsonrpc":"2.0","id":{raw_id},"method":"x"}}']
        status, messages = await call(weir.port, modern("say", 2, lines=[*lines, DONE]))
        assert (200, 1) == (status, len(messages))
        _, (after,) = await call(weir.port, modern("pid"))
        assert before["result"] == after["result"]


async def test_what_can_be_read_in_two_ways_is_refused(tmp_path: Path) -> None:
    """Twins and names that differ in case only, under the exact id. The server reads nothing of them."""
    with weir_http(tmp_path, SHARED, CONFIG) as weir:
        before = await lines_read(weir.port)
        for old, new in ((b'"name"', b'"Name": "exit", "name"'), (b'"method"', b'"Method": "x", "method"')):
            body = modern("echo", "a").replace(old, new, 1)
            status, (answer,) = await call(weir.port, body)
            assert (400, -32600, "a") == (status, answer["error"]["code"], answer["id"])
        assert before + 1 == await lines_read(weir.port)
