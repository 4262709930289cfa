"""`/status` of a running weir: how its protections stand, for whoever is called at night."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.processes import free_port
from support.rawhttp import Exchange, ScriptedServer, fetch, post
from support.weirs import Config, weir_http

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"add"}}'
TRACES = [f"{number:032x}" for number in (1, 2)]
SECRETS = (b"alice-s-key", b"Bearer-secret", b"10.1.2.3")


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """It fails."""

    async def fail(exchange: Exchange) -> None:
        await exchange.reply(500)

    async with ScriptedServer(fail) as one:
        yield one


async def status(port: int) -> tuple[bytes, Any]:
    """The page, and what it says of the protections of `one`."""
    body = (await fetch(port, "GET", "/status")).body
    return body, json.loads(body)["upstreams"]["one"].get("protections")


async def test_status_says_what_tripped_the_breaker_and_how_all_else_stands(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """The traces are those that the callers sent; nobody's name, key or token is there."""
    port = free_port()
    config: Config = {
        "listen": {"diagnostics": f"127.0.0.1:{port}"},
        "telemetry": {"traces": {"exporter": "console", "sample": 0.0, "always": []}},
        "policies": {
            "client_key": "X-Key",
            "retry": {},
            "breaker": {"consecutive_failures": 2},
            "rate_limits": [{"per": "client", "limit": 10, "window": "1m"}],
            "concurrency": {},
        },
        "faults": {"allow": True},
    }
    with weir_http(tmp_path, {"url": server.url}, config) as weir:
        for trace in TRACES:
            headers = [
                (b"traceparent", f"00-{trace}-{1:016x}-01".encode()),
                (b"X-Key", b"alice-s-key"),
                (b"Authorization", b"Bearer-secret"),
            ]
            assert 500 == (await post(weir.port, CALL, headers)).status
        body, tree = await status(port)
    (circuit,) = tree["breaker"]
    assert ("open", "consecutive_failures", TRACES) == (
        circuit["state"],
        circuit["tripped"]["reason"],
        circuit["tripped"]["trace_ids"],
    )
    assert 50 < circuit["passes_in_seconds"] <= 60
    assert (0.2, 1.0) == (tree["retry"]["budget"]["ratio"], tree["retry"]["budget"]["min_per_second"])
    assert [(["client"], 10, 1)] == [(each["per"], each["limit"], each["keys"]) for each in tree["rate_limits"]]
    assert [{"mode": "enforce", "limit": 64, "in_use": 0, "queued": 0}] == tree["concurrency"]
    assert [] == tree["faults"]
    assert not any(secret in body for secret in SECRETS)


async def test_a_plain_weir_has_nothing_to_say_of_protections(server: ScriptedServer, tmp_path: Path) -> None:
    """Nothing is configured."""
    port = free_port()
    config: Config = {"listen": {"diagnostics": f"127.0.0.1:{port}"}}
    with weir_http(tmp_path, {"url": server.url}, config):
        assert (await status(port))[1] is None
