"""A client on stdin and stdout: what may overtake what, and what a cancellation does."""

import asyncio
import json

import pytest

from support.pipes import piped
from support.played import (
    ENVELOPE,
    HTTP,
    INITIALIZE,
    INITIALIZED,
    Held,
    PlayedServer,
    accepted,
    call_of,
    cancelled,
    echo,
    edge,
    event,
    gives,
    handshake,
    mark_sent,
    modern_call_of,
    result,
    sent,
    stream,
    within,
)
from weir.core.call import Call, Headers
from weir.core.outcome import Failed, FailureKind, Outcome, Replied
from weir.downstream.stdio import StdioSettings
from weir.protocol.envelope import Kind

pytestmark = pytest.mark.anyio


# order


async def test_nothing_overtakes_initialize() -> None:
    """What a client writes before it has its answer waits, even a request that would not mind."""
    held = Held(handshake, "initialize")
    server = PlayedServer(held, echo)
    async with piped(edge(server)) as client:
        client.say(INITIALIZE, INITIALIZED, call_of(b"2"))
        await server.received(1)
        await asyncio.sleep(0)
        assert server.methods() == ["initialize"]
        held.go.set()
        assert [1, 2] == [json.loads(await client.hear())["id"] for _ in range(2)]
    assert server.methods()[:2] == ["initialize", "notifications/initialized"]


async def test_a_failed_initialize_opens_the_way_too() -> None:
    """A client may try something else after a refusal."""
    server = PlayedServer(gives(Failed(FailureKind.CONNECT, "is down"), "initialize"), echo)
    async with piped(edge(server)) as client:
        client.say(INITIALIZE, call_of(b"2"))
        assert "error" in json.loads(await client.hear())
        assert json.loads(await client.hear()) == {"jsonrpc": "2.0", "id": 2, "result": {}}


async def test_an_answer_to_the_server_passes_a_waiting_initialize() -> None:
    """A server may ping before it answers initialize: the client's answer must reach it first."""
    ping_answered = asyncio.Event()

    async def ping_first(call: Call) -> Outcome | None:
        if call.message.method == "initialize":
            headers: Headers = [(b"content-type", b"text/event-stream"), (b"mcp-session-id", b"s-9")]
            await call.sink.open(200, headers)
            await call.sink.write(event(b'{"jsonrpc":"2.0","id":"p","method":"ping"}'))
            await ping_answered.wait()
            await call.sink.write(event(b'{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18"}}'))
            return Replied(200, headers, None)
        if call.message.kind is Kind.RESPONSE:
            ping_answered.set()
        return None

    server = PlayedServer(ping_first)
    async with piped(edge(server)) as client:
        client.say(INITIALIZE, INITIALIZED)
        assert json.loads(await client.hear())["method"] == "ping"
        client.say(b'{"jsonrpc":"2.0","id":"p","result":{}}')
        assert json.loads(await client.hear())["id"] == 1
        await server.received(3)
    assert [b"", b"s-9", b"s-9"] == [sent(call, b"mcp-session-id") for call in server.calls[:3]]
    assert [Kind.REQUEST, Kind.RESPONSE, Kind.NOTIFICATION] == [call.message.kind for call in server.calls[:3]]


async def test_what_follows_a_notification_waits_until_it_was_accepted() -> None:
    """The server has taken the notification before it sees the next message, as on a pipe."""
    held = Held(_accept, "notifications/roots/list_changed")
    server = PlayedServer(held, echo)
    async with piped(edge(server, StdioSettings(HTTP, order_seconds=60.0))) as client:
        client.say(b'{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}', call_of(b"1"))
        await server.received(1)
        await asyncio.sleep(0)
        assert len(server.calls) == 1
        held.go.set()
        assert json.loads(await client.hear())["id"] == 1


async def _accept(call: Call) -> Outcome:
    return accepted()


async def test_a_server_slow_to_accept_a_notification_holds_nobody_up_for_long() -> None:
    """Order is worth a second; a server that never accepts must not stop the conversation."""
    held = Held(method="notifications/progress")
    server = PlayedServer(held, echo)
    async with piped(edge(server, StdioSettings(HTTP, order_seconds=0.02))) as client:
        client.say(b'{"jsonrpc":"2.0","method":"notifications/progress"}', call_of(b"1", b"quick"))
        assert json.loads(await client.hear())["id"] == 1
        held.go.set()


async def test_requests_do_not_wait_for_each_other() -> None:
    """A slow call holds up nothing that was asked after it."""
    held = Held()
    server = PlayedServer(held, echo)
    async with piped(edge(server)) as client:
        client.say(call_of(b"1"), b'{"jsonrpc":"2.0","id":2,"method":"tools/list"}')
        assert json.loads(await client.hear())["id"] == 2
        held.go.set()
        assert json.loads(await client.hear())["id"] == 1


# cancellation


async def test_a_legacy_cancellation_follows_its_request_and_ends_without_an_answer() -> None:
    """It is posted while the call still runs; a server that just closes the call's stream gave all there is to say."""
    is_cancelled = asyncio.Event()

    async def cancellable(call: Call) -> Outcome | None:
        if call.message.method == "notifications/cancelled":
            is_cancelled.set()
        if call.message.method == "tools/call":
            mark_sent(call)
            await is_cancelled.wait()
            return await stream(call)
        return None

    server = PlayedServer(cancellable, echo)
    async with piped(edge(server)) as client:
        client.say(call_of(b"7"), cancelled(b"7"), b'{"jsonrpc":"2.0","id":8,"method":"tools/list"}')
        assert json.loads(await client.hear())["id"] == 8
        client.hang_up()
        assert await client.hear_all() == []
    assert server.methods() == ["tools/call", "notifications/cancelled", "tools/list"]


async def test_a_cancellation_does_not_overtake_a_request_that_still_waits_to_be_sent() -> None:
    """The request stands in a queue of weir's: the server must hear of it first."""
    is_free = asyncio.Event()
    order: list[str] = []

    async def queued(call: Call) -> Outcome | None:
        if call.message.method == "tools/call":
            await is_free.wait()
            mark_sent(call)
            order.append("sent")
            return result(call)
        order.append(call.message.method)
        return None

    server = PlayedServer(queued)
    async with piped(edge(server, StdioSettings(HTTP, order_seconds=60.0))) as client:
        client.say(call_of(b"7"), cancelled(b"7"))
        await server.received(1)
        await asyncio.sleep(0.03)
        assert order == []
        is_free.set()
        await server.received(2)
    assert order == ["sent", "notifications/cancelled"]


async def test_a_modern_cancellation_closes_the_post_and_is_not_sent() -> None:
    """From 2026-07-28 on closing the stream is the cancellation; nothing more is said for that id."""
    held = Held()
    server = PlayedServer(held, echo)
    async with piped(edge(server)) as client:
        client.say(modern_call_of(b'"a"'))
        await server.received(1)
        client.say(cancelled(b'"a"'))
        await within(held.cancelled)
        client.say(b'{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{%b}}' % ENVELOPE)
        assert json.loads(await client.hear())["id"] == 2
    assert server.methods() == ["tools/call", "tools/list"]


async def test_a_modern_cancellation_that_comes_in_the_same_breath_is_one() -> None:
    """Request and cancellation arrive in one read: the request is not served as if nothing had been said."""
    server = PlayedServer(echo)
    async with piped(edge(server)) as client:
        client.say(modern_call_of(b"5"), cancelled(b"5"), modern_call_of(b"6"))
        assert json.loads(await client.hear())["id"] == 6
        client.hang_up()
        assert await client.hear_all() == []


async def test_a_modern_cancellation_names_its_request_with_its_type() -> None:
    """ "5" is not 5."""
    held = Held()
    server = PlayedServer(held)
    async with piped(edge(server)) as client:
        client.say(modern_call_of(b"5"), cancelled(b'"5"'))
        await server.received(1)
        held.go.set()
        assert json.loads(await client.hear())["id"] == 5
