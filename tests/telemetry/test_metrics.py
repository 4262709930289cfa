"""What /metrics says after calls of every kind."""

import math
from dataclasses import replace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from support.watched import CHILD, OK, OPENMETRICS, Watch, answer, call_of, giving, tool_call, watching
from weir.core.call import Attempt, Call, Peer, Transport
from weir.core.events import (
    Ask,
    AskFinished,
    AskStarted,
    BreakerMoved,
    CallStarted,
    ChildExited,
    ChildStarted,
    ConnectionOpened,
    Decided,
    LevelChanged,
    LimitReached,
    LineSkipped,
    Listed,
    Outlived,
    ServerNotified,
    SessionClosed,
    SessionOpened,
)
from weir.core.outcome import NO_ANSWER, Blame, Failed, FailureKind, Outcome, RefusalKind, Refused, Replied, Verdict
from weir.protocol.envelope import peek
from weir.telemetry.semconv import OPERATION_BUCKETS

pytestmark = pytest.mark.anyio

SERVER_COUNT = "mcp_server_operation_duration_seconds_count"
CLIENT_COUNT = "mcp_client_operation_duration_seconds_count"
TOOLS = b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"add"},{"name":"sub","x":1.0}]}}'
LISTEN = b'{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{}}'


async def test_a_call_is_in_both_conventional_histograms_with_the_conventional_labels() -> None:
    """Exactly these labels, so that dashboards made for the convention work."""
    async with watching(exporter="none") as watch:
        watch.telemetry.emit(Listed("search", "tools/list", TOOLS))
        await watch.serve(call_of(tool_call("add"), revision="2025-06-18"), answer)
        both = {
            "upstream": "search",
            "mcp_method_name": "tools/call",
            "gen_ai_tool_name": "add",
            "gen_ai_operation_name": "execute_tool",
            "mcp_protocol_version": "2025-06-18",
            "network_transport": "tcp",
            "network_protocol_name": "http",
            "network_protocol_version": "1.1",
        }
        client = {**both, "server_address": "mcp.example", "server_port": "8000"}
        assert {frozenset(both.items()): 1.0} == await watch.samples(SERVER_COUNT)
        assert {frozenset(client.items()): 1.0} == await watch.samples(CLIENT_COUNT)


async def test_the_operation_buckets_are_the_conventions() -> None:
    """Cumulative, with the value where it belongs and the sum of all."""
    async with watching(exporter="none") as watch:
        for seconds in (0.01, 0.3, 1000.0):
            await watch.serve(call_of(tool_call(), received_at=watch.now), answer, seconds=seconds)
        buckets = await watch.samples("mcp_server_operation_duration_seconds_bucket")
        by_bound = {float(dict(labels)["le"]): value for labels, value in buckets.items()}
        assert (*OPERATION_BUCKETS, math.inf) == tuple(sorted(by_bound))
        # 0.01 s is not above the bound of 0.01 s, but for what the addition of floats adds to it
        assert (1, 2, 2, 3) == (by_bound[0.02], by_bound[0.5], by_bound[300.0], by_bound[math.inf])
        assert 1000.31 == pytest.approx(await watch.value("mcp_server_operation_duration_seconds_sum"))


@pytest.mark.parametrize(
    ("outcome", "server", "client", "code"),
    [
        (Replied(200, [], b"", Verdict(-32602)), "", "-32602", "-32602"),
        (Replied(200, [], b"", Verdict(-32603)), "-32603", "-32603", "-32603"),
        (Replied(200, [], b"", Verdict(is_tool_error=True)), "tool_error", "tool_error", ""),
        (Replied(401, [], b"", NO_ANSWER), "401", "401", ""),
        (Failed(FailureKind.CONNECT, ""), "upstream_connect_error", "upstream_connect_error", ""),
    ],
)
async def test_error_labels_follow_each_sides_rules(outcome: Outcome, server: str, client: str, code: str) -> None:
    """A caller's mistake is an error to the client only."""
    async with watching(exporter="none") as watch:
        await watch.serve(call_of(tool_call()), giving(outcome))
        for name, error in ((SERVER_COUNT, server), (CLIENT_COUNT, client)):
            (labels,) = (dict(labels) for labels in await watch.samples(name))
            assert (error, code) == (labels.get("error_type", ""), labels.get("rpc_response_status_code", ""))


@pytest.mark.parametrize(
    ("outcome", "word", "reason"),
    [
        (OK, "replied", "ok"),
        (Replied(200, [], None, NO_ANSWER), "replied", "unanswered"),
        (Replied(200, [], b"", Verdict(is_tool_error=True)), "replied", "tool_error"),
        (Replied(200, [], b"", Verdict(-32601)), "replied", "caller_error"),
        (Replied(200, [], b"", Verdict(1)), "replied", "server_error"),
        (Replied(404, [], b"", NO_ANSWER), "replied", "http_4xx"),
        (Replied(503, [], b"", NO_ANSWER), "replied", "http_5xx"),
        (Failed(FailureKind.TIMEOUT, ""), "failed", "upstream_timeout"),
        (Refused(RefusalKind.CIRCUIT_OPEN, ""), "refused", "circuit_open"),
    ],
)
async def test_requests_are_counted_by_outcome_and_reason(outcome: Outcome, word: str, reason: str) -> None:
    """From closed lists."""
    async with watching(exporter="none") as watch:
        await watch.serve(call_of(tool_call()), giving(outcome))
        wanted = {"upstream": "search", "mcp_method_name": "tools/call", "outcome": word, "reason": reason}
        assert {frozenset(wanted.items()): 1.0} == await watch.samples("weir_requests_total")


async def test_attempts_are_counted_apart_from_requests() -> None:
    """Two tries, one request: what the upstream did, and what the client saw."""
    outcomes: list[Outcome] = [Failed(FailureKind.RESET, ""), replace(OK)]

    async def flaky(attempt: Attempt) -> Outcome:
        return outcomes[attempt.number - 1]

    async with watching(exporter="none") as watch:
        await watch.serve(call_of(tool_call()), flaky, tries=2)
        assert 1 == await watch.value("weir_requests_total", reason="ok")
        first = {"try": "first", "outcome": "failed", "reason": "upstream_reset"}
        retry = {"try": "retry", "outcome": "replied", "reason": "ok"}
        assert (1, 1) == (
            await watch.value("weir_attempts_total", **first),
            await watch.value("weir_attempts_total", **retry),
        )
        assert 2 == sum((await watch.samples(CLIENT_COUNT)).values())


async def test_an_attempt_that_goes_on_for_others_is_counted_with_the_call_that_began_it() -> None:
    """Its caller has left, and who shares it has an answer without an attempt of its own."""
    async with watching(exporter="none") as watch:
        call = call_of(tool_call())
        call.attempts.append(Attempt(call, 1, watch.now))
        watch.now += 2.0
        watch.telemetry.observe_call.finish(call, Failed(FailureKind.CANCELLED, "", Blame.DOWNSTREAM))
        labels = {"try": "first", "outcome": "failed", "reason": "cancelled"}
        assert 1 == await watch.value("weir_attempts_total", **labels)
        assert 2.0 == sum((await watch.samples("mcp_client_operation_duration_seconds_sum")).values())


async def test_attempts_that_no_call_tells_of_are_counted_by_themselves() -> None:
    """Those of a shared call after the caller had left whose call it was. No request is counted with them."""
    async with watching(exporter="none") as watch:
        call = call_of(tool_call())
        made = Attempt(call, 2, watch.now)
        made.ended_at, made.outcome = watch.now + 3.0, OK
        call.attempts.append(made)
        watch.telemetry.emit(Outlived(call, OK))
        labels = {"try": "retry", "outcome": "replied", "reason": "ok"}
        assert 1 == await watch.value("weir_attempts_total", **labels)
        assert 3.0 == sum((await watch.samples("mcp_client_operation_duration_seconds_sum")).values())
        assert {} == await watch.samples("weir_requests_total")


async def test_the_phases_of_requests_are_observed_and_add_up() -> None:
    """Every phase of every request; notifications have none."""
    async with watching(exporter="none") as watch:
        await watch.serve(call_of(tool_call()), answer, seconds=0.5)
        await watch.serve(call_of(b'{"jsonrpc":"2.0","method":"notifications/initialized"}'), answer)
        counts = await watch.samples("weir_phase_seconds_count")
        phases = ("receive", "queue", "policy", "connect", "upstream_first_byte", "upstream_stream", "client", "relay")
        assert {*phases} == {dict(labels)["phase"] for labels in counts}
        assert {1.0} == set(counts.values())
        assert 0.5 == pytest.approx(sum((await watch.samples("weir_phase_seconds_sum")).values()))
        assert 1 == await watch.value("weir_overhead_seconds_count", upstream="search")


async def test_a_request_is_in_flight_until_it_is_finished() -> None:
    """Whatever its outcome; a second end, or one without beginning, does no harm."""
    async with watching(exporter="none") as watch:
        seen = []

        async def look(attempt: Attempt) -> Outcome:
            seen.append(await watch.value("weir_requests_in_flight", upstream="search"))
            return replace(OK)

        call = call_of(tool_call())
        await watch.serve(call, look)
        watch.telemetry.observe_call.finish(call, OK)
        watch.telemetry.observe_call.finish(call_of(tool_call()), OK)
        assert [1.0] == seen
        assert 0 == await watch.value("weir_requests_in_flight", upstream="search")


@pytest.mark.parametrize(("body", "kind"), [(b"", "get"), (LISTEN, "listen")])
async def test_long_lived_streams_have_gauges_and_durations_of_their_own(body: bytes, kind: str) -> None:
    """They never enter the histograms of calls, whose quantiles they would spoil."""
    async with watching(exporter="none") as watch:
        open_streams = []

        async def look(attempt: Attempt) -> Outcome:
            open_streams.append(await watch.value("weir_streams_open", upstream="search", kind=kind))
            return Replied(200, [], None, NO_ANSWER)

        await watch.serve(call_of(body), look, seconds=900.0)
        assert ([1.0], 0.0) == (open_streams, await watch.value("weir_streams_open", kind=kind))
        assert 900.0 == await watch.value("weir_stream_seconds_sum", upstream="search", kind=kind)
        assert ({}, {}) == (await watch.samples(SERVER_COUNT), await watch.samples(CLIENT_COUNT))
        assert 0 == await watch.value("weir_overhead_seconds_count")


@pytest.mark.parametrize(
    ("call", "verb"),
    [
        (call_of(b"", verb=b"GET"), "GET"),
        (call_of(b"", verb=b"DELETE"), "DELETE"),
        (call_of(b"", verb=b"BREW"), "_OTHER"),
        (call_of(b'{"jsonrpc":"2.0","id":1,"result":{}}'), "POST"),
        (call_of(b"nonsense"), "POST"),
    ],
)
async def test_what_is_no_operation_is_an_exchange(call: Call, verb: str) -> None:
    """Counted by verb, and by nothing the wire can invent."""
    async with watching(exporter="none") as watch:
        await watch.serve(call, giving(Replied(405, [], b"", NO_ANSWER)))
        wanted = {"upstream": "search", "verb": verb, "outcome": "replied", "reason": "http_4xx"}
        assert {frozenset(wanted.items()): 1.0} == await watch.samples("weir_exchanges_total")
        assert {} == await watch.samples("weir_requests_total")


async def test_every_member_of_a_batch_is_counted() -> None:
    """By its own outcome; the exchange is in flight once, and its bytes count once."""
    body = b"[" + tool_call("a", "1") + b"," + tool_call("b", "2") + b"]"
    reply = b'[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":""}}]'
    async with watching(exporter="none") as watch:
        await watch.serve(call_of(body), giving(Replied(200, [], reply)))
        assert 1 == await watch.value("weir_requests_total", reason="ok")
        assert 1 == await watch.value("weir_requests_total", reason="caller_error")
        assert 2 == sum((await watch.samples(CLIENT_COUNT)).values())
        assert len(body) == await watch.value("weir_bytes_total", direction="request")
        assert len(reply) == await watch.value("weir_bytes_total", direction="reply")
        assert 0 == await watch.value("weir_requests_in_flight", upstream="search")


async def test_a_child_process_is_a_pipe() -> None:
    """stdio has no protocol, address or port."""

    async def child(attempt: Attempt) -> Outcome:
        attempt.peer = CHILD
        return replace(OK)

    async with watching(exporter="none") as watch:
        await watch.serve(call_of(tool_call(), peer=CHILD), child)
        for name in (SERVER_COUNT, CLIENT_COUNT):
            (labels,) = (dict(labels) for labels in await watch.samples(name))
            assert "pipe" == labels["network_transport"]
            assert {"network_protocol_name", "server_address", "server_port"}.isdisjoint(labels)


async def test_clients_addresses_make_no_series() -> None:
    """Ten thousand clients are one series."""
    async with watching(exporter="none") as watch:
        for number in range(300):
            peer = Peer(Transport.HTTP, f"10.0.0.{number}", number, "1.1")
            await watch.serve(call_of(tool_call(), peer=peer), answer)
        assert 1 == len(await watch.samples(SERVER_COUNT))


async def test_exemplars_name_exported_spans_only() -> None:
    """Of both sides; an unsampled call leaves none."""
    async with watching() as watch:
        unsampled = '"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"'
        await watch.serve(call_of(tool_call(meta=unsampled)), answer)
        assert [] == await exemplars(watch)
        call = call_of(tool_call())
        await watch.serve(call, answer)
        spans = [call.trace, call.attempts[0].trace]
        assert [(span.trace_id, span.span_id) for span in spans if span] == await exemplars(watch)


async def test_exemplars_can_be_switched_off() -> None:
    """And there are none without an exporter."""
    async with watching(exporter="none") as watch:
        await watch.serve(call_of(tool_call()), answer)
        assert [] == await exemplars(watch)


async def exemplars(watch: Watch) -> list[tuple[str, str]]:
    families = text_string_to_metric_families(await watch.exposition())  # type: ignore[no-untyped-call]  # untyped
    return [
        (sample.exemplar.labels["trace_id"], sample.exemplar.labels["span_id"])
        for family in families
        for sample in family.samples
        if sample.exemplar
    ]


async def test_both_formats_say_the_same() -> None:
    """By Accept: OpenMetrics, or the old text; neither has _created series."""
    async with watching(exporter="none") as watch:
        await watch.serve(call_of(tool_call()), answer)
        render = watch.telemetry.metrics.render
        (new_type, new), (old_type, old) = await render(OPENMETRICS), await render("*/*")
    assert new_type.startswith("application/openmetrics-text; version=1.0.0")
    assert old_type.startswith("text/plain; version=0.0.4")
    assert new.endswith(b"# EOF\n")
    assert b"_created" not in new + old
    names = [
        {sample.name for family in parse(text.decode()) for sample in family.samples if sample.name.startswith("weir_")}
        for parse, text in ((text_string_to_metric_families, new), (parse_plain, old))
    ]
    assert names[0] == names[1]
    given = {line.split(b"{")[0].split()[0] for line in old.splitlines()}
    assert {b"process_cpu_seconds_total", b"python_gc_collections_total", b"weir_build_info"} <= given


async def test_sessions_are_counted_and_measured_by_side() -> None:
    """Towards clients weir is the server, towards servers the client."""
    async with watching(exporter="none") as watch:
        emit = watch.telemetry.emit
        for side in ("client", "server"):
            emit(SessionOpened("search", side, "2025-06-18"))
            emit(SessionOpened("search", side, "2025-06-18"))
            emit(SessionClosed("search", side, "2025-06-18", 20.0, "exited"))
            assert 1 == await watch.value("weir_sessions_open", side=side)
            assert 1 == await watch.value("weir_sessions_closed_total", side=side, reason="exited")
        for name in ("server", "client"):
            metric = f"mcp_{name}_session_duration_seconds_sum"
            labels = {"upstream": "search", "mcp_protocol_version": "2025-06-18", "error_type": "exited"}
            assert {frozenset(labels.items()): 20.0} == await watch.samples(metric)


async def test_servers_questions_and_notifications_are_counted() -> None:
    """Questions with how long their answers took, apart from calls: people answer them."""
    async with watching(exporter="none") as watch:
        call = call_of(tool_call())
        ask = Ask("search", peek(b'{"jsonrpc":"2.0","id":1,"method":"elicitation/create"}'), 10.0, call)
        ask.answered_at = 40.0
        watch.telemetry.emit(AskStarted(ask))
        watch.telemetry.emit(AskFinished(ask, Verdict()))
        watch.telemetry.emit(AskFinished(ask, None))
        progress = peek(b'{"jsonrpc":"2.0","method":"notifications/progress"}')
        watch.telemetry.emit(ServerNotified(call, progress))
        assert 1 == await watch.value("weir_asks_total", mcp_method_name="elicitation/create", outcome="ok")
        assert 1 == await watch.value("weir_asks_total", mcp_method_name="elicitation/create", outcome="unanswered")
        assert 60.0 == await watch.value("weir_ask_seconds_sum", mcp_method_name="elicitation/create")
        for method in ("elicitation/create", "notifications/progress"):
            assert 1 == await watch.value("weir_server_messages_total", mcp_method_name=method)
        assert {} == await watch.samples(SERVER_COUNT)


async def test_the_life_of_connections_children_and_policies_is_counted() -> None:
    """One line each."""
    async with watching(exporter="none") as watch:
        call = call_of(tool_call())
        for event in (
            ConnectionOpened("search", 0.02),
            ChildStarted("files", 1),
            ChildExited("files", 1, -9, False, ""),
            ChildExited("files", 1, 0, True, ""),
            LineSkipped("files", 10),
            LimitReached("search", "max_body"),
            Decided("rate_limit", "refused", call, is_shadow=True, seconds=0.5),
            LevelChanged("concurrency", "search", "", 7.0),
            BreakerMoved("search", "upstream", "closed", "open", "failures"),
        ):
            watch.telemetry.emit(event)
        assert 0.02 == await watch.value("weir_upstream_connect_seconds_sum", upstream="search")
        assert 1 == await watch.value("weir_child_starts_total", upstream="files")
        assert 1 == await watch.value("weir_child_exits_total", upstream="files", expected="no")
        assert 1 == await watch.value("weir_child_skipped_lines_total", upstream="files")
        assert 1 == await watch.value("weir_limit_reached_total", upstream="search", limit="max_body")
        assert 1 == await watch.value("weir_policy_decisions_total", policy="rate_limit", mode="shadow")
        assert 0.5 == await watch.value("weir_policy_wait_seconds_sum", policy="rate_limit")
        assert 7 == await watch.value("weir_policy_level", policy="concurrency")
        assert 1 == await watch.value("weir_breaker_moves_total", before="closed", after="open", mode="enforce")


async def test_an_observer_that_fails_is_counted_and_told_once() -> None:
    """It harms neither the call nor the other observers."""

    class Broken:
        def handlers(self) -> dict[type, object]:
            return {CallStarted: self.fail}

        def fail(self, event: object) -> None:
            raise RuntimeError("a bug")

    async with watching(exporter="none") as watch:
        telemetry = type(watch.telemetry)(watch.settings, watch.world, (Broken(),))  # type: ignore[arg-type]  # loose
        watch.telemetry = telemetry
        for _ in range(3):
            await watch.serve(call_of(tool_call()), answer)
        assert 3 == await watch.value("weir_observer_failures_total")
        assert 3 == await watch.value("weir_requests_total", reason="ok")
        told = [line for line in await watch.lines() if line["level"] == "error"]
        assert 1 == len(told)
        assert "RuntimeError('a bug')" == told[0]["error"]
