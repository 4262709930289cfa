"""Invented names before a running weir's rate limits: they cost only the address that invents them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.rawhttp import Exchange, ScriptedServer, post
from support.weirs import UNTRACED, Config, weir_http
from weir.policies.rate_limit_ledger import FREE_TIMES, KEYS_LIMIT

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

READ = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
SHARE = KEYS_LIMIT // (FREE_TIMES + 1)
TWO_EACH: Config = {
    **UNTRACED,
    "listen": {"trusted_proxies": ["127.0.0.0/8"]},
    "policies": {
        "client_key": "X-Key",
        "rate_limits": [{"per": "client", "limit": 2, "window": "10m"}],
    },
}
CONNECTIONS = 8


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """An upstream that answers."""

    async def answer(exchange: Exchange) -> None:
        await exchange.json(b'{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}')

    async with ScriptedServer(answer) as one:
        yield one


async def flood(port: int, first: int, count: int) -> list[int]:
    """Calls of one address under keys that it invents, pipelined on one connection; the status of each."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    statuses = []
    for number in range(first, first + count):
        head = b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        writer.write(head + b"X-Key: %d\r\nX-Forwarded-For: 2001:db8:0:1::%x\r\n" % (number, number & 0xFFFF))
        writer.write(b"Content-Length: %d\r\n\r\n" % len(READ) + READ)
        statuses.append(int((await reader.readuntil(b"\r\n"))[9:12]))
        reply = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in reply.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
    writer.close()
    return statuses


async def test_invented_client_keys_cost_only_their_address(server: ScriptedServer, tmp_path: Path) -> None:
    """Beyond a tenth of the table the keys of one IPv6 network count together. A newcomer's count apart."""
    each = SHARE // CONNECTIONS + 50
    with weir_http(tmp_path, {"url": server.url}, TWO_EACH) as weir:
        floods = await asyncio.gather(*(flood(weir.port, number * each, each) for number in range(CONNECTIONS)))
        served = sum(statuses.count(200) for statuses in floods)
        assert SHARE <= served <= SHARE + 2
        for address in (b"2001:db8:0:2::1", b"203.0.113.9"):
            headers = [(b"X-Key", b"honest " + address), (b"X-Forwarded-For", address)]
            assert [200, 200, 429] == [(await post(weir.port, READ, headers)).status for _ in range(3)]
