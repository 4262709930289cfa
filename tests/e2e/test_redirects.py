"""Servers that redirect: weir follows where it is the client, and a client that follows stays with weir."""

import asyncio
import json
import sys
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from support.limits import HANG_SECONDS
from support.processes import free_port, running
from support.rawhttp import Exchange, Reply, ScriptedServer, fetch, post
from support.talking import CALL, INITIALIZE, INITIALIZED, ask, hear, leave, tell
from support.weirs import Config, weir_http, weir_stdio, weir_stdio_argv

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

JSON_LOGS: Config = {"telemetry": {"traces": {"exporter": "none"}, "logs": {"format": "json"}}}
NOTE = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}'
LISTED = {"jsonrpc": "2.0", "id": 1, "result": {"tools": []}}


class Moved:
    """Serves MCP at /mcp/ and redirects all that asks for /mcp, as Starlette's Mount does."""

    def __init__(self, server: ScriptedServer, status: int = 307, location: str = "{origin}/mcp/") -> None:
        self._status = status
        self._location = location.format(origin=server.url.removesuffix("/mcp")).encode()
        server.script = self.answer

    async def answer(self, exchange: Exchange) -> None:
        """Redirects, or answers as a server with one session."""
        target, body = exchange.request.target, exchange.request.body
        if target.partition(b"?")[0] == b"/mcp":
            await exchange.reply(self._status, [(b"Location", self._location)])
        elif exchange.request.verb != b"POST":
            await exchange.reply(405)
        else:
            await answer(exchange, json.loads(body))


async def answer(exchange: Exchange, asked: dict[str, object]) -> None:
    """Answers one message as a server with one session."""
    if asked["method"] == "initialize":
        info = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
        result = {"jsonrpc": "2.0", "id": asked["id"], "result": info}
        await exchange.json(json.dumps(result).encode(), headers=[(b"Mcp-Session-Id", b"abc")])
    elif "id" not in asked:
        await exchange.reply(202)
    else:
        await exchange.json(json.dumps({**LISTED, "id": asked["id"]}).encode())


def targets(server: ScriptedServer) -> list[tuple[bytes, bytes]]:
    """What the server was asked, in order."""
    return [(request.verb, request.target) for request in server.got]


@pytest.mark.parametrize("status", [307, 308])
async def test_weir_follows_for_a_client_on_a_pipe(server: ScriptedServer, tmp_path: Path, status: int) -> None:
    """With the method, the body and the headers that the operator gave; the session's end, too."""
    Moved(server, status)
    upstream = {"url": server.url, "headers": {"Authorization": "Bearer key"}}
    with weir_stdio(tmp_path, upstream, JSON_LOGS) as weir:
        assert "s" == (await ask(weir, INITIALIZE))["result"]["serverInfo"]["name"]
        tell(weir, INITIALIZED)
        assert LISTED == await ask(weir, CALL)
        await leave(weir)
        said = weir.log()
    followed = [request for request in server.got if request.target == b"/mcp/" and request.verb == b"POST"]
    assert [INITIALIZE, INITIALIZED, CALL] == [request.body for request in followed]
    assert {b"Bearer key"} == {request.get(b"authorization") for request in server.got}
    assert [b"", b"abc", b"abc"] == [request.get(b"mcp-session-id") for request in followed]
    assert (b"DELETE", b"/mcp/") == targets(server)[-1]
    assert 1 == said.count("the server redirects, and weir follows")


FORMS = ["/mcp/", "mcp/", "./mcp/", "//127.0.0.1:{port}/mcp/", "HTTP://127.0.0.1:{port}/mcp/#x"]


async def test_every_form_of_a_place_is_followed(server: ScriptedServer, tmp_path: Path) -> None:
    with weir_stdio(tmp_path, {"url": server.url}) as weir:
        for form in FORMS:
            Moved(server, 307, form.format(port=server.port))
            assert "s" == (await ask(weir, INITIALIZE))["result"]["serverInfo"]["name"]
        await leave(weir)


ELSEWHERE = {
    "another host": (307, "http://other.example/mcp"),
    "another scheme": (307, "https://127.0.0.1:{port}/mcp/"),
    "another port": (307, "http://127.0.0.1:1/mcp/"),
    "another name": (307, "http://localhost:{port}/mcp/"),
    "a user": (307, "http://user:pw@127.0.0.1:{port}/mcp/"),
    "no http": (307, "ftp://127.0.0.1/mcp"),
    "no URL": (307, "http://[::1/mcp"),
    "dots": (307, "/%2e%2e/mcp/"),
    "nothing": (307, ""),
    "301": (301, "/mcp/"),
    "302": (302, "/mcp/"),
    "303": (303, "/mcp/"),
}


async def test_weir_follows_to_no_other_origin_and_changes_no_method(server: ScriptedServer, tmp_path: Path) -> None:
    """The client learns that and not where, the log says where."""
    with weir_stdio(tmp_path, {"url": server.url}, JSON_LOGS) as weir:
        for status, location in ELSEWHERE.values():
            Moved(server, status, location.format(port=server.port))
            message = (await ask(weir, INITIALIZE))["error"]["message"]
            assert f"redirects to another address (HTTP {status})" in message
            assert not {"other.example", "127.0.0.1"}.intersection(message.split("/"))
        weir.stop()
        said = weir.log()
    assert [(b"POST", b"/mcp")] * len(ELSEWHERE) == targets(server)
    assert "the server redirects, and weir does not follow" in said
    assert '"http://other.example"' in said
    assert "user" not in said
    assert "pw" not in said


async def test_a_circle_of_redirects_ends(server: ScriptedServer, tmp_path: Path) -> None:
    Moved(server, 307, "/mcp")
    with weir_stdio(tmp_path, {"url": server.url}) as weir:
        error = (await ask(weir, INITIALIZE))["error"]
    assert "redirects to itself more than 5 times" in error["message"]
    assert 6 == len(server.got)


async def test_a_redirect_that_leads_to_nobody_was_sent_and_not_carried_out(
    server: ScriptedServer, tmp_path: Path
) -> None:
    async def script(exchange: Exchange) -> None:
        server.stop_listening()
        await exchange.reply(307, [(b"Location", b"/mcp/"), (b"Connection", b"close")])

    server.script = script
    with weir_stdio(tmp_path, {"url": server.url}) as weir:
        error = (await ask(weir, CALL))["error"]
        await leave(weir)
    assert ("upstream_connect_error", True) == (error["data"]["reason"], error["data"]["sent"])
    assert "was sent, and was not carried out" in error["message"]


@pytest.mark.parametrize("location", ["{origin}/mcp/?a=1#x", "/mcp/?a=1"])
async def test_a_client_over_http_that_follows_stays_with_weir(
    server: ScriptedServer, tmp_path: Path, location: str
) -> None:
    """The address of the server becomes weir's; a redirect to the address that was asked is weir's own matter."""
    Moved(server, 307, location)
    with weir_http(tmp_path, {"url": server.url}) as weir:
        for path in ("/mcp", "/mcp/", "/servers/one/mcp", "/servers/one/mcp/"):
            server.got.clear()
            reply, places = await following(weir.port, path)
            assert (200, LISTED) == (reply.status, json.loads(reply.body))
            assert [path, path.rstrip("/") + "/"][path.endswith("/") :] == places
            assert 1 == sum(target.startswith(b"/mcp/") for _, target in targets(server))


async def following(port: int, path: str) -> tuple[Reply, list[str]]:
    """Asks as a client that follows redirects to weir. Returns the last reply, and the paths that were asked."""
    url, places = f"http://127.0.0.1:{port}{path}", [path]
    reply = await post(port, CALL, target=path)
    while reply.status == 307 and len(places) < 4:
        url = urljoin(url, reply.get(b"location").decode())
        assert url.startswith(f"http://127.0.0.1:{port}/")
        places.append(urlsplit(url).path)
        reply = await post(port, CALL, target=places[-1])
    return reply, places


SDK_SERVER = """
import contextlib, sys
import uvicorn
from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette
from starlette.routing import Mount

server = MCPServer("real")

@server.tool()
def hi() -> str:
    return "hi"

inner = server.streamable_http_app(streamable_http_path="/")

@contextlib.asynccontextmanager
async def life(app):
    async with server.session_manager.run():
        yield

app = Starlette(routes=[Mount("/mcp", inner)], lifespan=life)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
"""


async def _tools(session: ClientSession) -> list[str]:
    await session.initialize()
    return [tool.name for tool in (await session.list_tools()).tools]


async def test_the_sdks_clients_reach_a_mounted_server_through_weir(tmp_path: Path) -> None:
    """The usual way to mount the SDK's server redirects each request to a slash."""
    script, port = tmp_path / "mounted.py", free_port()
    script.write_text(SDK_SERVER)
    upstream = {"url": f"http://127.0.0.1:{port}/mcp"}
    with running([sys.executable, script, str(port)], port=port), weir_http(tmp_path, upstream) as weir:
        async with asyncio.timeout(HANG_SECONDS):
            async with (
                streamable_http_client(f"http://127.0.0.1:{weir.port}/mcp") as streams,
                ClientSession(streams[0], streams[1]) as session,
            ):
                assert ["hi"] == await _tools(session)
            command, *arguments = map(str, weir_stdio_argv(tmp_path, upstream))
            async with (
                stdio_client(StdioServerParameters(command=command, args=arguments)) as streams,
                ClientSession(streams[0], streams[1]) as session,
            ):
                assert ["hi"] == await _tools(session)


async def test_places_that_weir_does_not_serve_and_documents_stay(server: ScriptedServer, tmp_path: Path) -> None:
    """A token for a rewritten resource would have the wrong audience."""
    origin = server.url.removesuffix("/mcp")
    challenge = f'Bearer resource_metadata="{origin}/.well-known/oauth-protected-resource/mcp"'.encode()

    async def script(exchange: Exchange) -> None:
        if b"well-known" in exchange.request.target:
            metadata = json.dumps({"resource": server.url}).encode()
            await exchange.json(metadata, headers=[(b"Content-Location", server.url.encode())])
        else:
            place = f"{origin}/elsewhere".encode()
            headers = [(b"Location", place), (b"WWW-Authenticate", challenge), (b"Content-Location", b"/mcp?x=1")]
            await exchange.reply(401, headers)

    server.script = script
    with weir_http(tmp_path, {"url": server.url}) as weir:
        reply = await post(weir.port, CALL)
        document = await fetch(weir.port, "GET", "/.well-known/oauth-protected-resource/mcp")
        other = await post(weir.port, CALL, target="/servers/one/mcp")
    assert f"{origin}/elsewhere".encode() == reply.get(b"location")
    assert (challenge, b"/mcp?x=1") == (reply.get(b"www-authenticate"), reply.get(b"content-location"))
    assert (server.url.encode(), server.url) == (
        document.get(b"content-location"),
        json.loads(document.body)["resource"],
    )
    assert b"/servers/one/mcp?x=1" == other.get(b"content-location")


async def test_the_query_of_the_upstreams_url_goes_to_no_client(server: ScriptedServer, tmp_path: Path) -> None:
    """It may be a key; weir adds it to each request itself."""

    async def script(exchange: Exchange) -> None:
        path, _, query = exchange.request.target.partition(b"?")
        if path == b"/mcp":
            await exchange.reply(307, [(b"Location", server.url.encode() + b"/?" + query)])
        else:
            await answer(exchange, json.loads(exchange.request.body))

    server.script = script
    with weir_http(tmp_path, {"url": f"{server.url}?key=secret"}) as weir:
        moved = await post(weir.port, CALL, target="/mcp?b=2")
        reply = await post(weir.port, CALL, target=moved.get(b"location").decode())
    assert b"/mcp/?b=2" == moved.get(b"location")
    assert (200, (b"POST", b"/mcp/?key=secret&b=2")) == (reply.status, targets(server)[-1])


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_slash_at_the_end_changes_nothing_before_a_stdio_server(tmp_path: Path, slash: str) -> None:
    script = tmp_path / "server.py"
    script.write_text(
        "import sys, json\n"
        "for line in sys.stdin:\n"
        "    message = json.loads(line)\n"
        "    print(json.dumps({'jsonrpc': '2.0', 'id': message['id'], 'result': {}}), flush=True)\n"
    )
    with weir_http(tmp_path, {"command": [sys.executable, str(script)]}) as weir:
        replies = [await post(weir.port, INITIALIZE, target=path + slash) for path in ("/mcp", "/servers/one/mcp")]
    assert [200, 200] == [reply.status for reply in replies]


async def test_a_get_follows_redirects_that_keep_it_a_get(server: ScriptedServer, tmp_path: Path) -> None:
    """The stream of a server behind a 301, and a client over HTTP whose slash weir has taken away."""

    async def script(exchange: Exchange) -> None:
        if exchange.request.verb == b"GET" and exchange.request.target == b"/mcp":
            await exchange.reply(301, [(b"Location", server.url.encode() + b"/")])
        elif exchange.request.verb == b"GET":
            await exchange.reply(200, [(b"Content-Type", b"text/event-stream")], b"data: " + NOTE + b"\n\n")
        else:
            await answer(exchange, json.loads(exchange.request.body or b"{}"))

    server.script = script
    with weir_stdio(tmp_path, {"url": server.url}) as weir:
        await ask(weir, INITIALIZE)
        tell(weir, INITIALIZED)
        assert json.loads(NOTE) == await hear(weir)
    with weir_http(tmp_path, {"url": server.url}) as weir:
        replies = [await fetch(weir.port, "GET", path) for path in ("/mcp", "/mcp/")]
    assert [(301, b"/mcp/"), (200, b"")] == [(reply.status, reply.get(b"location")) for reply in replies]


async def test_the_log_names_the_host_that_clients_are_sent_to(server: ScriptedServer, tmp_path: Path) -> None:
    """Once, without path and query, and clients get the place as it is."""
    Moved(server, 302, "https://login.example/start?token=t")
    with weir_http(tmp_path, {"url": server.url}, JSON_LOGS) as weir:
        replies = [await post(weir.port, CALL) for _ in range(3)]
        weir.stop()
        lines = [line for line in weir.log().splitlines() if "redirects" in line]
    assert {b"https://login.example/start?token=t"} == {reply.get(b"location") for reply in replies}
    assert ["https://login.example"] == [json.loads(line)["to"] for line in lines]
