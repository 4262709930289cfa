"""A client on stdin and stdout: what it writes reaches the server, what comes back reaches it."""

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from support.pipes import (
    PATIENCE_SECONDS,
    Answer,
    PlayedServer,
    accepted,
    event,
    json_reply,
    piped,
    result,
    sent,
    stream,
)
from weir.core.call import Attempt, Call, Headers
from weir.core.events import LimitReached, Notice
from weir.core.outcome import Failed, FailureKind, Outcome, RefusalKind, Refused, Replied, Sent
from weir.downstream.stdio import StdioDownstream, StdioSettings
from weir.protocol.envelope import Kind
from weir.relay.http_client import HttpClientSettings, Wiring

pytestmark = pytest.mark.anyio

INITIALIZE = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}'
INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
HTTP = HttpClientSettings("demo", b"/mcp")
PLAIN = StdioSettings(HTTP)
ENVELOPE = b'"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}'


def call_of(raw_id: bytes, tool: bytes = b"slow") -> bytes:
    """A legacy tools/call."""
    return b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"name":"%b"}}' % (raw_id, tool)


def modern_call_of(raw_id: bytes, tool: bytes = b"slow") -> bytes:
    """A tools/call with its envelope."""
    return b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"name":"%b",%b}}' % (raw_id, tool, ENVELOPE)


def cancelled(raw_id: bytes) -> bytes:
    """The client withdraws a request."""
    return b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%b}}' % raw_id


class Told:
    """What telemetry was told."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.finished: list[tuple[Call, Outcome]] = []

    def finish(self, call: Call, outcome: Outcome) -> None:
        """A call is over."""
        self.finished.append((call, outcome))

    def notices(self) -> list[str]:
        """The texts for the operator."""
        return [each.text for each in self.events if isinstance(each, Notice)]


def edge(server: PlayedServer, settings: StdioSettings = PLAIN, told: Told | None = None) -> StdioDownstream:
    """A stdio edge before a played server."""
    told = told or Told()
    return StdioDownstream(settings, Wiring(server, told.finish, told.events.append, time.monotonic))


async def handshake(call: Call) -> Outcome | None:
    """Answer initialize as a server with sessions does."""
    if call.message.method != "initialize":
        return None
    return result(call, b'{"protocolVersion":"2025-11-25"}', (b"mcp-session-id", b"s-1"))


async def echo(call: Call) -> Outcome | None:
    """Answer every request with an empty result."""
    return result(call) if call.is_request else None


def when(method: str, answer: Answer) -> Answer:
    """Let `answer` answer one method only."""

    async def only(call: Call) -> Outcome | None:
        return await answer(call) if call.message.method == method else None

    return only


def gives(outcome: Outcome, method: str = "tools/call") -> Answer:
    """One outcome for every call of a method."""

    async def give(call: Call) -> Outcome:
        return outcome

    return when(method, give)


class Held:
    """An answer that waits until it is let go."""

    def __init__(self, then: Answer = echo, method: str = "tools/call") -> None:
        self.go = asyncio.Event()
        self.cancelled = asyncio.Event()
        self._then = then
        self._method = method

    async def __call__(self, call: Call) -> Outcome | None:
        """Wait, then answer."""
        if call.message.method != self._method:
            return None
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return await self._then(call)


async def within(event: asyncio.Event) -> None:
    """Wait for an event, not for ever."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await event.wait()


# the life of a conversation


async def test_a_session_goes_from_initialize_to_delete() -> None:
    """The whole life of a legacy client: session and revision on every exchange, DELETE at the end."""
    server = PlayedServer(handshake, echo)
    async with piped(edge(server)) as client:
        client.say(INITIALIZE)
        assert (await client.hear()).startswith(b'{"jsonrpc":"2.0","id":1,"result":')
        client.say(INITIALIZED, b'{"jsonrpc":"2.0","id":"two","method":"tools/list"}')
        assert await client.hear() == b'{"jsonrpc":"2.0","id":"two","result":{}}'
    assert server.methods() == ["initialize", "notifications/initialized", "GET", "tools/list", "DELETE"]
    first, *others = server.calls
    assert (sent(first, b"mcp-session-id"), sent(first, b"mcp-protocol-version")) == (b"", b"")
    assert {sent(call, b"mcp-session-id") for call in others} == {b"s-1"}
    assert {sent(call, b"mcp-protocol-version") for call in others} == {b"2025-11-25"}


async def test_bodies_reach_the_server_as_they_were_written() -> None:
    """Number text, key order, escapes, NaN and nonsense are posted byte for byte."""
    lines = [
        b'{ "method":"x/y" , "params":{"n":1.0,"big":1152921504606846976,"e":"\\u00e9"},"jsonrpc":"2.0","id":1}',
        b'{"jsonrpc":"2.0","id":2,"method":"x/nan","params":{"n":NaN}}',
        b"this is no JSON",
    ]
    server = PlayedServer()
    async with piped(edge(server)) as client:
        client.say(*lines)
        calls = await server.received(3)
    assert [call.body for call in calls] == lines


async def test_blank_lines_say_nothing() -> None:
    """Empty lines and lines of white space are no messages."""
    server = PlayedServer(echo)
    async with piped(edge(server)) as client:
        client.write(b"\n  \n\r\n" + call_of(b"1") + b"\r\n\n")
        assert await client.hear() == b'{"jsonrpc":"2.0","id":1,"result":{}}'
    assert [call_of(b"1")] == [call.body for call in server.calls]


async def test_a_last_line_without_its_end_is_served() -> None:
    """Some writers end stdin without a line feed."""
    server = PlayedServer(echo)
    async with piped(edge(server)) as client:
        client.write(call_of(b"1"))
        client.hang_up()
        assert await client.hear_all() == [b'{"jsonrpc":"2.0","id":1,"result":{}}']


async def test_answers_within_the_grace_still_come_out_after_stdin_ended() -> None:
    """A script that pipes its requests in and closes gets its answers, and the session is ended after them."""
    held = Held()
    server = PlayedServer(handshake, held)
    async with piped(edge(server)) as client:
        client.say(INITIALIZE, INITIALIZED, call_of(b"2"))
        await server.receives(lambda call: call.message.method == "tools/call")
        client.hang_up()
        held.go.set()
        assert [1, 2] == [json.loads(line)["id"] for line in await client.hear_all()]
    assert server.methods()[-1] == "DELETE"


async def test_what_takes_longer_than_the_grace_is_cancelled() -> None:
    """stdin has ended and the tool works on: its exchange is closed, and weir ends."""
    held = Held()
    server = PlayedServer(held)
    async with piped(edge(server, StdioSettings(HTTP, grace_seconds=0.05))) as client:
        client.say(call_of(b"2"))
        await server.received(1)
        client.hang_up()
        assert await client.hear_all() == []
        await within(held.cancelled)


async def test_nobody_waits_for_a_subscription_when_stdin_has_ended() -> None:
    """A listen stream never ends by itself; the grace is for answers."""
    held = Held(method="subscriptions/listen")
    server = PlayedServer(held)
    async with piped(edge(server, StdioSettings(HTTP, grace_seconds=60.0))) as client:
        client.say(b'{"jsonrpc":"2.0","id":"L","method":"subscriptions/listen","params":{%b}}' % ENVELOPE)
        await server.received(1)
        client.hang_up()
        assert await client.hear_all() == []
        await within(held.cancelled)


async def test_a_client_that_no_longer_reads_ends_everything() -> None:
    """A broken stdout cancels what is under way and ends the session, though stdin is still open."""
    held = Held()
    server = PlayedServer(handshake, when("resources/list", echo), held)
    async with piped(edge(server)) as client:
        client.say(INITIALIZE)
        await client.hear()
        client.say(call_of(b"2"))
        await server.receives(lambda call: call.message.method == "tools/call")
        client.stop_reading()
        client.say(b'{"jsonrpc":"2.0","id":3,"method":"resources/list"}')
        await within(held.cancelled)
        await server.receives(lambda call: call.verb == b"DELETE")


async def test_stop_winds_down_at_once() -> None:
    """What SIGTERM leads to: calls cancelled, session ended, without the grace."""
    held = Held()
    server = PlayedServer(handshake, held)
    downstream = edge(server, StdioSettings(HTTP, grace_seconds=60.0))
    async with piped(downstream) as client:
        client.say(INITIALIZE, call_of(b"2"))
        await server.received(2)
        downstream.stop()
        assert len(await client.hear_all()) == 1
    assert held.cancelled.is_set()
    assert server.methods()[-1] == "DELETE"


async def test_a_server_that_hangs_on_delete_is_left() -> None:
    """The end of a session is a courtesy: it gets its seconds and no more."""
    told = Told()

    async def hang(call: Call) -> Outcome | None:
        if call.verb == b"DELETE":
            await asyncio.Event().wait()
        return None

    server = PlayedServer(handshake, hang)
    settings = StdioSettings(HttpClientSettings("demo", b"/mcp", delete_seconds=0.02))
    async with piped(edge(server, settings, told)) as client:
        client.say(INITIALIZE)
        await client.hear()
    assert told.notices() == ["the server did not end the session in time"]


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
            _mark_sent(call)
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
            _mark_sent(call)
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


def _mark_sent(call: Call) -> None:
    attempt = Attempt(call, 1, 0.0)
    attempt.sent_at = 1.0
    call.attempts.append(attempt)


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


# what comes back


async def test_every_event_is_a_line_and_what_is_no_message_is_none() -> None:
    """Comments, priming events and foreign events end here; line ends inside a message become spaces."""

    async def busy(call: Call) -> Outcome:
        return await stream(
            call,
            b": hello\n\nid: e1\ndata:\n\n",
            b"event: ping\ndata: 1\n\n",
            event(b'{"jsonrpc":"2.0",\n "method":"notifications/progress"}'),
            b'data: {"jsonrpc":"2.0","id":1,"res',
            b'ult":{"x":1.0}}\n\n',
        )

    async with piped(edge(PlayedServer(busy))) as client:
        client.say(call_of(b"1"))
        assert await client.hear() == b'{"jsonrpc":"2.0",  "method":"notifications/progress"}'.replace(b"  ", b"  ")
        assert await client.hear() == b'{"jsonrpc":"2.0","id":1,"result":{"x":1.0}}'


async def test_a_printed_json_body_becomes_one_line() -> None:
    """Pretty-printed JSON keeps its bytes but for the line ends."""
    body = b'{\n  "jsonrpc": "2.0",\r\n  "id": 1,\n  "result": {"n": 1e2}\n}\n'
    async with piped(edge(PlayedServer(gives(json_reply(body))))) as client:
        client.say(call_of(b"1"))
        assert await client.hear() == body.translate(bytes.maketrans(b"\r\n", b"  "))


async def test_a_body_that_comes_in_pieces_is_one_line() -> None:
    """An upstream relays a body over its buffer piece by piece; lines cannot be mixed."""

    async def piecewise(call: Call) -> Outcome:
        headers: Headers = [(b"content-type", b"application/json")]
        await call.sink.open(200, headers)
        for piece in (b'{"jsonrpc":"2.0",', b'"id":1,"result":', b'"' + b"x" * 100_000 + b'"}'):
            await call.sink.write(piece)
        return Replied(200, headers, None)

    async with piped(edge(PlayedServer(piecewise))) as client:
        client.say(call_of(b"1"))
        assert len(json.loads(await client.hear())["result"]) == 100_000


async def test_a_reply_over_the_limit_is_cut_and_answered() -> None:
    """What cannot be held cannot become a line: one clear error, and the rest is not read."""
    told = Told()

    async def endless(call: Call) -> Outcome:
        await call.sink.open(200, [(b"content-type", b"application/json")])
        while True:
            await call.sink.write(b'{"jsonrpc":"2.0"' + b" " * 1000)
            await asyncio.sleep(0)

    settings = StdioSettings(HttpClientSettings("demo", b"/mcp", reply_limit_bytes=10_000))
    async with piped(edge(PlayedServer(endless), settings, told)) as client:
        client.say(call_of(b"1"))
        error = json.loads(await client.hear())
    assert (error["id"], error["error"]["data"]["reason"]) == (1, "upstream_reply_too_large")
    assert LimitReached("demo", "reply_size") in told.events


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Replied(502, [(b"content-type", b"text/html")], b"<html>bad gateway"), "upstream_protocol_error"),
        (Replied(200, [(b"content-type", b"text/html")], b"<html>login"), "upstream_reset"),
        (Replied(202, [], b""), "upstream_protocol_error"),
        (Replied(401, [], b""), "upstream_protocol_error"),
        (Failed(FailureKind.TIMEOUT, "said nothing", sent=Sent.YES, timer="idle"), "upstream_timeout"),
        (Refused(RefusalKind.RATE_LIMITED, "too many", "client", 2.0), "rate_limited"),
    ],
)
@pytest.mark.parametrize("raw_id", [b"7", b'"7"', b"1152921504606846976"])
async def test_a_request_nobody_answered_gets_one_error_under_its_own_id(
    outcome: Outcome, reason: str, raw_id: bytes
) -> None:
    """Whatever went wrong, the id comes back as it was written, once."""
    async with piped(edge(PlayedServer(gives(outcome)))) as client:
        client.say(call_of(raw_id))
        client.hang_up()
        lines = await client.hear_all()
    assert len(lines) == 1
    assert lines[0].startswith(b'{"jsonrpc":"2.0","id":' + raw_id + b',"error":')
    assert json.loads(lines[0])["error"]["data"]["reason"] == reason


async def test_how_long_to_wait_is_passed_on() -> None:
    """A pipe has no Retry-After; the text says it."""
    reply = Replied(503, [(b"retry-after", b"7")], b"")
    async with piped(edge(PlayedServer(gives(reply)))) as client:
        client.say(call_of(b"1"))
        assert "asks to wait 7 s" in json.loads(await client.hear())["error"]["message"]


async def test_a_bug_is_an_answer_too() -> None:
    """An exception in the stack ends one call, not the conversation."""
    told = Told()

    async def broken(call: Call) -> Outcome:
        raise RuntimeError("oh")

    server = PlayedServer(when("tools/call", broken), echo)
    async with piped(edge(server, told=told)) as client:
        client.say(call_of(b"1"), b'{"jsonrpc":"2.0","id":2,"method":"tools/list"}')
        heard = [json.loads(await client.hear()) for _ in range(2)]
    assert {1: "internal_error", 2: None} == {
        each["id"]: each.get("error", {}).get("data", {}).get("reason") for each in heard
    }
    assert told.notices() == ["a bug in weir"]


async def test_what_a_server_makes_of_a_notification_is_no_line() -> None:
    """A refused notification has no id to answer; the operator is told, once for each status."""
    told = Told()
    refusal = json_reply(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}', 400)
    server = PlayedServer(gives(refusal, "notifications/progress"), echo)
    async with piped(edge(server, told=told)) as client:
        client.say(*[b'{"jsonrpc":"2.0","method":"notifications/progress"}'] * 3, call_of(b"1"))
        assert json.loads(await client.hear())["id"] == 1
        client.hang_up()
        assert await client.hear_all() == []
    assert told.notices() == ["the server did not accept a notification or response"]


async def test_what_cannot_be_read_is_posted_and_its_reply_relayed() -> None:
    """weir has no opinion on nonsense: the server says what it thinks of it."""
    reply = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}'

    async def complain(call: Call) -> Outcome | None:
        return json_reply(reply, 400) if call.message.kind is Kind.OPAQUE else None

    async with piped(edge(PlayedServer(complain))) as client:
        client.say(b"nonsense")
        assert await client.hear() == reply


async def test_a_request_only_some_can_read_is_answered_under_its_id() -> None:
    """NaN is no JSON, and yet the client that wrote it waits for id 2."""
    async with piped(edge(PlayedServer(_unavailable))) as client:
        client.say(b'{"jsonrpc":"2.0","id":2,"method":"x/nan","params":{"n":NaN}}')
        assert json.loads(await client.hear())["id"] == 2


async def _unavailable(call: Call) -> Outcome:
    return Replied(503, [], b"")


async def test_each_request_of_a_batch_is_answered() -> None:
    """One member was answered before the stream broke; the other one gets the error."""

    async def half(call: Call) -> Outcome:
        return await stream(call, event(b'[{"jsonrpc":"2.0","id":1,"result":{}}]'))

    async with piped(edge(PlayedServer(half))) as client:
        client.say(b"[" + call_of(b"1") + b"," + INITIALIZED + b"," + call_of(b'"b"') + b"]")
        assert await client.hear() == b'[{"jsonrpc":"2.0","id":1,"result":{}}]'
        assert json.loads(await client.hear())["id"] == "b"
        client.hang_up()
        assert await client.hear_all() == []


# limits


async def test_a_reader_that_is_slow_slows_the_server() -> None:
    """stdout is full: the sink does not return until the client reads."""
    written = 0
    line = b'{"jsonrpc":"2.0","method":"notifications/message","params":"' + b"x" * 10_000 + b'"}'
    total = 200

    async def chatty(call: Call) -> Outcome:
        nonlocal written
        await call.sink.open(200, [(b"content-type", b"text/event-stream")])
        for _ in range(total):
            await call.sink.write(event(line))
            written += 1
        await call.sink.write(event(b'{"jsonrpc":"2.0","id":1,"result":{}}'))
        return Replied(200, [(b"content-type", b"text/event-stream")], None)

    async with piped(edge(PlayedServer(chatty))) as client:
        client.say(call_of(b"1"))
        assert await client.hear() == line
        await _until_still(lambda: written)
        assert written < total // 4
        for _ in range(total - 1):
            assert await client.hear() == line
        assert json.loads(await client.hear())["id"] == 1


async def _until_still(count: Any) -> None:
    before = -1
    while before != count():
        before = count()
        for _ in range(50):
            await asyncio.sleep(0)


async def test_with_too_much_under_way_stdin_is_not_read_on() -> None:
    """The client's pipe fills and it waits: that is the backpressure. It goes on when something is done."""
    told = Told()
    held = Held()
    server = PlayedServer(held)
    async with piped(edge(server, StdioSettings(HTTP, concurrent_limit=3), told)) as client:
        client.say(*[call_of(b"%d" % number) for number in range(5)])
        await server.received(3)
        await _until_still(lambda: len(server.calls))
        assert len(server.calls) == 3
        held.go.set()
        assert set(range(5)) == {json.loads(await client.hear())["id"] for _ in range(5)}
    assert LimitReached("demo", "messages_under_way") in told.events


async def test_a_line_over_the_limit_is_refused_and_skipped() -> None:
    """Its id cannot be known; the next line is served."""
    told = Told()
    async with piped(edge(PlayedServer(echo), StdioSettings(HTTP, line_limit_bytes=200), told)) as client:
        client.say(call_of(b"1", b"x" * 300), call_of(b"2"))
        heard = [json.loads(await client.hear()) for _ in range(2)]
    assert {None, 2} == {each["id"] for each in heard}
    assert LimitReached("demo", "max_body") in told.events


# the client's own child


CHILD = StdioSettings(HTTP, eager_stream=True)


async def test_a_child_is_listened_to_before_the_first_message() -> None:
    """It may speak first, and its bytes come out as they are."""

    async def speaks(call: Call) -> Outcome | None:
        if call.verb != b"GET":
            return None
        await call.sink.open(200, [(b"content-type", b"text/event-stream")])
        await call.sink.write(event(b"npm warn: not even JSON"))
        await asyncio.Event().wait()
        return None

    server = PlayedServer(speaks, echo)
    async with piped(edge(server, CHILD)) as client:
        assert await client.hear() == b"npm warn: not even JSON"
        client.say(INITIALIZE)
        await client.hear()
    assert server.methods()[:2] == ["GET", "initialize"]


async def test_nothing_is_held_back_before_a_child() -> None:
    """The pipe behind keeps the order: everything goes at once, cancellations included, in every revision."""
    held = Held(handshake, "initialize")
    server = PlayedServer(held, Held())
    lines = [INITIALIZE, INITIALIZED, modern_call_of(b"2"), cancelled(b"2")]
    async with piped(edge(server, StdioSettings(HTTP, eager_stream=True, grace_seconds=0.05))) as client:
        client.say(*lines)
        await server.received(5)
    assert [call.body for call in server.calls[1:5]] == lines


async def test_the_end_of_a_child_is_the_end_of_the_pipe() -> None:
    """The stream of a child ends when the child does: what waits is answered, and weir leaves with stdin open."""
    exits = asyncio.Event()

    async def mortal(call: Call) -> Outcome | None:
        if call.verb == b"GET":
            await call.sink.open(200, [(b"content-type", b"text/event-stream")])
            await exits.wait()
            return Replied(200, [(b"content-type", b"text/event-stream")], None)
        if call.is_request:
            exits.set()
            await asyncio.sleep(0)
            return Failed(FailureKind.EXITED, "exited with code 3")
        return None

    async with piped(edge(PlayedServer(mortal), CHILD)) as client:
        client.say(call_of(b"1"))
        lines = await client.hear_all()
    assert [(1, "upstream_exited")] == [
        (each["id"], each["error"]["data"]["reason"]) for each in map(json.loads, lines)
    ]


async def test_a_child_that_the_first_message_starts_is_listened_to_from_then_on() -> None:
    """Before it runs there is no stream to open; that is no end."""

    async def late(call: Call) -> Outcome | None:
        if call.verb != b"GET":
            return None
        if not any(each.verb == b"POST" for each in server.calls):
            return Refused(RefusalKind.UNKNOWN_SESSION, "nobody there")
        return await stream(call, event(b'{"jsonrpc":"2.0","method":"notifications/message"}'))

    server = PlayedServer(late, echo)
    async with piped(edge(server, CHILD)) as client:
        client.say(call_of(b"1"))
        heard = {await client.hear(), await client.hear()}
    assert b'{"jsonrpc":"2.0","method":"notifications/message"}' in heard


# telemetry and descriptors


async def test_every_call_is_finished_once() -> None:
    """GET and DELETE too, the cancelled ones included."""
    told = Told()
    held = Held()
    server = PlayedServer(handshake, held, echo)
    async with piped(edge(server, StdioSettings(HTTP, grace_seconds=0.02), told)) as client:
        client.say(INITIALIZE, INITIALIZED, call_of(b"2"))
        await server.receives(lambda call: call.message.method == "tools/call")
    assert sorted(map(id, server.calls)) == sorted(id(call) for call, _ in told.finished)
    kinds = {call.message.method or call.verb.decode(): outcome for call, outcome in told.finished}
    assert isinstance(kinds["tools/call"], Failed)
    assert kinds["tools/call"].kind is FailureKind.CANCELLED


async def test_files_may_be_stdin_and_stdout(tmp_path: Path) -> None:
    """`weir run --stdio < requests > answers` is how scripts call it."""
    (tmp_path / "in").write_bytes(call_of(b"1") + b"\n" + call_of(b"2") + b"\n")
    stdin = os.open(tmp_path / "in", os.O_RDONLY)
    stdout = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await edge(PlayedServer(echo)).run(stdin, stdout)
    finally:
        os.close(stdin)
        os.close(stdout)
    assert {1, 2} == {json.loads(line)["id"] for line in (tmp_path / "out").read_bytes().splitlines()}
