"""The credentials that the operator gave for an MCP endpoint go to that endpoint."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.rawhttp import ScriptedServer, fetch, post
from support.weirs import UNTRACED, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
SECRETS = {"Authorization": "Bearer of-weir", "X-Api-Key": "of-weir"}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""
    async with ScriptedServer() as one:
        yield one


def shown(server: ScriptedServer) -> list[tuple[bytes, bytes]]:
    """What the server was shown last."""
    return [(name, value) for name, value in server.got[-1].headers if name in (b"authorization", b"x-api-key")]


async def test_only_mcp_is_sent_with_the_configured_credentials(server: ScriptedServer, tmp_path: Path) -> None:
    """A caller's own header passes to all else, as without weir."""
    with weir_http(tmp_path, {"url": server.url, "headers": SECRETS}, UNTRACED) as weir:
        await post(weir.port, PING, [(b"Authorization", b"Bearer mine")])
        assert [(b"authorization", b"Bearer of-weir"), (b"x-api-key", b"of-weir")] == shown(server)
        await fetch(weir.port, "GET", "/.well-known/oauth-protected-resource/mcp", [(b"Authorization", b"Bearer mine")])
        assert [(b"authorization", b"Bearer mine")] == shown(server)


@pytest.mark.parametrize("path", ["/.well-known/oauth-authorization-server", "/authorize?x=1", "/token", "/Register"])
async def test_of_a_mirrored_server_sign_in_and_documents_are_not(
    server: ScriptedServer, tmp_path: Path, path: str
) -> None:
    """Every other path may be the endpoint."""
    upstream = {"url": f"http://127.0.0.1:{server.port}", "headers": SECRETS}
    with weir_http(tmp_path, upstream, UNTRACED) as weir:
        await fetch(weir.port, "GET", path)
        assert [] == shown(server)
        await post(weir.port, PING, target="/anything/mcp")
        assert [(b"authorization", b"Bearer of-weir"), (b"x-api-key", b"of-weir")] == shown(server)
