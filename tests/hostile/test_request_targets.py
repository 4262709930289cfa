"""Paths, verbs and bodies that would pass by the checks: before a running weir with credentials of its own."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.rawhttp import Exchange, ScriptedServer, await_head, connection, fetch, post, request_bytes
from support.weirs import UNTRACED, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}'


async def answer(exchange: Exchange) -> None:
    """Answer whatever is asked."""
    await exchange.json(b'{"jsonrpc":"2.0","id":1,"result":{}}')


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""
    async with ScriptedServer(answer) as one:
        yield one


OUTSIDE = (
    "/.well-known/../admin/x", "/.well-known/%2e%2e/admin/x", "/.well-known/.%2e/x", "/.well-known/%252e%252e/x",
    "/.well-known/..%2fadmin", "/.well-known/..%5Cadmin", "/.well-known/..\\admin", "/.well-known/..;/admin",
    "/.well-known/.;a=b/admin", "/.well-known/x%00", "/.well-known/%0d%0aX:y", "/.well-known/x%2f..%2fy",
    "/.well-known/%c0%ae%c0%ae/admin", "/.well-known/a;b/c", "/.well-known/a%2Fb", "/%2ewell-known/..%2fx",
    "/.well-known/x/../../mcp", "/servers/one/../../x", "/mcp/../admin", "//evil.example/mcp", "/./mcp", "/a/%2e/b",
)  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/mcp", ""], ids=["an address with a path", "a mirrored server"])
async def test_no_path_leads_outside_its_place(server: ScriptedServer, tmp_path: Path, path: str) -> None:
    """In any spelling and with any verb, nothing arrives."""
    upstream = {"url": f"http://127.0.0.1:{server.port}{path}", "headers": {"Authorization": "Bearer weirs-own"}}
    with weir_http(tmp_path, upstream, UNTRACED) as weir:
        statuses = {
            (verb, target): (await fetch(weir.port, verb, target, [], CALL if verb == "POST" else b"")).status
            for target in OUTSIDE
            for verb in ("GET", "POST", "DELETE")
        }
    assert {400} == set(statuses.values()), statuses
    assert [] == server.got


@pytest.mark.parametrize("path", ["/v1/mcp", ""], ids=["an address with a path", "a mirrored server"])
async def test_well_known_documents_are_only_read(server: ScriptedServer, tmp_path: Path, path: str) -> None:
    """Their verbs are GET, HEAD and OPTIONS; the answer to others names them."""
    target = "/.well-known/oauth-protected-resource/mcp"
    with weir_http(tmp_path, {"url": f"http://127.0.0.1:{server.port}{path}"}, UNTRACED) as weir:
        read = [(await fetch(weir.port, verb, target)).status for verb in ("GET", "OPTIONS")]
        others = [await fetch(weir.port, verb, target, [], CALL) for verb in ("POST", "PUT", "PATCH")]
        others.append(await fetch(weir.port, "DELETE", target))
    assert ([200, 200], {405}) == (read, {reply.status for reply in others})
    assert {b"GET, HEAD, OPTIONS"} == {reply.get(b"allow") for reply in others}
    assert [b"GET", b"OPTIONS"] == [request.verb for request in server.got]


async def test_calls_come_by_post_and_nothing_passes_by_the_policies(server: ScriptedServer, tmp_path: Path) -> None:
    """Other verbs are 405 on the MCP path, bodies without meaning and batches without measure 400."""
    config = {**UNTRACED, "policies": {"rate_limits": [{"per": "client", "limit": 2, "window": "1h"}]}}
    batch = b"[" + b",".join([CALL] * 1001) + b"]"
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        verbs = [await fetch(weir.port, verb, "/mcp", [], CALL) for verb in ("PUT", "PATCH", "QUERY", "TRACE")]
        bodies = [(await fetch(weir.port, verb, "/mcp", [], CALL)).status for verb in ("GET", "DELETE", "OPTIONS")]
        batches = [(await post(weir.port, batch)).status for _ in range(2)]
        calls = [(await post(weir.port, CALL)).status for _ in range(3)]
    assert ([405] * 4, [400] * 3) == ([reply.status for reply in verbs], bodies)
    assert {b"POST, GET, DELETE, OPTIONS, HEAD"} == {reply.get(b"allow") for reply in verbs}
    assert ([400, 400], [200, 200, 429], 2) == (batches, calls, len(server.got))


async def test_other_verbs_of_a_mirrored_server_are_weighed_logged_and_counted(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """A PUT may carry a call: it meets the limits of one, and has a line and a count as one."""
    config = {
        "telemetry": {"traces": {"exporter": "none"}, "logs": {"format": "json"}},
        "policies": {"rate_limits": [{"per": "client", "limit": 2, "window": "1h"}]},
    }
    with weir_http(tmp_path, {"url": f"http://127.0.0.1:{server.port}"}, config) as weir:
        calls = [(await fetch(weir.port, "PUT", "/other", [], CALL)).status for _ in range(3)]
        await fetch(weir.port, "GET", "/anything")
        await fetch(weir.port, "PUT", "/anything")
        weir.stop()
        lines = access_lines(weir.log())
    assert ([200, 200, 429], 4) == (calls, len(server.got))
    assert [("call", ""), ("call", ""), ("call", ""), ("exchange", "GET"), ("exchange", "PUT")] == sorted(
        (line["msg"], line.get("verb", "")) for line in lines
    )


REFUSED = {
    "malformed_http": (b"nonsense\r\n\r\n", 400),
    "host": (b"GET /mcp HTTP/1.1\r\n\r\n", 400),
    "allowed_hosts": (b"GET /mcp HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
    "doubled_header": (request_bytes("GET", "/mcp", [(b"Origin", b"a"), (b"Origin", b"b")]), 400),
    "not_served": (request_bytes("GET", "/nowhere"), 404),
    "unsafe_path": (request_bytes("GET", "/a/../b"), 400),
    "verb": (request_bytes("PUT", "/mcp", [], CALL), 405),
    "unwanted_body": (request_bytes("GET", "/mcp", [], CALL), 400),
    "max_body": (request_bytes("POST", "/mcp", [], b"x" * 2000), 413),
    "header_count": (request_bytes("GET", "/mcp", [(b"X", b"y")] * 200), 431),
    "header_size": (request_bytes("GET", "/mcp", [(b"X", b"y" * 70_000)]), 431),
    "transfer_encoding": (request_bytes("POST", "/mcp", [(b"Transfer-Encoding", b"gzip")]), 501),
}


async def test_every_refusal_before_a_call_has_a_line_and_a_count(server: ScriptedServer, tmp_path: Path) -> None:
    """An operator sees who knocks at the door, and how."""
    config = {
        "telemetry": {"traces": {"exporter": "none"}, "logs": {"format": "json"}},
        "listen": {"max_body": "1KiB"},
    }
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        statuses = {}
        for name, (request, _) in REFUSED.items():
            async with connection(weir.port) as (reader, writer):
                writer.write(request)
                statuses[name] = int((await await_head(reader)).line.split()[1])
        weir.stop()
        lines = [line for line in access_lines(weir.log()) if line["msg"] == "request refused"]
    assert {name: status for name, (_, status) in REFUSED.items()} == statuses
    assert statuses == {line["reason"]: line["status"] for line in lines}
    assert ({"127.0.0.1"}, []) == ({line["client"] for line in lines}, server.got)


def access_lines(log: str) -> list[dict[str, str | int]]:
    """The lines of the access log."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["msg"] in ("call", "exchange", "request refused")]
