"""The HTTP edge, against servers that answer exactly what a test tells them."""

import asyncio
import contextlib
import gzip
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from support.scripted import ENOUGH_SECONDS, Script, Scripted, Visit, scripted
from weir.core.call import Attempt, Call, Headers, Peer, Transport
from weir.core.events import ConnectionOpened, LimitReached
from weir.core.outcome import NO_ANSWER, PLAIN, Blame, Failed, FailureKind, Replied, Sent, Verdict
from weir.protocol.envelope import NOTHING, Message, peek
from weir.protocol.sse import encode
from weir.protocol.tracecontext import TraceContext
from weir.upstream.http import HttpSettings, HttpUpstream

pytestmark = pytest.mark.anyio

REQUEST = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x"}}'
RESULT = b'{"jsonrpc":"2.0","id":7,"result":{"content":[]}}'
PROGRESS = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}'
QUESTION = b'{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}'
SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nMcp-Session-Id: s\r\nTransfer-Encoding: chunked\r\n\r\n"
)
SSE_HEADERS = [(b"content-type", b"text/event-stream"), (b"mcp-session-id", b"s")]
TRACE = TraceContext("1" * 32, "2" * 16, 1, "vendor=1", "k=v")


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Both loops: weir runs on uvloop where there is one."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


class Downstream:
    """A sink that keeps what it gets, and can be slow."""

    def __init__(self) -> None:
        self.heads: list[tuple[int, Headers]] = []
        self.chunks: list[bytes] = []
        self.arrived = asyncio.Event()
        self.may_take = asyncio.Event()
        self.may_take.set()

    async def open(self, status: int, headers: Headers) -> None:
        """Take the head."""
        self.heads.append((status, headers))
        self.arrived.set()

    async def write(self, chunk: bytes) -> None:
        """Take bytes."""
        self.chunks.append(chunk)
        self.arrived.set()
        await self.may_take.wait()

    async def something(self) -> None:
        """Wait until more has come."""
        async with asyncio.timeout(ENOUGH_SECONDS):
            await self.arrived.wait()
        self.arrived.clear()

    @property
    def body(self) -> bytes:
        """All of it."""
        return b"".join(self.chunks)


class Asking:
    """The back-channel's side: counts a question as pending, and marks it."""

    def __init__(self) -> None:
        self.told_of: list[str] = []

    def asked(self, call: Call, message: Message, body: bytes) -> bytes:
        """A question."""
        call.ask_began(0.0)
        return body.replace(b"{}", b'{"marked":true}')

    def told(self, call: Call, message: Message) -> None:
        """A notification."""
        self.told_of.append(message.method)


class Edge:
    """An edge under test, with what it emitted and the last call it was given."""

    def __init__(self, settings: HttpSettings) -> None:
        self.events: list[Any] = []
        self.upstream = HttpUpstream(settings, self.events.append, time.monotonic)
        self.sink = Downstream()
        self.attempt = self.prepare()

    def prepare(
        self, body: bytes = REQUEST, *, verb: bytes = b"POST", headers: Headers | None = None, target: bytes = b"/mcp"
    ) -> Attempt:
        """A call and its first attempt."""
        self.sink = Downstream()
        call = Call(
            upstream="u",
            peer=Peer(Transport.HTTP),
            sink=self.sink,
            received_at=time.monotonic(),
            verb=verb,
            target=target,
            headers=headers,
            body=body,
            message=peek(body) if body else NOTHING,
        )
        call.revision = "2025-11-25"
        self.attempt = Attempt(call, 1, time.monotonic())
        return self.attempt

    async def run(self, attempt: Attempt | None = None) -> Replied | Failed:
        """The outcome of an attempt, by default a plain tools/call."""
        async with asyncio.timeout(ENOUGH_SECONDS):
            outcome = await self.upstream(attempt or self.prepare())
        assert isinstance(outcome, Replied | Failed)
        return outcome

    @property
    def limits(self) -> list[str]:
        """The limits that were reported as reached."""
        return [event.limit for event in self.events if isinstance(event, LimitReached)]


@contextlib.asynccontextmanager
async def edge_to(server: Scripted | str, **settings: Any) -> AsyncIterator[Edge]:
    """An edge to a server, closed at the end."""
    url = server if isinstance(server, str) else server.url()
    edge = Edge(replace(HttpSettings("u", url), **settings))
    try:
        yield edge
    finally:
        await edge.upstream.aclose()


def answering(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> Script:
    """A server that answers every request so."""

    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.answer(body, *headers, status=status)

    return script


def streaming(*chunks: bytes) -> Script:
    """A server that answers with a stream of these chunks."""

    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.send(SSE_HEAD)
            for chunk in (*chunks, b""):
                await visit.chunk(chunk)

    return script


async def heads_of(attempts: list[dict[str, Any]], trace: TraceContext | None = None, **settings: Any) -> list[bytes]:
    """The heads that a server sees for these calls."""
    seen: list[bytes] = []

    async def script(visit: Visit) -> None:
        while True:
            seen.append((await visit.request())[0])
            await visit.answer(RESULT)

    async with scripted(script) as server, edge_to(server, **settings) as edge:
        for each in attempts:
            attempt = edge.prepare(**each)
            attempt.trace = trace
            await edge.run(attempt)
        return [head.replace(b":%d" % server.port, b":PORT") for head in seen]


async def test_a_request_goes_up_without_what_belongs_to_one_hop() -> None:
    """Hop-by-hop headers and what `Connection` names are dropped; Host, length and codings are this hop's own."""
    headers = [
        (b"host", b"weir.example"),
        (b"accept", b"application/json, text/event-stream"),
        (b"accept-encoding", b"gzip, br"),
        (b"connection", b"keep-alive, X-Secret-Hop"),
        (b"x-secret-hop", b"1"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-authorization", b"Basic x"),
        (b"te", b"trailers"),
        (b"upgrade", b"h2c"),
        (b"expect", b"100-continue"),
        (b"transfer-encoding", b"chunked"),
        (b"authorization", b"Bearer t"),
        (b"mcp-session-id", b"s"),
        (b"mcp-param-a", b"1"),
        (b"mcp-param-a", b"2"),
        (b"traceparent", b"untouched"),
    ]
    (head,) = await heads_of([{"headers": headers, "target": b"/mcp?x=1"}])
    assert (
        b"POST /mcp?x=1 HTTP/1.1\r\n"
        b"host: 127.0.0.1:PORT\r\n"
        b"accept-encoding: identity\r\n"
        b"accept: application/json, text/event-stream\r\n"
        b"authorization: Bearer t\r\n"
        b"mcp-session-id: s\r\n"
        b"mcp-param-a: 1\r\n"
        b"mcp-param-a: 2\r\n"
        b"traceparent: untouched\r\n"
        b"content-length: %d\r\n\r\n" % len(REQUEST)
    ) == head


async def test_a_body_has_its_length_and_no_body_has_none() -> None:
    """An empty POST says so; GET and DELETE say nothing."""
    calls: list[dict[str, Any]] = [
        {"body": b"", "verb": b"POST"},
        {"body": b"", "verb": b"GET"},
        {"body": b"", "verb": b"DELETE"},
        {"body": b"{}", "verb": b"DELETE"},
        {"body": b"", "verb": b"GET", "target": b""},
    ]
    heads = await heads_of(calls)
    assert [True, False, False, True, False] == [b"content-length" in head for head in heads]
    assert heads[4].startswith(b"GET / HTTP/1.1\r\n")


async def test_configured_headers_replace_those_that_came() -> None:
    """A token for the upstream instead of the client's."""
    headers = ((b"authorization", b"Bearer ours"), (b"x-team", b"a"))
    (head,) = await heads_of([{"headers": [(b"authorization", b"Bearer theirs"), (b"x-other", b"1")]}], headers=headers)
    assert b"Bearer theirs" not in head
    assert b"authorization: Bearer ours\r\nx-team: a\r\nx-other: 1\r\n" in head


async def test_the_host_may_be_kept() -> None:
    """For upstreams that are protected under the name the client dialled."""
    heads = await heads_of([{"headers": [(b"host", b"weir.example")]}, {"headers": []}], preserve_host=True)
    assert b"\r\nhost: weir.example\r\n" in heads[0]
    assert b"\r\nhost: 127.0.0.1:PORT\r\n" in heads[1]


async def test_the_attempts_own_context_replaces_the_one_that_came() -> None:
    """All three headers, also where the new one has no state."""
    came = [(b"traceparent", b"00-old"), (b"tracestate", b"old=1"), (b"baggage", b"old=2")]
    (head,) = await heads_of([{"headers": came}], trace=TRACE)
    assert b"old" not in head
    assert (b"traceparent: 00-%b-%b-01\r\ntracestate: vendor=1\r\nbaggage: k=v\r\n" % (b"1" * 32, b"2" * 16)) in head
    (head,) = await heads_of([{"headers": came}], trace=TraceContext("1" * 32, "2" * 16))
    assert b"tracestate" not in head
    assert b"baggage" not in head


@pytest.mark.parametrize("value", ["a\r\nx-forged: 1", "a\nb", "späße", "\0"])
async def test_context_that_came_in_a_message_cannot_forge_headers(value: str) -> None:
    """What is no header value stays behind."""
    (head,) = await heads_of([{}], trace=TraceContext("1" * 32, "2" * 16, 1, value, value))
    assert b"traceparent" in head
    assert b"tracestate" not in head
    assert b"baggage" not in head
    assert b"forged" not in head


async def test_a_json_reply_comes_back_whole() -> None:
    """Status, end-to-end headers in order, body, verdict; nothing through the sink."""
    script = answering(
        RESULT,
        b"Date: today",
        b"Set-Cookie: a=1",
        b"Connection: X-Hop",
        b"X-Hop: 1",
        b"Set-Cookie: b=2",
        b"Keep-Alive: x",
    )
    async with scripted(script) as server, edge_to(server) as edge:
        outcome = await edge.run()
        headers = [
            (b"content-type", b"application/json"),
            (b"date", b"today"),
            (b"set-cookie", b"a=1"),
            (b"set-cookie", b"b=2"),
            (b"content-length", b"%d" % len(RESULT)),
        ]
        assert Replied(200, headers, RESULT, PLAIN) == outcome
        assert [] == edge.sink.heads
        assert not edge.attempt.call.committed


async def test_an_attempt_says_where_its_time_went() -> None:
    """Connecting (only when it did), sending, first byte; and whom it asked."""
    async with scripted(answering(RESULT)) as server, edge_to(server) as edge:
        for is_first in (True, False):
            await edge.run()
            attempt = edge.attempt
            assert is_first is (attempt.connect_seconds > 0)
            assert attempt.started_at <= attempt.sent_at <= attempt.first_byte_at <= time.monotonic()
            assert Peer(Transport.HTTP, "127.0.0.1", server.port, "1.1") == attempt.peer
        assert ["u"] == [event.upstream for event in edge.events if isinstance(event, ConnectionOpened)]


async def test_redirects_are_passed_on() -> None:
    """Never followed."""
    script = answering(b"", b"Location: http://192.0.2.1/", status=b"307 Temporary Redirect")
    async with scripted(script) as server, edge_to(server) as edge:
        outcome = await edge.run()
        assert isinstance(outcome, Replied)
        assert (307, NO_ANSWER) == (outcome.status, outcome.verdict)
        assert (b"location", b"http://192.0.2.1/") in outcome.headers


async def test_a_page_instead_of_an_answer_is_a_protocol_failure() -> None:
    """And says what came."""
    async with scripted(answering(b"<html>", status=b"200 OK")) as server, edge_to(server) as edge:
        outcome = await edge.run()
        assert isinstance(outcome, Failed)
        assert (FailureKind.PROTOCOL, Sent.ANSWERED, Blame.UPSTREAM) == (outcome.kind, outcome.sent, outcome.blame)


async def test_a_coded_reply_is_read_and_passes_as_it_came() -> None:
    """gzip although identity was asked for; and one that cannot be read is counted."""
    coded = gzip.compress(b'{"jsonrpc":"2.0","id":7,"error":{"code":5,"message":"no"}}')
    async with scripted(answering(coded, b"Content-Encoding: gzip")) as server, edge_to(server) as edge:
        outcome = await edge.run()
        assert isinstance(outcome, Replied)
        assert (coded, Verdict(5, "no")) == (outcome.body, outcome.verdict)
        assert [] == edge.limits
    async with scripted(answering(b"?", b"Content-Encoding: br")) as server, edge_to(server) as edge:
        outcome = await edge.run()
        assert isinstance(outcome, Replied)
        assert (b"?", PLAIN) == (outcome.body, outcome.verdict)
        assert ["encoded_reply"] == edge.limits


async def test_a_stream_is_relayed_event_by_event() -> None:
    """Head first, each event when it comes, the verdict at the end."""
    go_on = asyncio.Event()
    chunks = [b": hi\r\n\r\n", b"id: 0\r\ndata:\r\n\r\n", encode(PROGRESS), encode(RESULT), b": bye\r\n\r\n"]

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD)
        for chunk in (*chunks, b""):
            await go_on.wait()
            go_on.clear()
            await visit.chunk(chunk)

    async with scripted(script) as server, edge_to(server) as edge, asyncio.TaskGroup() as group:
        attempt = edge.prepare()
        task = group.create_task(edge.run(attempt))
        await edge.sink.something()
        assert [(200, SSE_HEADERS)] == edge.sink.heads
        for place, chunk in enumerate(chunks):
            go_on.set()
            await edge.sink.something()
            assert chunk == edge.sink.chunks[-1]
            assert (place > 0) is attempt.call.committed
        go_on.set()
        assert Replied(200, SSE_HEADERS, None, PLAIN) == await task


async def test_an_event_in_pieces_is_relayed_whole() -> None:
    """Once, when its blank line has come."""
    event = encode(RESULT)
    pieces = [event[:10], event[10:30], event[30:-1], event[-1:]]
    async with scripted(streaming(*pieces)) as server, edge_to(server) as edge:
        assert Replied(200, SSE_HEADERS, None, PLAIN) == await edge.run()
        assert event == edge.sink.body


async def test_what_is_left_of_an_unfinished_event_is_relayed_too() -> None:
    """The bytes are the client's to judge."""
    async with scripted(streaming(encode(RESULT) + b"data: half")) as server, edge_to(server) as edge:
        assert Replied(200, SSE_HEADERS, None, PLAIN) == await edge.run()
        assert encode(RESULT) + b"data: half" == edge.sink.body


async def test_questions_pass_marked_and_notifications_are_told() -> None:
    """The rest of the stream is as it came."""
    asking = Asking()
    script = streaming(encode(PROGRESS) + encode(QUESTION), encode(RESULT))
    async with scripted(script) as server, edge_to(server) as edge:
        attempt = edge.prepare()
        attempt.call.asker = asking
        assert isinstance(await edge.run(attempt), Replied)
        assert encode(PROGRESS) + encode(QUESTION.replace(b"{}", b'{"marked":true}')) + encode(RESULT) == edge.sink.body
        assert ["notifications/progress"] == asking.told_of


async def test_a_server_that_waits_for_the_client_may_be_silent() -> None:
    """The client thinks about a question for longer than the idle limit; afterwards the limit holds again."""
    is_answered = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD)
        await visit.chunk(encode(QUESTION))
        await is_answered.wait()
        await visit.chunk(encode(PROGRESS))
        await visit.gone()

    async with scripted(script) as server, edge_to(server, idle_seconds=0.15) as edge, asyncio.TaskGroup() as group:
        attempt = edge.prepare()
        attempt.call.asker = Asking()
        task = group.create_task(edge.run(attempt))
        await asyncio.sleep(0.5)
        assert not task.done()
        attempt.call.ask_ended(0.0)
        is_answered.set()
        outcome = await task
        assert isinstance(outcome, Failed)
        assert (FailureKind.TIMEOUT, "idle") == (outcome.kind, outcome.timer)


async def test_a_stream_that_is_cut_before_its_answer_failed() -> None:
    """Whether it ended well or not; what came has been relayed."""

    async def cut(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD)
        await visit.chunk(encode(PROGRESS))

    for script in (cut, streaming(encode(PROGRESS))):
        async with scripted(script) as server, edge_to(server) as edge:
            outcome = await edge.run()
            assert Failed(FailureKind.RESET, "the stream ended before the answer", sent=Sent.YES) == outcome
            assert encode(PROGRESS) == edge.sink.body


async def test_a_polled_stream_is_no_failure() -> None:
    """It ended after an event id."""
    async with scripted(streaming(b"id: 1\ndata:\n\n")) as server, edge_to(server) as edge:
        assert Replied(200, SSE_HEADERS, None, NO_ANSWER) == await edge.run()


async def test_a_get_stream_says_how_it_ended() -> None:
    """Well, or broken off."""

    async def cut(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD)
        await visit.chunk(encode(PROGRESS))

    async with scripted(streaming(encode(PROGRESS))) as server, edge_to(server) as edge:
        assert Replied(200, SSE_HEADERS, None, NO_ANSWER) == await edge.run(edge.prepare(b"", verb=b"GET"))
    async with scripted(cut) as server, edge_to(server) as edge:
        outcome = await edge.run(edge.prepare(b"", verb=b"GET"))
        assert isinstance(outcome, Failed)
        assert (FailureKind.RESET, Sent.ANSWERED) == (outcome.kind, outcome.sent)


async def test_a_get_stream_without_events_has_its_head_relayed() -> None:
    """At once; the client waits for it."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD)
        await visit.gone()

    async with scripted(script) as server, edge_to(server) as edge, asyncio.TaskGroup() as group:
        task = group.create_task(edge.upstream(edge.prepare(b"", verb=b"GET")))
        await edge.sink.something()
        assert [(200, SSE_HEADERS)] == edge.sink.heads
        task.cancel()
        await server.finished()


async def test_a_body_beyond_the_buffer_is_relayed_as_it_comes() -> None:
    """Committed, counted, and not judged."""
    body = RESULT + b" " * 100_000
    async with scripted(answering(body)) as server, edge_to(server, reply_buffer_bytes=10_000) as edge:
        outcome = await edge.run()
        assert isinstance(outcome, Replied)
        assert (None, PLAIN) == (outcome.body, outcome.verdict)
        assert body == edge.sink.body
        assert edge.attempt.call.committed
        assert ["reply_buffer"] == edge.limits


async def test_an_event_beyond_its_limit_is_relayed_and_counted() -> None:
    """Five megabytes in one event."""
    event = encode(b'{"jsonrpc":"2.0","id":7,"result":{"x":"%b"}}' % (b"x" * 5_000_000))
    pieces = [event[at : at + 500_000] for at in range(0, len(event), 500_000)]
    async with scripted(streaming(*pieces)) as server, edge_to(server) as edge:
        assert Replied(200, SSE_HEADERS, None, PLAIN) == await edge.run()
        assert event == edge.sink.body
        assert ["sse_event"] == edge.limits


async def test_a_coded_stream_is_relayed_unread() -> None:
    """Nobody can look into it piece by piece here; it is counted."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD.replace(b"Mcp-Session-Id: s", b"Content-Encoding: gzip"))
        await visit.chunk(gzip.compress(encode(RESULT)))
        await visit.chunk(b"")

    async with scripted(script) as server, edge_to(server) as edge:
        outcome = await edge.run()
        assert isinstance(outcome, Replied)
        assert PLAIN == outcome.verdict
        assert encode(RESULT) == gzip.decompress(edge.sink.body)
        assert ["encoded_reply"] == edge.limits


async def test_a_slow_client_slows_the_server_down() -> None:
    """Events wait in the server's socket, not in weir."""
    event = encode(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"%b"}}' % (b"x" * 60_000))
    sent, is_stuck = 0, asyncio.Event()

    async def script(visit: Visit) -> None:
        nonlocal sent
        await visit.request()
        await visit.send(SSE_HEAD)
        for _ in range(800):
            visit.writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            sent += 1
            try:
                async with asyncio.timeout(0.5):
                    await visit.writer.drain()
            except TimeoutError:
                is_stuck.set()
                await visit.writer.drain()
        await visit.chunk(encode(RESULT))
        await visit.chunk(b"")

    async with scripted(script) as server, edge_to(server) as edge, asyncio.TaskGroup() as group:
        attempt = edge.prepare()
        edge.sink.may_take.clear()
        task = group.create_task(edge.run(attempt))
        async with asyncio.timeout(ENOUGH_SECONDS):
            await is_stuck.wait()
        assert sent < 300
        assert 1 == len(edge.sink.chunks)
        edge.sink.may_take.set()
        assert isinstance(await task, Replied)
        assert event * 800 + encode(RESULT) == edge.sink.body


@pytest.mark.parametrize("moment", ["before the reply", "in the stream", "while writing"])
async def test_a_cancelled_attempt_closes_its_connection(moment: str) -> None:
    """At once, so that a 2026-07-28 server stops working on it."""
    asked = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        asked.set()
        if moment != "before the reply":
            await visit.send(SSE_HEAD)
            await visit.chunk(encode(PROGRESS))
        await visit.gone()

    async with scripted(script) as server, edge_to(server) as edge:
        attempt = edge.prepare()
        if moment == "while writing":
            edge.sink.may_take.clear()
        async with asyncio.timeout(ENOUGH_SECONDS), asyncio.TaskGroup() as group:
            task = group.create_task(edge.run(attempt))
            await asked.wait()
            while moment != "before the reply" and not edge.sink.chunks:
                await edge.sink.something()
            task.cancel()
        assert task.cancelled()
        await server.finished()
        assert attempt.sent_at > 0


async def test_a_client_that_cannot_be_written_to_closes_the_connection() -> None:
    """An error of the sink is not the upstream's, and leaves nothing open."""

    class Broken(Downstream):
        async def write(self, chunk: bytes) -> None:
            """Fail."""
            raise BrokenPipeError

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD)
        await visit.chunk(encode(PROGRESS))
        await visit.gone()

    async with scripted(script) as server, edge_to(server) as edge:
        attempt = edge.prepare()
        attempt.call.sink = Broken()
        with pytest.raises(BrokenPipeError):
            await edge.run(attempt)
        await server.finished()


async def nothing(visit: Visit) -> None:
    """Hang up without a word."""
    await visit.request()


async def silence(visit: Visit) -> None:
    """Never answer."""
    await visit.request()
    await visit.gone()


async def nonsense(visit: Visit) -> None:
    """Answer in another protocol."""
    await visit.request()
    await visit.send(b"220 mail.example ESMTP\r\n")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (nothing, (FailureKind.RESET, Sent.YES, "")),
        (silence, (FailureKind.TIMEOUT, Sent.YES, "idle")),
        (nonsense, (FailureKind.PROTOCOL, Sent.YES, "")),
    ],
)
async def test_a_server_that_does_not_answer_is_an_outcome(
    script: Script, expected: tuple[FailureKind, Sent, str]
) -> None:
    """What happened, what the server can have seen, whose fault."""
    async with scripted(script) as server, edge_to(server, idle_seconds=0.1) as edge:
        outcome = await edge.run()
        assert isinstance(outcome, Failed)
        assert expected == (outcome.kind, outcome.sent, outcome.timer)
        assert Blame.UPSTREAM is outcome.blame


async def test_a_server_that_is_not_there_has_seen_nothing() -> None:
    """The time it took to find out is the connect phase."""
    async with scripted(nothing) as server:
        url = server.url()
    async with edge_to(url) as edge:
        outcome = await edge.run()
        assert isinstance(outcome, Failed)
        assert (FailureKind.CONNECT, Sent.NO) == (outcome.kind, outcome.sent)
        assert edge.attempt.connect_seconds > 0
        assert 0.0 == edge.attempt.sent_at


async def test_a_request_that_cannot_be_written_is_not_the_upstreams_fault() -> None:
    """A header that would forge another."""
    async with scripted(answering(RESULT)) as server, edge_to(server) as edge:
        outcome = await edge.run(edge.prepare(headers=[(b"x", b"a\r\nb: c")]))
        assert isinstance(outcome, Failed)
        assert (FailureKind.INTERNAL, Sent.NO, Blame.WEIR) == (outcome.kind, outcome.sent, outcome.blame)


async def test_a_crowded_upstream_is_counted() -> None:
    """Two calls, one connection."""
    async with scripted(answering(RESULT)) as server, edge_to(server, connections=1) as edge:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(edge.run(edge.prepare())) for _ in range(2)]
        assert all(isinstance(task.result(), Replied) for task in tasks)
        assert ["connections"] == edge.limits


async def test_plain_http_goes_through_a_proxy_by_its_whole_url() -> None:
    """With the proxy's own password."""
    seen: list[bytes] = []

    async def script(visit: Visit) -> None:
        seen.append((await visit.request())[0])
        await visit.answer(RESULT)

    async with (
        scripted(script) as proxy,
        edge_to("http://mcp.example:8080/mcp", proxy=f"http://me:secret@127.0.0.1:{proxy.port}") as edge,
    ):
        assert isinstance(await edge.run(), Replied)
        assert Peer(Transport.HTTP, "mcp.example", 8080, "1.1") == edge.attempt.peer
    assert seen[0].startswith(b"POST http://mcp.example:8080/mcp HTTP/1.1\r\nhost: mcp.example:8080\r\n")
    assert b"proxy-authorization: Basic bWU6c2VjcmV0\r\n" in seen[0]


def test_an_unusable_url_is_an_error_at_the_start() -> None:
    """For the configuration to show."""
    for settings in (HttpSettings("u", "localhost:1"), HttpSettings("u", "http://h", proxy="socks5://p")):
        with pytest.raises(ValueError, match="http://"):
            HttpUpstream(settings, lambda _: None, time.monotonic)
