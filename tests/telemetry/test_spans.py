"""The spans of calls, attempts and servers' questions: names, kinds, parents, attributes and error rules."""

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from support.watched import CHILD, Watch, answer, call_of, giving, tool_call, watching
from weir.core.call import Attempt
from weir.core.events import Ask, AskFinished, AskStarted, Decided, Outlived
from weir.core.outcome import (
    NO_ANSWER,
    PLAIN,
    Blame,
    Failed,
    FailureKind,
    Outcome,
    RefusalKind,
    Refused,
    Replied,
    Verdict,
)
from weir.protocol.envelope import peek
from weir.protocol.tracecontext import TraceContext
from weir.telemetry import semconv

pytestmark = pytest.mark.anyio

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-1bf7651916cd43dd8448eb211c80319c-c7ad6b7169203331-01"
UNSAMPLED = PARENT[:-1] + "0"


def replied(verdict: Verdict, status: int = 200) -> Replied:
    return Replied(status, [], b"{}", verdict)


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def ids(span: ReadableSpan) -> tuple[str, str, str]:
    """Trace id, span id, parent's span id."""
    assert span.context is not None
    parent = f"{span.parent.span_id:016x}" if span.parent is not None else ""
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}", parent


async def pair_of(watch: Watch) -> tuple[ReadableSpan, ReadableSpan]:
    """The only SERVER and the only CLIENT span."""
    spans = {span.kind: span for span in await watch.spans()}
    assert {SpanKind.SERVER, SpanKind.CLIENT} == set(spans)
    return spans[SpanKind.SERVER], spans[SpanKind.CLIENT]


async def test_a_tool_call_gives_the_attributes_that_the_convention_names() -> None:
    """The whole table for one plain call, so that nothing is there that nobody asked for."""
    async with watching() as watch:
        call = call_of(tool_call("add", '"seven"'), revision="2025-06-18", session="SECRET")
        call.body_at = 100.01
        await watch.serve(call, answer)
        server, client = await pair_of(watch)
    both = {
        "mcp.method.name": "tools/call",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "add",
        "jsonrpc.request.id": "seven",
        "mcp.protocol.version": "2025-06-18",
        "network.transport": "tcp",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "weir.upstream": "search",
        "weir.outcome": "replied",
    }
    assert "tools/call add" == server.name == client.name
    assert {
        **both,
        "client.address": "127.0.0.7",
        "client.port": 51234,
        "weir.attempts": 1,
        "weir.phase.receive": pytest.approx(0.01),
        "weir.phase.upstream_first_byte": pytest.approx(0.25),
    } == attributes_of(server)
    assert {
        **both,
        "server.address": "mcp.example",
        "server.port": 8000,
        "weir.attempt": 1,
        "weir.phase.upstream_first_byte": pytest.approx(0.25),
        "weir.phase.upstream_stream": 0.0,
    } == attributes_of(client)
    assert StatusCode.UNSET is server.status.status_code is client.status.status_code


async def test_spans_are_stamped_with_the_wall_clock() -> None:
    """From the instants the call recorded, not from when the span was made."""
    async with watching() as watch:
        await watch.serve(call_of(tool_call()), answer)
        watch.now += 1000
        server, client = await pair_of(watch)
    began, ended = 1_700_000_100_000_000_000, 1_700_000_100_250_000_000
    assert (began, ended) == (server.start_time, server.end_time) == (client.start_time, client.end_time)


async def test_the_tree_is_caller_server_client() -> None:
    """Parents and links as the contexts say, remote where they came from outside."""
    async with watching() as watch:
        call = call_of(tool_call(meta=f'"traceparent":"{PARENT}"'), [(b"traceparent", OTHER.encode())])
        await watch.serve(call, answer)
        server, client = await pair_of(watch)
    assert ids(server)[0] == ids(client)[0] == PARENT[3:35]
    assert (PARENT[36:52], ids(server)[1]) == (ids(server)[2], ids(client)[2])
    assert server.parent is not None
    assert client.parent is not None
    assert (True, False) == (server.parent.is_remote, client.parent.is_remote)
    assert [OTHER[3:35]] == [f"{link.context.trace_id:032x}" for link in server.links]


@pytest.mark.parametrize(
    ("body", "name", "wanted"),
    [
        (
            b'{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"greet"}}',
            "prompts/get greet",
            {"gen_ai.prompt.name": "greet"},
        ),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"file:///a.txt"}}',
            "resources/read",
            {"mcp.resource.uri": "file:///a.txt"},
        ),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}', "tools/list", {}),
        (b'{"jsonrpc":"2.0","id":1,"method":"x/invented"}', "x/invented", {"mcp.method.name": "x/invented"}),
        (b'{"jsonrpc":"2.0","method":"notifications/initialized"}', "notifications/initialized", {}),
    ],
)
async def test_names_and_targets(body: bytes, name: str, wanted: dict[str, str]) -> None:
    """A tool or prompt is in the name, a URI only in its attribute; a notification has no id."""
    async with watching() as watch:
        await watch.serve(call_of(body), answer)
        server, client = await pair_of(watch)
    assert name == server.name == client.name
    for span in (server, client):
        held = attributes_of(span)
        assert wanted.items() <= held.items()
        assert ("gen_ai.operation.name" in held, "gen_ai.tool.name" in held) == (False, False)
        assert (b'"id"' in body) == ("jsonrpc.request.id" in held)


@pytest.mark.parametrize("code", [-32700, -32600, -32601, -32602, -32002])
async def test_a_callers_mistake_is_an_error_of_the_client_span_only(code: int) -> None:
    """SERVER: status code, no error type, status unset. CLIENT: every JSON-RPC error is one."""
    async with watching() as watch:
        await watch.serve(call_of(tool_call()), giving(replied(Verdict(code, "no such tool"))))
        server, client = await pair_of(watch)
    assert (StatusCode.UNSET, None) == (server.status.status_code, attributes_of(server).get("error.type"))
    assert (StatusCode.ERROR, "no such tool") == (client.status.status_code, client.status.description)
    assert str(code) == attributes_of(client)["error.type"] == attributes_of(client)["rpc.response.status_code"]
    assert str(code) == attributes_of(server)["rpc.response.status_code"]


@pytest.mark.parametrize("code", [-32603, -32000, -32020, 7])
async def test_any_other_error_code_is_an_error_of_both_spans(code: int) -> None:
    """`error.type` is the code, the description the error's message."""
    async with watching() as watch:
        await watch.serve(call_of(tool_call()), giving(replied(Verdict(code, "broken"))))
        for span in await pair_of(watch):
            assert (StatusCode.ERROR, "broken") == (span.status.status_code, span.status.description)
            assert str(code) == attributes_of(span)["error.type"] == attributes_of(span)["rpc.response.status_code"]


async def test_an_error_result_of_a_tool_is_tool_error_on_both_spans() -> None:
    """`isError`; there is no message to describe it with."""
    async with watching() as watch:
        await watch.serve(call_of(tool_call()), giving(replied(Verdict(is_tool_error=True))))
        for span in await pair_of(watch):
            assert (StatusCode.ERROR, None) == (span.status.status_code, span.status.description)
            assert "tool_error" == attributes_of(span)["error.type"]
            assert "rpc.response.status_code" not in attributes_of(span)


@pytest.mark.parametrize(
    ("outcome", "wanted"),
    [
        (
            Failed(FailureKind.TIMEOUT, "no answer within 5 s", timer="attempt"),
            {"error.type": "upstream_timeout", "weir.blame": "upstream", "weir.timer": "attempt"},
        ),
        (Failed(FailureKind.CONNECT, "refused"), {"error.type": "upstream_connect_error", "weir.outcome": "failed"}),
        (
            Failed(FailureKind.CANCELLED, "gone", Blame.DOWNSTREAM),
            {"error.type": "cancelled", "weir.blame": "downstream"},
        ),
        (Refused(RefusalKind.RATE_LIMITED, "slow down"), {"error.type": "rate_limited", "weir.blame": "downstream"}),
        (Refused(RefusalKind.OVERLOADED, "full"), {"weir.outcome": "refused", "weir.blame": "weir"}),
        (replied(NO_ANSWER, 401), {"error.type": "401", "weir.reason": "http_4xx"}),
    ],
)
async def test_what_weir_saw_fail_is_named_from_a_closed_list(outcome: Outcome, wanted: dict[str, str]) -> None:
    """Failures, refusals (which are no attempts, and have no span of their own), and HTTP errors without an answer."""
    async with watching() as watch:
        await watch.serve(call_of(tool_call()), giving(outcome))
        spans = [*await watch.spans()]
        assert (1 if isinstance(outcome, Refused) else 2) == len(spans)
        for span in spans:
            assert StatusCode.ERROR is span.status.status_code
            assert wanted.items() <= attributes_of(span).items()


@pytest.mark.parametrize("verdict", [PLAIN, NO_ANSWER])
async def test_success_says_nothing_of_errors(verdict: Verdict) -> None:
    """Neither does a stream that ended to be polled."""
    async with watching() as watch:
        await watch.serve(call_of(tool_call()), giving(replied(verdict)))
        for span in await pair_of(watch):
            assert StatusCode.UNSET is span.status.status_code
            assert "error.type" not in attributes_of(span)


async def test_every_attempt_has_a_client_span_with_its_own_outcome() -> None:
    """A call that was retried succeeded; its first attempt did not."""
    outcomes: list[Outcome] = [Failed(FailureKind.RESET, "reset"), replied(PLAIN)]

    async def flaky(attempt: Attempt) -> Outcome:
        return outcomes[attempt.number - 1]

    async with watching() as watch:
        await watch.serve(call_of(tool_call()), flaky, tries=2)
        server, *clients = sorted(await watch.spans(), key=lambda span: attributes_of(span).get("weir.attempt", 0))
    assert (SpanKind.SERVER, StatusCode.UNSET, 2) == (
        server.kind,
        server.status.status_code,
        attributes_of(server)["weir.attempts"],
    )
    first, second = (attributes_of(client) for client in clients)
    assert ("upstream_reset", None) == (first.get("error.type"), second.get("error.type"))
    assert (None, 1) == (first.get("http.request.resend_count"), second.get("http.request.resend_count"))
    assert {ids(server)[1]} == {ids(client)[2] for client in clients}


async def test_a_child_process_is_a_pipe_without_address() -> None:
    """stdio: no HTTP, no port, no resend count."""

    async def child(attempt: Attempt) -> Outcome:
        attempt.peer = CHILD
        attempt.wire_id = b"4711"
        return replied(PLAIN)

    async with watching() as watch:
        await watch.serve(call_of(tool_call(), peer=CHILD), child, tries=2)
        spans = await watch.spans()
    assert {"pipe"} == {attributes_of(span)["network.transport"] for span in spans}
    absent = {"network.protocol.name", "server.address", "client.address", "http.request.resend_count"}
    assert all(absent.isdisjoint(attributes_of(span)) for span in spans)
    assert ["1", "4711", "4711"] == [attributes_of(span)["jsonrpc.request.id"] for span in spans]


@pytest.mark.parametrize(
    ("outcome", "tries", "seconds", "exported"),
    [
        (replied(PLAIN), 1, 0.1, 0),
        (replied(Verdict(-32602, "mistake")), 1, 0.1, 0),
        (replied(Verdict(-32603, "broken")), 1, 0.1, 2),
        (replied(PLAIN), 2, 0.1, 3),
        (replied(PLAIN), 1, 12.0, 2),
    ],
)
async def test_unsampled_calls_are_exported_when_they_matter(
    outcome: Outcome, tries: int, seconds: float, exported: int
) -> None:
    """always: error, slow, retried. The next hop still hears that the trace is not sampled."""
    async with watching() as watch:
        call = call_of(tool_call(meta=f'"traceparent":"{UNSAMPLED}"'))
        await watch.serve(call, giving(outcome), tries, seconds)
        trace = call.attempts[-1].trace
        assert exported == len(await watch.spans())
        assert trace is not None
        assert not trace.is_sampled


async def test_a_long_lived_stream_is_not_slow() -> None:
    """subscriptions/listen lasts as long as it lasts."""
    body = b'{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{}}'
    async with watching(sample_ratio=0.0) as watch:
        await watch.serve(call_of(body), answer, seconds=3600.0)
        assert [] == await watch.spans()


@pytest.mark.parametrize("body", [b"", b"nonsense", b'{"jsonrpc":"2.0","id":1,"result":{}}'])
async def test_what_is_no_operation_has_no_span(body: bytes) -> None:
    """GET streams, clients' answers, what cannot be read."""
    async with watching() as watch:
        await watch.serve(call_of(body, [(b"traceparent", PARENT.encode())]), answer)
        assert [] == await watch.spans()


async def test_every_member_of_a_batch_has_its_own_pair_and_its_own_outcome() -> None:
    """Read from the array that answered; a notification has no answer and no error."""
    notification = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
    body = b"[" + b",".join([tool_call("a", "1"), tool_call("b", '"2"'), notification]) + b"]"
    reply = b'[{"jsonrpc":"2.0","id":"2","error":{"code":-32603,"message":"no"}},{"jsonrpc":"2.0","id":1,"result":{}}]'
    async with watching() as watch:
        await watch.serve(call_of(body), giving(Replied(200, [], reply, PLAIN)))
        spans = await watch.spans()
    servers = {span.name: span for span in spans if span.kind is SpanKind.SERVER}
    clients = {span.name: span for span in spans if span.kind is SpanKind.CLIENT}
    assert {"tools/call a", "tools/call b", "notifications/initialized"} == set(servers) == set(clients)
    assert all(ids(servers[name])[1] == ids(clients[name])[2] for name in servers)
    assert [None, "-32603", None] == [attributes_of(span).get("error.type") for span in servers.values()]
    assert len(servers) == len({ids(span)[0] for span in servers.values()})


async def ask(watch: Watch, meta: str, verdict: Verdict | None) -> None:
    """A server asks with a tools/call, and is answered three quarters of a second later."""
    call = call_of(tool_call(meta=f'"traceparent":"{PARENT}"'), revision="2025-06-18")
    body = f'{{"jsonrpc":"2.0","id":5,"method":"sampling/createMessage","params":{{{meta}}}}}'.encode()
    question = Ask("search", peek(body), watch.now, call)

    async def asking(attempt: Attempt) -> Outcome:
        watch.telemetry.tracing.begin_ask(question, body)
        watch.telemetry.emit(AskStarted(question))
        watch.now += 0.5
        question.answered_at = watch.now
        watch.telemetry.emit(AskFinished(question, verdict))
        return replied(PLAIN)

    await watch.serve(call, asking)


async def test_a_servers_question_has_a_pair_with_the_roles_reversed() -> None:
    """SERVER towards the server that asks, CLIENT towards the client that is asked."""
    async with watching() as watch:
        await ask(watch, f'"_meta":{{"traceparent":"{OTHER}"}}', Verdict(-32601, "no sampling"))
        pair = [span for span in await watch.spans() if span.name == "sampling/createMessage"]
    server, client = pair
    assert (SpanKind.SERVER, SpanKind.CLIENT) == (server.kind, client.kind)
    assert (OTHER[36:52], ids(server)[1]) == (ids(server)[2], ids(client)[2])
    assert ("mcp.example", 8000) == (attributes_of(server)["client.address"], attributes_of(server)["client.port"])
    assert "127.0.0.7" == attributes_of(client)["server.address"]
    assert (StatusCode.UNSET, StatusCode.ERROR) == (server.status.status_code, client.status.status_code)
    assert 750_000_000 == (client.end_time or 0) - (client.start_time or 0)
    assert () == tuple(server.links)


async def test_a_question_without_context_is_linked_to_its_stream() -> None:
    """A root of its own; one that is never answered is an error."""
    async with watching() as watch:
        await ask(watch, "", None)
        spans = {(span.name, span.kind): span for span in await watch.spans()}
    call = spans["tools/call add", SpanKind.SERVER]
    server = spans["sampling/createMessage", SpanKind.SERVER]
    assert ids(server)[0] != ids(call)[0]
    assert [ids(call)[1]] == [f"{link.context.span_id:016x}" for link in server.links]
    assert "cancelled" == attributes_of(server)["error.type"]


async def test_what_policies_did_are_events_of_the_calls_span() -> None:
    """With the time they did it; a shadow says so."""
    async with watching() as watch:
        call = call_of(tool_call())

        async def waited(attempt: Attempt) -> Outcome:
            watch.telemetry.emit(Decided("concurrency", "queued", call, seconds=0.5))
            watch.now += 1
            watch.telemetry.emit(Decided("rate_limit", "refused", call, is_shadow=True, detail="per client"))
            return replied(PLAIN)

        await watch.serve(call, waited)
        server, client = await pair_of(watch)
    assert [
        ("weir.policy.concurrency", {"weir.action": "queued", "weir.seconds": 0.5}),
        ("weir.policy.rate_limit", {"weir.action": "refused", "weir.mode": "shadow", "weir.detail": "per client"}),
    ] == [(event.name, dict(event.attributes or {})) for event in server.events]
    assert 1_000_000_000 == server.events[1].timestamp - server.events[0].timestamp
    assert () == tuple(client.events)


async def test_what_is_decided_of_a_shared_call_is_told_on_its_first_callers_span() -> None:
    """The call that goes upstream for several is another one, at the same place in the trace."""
    async with watching() as watch:
        call = call_of(tool_call())

        async def shared(attempt: Attempt) -> Outcome:
            stands_in = call_of(tool_call(), trace=call.trace)
            watch.telemetry.emit(Decided("retry", "scheduled", stands_in))
            return replied(PLAIN)

        await watch.serve(call, shared)
        server, _ = await pair_of(watch)
    assert ["weir.policy.retry"] == [event.name for event in server.events]


async def test_attempts_that_no_call_tells_of_have_their_spans() -> None:
    """Below that of the caller who left: where else they should stand nobody could say."""
    async with watching() as watch:
        call = call_of(tool_call())

        async def leaves(attempt: Attempt) -> Outcome:
            return Failed(FailureKind.CANCELLED, "", Blame.DOWNSTREAM)

        await watch.serve(call, leaves)
        assert call.trace is not None
        since = call_of(tool_call(), trace=call.trace)
        for trace in (TraceContext(call.trace.trace_id, "c" * 16), None):
            made = Attempt(since, 2, watch.now)
            made.trace, made.ended_at, made.outcome = trace, watch.now + 1.0, replied(PLAIN)
            since.attempts.append(made)
        watch.telemetry.emit(Outlived(since, replied(PLAIN)))
        spans = {span.context.span_id: span for span in await watch.spans()}
    parent = spans[int("c" * 16, 16)].parent
    assert (3, call.trace.span_id) == (len(spans), parent and f"{parent.span_id:016x}")


async def test_what_the_wire_invents_is_cut() -> None:
    """A method, name, id or message has a bounded size on a span."""
    async with watching() as watch:
        call = call_of(tool_call("t" * 10_000, '"' + "i" * 10_000 + '"'), revision="r" * 10_000)
        await watch.serve(call, giving(replied(Verdict(-32603, "m" * 10_000))))
        for span in await pair_of(watch):
            texts = [span.name, span.status.description or "", *attributes_of(span).values()]
            assert max(len(text) for text in texts if isinstance(text, str)) <= 256


async def test_a_resource_uri_loses_what_may_be_a_secret() -> None:
    """Userinfo and query; and the attribute can be left out altogether."""
    uri = "https://user:pass@host.example/a?token=SECRET#x"
    body = f'{{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{{"uri":"{uri}"}}}}'.encode()
    async with watching() as watch:
        await watch.serve(call_of(body), answer)
        assert ["https://host.example/a"] * 2 == [
            attributes_of(span)["mcp.resource.uri"] for span in await watch.spans()
        ]
    async with watching(resource_uris=False) as watch:
        await watch.serve(call_of(body), answer)
        assert not any("mcp.resource.uri" in attributes_of(span) for span in await watch.spans())


def test_the_names_are_those_of_the_convention() -> None:
    """Held against OpenTelemetry's own constants as long as those exist."""
    constants = pytest.importorskip("opentelemetry.semconv._incubating.attributes.mcp_attributes")
    assert (constants.MCP_METHOD_NAME, constants.MCP_PROTOCOL_VERSION, constants.MCP_RESOURCE_URI) == (
        semconv.METHOD_NAME,
        semconv.PROTOCOL_VERSION,
        semconv.RESOURCE_URI,
    )
