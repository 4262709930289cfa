"""A client on stdin and stdout: what it writes reaches the server, what comes back reaches it."""

import time
from typing import Any

import pytest

from support.pipes import PlayedServer, piped, result, sent
from weir.core.call import Call
from weir.core.outcome import Outcome
from weir.downstream.stdio import StdioDownstream, StdioSettings
from weir.relay.http_client import HttpClientSettings, Wiring

pytestmark = pytest.mark.anyio

INITIALIZE = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}'
INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
HTTP = HttpClientSettings("demo", b"/mcp")


def downstream(server: PlayedServer, settings: StdioSettings | None = None, events: list[Any] | None = None) -> Any:
    """A stdio edge before a played server."""
    emit = events.append if events is not None else lambda _: None
    wiring = Wiring(server, lambda call, outcome: None, emit, time.monotonic)
    return StdioDownstream(settings or StdioSettings(HTTP), wiring)


async def handshake(call: Call) -> Outcome | None:
    """Answer initialize as a server with sessions does."""
    if call.message.method != "initialize":
        return None
    return result(call, b'{"protocolVersion":"2025-11-25"}', (b"mcp-session-id", b"s-1"))


async def echo(call: Call) -> Outcome | None:
    """Answer every other request with an empty result."""
    return result(call) if call.is_request else None


async def test_a_session_goes_from_initialize_to_delete() -> None:
    """The whole life of a legacy client: session and revision on every exchange, DELETE at the end."""
    server = PlayedServer(handshake, echo)
    async with piped(downstream(server)) as client:
        client.say(INITIALIZE)
        assert (await client.hear()).startswith(b'{"jsonrpc":"2.0","id":1,"result":')
        client.say(INITIALIZED, b'{"jsonrpc":"2.0","id":"two","method":"tools/list"}')
        assert await client.hear() == b'{"jsonrpc":"2.0","id":"two","result":{}}'
    assert server.methods() == ["initialize", "notifications/initialized", "GET", "tools/list", "DELETE"]
    first, *others = server.calls
    assert (sent(first, b"mcp-session-id"), sent(first, b"mcp-protocol-version")) == (b"", b"")
    assert {sent(call, b"mcp-session-id") for call in others} == {b"s-1"}
    assert {sent(call, b"mcp-protocol-version") for call in others} == {b"2025-11-25"}
