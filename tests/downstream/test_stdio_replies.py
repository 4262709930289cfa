"""A client on stdin and stdout: what comes back, whatever the server does, and how much at once."""

import asyncio
import json
from typing import Any

import pytest

from support.pipes import piped
from support.played import (
    HTTP,
    INITIALIZED,
    Held,
    PlayedServer,
    Told,
    call_of,
    echo,
    edge,
    event,
    gives,
    json_reply,
    stream,
    when,
)
from weir.core.call import Call, Headers
from weir.core.events import LimitReached
from weir.core.outcome import Failed, FailureKind, Outcome, RefusalKind, Refused, Replied, Sent
from weir.downstream.stdio import StdioSettings
from weir.protocol.envelope import Kind
from weir.relay.http_client import HttpClientSettings

pytestmark = pytest.mark.anyio


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
        error = json.loads(await client.hear())["error"]
        assert (7000, True) == (error["data"]["retryAfterMs"], "Try again in 7 s" in error["message"])


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
