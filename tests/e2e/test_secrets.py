"""A running weir writes no secret, and tells no caller where its servers are: everything it says is searched."""

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.marked import ASKED, CALL, HEADERS, READ, RESULT, TOLD
from support.otlp_sink import Sink, http_sink
from support.processes import Running, free_port
from support.rawhttp import Exchange, Headers, Reply, ScriptedServer, ask, fetch, post
from support.seen import diagnostics_port, logged, shown
from support.stdio_script import COMMAND
from support.weirs import Config, command, weir_http, weir_stdio

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

WATCHED: Config = {
    "listen": {"diagnostics": "127.0.0.1:0"},
    "telemetry": {"traces": {"exporter": "otlp"}, "logs": {"level": "debug"}},
    "policies": {"timeout": {"idle": "1s"}, "retry": {}},
}
ERROR = (
    b'{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"https://u:MARKER-said@h/x?k=MARKER-said refused '
    b'Authorization: Bearer MARKER-said","data":{"token":"MARKER-data"}}}'
)
COOKIE: Headers = [(b"Set-Cookie", b"sid=MARKER-set"), (b"Mcp-Session-Id", b"MARKER-minted")]


async def answers(exchange: Exchange) -> None:
    """A result."""
    await exchange.json(RESULT, headers=COOKIE)


async def errs(exchange: Exchange) -> None:
    """A JSON-RPC error with secrets in it."""
    await exchange.json(ERROR, headers=COOKIE)


async def refuses(exchange: Exchange) -> None:
    """An HTTP error that is one."""
    await exchange.json(ERROR, 401, [*COOKIE, (b"WWW-Authenticate", b'Bearer realm="MARKER-realm"')])


async def streams(exchange: Exchange) -> None:
    """A notification, a question, a result."""
    await exchange.open(200, [(b"Content-Type", b"text/event-stream"), *COOKIE])
    for message in (TOLD, ASKED, RESULT):
        await exchange.write(b"id: MARKER-id\ndata: " + message + b"\n\n")
    await exchange.end()


async def redirects(exchange: Exchange) -> None:
    """Elsewhere, with a secret in the address."""
    await exchange.reply(307, [(b"Location", b"http://u:MARKER-go@127.0.0.1:1/?k=MARKER-go"), *COOKIE])


async def breaks(exchange: Exchange) -> None:
    """No reply."""
    exchange.abort()


async def babbles(exchange: Exchange) -> None:
    """No HTTP."""
    await exchange.raw(b"MARKER-noise " * 100 + b"\r\n\r\n")
    exchange.abort()


async def pages(exchange: Exchange) -> None:
    """A page, whose type says too much."""
    await exchange.reply(200, [(b"Content-Type", b"text/html; token=MARKER-type")], b"<html>MARKER-page</html>")


async def stalls(exchange: Exchange) -> None:
    """Nothing."""
    await exchange.gone()


OWN_ERRORS = (breaks, babbles, pages, stalls)
"""Where weir itself answers."""


async def everything_said(weir: Running, sink: Sink, pages_of: Sequence[str] = ("/metrics", "/status")) -> list[str]:
    """What weir shows and has written; it is stopped for that."""
    pages = [(await shown(weir, page)).decode() for page in pages_of]
    port = await diagnostics_port(weir)
    accept = [(b"Accept", b"application/openmetrics-text")]
    pages.append((await fetch(port, "GET", "/metrics", accept)).body.decode())
    weir.interrupt()
    await asyncio.to_thread(weir.wait)
    return [*pages, weir.log(), *(body.decode("latin-1") for body in sink.raw)]


def markers(texts: Sequence[str]) -> set[str]:
    """The secrets that are in them."""
    return {found for text in texts for found in re.findall(r"MARKER-?\w*", text)}


async def test_no_secret_of_client_or_server_is_written(server: ScriptedServer, tmp_path: Path) -> None:
    """Every kind of call and reply; log at debug, spans as on the wire, both formats of metrics, the other pages."""
    upstream = {
        "url": server.url + "?api_key=MARKER-query",
        "headers": {"X-Upstream-Token": "MARKER-configured", "Authorization": "Bearer MARKER-configured"},
    }
    with http_sink() as sink:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        with weir_http(tmp_path, upstream, WATCHED, env) as weir:
            own = await play(server, weir)
            said = await everything_said(weir, sink, ("/metrics", "/status", "/readyz"))
    assert b"echo" in b"".join(sink.raw)
    assert any('"msg":"call"' in text for text in said)
    assert set() == markers(said)
    assert set() == markers([reply.body.decode() for reply in own])
    # the server itself got what was meant for it
    assert {b"/mcp?api_key=MARKER-query"} <= {request.target for request in server.got}


async def play(server: ScriptedServer, weir: Running) -> list[Reply]:
    """Everything that may hold a secret, through weir; gives what weir itself answered."""
    own: list[Reply] = []
    for script in (answers, errs, refuses, streams, redirects, *OWN_ERRORS):
        server.script = script
        for body in (CALL, READ, TOLD, b"[" + CALL + b"]"):
            reply = await post(weir.port, body, HEADERS)
            if script in OWN_ERRORS and body is not TOLD:
                assert reply.status in (502, 504), (script, reply)
                own.append(reply)
    server.script = streams
    async with ask(weir.port, "GET", "/mcp", [*HEADERS, (b"Accept", b"text/event-stream")]) as stream:
        await stream.rest()
    server.script = answers
    await fetch(weir.port, "DELETE", "/mcp", HEADERS)
    own += [await post(weir.port, CALL, HEADERS, target) for target in ("/mcp/MARKER-path", "/elsewhere?k=MARKER-q")]
    own.append(await post(weir.port, CALL, [*HEADERS, (b"Origin", b"https://MARKER-origin.example")]))
    return own


SECRETIVE_CHILD = """
import json, sys
print("connecting to https://me:MARKER-url@h/x?k=MARKER-url with API_KEY=MARKER-env", file=sys.stderr, flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "x", "version": "0"}}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
    elif "id" in message:
        sys.exit("Authorization: Bearer MARKER-last")
"""
INITIALIZE = (
    b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",'
    b'"capabilities":{},"clientInfo":{"name":"test","version":"0"}}}'
)


async def test_a_childs_words_are_told_without_secrets(tmp_path: Path) -> None:
    """Its stderr in the log under its name; its last words there and in the caller's error."""
    config = {**WATCHED, "telemetry": {"traces": {"exporter": "none"}, "logs": {"level": "debug"}}}
    child = {**command([COMMAND[0], "-c", SECRETIVE_CHILD]), "env": {"API_KEY": "MARKER-env"}}
    with weir_http(tmp_path, child, config) as weir:
        opened = await post(weir.port, INITIALIZE)
        session = [(b"Mcp-Session-Id", opened.get(b"mcp-session-id"))]
        reply = await post(weir.port, CALL, session)
        line = (await logged(weir, '"server stderr"'))[0]
        await logged(weir, "exited by itself")
        said = [await shown(weir, "/status"), await shown(weir, "/readyz"), await shown(weir, "/metrics")]
        texts = [reply.body.decode(), weir.log(), *(page.decode() for page in said)]
    assert ("one", True) == (
        json.loads(line)["upstream"],
        json.loads(line)["line"].startswith("connecting to https://h/x"),
    )
    assert (502, True) == (reply.status, b"exited with code 1" in reply.body)
    assert [set()] * len(texts) == [markers([text]) for text in texts]
    assert not any(opened.get(b"mcp-session-id").decode() in text for text in texts)


async def test_a_childs_stderr_is_told_when_weir_serves_stdio(tmp_path: Path) -> None:
    """On weir's stderr only: stdout is the protocol's."""
    child = command([COMMAND[0], "-c", SECRETIVE_CHILD])
    with weir_stdio(tmp_path, child) as weir:
        weir.stdin.write(INITIALIZE + b"\n")
        weir.stdin.flush()
        assert b'"id":0' in weir.stdout.readline().replace(b" ", b"")
        [line] = await logged(weir, '"server stderr"')
    assert "MARKER" not in line


@pytest.mark.parametrize("host", ["127.0.0.1", "nobody-has-this-name.invalid"])
async def test_a_caller_is_not_told_where_a_server_is(tmp_path: Path, host: str) -> None:
    """By its name only; the operator sees the address in /status."""
    port = free_port()
    with weir_http(tmp_path, {"url": f"http://{host}:{port}/mcp"}, {"listen": {"diagnostics": "127.0.0.1:0"}}) as weir:
        reply = await post(weir.port, CALL)
        status = await shown(weir, "/status")
    assert (502, True) == (reply.status, b"MCP server 'one': cannot connect" in reply.body)
    assert (False, False) == (host.encode() in reply.body, str(port).encode() in reply.body)
    assert f"{host}:{port}".encode() in status
