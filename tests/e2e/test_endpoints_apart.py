"""What one endpoint of a server answers says nothing of the session, and an open reply holds nothing up."""

import asyncio
import json
from pathlib import Path

import pytest

from support.limits import HANG_SECONDS
from support.processes import free_port
from support.rawhttp import Exchange, Headers, ScriptedServer, fetch
from support.talking import CALL, INITIALIZE, INITIALIZED, ask, hear, leave, tell
from support.weirs import UNTRACED, Config, weir_stdio

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

EVENTS = [(b"Content-Type", b"text/event-stream")]


class Session:
    """A server with one session, which answers GET and DELETE in its own ways."""

    def __init__(self, server: ScriptedServer, get: int = 405) -> None:
        self._get = get
        self.is_gone = False
        self.open_reply: tuple[int, Headers] | None = None
        self.asked_to_listen = asyncio.Event()
        server.script = self.answer

    async def answer(self, exchange: Exchange) -> None:
        """As a Streamable HTTP server."""
        verb, body = exchange.request.verb, exchange.request.body
        if verb != b"POST":
            self.asked_to_listen.set()
            await exchange.reply(self._get if verb == b"GET" else 200, [(b"Content-Type", b"text/html")], b"Cannot GET")
            return
        message = json.loads(body)
        result = json.dumps({"jsonrpc": "2.0", "id": message.get("id"), "result": {"tools": []}}).encode()
        if message["method"] == "initialize":
            await exchange.json(result, headers=[(b"Mcp-Session-Id", b"abc")])
        elif self.is_gone:
            await exchange.reply(404, [], b"no session")
        elif "id" in message:
            await exchange.json(result)
        elif self.open_reply is not None:
            await exchange.open(*self.open_reply)
            await exchange.gone()
        else:
            await exchange.reply(202)


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_server_without_a_stream_keeps_its_session(server: ScriptedServer, tmp_path: Path, status: int) -> None:
    """It is asked once for a stream, calls go on, the session is ended at the end, and nobody is worried."""
    session, diagnostics = Session(server, status), free_port()
    config: Config = {**UNTRACED, "listen": {"diagnostics": f"127.0.0.1:{diagnostics}"}}
    with weir_stdio(tmp_path, {"url": server.url}, config) as weir:
        await ask(weir, INITIALIZE)
        tell(weir, INITIALIZED)
        async with asyncio.timeout(HANG_SECONDS):
            await session.asked_to_listen.wait()
        assert "result" in await ask(weir, CALL)
        status_page = json.loads((await fetch(diagnostics, "GET", "/status")).body)
        metrics = (await fetch(diagnostics, "GET", "/metrics")).body.decode()
        await leave(weir)
        said = weir.log()
    opened = [line for line in metrics.splitlines() if line.startswith("weir_sessions_open{")]
    assert {"1"} == {line.rpartition(" ")[2].removesuffix(".0") for line in opened}
    assert ("healthy", "") == tuple(status_page["upstreams"]["one"][name] for name in ("state", "reason"))
    assert [b"POST", b"POST", b"GET", b"POST", b"DELETE"] == [request.verb for request in server.got]
    assert [] == [word for word in ("has ended the session", "GET stream", "WARNING") if word in said]


async def test_the_next_post_tells_that_a_session_is_gone(server: ScriptedServer, tmp_path: Path) -> None:
    session = Session(server, 404)
    with weir_stdio(tmp_path, {"url": server.url}) as weir:
        await ask(weir, INITIALIZE)
        tell(weir, INITIALIZED)
        session.is_gone = True
        assert "error" in await ask(weir, CALL)
        await leave(weir)
        assert 1 == weir.log().count("the server has ended the session (HTTP 404)")
    assert b"DELETE" not in [request.verb for request in server.got]


@pytest.mark.parametrize(
    "reply",
    [(200, EVENTS), (202, []), (200, [(b"Content-Type", b"text/plain")])],
    ids=["events", "accepted", "plain text"],
)
async def test_replies_left_open_behind_notifications_hold_nothing_up(
    server: ScriptedServer, tmp_path: Path, reply: tuple[int, Headers]
) -> None:
    """Forty notifications and a call behind them go out at once, the GET stream is asked for, and the end is prompt."""
    session = Session(server)
    session.open_reply = reply
    progress = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":%d}}'
    with weir_stdio(tmp_path, {"url": server.url, "connections": 50}) as weir:
        await ask(weir, INITIALIZE)
        began = asyncio.get_running_loop().time()
        tell(weir, INITIALIZED, *(progress % number for number in range(40)))
        assert "result" in await ask(weir, CALL)
        seconds = asyncio.get_running_loop().time() - began
        await leave(weir)
    # one second each, if each were waited for
    assert seconds < 20
    assert b"GET" in [request.verb for request in server.got]
    assert 43 == sum(request.verb == b"POST" for request in server.got)


async def test_what_a_server_says_on_such_a_stream_is_heard(server: ScriptedServer, tmp_path: Path) -> None:
    note = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}'

    async def answer(exchange: Exchange) -> None:
        if exchange.request.body == INITIALIZED:
            await exchange.open(200, EVENTS)
            await exchange.write(b"data: " + note + b"\n\n")
            await exchange.gone()
        else:
            await session.answer(exchange)

    session = Session(server)
    server.script = answer
    with weir_stdio(tmp_path, {"url": server.url}) as weir:
        await ask(weir, INITIALIZE)
        tell(weir, INITIALIZED)
        assert json.loads(note) == await hear(weir)
        await leave(weir)
