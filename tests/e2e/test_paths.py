"""Which path leads to which server, and what of a request names the server it goes to."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.processes import free_port, running
from support.rawhttp import Exchange, ScriptedServer, fetch, post
from support.weirs import UNTRACED, weir_argv, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CALL = b'{"jsonrpc":"2.0","id":7,"method":"ping"}'


async def echo_target(exchange: Exchange) -> None:
    """Answer with the path that arrived."""
    await exchange.json(b'{"jsonrpc":"2.0","id":7,"result":{"path":"%b"}}' % exchange.request.target)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""
    async with ScriptedServer(echo_target) as one:
        yield one


@pytest.mark.parametrize(
    ("verb", "target"),
    [
        ("POST", "/mcp"),
        ("POST", "/deep/er/mcp?q=1"),
        ("GET", "/.well-known/oauth-protected-resource/mcp"),
        ("GET", "/.well-known/oauth-authorization-server"),
        ("POST", "/register"),
        ("GET", "/authorize?client_id=a%20b&scope="),
        ("POST", "/"),
        ("PUT", "/any%2Fthing/%C3%A9"),
    ],
)
async def test_an_address_without_a_path_mirrors_every_path(
    server: ScriptedServer, tmp_path: Path, verb: str, target: str
) -> None:
    """So that any server can be fronted, its OAuth paths included."""
    with weir_http(tmp_path, {"url": f"http://127.0.0.1:{server.port}"}) as weir:
        reply = await fetch(weir.port, verb, target, [], CALL if verb != "GET" else b"")
    assert (200, f"{verb} {target} HTTP/1.1".encode()) == (reply.status, server.got[0].line)


@pytest.mark.parametrize("target", ["/mcp", "/api/v1/mcp", "/servers/one/mcp", "/mcp?a=b"])
async def test_an_address_with_a_path_is_served_there_and_at_mcp(
    server: ScriptedServer, tmp_path: Path, target: str
) -> None:
    """The server hears its own path; the query stays."""
    with weir_http(tmp_path, {"url": f"http://127.0.0.1:{server.port}/api/v1/mcp"}) as weir:
        reply = await fetch(weir.port, "POST", target, [], CALL)
    query = target.partition("?")[1] + target.partition("?")[2]
    assert (200, b"/api/v1/mcp" + query.encode()) == (reply.status, server.got[0].target)


@pytest.mark.parametrize("target", ["/", "/other", "/mcp/more", "/api/v1", "/servers/two/mcp", "/metrics"])
async def test_other_paths_are_404_and_reach_nobody(server: ScriptedServer, tmp_path: Path, target: str) -> None:
    """Nothing of the server is reachable that was not asked for; nothing of weir's own stands on this port."""
    with weir_http(tmp_path, {"url": f"http://127.0.0.1:{server.port}/api/v1/mcp"}) as weir:
        reply = await fetch(weir.port, "POST", target, [], CALL)
    assert (404, []) == (reply.status, server.got)


async def test_several_servers_stand_side_by_side(server: ScriptedServer, tmp_path: Path) -> None:
    """Each under its name; then `/mcp` is nobody's."""
    async with ScriptedServer(echo_target) as other:
        upstreams = [{"name": "a", "url": server.url}, {"name": "b-2", "url": f"http://127.0.0.1:{other.port}/x"}]
        with weir_http(tmp_path, {}, {**UNTRACED, "upstreams": upstreams}) as weir:
            targets = ("/servers/a/mcp", "/servers/b-2/mcp", "/mcp")
            statuses = [(await post(weir.port, CALL, target=target)).status for target in targets]
    assert ([200, 200, 404], 1, b"/x") == (statuses, len(server.got), other.got[0].target)


@pytest.mark.parametrize(
    ("settings", "host"),
    [({}, b"127.0.0.1:%d"), ({"preserve_host": True}, b"localhost:1234")],
    ids=["its own name", "the client's"],
)
async def test_the_server_hears_a_host_that_it_knows(
    server: ScriptedServer, tmp_path: Path, settings: dict[str, Any], host: bytes
) -> None:
    """The name that was dialled, unless the operator keeps the client's."""
    with weir_http(tmp_path, {"url": server.url, **settings}) as weir:
        await post(weir.port, CALL, [(b"Host", b"localhost:1234")])
    assert [host % server.port if b"%" in host else host] == server.got[0].all(b"host")


async def test_headers_of_the_configuration_replace_the_clients(server: ScriptedServer, tmp_path: Path) -> None:
    """A credential of the operator's own, given once."""
    configured = {"Authorization": "Bearer ${WEIR_TEST_TOKEN}", "X-Team": "${NO_SUCH_VARIABLE:-none}"}
    with weir_http(tmp_path, {"url": server.url, "headers": configured}, env={"WEIR_TEST_TOKEN": "operator"}) as weir:
        await post(weir.port, CALL, [(b"authorization", b"Bearer client"), (b"X-Other", b"1")])
    got = server.got[0]
    assert ([b"Bearer operator"], [b"none"], [b"1"]) == (
        got.all(b"authorization"),
        got.all(b"x-team"),
        got.all(b"x-other"),
    )


async def test_the_command_line_alone_is_enough(server: ScriptedServer) -> None:
    """`weir run --upstream URL --listen HOST:PORT`, with the second port on."""
    port, second = free_port(), free_port()
    options = (f"--listen=127.0.0.1:{port}", f"--diagnostics=127.0.0.1:{second}")
    with running(weir_argv("--upstream", server.url, *options), port=port):
        assert 200 == (await post(port, CALL)).status
        paths = ("/healthz", "/readyz", "/status", "/metrics")
        assert [200] * 4 == [(await fetch(second, "GET", path)).status for path in paths]
        assert [404] * 4 == [(await fetch(port, "GET", path)).status for path in paths]


async def test_a_server_that_comes_back_is_used_again(tmp_path: Path) -> None:
    """Restarting the server needs no restart of weir, and costs no call."""
    port = free_port()
    with weir_http(tmp_path, {"url": f"http://127.0.0.1:{port}/mcp"}) as weir:
        for _ in range(2):
            async with ScriptedServer(echo_target, port=port):
                assert [200] * 3 == [(await post(weir.port, CALL)).status for _ in range(3)]
            assert 502 == (await post(weir.port, CALL)).status
