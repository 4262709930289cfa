"""The MCP port over real sockets: calls in, outcomes out. The test plays the handler behind it."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from support.limits import HANG_SECONDS
from weir.app.listen import bind
from weir.config.quantities import Address
from weir.core.call import Call
from weir.core.events import LimitReached
from weir.core.outcome import NO_ANSWER, Blame, Failed, FailureKind, Outcome, RefusalKind, Refused, Replied
from weir.downstream.gate import Gate, GateSettings
from weir.downstream.http import HttpDownstream, HttpSettings
from weir.downstream.server import ServerSettings
from weir.downstream.serving import build_server
from weir.protocol.envelope import Kind
from weir.relay.routes import Routes, Served

pytestmark = pytest.mark.anyio

REQUEST = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"add"}}'
Handler = Callable[[Call], Awaitable[Outcome]]


class Port:
    """A running MCP port and what came of the calls on it."""

    def __init__(self) -> None:
        self.number = 0
        self.finished: list[tuple[Call, Outcome]] = []
        self.events: list[Any] = []
        self.ended = asyncio.Event()
        self.downstream: HttpDownstream

    def finish(self, call: Call, outcome: Outcome) -> None:
        self.finished.append((call, outcome))
        self.ended.set()

    async def exchange(self, request: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
        """One request on its own connection: status, headers, and all bytes of the body as framed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.number)
        writer.write(request)
        try:
            async with asyncio.timeout(HANG_SECONDS):
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
        lines = head.split(b"\r\n")
        return int(lines[0].split()[1]), dict(line.split(b": ", 1) for line in lines[1:]), body


@contextlib.asynccontextmanager
async def port(handler: Handler, settings: HttpSettings | None = None) -> AsyncIterator[Port]:
    made = Port()
    routes = Routes([Served("only", handler, b"/own", True)])
    made.downstream = HttpDownstream(
        settings or HttpSettings(),
        Gate(GateSettings()),
        routes.match,
        {},
        made.finish,
        made.events.append,
        time.monotonic,
    )
    socket = bind(Address("127.0.0.1", 0), "test")
    made.number = socket.getsockname()[1]
    server = build_server(made.downstream, ServerSettings("127.0.0.1", 0), lambda limit: None)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(sockets=[socket]))
        try:
            yield made
        finally:
            server.should_exit = True


def request(body: bytes = REQUEST, *headers: bytes, verb: bytes = b"POST", path: bytes = b"/mcp") -> bytes:
    lines = [verb + b" " + path + b" HTTP/1.1", b"host: localhost", b"connection: close", *headers]
    if body:
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def answering(outcome: Outcome) -> Handler:
    async def handler(call: Call) -> Outcome:
        return outcome

    return handler


async def test_a_complete_reply_is_relayed_as_it_came() -> None:
    """Status, headers in order, body."""
    reply = Replied(207, [(b"x-one", b"1"), (b"set-cookie", b"a"), (b"content-type", b"application/json")], b"{ }")
    async with port(answering(reply)) as mcp:
        status, headers, body = await mcp.exchange(request())
    assert (207, b"{ }") == (status, body)
    assert [b"x-one", b"set-cookie", b"content-type", b"content-length", b"connection"] == list(headers)


async def test_a_call_knows_what_the_client_sent() -> None:
    """Verb, target with query, headers, session, revision, message, peer."""
    seen: list[Call] = []

    async def handler(call: Call) -> Outcome:
        seen.append(call)
        return Replied(202, [], b"")

    async with port(handler) as mcp:
        await mcp.exchange(
            request(REQUEST, b"Mcp-Session-Id: s1", b"MCP-Protocol-Version: 2025-11-25", path=b"/mcp?x=%20")
        )
    call = seen[0]
    assert (b"POST", b"/own?x=%20", "s1", "2025-11-25") == (call.verb, call.target, call.session, call.revision)
    assert (REQUEST, Kind.REQUEST, b"7", "tools/call", "add") == (
        call.body,
        call.message.kind,
        call.message.id,
        call.message.method,
        call.message.name,
    )
    assert "127.0.0.1" == call.peer.address
    assert (b"mcp-session-id", b"s1") in call.headers


async def test_a_stream_is_relayed_while_it_arrives() -> None:
    """Head first, then each chunk when it is written."""
    go_on = asyncio.Event()

    async def handler(call: Call) -> Outcome:
        await call.sink.open(200, [(b"content-type", b"text/event-stream")])
        await go_on.wait()
        await call.sink.write(b"data: 1\n\n")
        return Replied(200, [], None)

    async with port(handler) as mcp:
        reader, writer = await asyncio.open_connection("127.0.0.1", mcp.number)
        writer.write(request())
        async with asyncio.timeout(HANG_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            go_on.set()
            rest = await reader.read()
        writer.close()
    assert head.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
    assert b"9\r\ndata: 1\n\n\r\n0\r\n\r\n" == rest


async def test_a_failure_after_the_head_is_the_last_event_of_the_stream() -> None:
    """DESIGN §4, commit rule: the error comes as a message event under the request's id."""

    async def handler(call: Call) -> Outcome:
        await call.sink.open(200, [(b"content-type", b"text/event-stream")])
        await call.sink.write(b": hello\n\n")
        return Failed(FailureKind.RESET, "the stream ended before the answer")

    async with port(handler) as mcp:
        _, _, body = await mcp.exchange(request())
    assert body.endswith(b"0\r\n\r\n")
    data = body.partition(b"data: ")[2].partition(b"\n")[0].strip()
    answer = json.loads(data)
    assert (7, "upstream_reset") == (answer["id"], answer["error"]["data"]["reason"])


async def test_a_get_stream_that_breaks_off_is_broken_off_for_the_client_too() -> None:
    """There is no request to answer: an orderly end would claim that the server ended it."""

    async def handler(call: Call) -> Outcome:
        await call.sink.open(200, [(b"content-type", b"text/event-stream")])
        await call.sink.write(b": hello\n\n")
        return Failed(FailureKind.RESET, "the stream broke off")

    async with port(handler) as mcp:
        _, _, body = await mcp.exchange(request(b"", verb=b"GET"))
    assert not body.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(
    ("verb", "body", "kind", "is_ended"),
    [
        (b"GET", b"", FailureKind.TIMEOUT, True),
        (b"GET", b"", FailureKind.RESET, False),
        (b"POST", b'{"id":7,"method":"x","params":NaN}', FailureKind.TIMEOUT, False),
    ],
)
async def test_a_get_stream_that_weir_ends_is_ended_in_order(
    verb: bytes, body: bytes, kind: FailureKind, is_ended: bool
) -> None:
    """Its client may simply come back; what else might have been answered must not look complete."""

    async def handler(call: Call) -> Outcome:
        await call.sink.open(200, [(b"content-type", b"text/event-stream")])
        await call.sink.write(b": hello\n\n")
        return Failed(kind, "silent for 300 s", timer="idle")

    async with port(handler) as mcp:
        _, _, received = await mcp.exchange(request(body, verb=verb))
    assert is_ended == received.endswith(b"0\r\n\r\n")


async def test_a_failure_is_an_error_reply() -> None:
    """Nobody answered: 502 with the request's own id."""
    async with port(answering(Failed(FailureKind.CONNECT, "refused"))) as mcp:
        status, headers, body = await mcp.exchange(request())
    assert (502, b"application/json", 7) == (status, headers[b"content-type"], json.loads(body)["id"])


async def test_refusals_can_be_sent_as_200() -> None:
    """For clients that drop the body of other statuses."""
    refused = Refused(RefusalKind.RATE_LIMITED, "No.", retry_after_seconds=3)
    async with port(answering(refused), HttpSettings(refusals_as_200=True)) as mcp:
        status, headers, body = await mcp.exchange(request())
    assert (200, b"3", -33429) == (status, headers[b"retry-after"], json.loads(body)["error"]["code"])


async def test_a_failed_discovery_keeps_its_status() -> None:
    """A JSON-RPC error to it is what an older server says, and would make the client speak an older revision."""
    refused = Refused(RefusalKind.OVERLOADED, "No.", retry_after_seconds=3)
    discover = b'{"jsonrpc":"2.0","id":1,"method":"server/discover"}'
    async with port(answering(refused), HttpSettings(refusals_as_200=True)) as mcp:
        status, _, body = await mcp.exchange(request(discover))
    assert (503, -33503) == (status, json.loads(body)["error"]["code"])


async def test_a_bug_is_one_clear_error_and_is_told_to_the_log() -> None:
    """The connection's last resort."""

    async def handler(call: Call) -> Outcome:
        raise ZeroDivisionError

    async with port(handler) as mcp:
        status, _, body = await mcp.exchange(request())
    assert (500, "internal_error") == (status, json.loads(body)["error"]["data"]["reason"])
    assert ["error"] == [event.level for event in mcp.events]


async def test_a_body_over_the_limit_is_413_whether_it_says_so_or_not() -> None:
    """By Content-Length before a byte is read, by counting when chunked."""
    chunked = (
        b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
        + b"400\r\n"
        + b"x" * 1024
        + b"\r\n"
    )
    async with port(answering(Replied(200, [], b"")), HttpSettings(body_limit_bytes=1000)) as mcp:
        announced = await mcp.exchange(request(b"x" * 1001))
        counted = await mcp.exchange(chunked + b"0\r\n\r\n")
        fits = await mcp.exchange(request(b"x" * 1000))
    assert [413, 413, 200] == [announced[0], counted[0], fits[0]]
    assert ["max_body", "max_body"] == [event.limit for event in mcp.events if isinstance(event, LimitReached)]


async def test_a_foreign_origin_is_403_and_a_foreign_host_421() -> None:
    """Neither reaches the handler; each is told, under the setting's name."""
    calls: list[Call] = []

    async def handler(call: Call) -> Outcome:
        calls.append(call)
        return Replied(200, [], b"")

    async with port(handler) as mcp:
        origin = await mcp.exchange(request(REQUEST, b"origin: https://evil.example"))
        host = await mcp.exchange(
            b"POST /mcp HTTP/1.1\r\nhost: evil.example\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
    assert ([403, 421], []) == ([origin[0], host[0]], calls)
    assert ["allowed_origins", "allowed_hosts"] == [
        event.limit for event in mcp.events if isinstance(event, LimitReached)
    ]


@pytest.mark.parametrize("header", [b"host: evil.example", b"origin: http://localhost", b"mcp-session-id: b"])
async def test_what_weir_decides_by_must_not_be_said_twice(header: bytes) -> None:
    """The server might believe the other one. Of other headers there may be several."""
    async with port(answering(Replied(200, [], b""))) as mcp:
        first = header.partition(b":")[0] + b": localhost"
        status, _, body = await mcp.exchange(request(REQUEST, b"\r\n".join([first, header])))
        other = await mcp.exchange(request(REQUEST, b"x-any: a\r\nx-any: b"))
    assert ([400, 200], 1) == ([status, other[0]], len(mcp.finished))
    assert header.partition(b":")[0] in body


async def test_an_unserved_path_is_404() -> None:
    """And is no call."""
    async with port(answering(Replied(200, [], b""))) as mcp:
        status, _, _ = await mcp.exchange(request(path=b"/nowhere"))
    assert (404, []) == (status, mcp.finished)


async def test_a_vanished_client_is_a_cancelled_call() -> None:
    """The handler is cancelled, and the call still ends once, blamed on the client."""
    started = asyncio.Event()

    async def handler(call: Call) -> Outcome:
        started.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async with port(handler) as mcp:
        _, writer = await asyncio.open_connection("127.0.0.1", mcp.number)
        writer.write(request())
        async with asyncio.timeout(HANG_SECONDS):
            await started.wait()
            writer.transport.abort()
            await mcp.ended.wait()
    assert 1 == len(mcp.finished)
    outcome = mcp.finished[0][1]
    assert isinstance(outcome, Failed)
    assert (FailureKind.CANCELLED, Blame.DOWNSTREAM) == (outcome.kind, outcome.blame)


async def test_a_client_that_vanishes_while_it_is_told_the_end_has_ended_all_the_same() -> None:
    """It does not read, so the failure cannot be written; whoever counts hears of the call's end, and once."""
    waiting = asyncio.Event()

    async def handler(call: Call) -> Outcome:
        await call.sink.open(200, [(b"content-type", b"text/event-stream")])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await call.sink.write(b"data: " + b"x" * 50_000_000 + b"\n\n")
        asyncio.get_running_loop().call_later(0.1, waiting.set)
        return Failed(FailureKind.RESET, "the stream broke off")

    async with port(handler) as mcp, asyncio.timeout(HANG_SECONDS):
        _, writer = await asyncio.open_connection("127.0.0.1", mcp.number, limit=1)
        writer.write(request())
        await waiting.wait()
        assert [] == mcp.finished
        writer.transport.abort()
        await mcp.ended.wait()
    ((call, outcome),) = mcp.finished
    assert isinstance(outcome, Failed)
    assert (FailureKind.RESET, 200) == (outcome.kind, call.status)


async def test_draining_ends_open_streams_in_order() -> None:
    """They would never end by themselves; the client sees a proper end."""
    opened = asyncio.Event()

    async def handler(call: Call) -> Outcome:
        await call.sink.open(200, [(b"content-type", b"text/event-stream")])
        opened.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async with port(handler) as mcp:
        reader, writer = await asyncio.open_connection("127.0.0.1", mcp.number)
        writer.write(request(b"", verb=b"GET"))
        async with asyncio.timeout(HANG_SECONDS):
            await opened.wait()
            mcp.downstream.end_streams()
            reply = await reader.read()
        writer.close()
    assert reply.endswith(b"\r\n\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("content_type", "end"),
    [(b"text/event-stream", b"\r\n\r\n0\r\n\r\n"), (b"application/json", b"\r\n\r\n4\r\nhalf\r\n")],
)
async def test_a_reply_that_a_drain_cuts_off_does_not_look_whole(content_type: bytes, end: bytes) -> None:
    """An event stream ends with the error, properly; any other body breaks off, and half of it is not taken for all."""
    opened = asyncio.Event()
    tasks: list[asyncio.Task[Any] | None] = []

    async def handler(call: Call) -> Outcome:
        await call.sink.open(200, [(b"content-type", content_type)])
        await call.sink.write(b"half")
        tasks.append(asyncio.current_task())
        opened.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async with port(handler) as mcp:
        reader, writer = await asyncio.open_connection("127.0.0.1", mcp.number)
        writer.write(request())
        async with asyncio.timeout(HANG_SECONDS):
            await opened.wait()
            mcp.downstream.end_streams()
            assert tasks[0] is not None
            tasks[0].cancel("the deadline has passed")
            reply = await reader.read()
        writer.close()
    assert reply.endswith(end)
    assert (b"text/event-stream" == content_type) == (b'"reason":"cancelled"' in reply)


async def test_what_was_answered_by_streaming_counts_its_bytes() -> None:
    """For the byte counters and the access log."""

    async def handler(call: Call) -> Outcome:
        await call.sink.open(206, [(b"content-type", b"text/event-stream")])
        await call.sink.write(b"data: 1\n\n")
        return Replied(206, [], None, NO_ANSWER)

    async with port(handler) as mcp:
        await mcp.exchange(request())
    call = mcp.finished[0][0]
    assert (206, 9) == (call.status, call.bytes_sent)
