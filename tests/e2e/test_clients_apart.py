"""Whom limits count apart in a running weir: by address, as trusted proxies tell it, or by a key; never by session."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.rawhttp import Exchange, Headers, ScriptedServer, post
from support.weirs import UNTRACED, Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

READ = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
ONE = b"203.0.113.1"
LOOPBACK = {"trusted_proxies": ["127.0.0.0/8"]}


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """An upstream that answers."""

    async def answer(exchange: Exchange) -> None:
        await exchange.json(b'{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}')

    async with ScriptedServer(answer) as one:
        yield one


def one_each(per: str, listen: dict[str, Any] | None = None, **policies: Any) -> Config:
    """One call each."""
    limits = [{"per": per, "limit": 1, "window": "1m"}]
    return {**UNTRACED, "listen": listen or {}, "policies": {"rate_limits": limits, **policies}}


def forwarded(*chain: bytes) -> Headers:
    """What proxies write."""
    return [(b"X-Forwarded-For", b", ".join(chain))]


@pytest.mark.parametrize(
    ("listen", "policies", "calls", "expected"),
    [
        (
            LOOPBACK,
            {},
            [forwarded(b"203.0.113.1"), forwarded(b"203.0.113.2"), forwarded(b"203.0.113.1")],
            "200 200 429",
        ),
        (LOOPBACK, {}, [forwarded(b"6.6.6.1", b"203.0.113.1"), forwarded(b"6.6.6.2", b"203.0.113.1")], "200 429"),
        (None, {}, [forwarded(b"203.0.113.1"), forwarded(b"203.0.113.2")], "200 429"),
        (None, {"client_key": "X-Key"}, [[(b"X-Key", b"a")], [(b"x-key", b"b")], [(b"X-Key", b"a")]], "200 200 429"),
        (None, {}, [[(b"Mcp-Session-Id", b"a")], [(b"Mcp-Session-Id", b"b")]], "200 429"),
    ],
    ids=["trusted proxy", "what a client claims", "nobody is trusted", "a key", "sessions"],
)
async def test_clients_are_told_apart(
    server: ScriptedServer,
    tmp_path: Path,
    listen: dict[str, Any] | None,
    policies: dict[str, Any],
    calls: list[Headers],
    expected: str,
) -> None:
    """A client that claims other addresses, or opens other sessions, gets no more than its one call."""
    with weir_http(tmp_path, {"url": server.url}, one_each("client", listen, **policies)) as weir:
        assert expected == " ".join([str((await post(weir.port, READ, headers)).status) for headers in calls])


async def test_a_global_limit_counts_over_all_servers(server: ScriptedServer, tmp_path: Path) -> None:
    """One for each server would let two pass."""
    upstreams = [{"name": name, "url": server.url} for name in ("one", "two")]
    for per, expected in (("global", [200, 429]), ("upstream", [200, 200])):
        with weir_http(tmp_path, {}, {**one_each(per), "upstreams": upstreams}) as weir:
            replies = [await post(weir.port, READ, target=f"/servers/{name}/mcp") for name in ("one", "two")]
        assert expected == [reply.status for reply in replies]
    assert 3 == len(server.got)


async def test_a_refusal_says_when_to_come_again(server: ScriptedServer, tmp_path: Path) -> None:
    """In the header, in the data, and in words."""
    with weir_http(tmp_path, {"url": server.url}, one_each("client")) as weir:
        await post(weir.port, READ)
        refused = await post(weir.port, READ)
    error = json.loads(refused.body)["error"]
    assert 50 < int(refused.get(b"retry-after")) <= 60
    assert 50_000 < error["data"]["retryAfterMs"] <= 60_000
    assert f"Try again in {int(refused.get(b'retry-after'))} s." in error["message"]
