"""What clients and proxies say about where a request comes from, before a running weir."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.processes import free_port, running
from support.rawhttp import Exchange, ScriptedServer, post
from support.weirs import weir_argv, write_config

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CALL = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}'


async def answer(exchange: Exchange) -> None:
    """Answer every call."""
    await exchange.json(b'{"jsonrpc":"2.0","id":1,"result":{}}')


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""
    async with ScriptedServer(answer) as one:
        yield one


def has_both_families() -> bool:
    """Whether a listener on [::] takes IPv4 here."""
    return socket.has_dualstack_ipv6()


SPELLINGS = (
    b"198.51.100.7",
    b"::ffff:198.51.100.7",
    b"[::ffff:c633:6407]:443",
    b"198.51.100.7:4711",
    b"6.6.6.6, 198.51.100.7, ::ffff:127.0.0.1",
)
NONSENSE = (b"198.51.100.7:garbage", b"fe80::1%" + b"z" * 3000, b"unknown", b"[::1", b"\xb2.1.1.1")


@pytest.mark.skipif(not has_both_families(), reason="needs a socket for both families of addresses")
async def test_a_client_has_one_name_behind_a_listener_for_both_families(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """The proxy on 127.0.0.1 is trusted though the kernel calls it ::ffff:127.0.0.1.

    All spellings of one address share a limit; all that is no address share the proxy's.
    """
    port = free_port()
    limits: dict[str, Any] = {"policies": {"rate_limits": [{"per": "client", "limit": 3, "window": "1h"}]}}
    config = {**limits, "listen": {"trusted_proxies": ["127.0.0.0/8"], "allowed_hosts": ["*"]}}
    path = write_config(tmp_path, {"url": server.url}, config, f"[::]:{port}")
    with running(weir_argv("--config", path), port=port):

        async def statuses(names: tuple[bytes, ...]) -> list[int]:
            return [(await post(port, CALL, [(b"X-Forwarded-For", name)])).status for name in names]

        assert [200, 200, 200, 429, 429] == await statuses(SPELLINGS)
        assert [200, 200, 200, 429, 429] == await statuses(NONSENSE)
        assert [200] == await statuses((b"198.51.100.8",))
