"""JSON documents with a member `error` that are no JSON-RPC, before a running weir."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support import talking
from support.bridges import tool
from support.rawhttp import Exchange, ScriptedServer, post
from support.stdio_script import COMMAND
from support.weirs import UNTRACED, Config, command, weir_http, weir_stdio

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

BREAKER: Config = {
    **UNTRACED,
    "policies": {"breaker": {"consecutive_failures": 3, "min_calls": 100, "clients": 1, "open_for": "10m"}},
}
DOCUMENTS = {
    "oauth": (401, b'{"error":"invalid_token","error_description":"expired"}'),
    "framework": (404, b'{"status":404,"error":"Not Found","path":"/mcp"}'),
    "api": (429, b'{"error":{"code":"rate_limited","message":"slow down"}}'),
    "success": (200, b'{"error":"maintenance"}'),
    "heart beat": (200, b'{"ok":true}'),
}


@pytest.fixture
async def server(request: pytest.FixtureRequest) -> AsyncIterator[ScriptedServer]:
    """An upstream that answers each request with one document."""
    status, body = request.param

    async def answer(exchange: Exchange) -> None:
        await exchange.json(body, status)

    async with ScriptedServer(answer) as one:
        yield one


@pytest.mark.parametrize("server", DOCUMENTS.values(), ids=DOCUMENTS, indirect=True)
async def test_a_client_on_a_pipe_gets_an_answer_and_no_document(server: ScriptedServer, tmp_path: Path) -> None:
    """One JSON-RPC error under the id of its request, with an integer code."""
    with weir_stdio(tmp_path, {"url": server.url}) as weir:
        answer = await talking.ask(weir, talking.CALL)
        await talking.leave(weir)
    assert (1, int) == (answer["id"], type(answer["error"]["code"]))


@pytest.mark.parametrize(
    ("server", "expected"), [(DOCUMENTS["oauth"], 401), ((503, b'{"error":"down"}'), 503)], ids=["401", "503"],
    indirect=["server"],
)  # fmt: skip
async def test_a_document_is_judged_by_its_status(server: ScriptedServer, tmp_path: Path, expected: int) -> None:
    """One bad token opens no circuit; a server that is down opens it after three calls."""
    with weir_http(tmp_path, {"url": server.url}, BREAKER) as weir:
        statuses = [(await post(weir.port, talking.CALL)).status for _ in range(6)]
    assert [expected] * 6 == statuses
    assert len(server.got) == (6 if expected == 401 else 3)


async def test_a_log_line_with_an_error_is_no_answer(tmp_path: Path) -> None:
    """Its id is that of the call that waits."""
    line = '{"level":"error","id":$ID,"error":"disk full"}'
    own = '{"jsonrpc":"2.0","id":$ID,"result":{}}'
    with weir_stdio(tmp_path, command(COMMAND)) as weir:
        await talking.ask(weir, talking.INITIALIZE)
        answer = await talking.ask(weir, tool("say", 7, lines=[line, own]))
        await talking.leave(weir)
    assert {"jsonrpc": "2.0", "id": 7, "result": {}} == answer
