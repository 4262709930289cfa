"""Hosts and origins that the operator allows, at a running weir."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from support.rawhttp import Exchange, Headers, ScriptedServer, post
from support.weirs import UNTRACED, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}'
FOREIGN: Headers = [(b"Host", b"evil.example")]


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""

    async def answers(exchange: Exchange) -> None:
        await exchange.json(b'{"jsonrpc":"2.0","id":7,"result":{}}')

    async with ScriptedServer(answers) as one:
        yield one


async def statuses(
    server: ScriptedServer, tmp_path: Path, listen: Mapping[str, object], *requests: Headers
) -> list[int]:
    """What each request gets from a weir with these settings; those that are refused reach no server."""
    with weir_http(tmp_path, {"url": server.url}, {**UNTRACED, "listen": listen}) as weir:
        found = [(await post(weir.port, CALL, headers)).status for headers in requests]
    assert found.count(200) == len(server.got)
    return found


async def test_hosts_that_are_allowed_are_served(server: ScriptedServer, tmp_path: Path) -> None:
    """Whatever the port, in any case; no other ones."""
    allowed: Headers = [(b"Host", b"MCP.example:8443")]
    longer: Headers = [(b"Host", b"mcp.example.evil.example")]
    own: Headers = [(b"Host", b"localhost:8931")]
    assert [200, 421, 421, 200] == await statuses(
        server, tmp_path, {"allowed_hosts": ["mcp.example"]}, allowed, longer, FOREIGN, own
    )


async def test_the_public_name_is_served(server: ScriptedServer, tmp_path: Path) -> None:
    """Clients dial it."""
    public: Headers = [(b"Host", b"public.example")]
    assert [200, 421] == await statuses(server, tmp_path, {"public_url": "https://public.example/x"}, public, FOREIGN)


async def test_any_host_may_be_allowed_and_origins_are_still_looked_at(server: ScriptedServer, tmp_path: Path) -> None:
    """A star is about names only."""
    page: Headers = [*FOREIGN, (b"Origin", b"https://evil.example")]
    assert [200, 403] == await statuses(server, tmp_path, {"allowed_hosts": ["*"]}, FOREIGN, page)


async def test_origins_that_are_allowed_are_served(server: ScriptedServer, tmp_path: Path) -> None:
    """Scheme, host and port must agree."""
    pages: list[Headers] = [
        [(b"Origin", origin)]
        for origin in (
            b"https://app.example",
            b"http://app.example",
            b"https://app.example:444",
            b"https://evil.example",
        )
    ]
    assert [200, 403, 403, 403] == await statuses(
        server, tmp_path, {"allowed_origins": ["https://app.example"]}, *pages
    )
