"""The HTTP edge, against servers that answer exactly what a test tells them."""

import asyncio
import gzip
import time
from typing import Any

import pytest

from support.edges import REQUEST, RESULT, answering, edge_to
from support.scripted import Script, Visit, black_hole, scripted
from weir.core.call import Attempt, Peer, Transport
from weir.core.events import ConnectionOpened, Decided
from weir.core.outcome import NO_ANSWER, PLAIN, Blame, Failed, FailureKind, Replied, Sent, Verdict
from weir.protocol.tracecontext import TraceContext
from weir.upstream.http import HttpSettings, HttpUpstream, WatchedLimits

pytestmark = pytest.mark.anyio

TRACE = TraceContext("1" * 32, "2" * 16, 1, "vendor=1", "k=v")


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Both loops: weir runs on uvloop where there is one."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


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
            assert attempt.started_at + attempt.connect_seconds <= attempt.sent_at
            assert attempt.started_at <= attempt.sent_at <= attempt.first_byte_at <= time.monotonic()
            peer = attempt.peer
            assert peer is not None
            assert (peer.address, peer.port, peer.http_version) == ("127.0.0.1", server.port, "1.1")
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


async def test_a_client_on_a_pipe_gets_a_coded_reply_decoded() -> None:
    """Nothing there says that a message is encoded."""
    coded = gzip.compress(RESULT)
    async with scripted(answering(coded, b"Content-Encoding: gzip")) as server, edge_to(server) as edge:
        attempt = edge.prepare()
        attempt.call.peer = Peer(Transport.STDIO)
        outcome = await edge.run(attempt)
    assert isinstance(outcome, Replied)
    assert (RESULT, PLAIN) == (outcome.body, outcome.verdict)
    assert {b"content-length", b"content-encoding"}.isdisjoint(name for name, _ in outcome.headers)


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


async def test_all_attempts_of_a_call_share_the_time_to_connect() -> None:
    """The first spends it, and the second finds nothing left: it ends at once, by the same timer."""
    with black_hole() as (_, port):
        async with edge_to(f"http://127.0.0.1:{port}", connect_seconds=0.3) as edge:
            first = edge.prepare()
            began = time.monotonic()
            for attempt in (first, Attempt(first.call, 2, began)):
                outcome = await edge.run(attempt)
                assert isinstance(outcome, Failed)
                assert (FailureKind.TIMEOUT, "connect", Sent.NO) == (outcome.kind, outcome.timer, outcome.sent)
            assert 0.3 <= time.monotonic() - began < 0.5
            assert first.call.connect_left_seconds <= 0.0
            assert pytest.approx(0.3, abs=0.1) == first.connect_seconds


async def test_a_call_may_have_a_time_to_connect_of_its_own() -> None:
    """What a successful connection took is off it, and nothing else."""
    with black_hole() as (_, port):
        async with edge_to(f"http://127.0.0.1:{port}", connect_seconds=5.0) as edge:
            attempt = edge.prepare()
            attempt.call.connect_left_seconds = 0.1
            outcome = await edge.run(attempt)
            assert isinstance(outcome, Failed)
            assert ("connect", 0.1) == (outcome.timer, outcome.after_seconds)
    async with scripted(answering(RESULT)) as server, edge_to(server) as edge:
        await edge.run()
        left, spent = edge.attempt.call.connect_left_seconds, edge.attempt.connect_seconds
        assert pytest.approx(5.0) == left + spent
        assert 0 < spent < 1


async def test_limits_that_are_watched_only_are_told_of() -> None:
    """The answer comes as it is; how long it took to connect, or to answer, would have been too long."""

    async def slow(visit: Visit) -> None:
        await visit.request()
        await asyncio.sleep(0.3)
        await visit.answer(RESULT)

    async with scripted(slow) as server, edge_to(server, watched=WatchedLimits(0.0, 0.1)) as edge:
        assert isinstance(await edge.run(), Replied)
        decided = [event for event in edge.events if isinstance(event, Decided)]
        call = edge.attempt.call
        assert [
            Decided("deadline", "would_time_out", call, True, 0.0, "connect"),
            Decided("deadline", "would_time_out", call, True, 0.1, "idle"),
        ] == decided
    async with scripted(answering(RESULT)) as server, edge_to(server, watched=WatchedLimits(5.0, 5.0)) as edge:
        assert isinstance(await edge.run(), Replied)
        assert [] == [event for event in edge.events if isinstance(event, Decided)]


@pytest.mark.parametrize("has_own", [True, False])
async def test_a_call_may_be_waited_for_as_long_as_it_says(has_own: bool) -> None:
    """Where the edge was told that calls do."""

    async def silent(visit: Visit) -> None:
        await visit.request()
        await visit.gone()

    async with scripted(silent) as server, edge_to(server, idle_seconds=0.4, has_own_silences=has_own) as edge:
        attempt = edge.prepare()
        attempt.call.idle_seconds = 0.1
        outcome = await edge.run(attempt)
        assert isinstance(outcome, Failed)
        assert ("idle", 0.1 if has_own else 0.4) == (outcome.timer, outcome.after_seconds)


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
        peer = edge.attempt.peer
        assert peer is not None
        assert (peer.address, peer.port, peer.http_version) == ("mcp.example", 8080, "1.1")
    assert seen[0].startswith(b"POST http://mcp.example:8080/mcp HTTP/1.1\r\nhost: mcp.example:8080\r\n")
    assert b"proxy-authorization: Basic bWU6c2VjcmV0\r\n" in seen[0]


def test_an_unusable_url_is_an_error_at_the_start() -> None:
    """For the configuration to show."""
    for settings in (HttpSettings("u", "localhost:1"), HttpSettings("u", "http://h", proxy="socks5://p")):
        with pytest.raises(ValueError, match="http://"):
            HttpUpstream(settings, lambda _: None, time.monotonic)
