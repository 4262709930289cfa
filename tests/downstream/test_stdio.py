"""A client on stdin and stdout: from its first line until it has gone."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from support.pipes import PATIENCE_SECONDS, piped
from support.played import (
    ENVELOPE,
    HTTP,
    INITIALIZE,
    INITIALIZED,
    Held,
    PlayedServer,
    Told,
    call_of,
    cancelled,
    echo,
    edge,
    event,
    handshake,
    modern_call_of,
    sent,
    stream,
    when,
    within,
)
from weir.core.call import Call
from weir.core.outcome import Failed, FailureKind, Outcome, RefusalKind, Refused, Replied
from weir.downstream.stdio import StdioSettings
from weir.relay.http_client import HttpClientSettings

pytestmark = pytest.mark.anyio


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
    """What SIGTERM leads to: calls cancelled and told so, session ended, without the grace."""
    held = Held()
    server = PlayedServer(handshake, held)
    downstream = edge(server, StdioSettings(HTTP, grace_seconds=60.0))
    async with piped(downstream) as client:
        client.say(INITIALIZE, call_of(b"2"))
        await server.received(2)
        downstream.stop()
        _, error = await client.hear_all()
    assert (b'"id":2' in error, b'"reason":"cancelled"' in error, b'"blame":"weir"' in error) == (True, True, True)
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


# the client's own child


CHILD = StdioSettings(HTTP, eager_stream=True)


async def test_a_child_is_listened_to_before_the_first_message() -> None:
    """It may speak first, and its bytes come out as they are; what is no message does not come out."""
    spoken = b'{ "jsonrpc":"2.0", "method":"notifications/message","params":{"n":1.0}}'

    async def speaks(call: Call) -> Outcome | None:
        if call.verb != b"GET":
            return None
        await call.sink.open(200, [(b"content-type", b"text/event-stream")])
        await call.sink.write(event(b"npm warn: not even JSON") + event(spoken))
        await asyncio.Event().wait()
        return None

    server = PlayedServer(speaks, echo)
    async with piped(edge(server, CHILD)) as client:
        assert spoken == await client.hear()
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
        client.say(INITIALIZE)
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


async def test_a_bug_costs_one_message_its_answer_and_no_other() -> None:
    """The request gets one error that names weir; the conversation goes on."""

    async def broken(call: Call) -> Any:
        odd: Any = 7
        return Replied(200, [], odd) if b"broken" in call.body else await echo(call)

    async with piped(edge(PlayedServer(broken))) as client:
        client.say(modern_call_of(b"1", b"broken"))
        error = json.loads(await client.hear())
        client.say(modern_call_of(b"2", b"works"))
        assert 2 == json.loads(await client.hear())["id"]
    assert (1, "internal_error", "weir") == (
        error["id"],
        error["error"]["data"]["reason"],
        error["error"]["data"]["blame"],
    )
