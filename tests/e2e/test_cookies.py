"""Where weir is the HTTP client it keeps the cookies of a conversation; where it relays, they are the client's."""

import json
from pathlib import Path

import pytest

from support.rawhttp import Exchange, ScriptedServer, post
from support.talking import CALL, INITIALIZE, INITIALIZED, ask, leave, tell
from support.weirs import weir_http, weir_stdio

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


class Sticky:
    """A load balancer that finds the server of a session by its cookie, as it sets it on the first reply."""

    def __init__(self, server: ScriptedServer, attributes: bytes = b"; Path=/; HttpOnly") -> None:
        self._attributes = attributes
        server.script = self.answer

    async def answer(self, exchange: Exchange) -> None:
        """Answers the handshake; what comes without the cookie reaches a server that knows no session."""
        asked = json.loads(exchange.request.body or b"{}")
        result = json.dumps({"jsonrpc": "2.0", "id": asked.get("id"), "result": {"tools": []}}).encode()
        if exchange.request.target == b"/mcp/old":
            headers = [(b"Location", b"/mcp"), (b"Set-Cookie", b"hop=1; Path=/")]
            await exchange.reply(307, headers)
        elif asked.get("method") == "initialize":
            cookie = (b"Set-Cookie", b"lb=node7" + self._attributes)
            await exchange.json(result, headers=[(b"Mcp-Session-Id", b"abc"), cookie, (b"Set-Cookie", b"b=2")])
        elif b"lb=node7" not in exchange.request.get(b"cookie"):
            await exchange.json(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"no session"}}', 404)
        elif "id" in asked:
            await exchange.json(result)
        else:
            await exchange.reply(202 if asked else 405)


async def test_a_session_behind_a_load_balancer_stays_on_its_server(server: ScriptedServer, tmp_path: Path) -> None:
    """Every request of the conversation has the cookies, its end too; the operator's own cookie goes first."""
    Sticky(server)
    upstream = {"url": server.url, "headers": {"Cookie": "mine=1"}}
    with weir_stdio(tmp_path, upstream) as weir:
        await ask(weir, INITIALIZE)
        tell(weir, INITIALIZED)
        assert {"tools": []} == (await ask(weir, CALL))["result"]
        await leave(weir)
    cookies = [request.all(b"cookie") for request in server.got]
    assert [[b"mine=1"], *[[b"mine=1; lb=node7; b=2"]] * (len(cookies) - 1)] == cookies
    assert {b"POST", b"GET", b"DELETE"} == {request.verb for request in server.got}


async def test_a_cookie_that_a_redirect_sets_goes_with_the_next_request(server: ScriptedServer, tmp_path: Path) -> None:
    Sticky(server)
    with weir_stdio(tmp_path, {"url": server.url + "/old"}) as weir:
        await ask(weir, INITIALIZE)
        assert {"tools": []} == (await ask(weir, CALL))["result"]
        await leave(weir)
    posts = [request.get(b"cookie").split(b"; ") for request in server.got if request.verb == b"POST"]
    every = {b"hop=1", b"lb=node7", b"b=2"}
    assert [{b""}, {b"hop=1"}, every, every] == [set(cookies) for cookies in posts[:4]]


async def test_cookies_that_are_relayed_are_the_clients(server: ScriptedServer, tmp_path: Path) -> None:
    """Two clients over HTTP share weir, and no cookie."""
    Sticky(server)
    with weir_http(tmp_path, {"url": server.url}) as weir:
        first = await post(weir.port, INITIALIZE)
        second = await post(weir.port, CALL)
        third = await post(weir.port, CALL, [(b"Cookie", b"lb=node7"), (b"Content-Type", b"application/json")])
    assert [b"lb=node7; Path=/; HttpOnly", b"b=2"] == first.all(b"set-cookie")
    assert (404, 200) == (second.status, third.status)
    assert [b"", b"", b"lb=node7"] == [request.get(b"cookie") for request in server.got]
