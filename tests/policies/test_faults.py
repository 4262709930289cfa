"""Faults: what is drawn for whom, what each kind does to an attempt, and that each ends by itself."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support.policed import (
    ACCEPTED,
    OK,
    TOOL_ERROR,
    RecordingSink,
    Told,
    attempt_of,
    body_of,
    call_of,
    call_with,
    clock_of_loop,
    status,
    tool_call,
)
from support.virtual_loop import VIRTUAL
from weir.core.call import Attempt, Call, Headers
from weir.core.events import Decided
from weir.core.outcome import NO_ANSWER, PLAIN, Failed, FailureKind, Outcome, Replied, Sent, Verdict
from weir.policies.faults import FAULTS_LIMIT, Active, Fault, Faults, Instead, Plan, Registry
from weir.protocol import sse

pytestmark = pytest.mark.anyio

EVENTS: Headers = [(b"content-type", b"text/event-stream")]
ACCEPTS: Headers = [(b"accept", b"application/json, text/event-stream")]
SILENCE = 300.0
PROGRESS = sse.encode(body_of("notifications/progress", {"progress": 1}, None))
ANSWER = sse.encode(b'{"jsonrpc":"2.0","id":1,"result":{}}')


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


def always() -> float:
    """A draw that every share takes in."""
    return 0.0


class Bench:
    """The layer with some faults, before an upstream that answers or streams."""

    def __init__(self, *faults: Fault, draw: Callable[[], float] = always) -> None:
        self.told, self.registry = Told(), Registry()
        self.asked: list[Attempt] = []
        self.cancelled: list[Attempt] = []
        for fault in faults:
            self.registry.add(fault, asyncio.get_running_loop().time())
        clock = clock_of_loop()
        self.layer = Faults("demo", self.registry, SILENCE, self.told.append, clock, draw)

    async def ask(self, call: Call, *chunks: bytes, outcome: Outcome = OK, headers: Headers = EVENTS) -> Outcome:
        """One attempt; with chunks the answer is a stream of them."""

        async def upstream(attempt: Attempt) -> Outcome:
            self.asked.append(attempt)
            try:
                return await self._answer(attempt, chunks, outcome, headers)
            except asyncio.CancelledError:
                self.cancelled.append(attempt)
                raise

        return await self.layer(attempt_of(call), upstream)

    async def _answer(self, attempt: Attempt, chunks: Sequence[bytes], outcome: Outcome, headers: Headers) -> Outcome:
        if not chunks:
            return outcome
        await attempt.sink.open(200, headers)
        for chunk in chunks:
            attempt.call.committed = True
            if b"result" in chunk:
                attempt.call.answered(b"1", PLAIN)
            await attempt.sink.write(chunk)
        return Replied(200, headers, None, PLAIN)

    def actions(self) -> list[tuple[str, str]]:
        """What was told: kinds and ids."""
        events = self.told.of(Decided)
        assert {"fault"} >= {event.policy for event in events}
        return [(event.action, event.detail) for event in events]


def written(call: Call) -> bytes:
    """What went down its stream."""
    assert isinstance(call.sink, RecordingSink)
    return b"".join(call.sink.written)


def head(call: Call) -> tuple[list[int], list[Headers]]:
    """What its stream began with."""
    assert isinstance(call.sink, RecordingSink)
    return call.sink.heads, call.sink.headers


async def seconds(work: Awaitable[Any]) -> float:
    """How long something took."""
    clock = clock_of_loop()
    began = clock()
    await work
    return clock() - began


# which faults


def test_a_fault_ends_by_itself() -> None:
    """When it was said to; nobody has to remember it."""
    registry = Registry()
    first = registry.add(Fault("demo", expires_seconds=10.0), now=100.0)
    second = registry.add(Fault("demo", expires_seconds=20.0), now=100.0)
    assert [first, second] == registry.active(109.9) == registry.pick(109.9, always, "demo", "")
    assert [second] == registry.pick(110.0, always, "demo", "")
    assert not registry.is_empty
    assert ([], True) == (registry.active(120.0), registry.is_empty)


def test_faults_are_cleared_one_by_one_or_all() -> None:
    """By id; an id is never used again."""
    registry = Registry()
    ids = [added.id for _ in range(3) if (added := registry.add(Fault("demo"), 0.0)) is not None]
    assert ["f1", "f2", "f3"] == ids
    assert (1, 0) == (registry.clear("f2"), registry.clear("f2"))
    assert ["f1", "f3"] == [each.id for each in registry.active(1.0)]
    assert (2, 0, True) == (registry.clear(), registry.clear(), registry.is_empty)
    added = registry.add(Fault("demo"), 0.0)
    assert added is not None
    assert "f4" == added.id


def test_faults_are_bounded() -> None:
    """Expired ones make room."""
    registry = Registry()
    for _ in range(FAULTS_LIMIT):
        assert registry.add(Fault("demo", expires_seconds=10.0), 0.0) is not None
    assert registry.add(Fault("demo"), 9.0) is None
    assert registry.add(Fault("demo"), 10.0) is not None


@pytest.mark.parametrize(
    ("upstream", "tool", "expected"),
    [("demo", "read", ["f1", "f2"]), ("demo", "write", ["f1"]), ("demo", "", ["f1"]), ("other", "read", ["f3"])],
)
def test_a_fault_befalls_its_upstream_and_tool(upstream: str, tool: str, expected: list[str]) -> None:
    """Without a tool, everything at the upstream."""
    registry = Registry()
    for fault in (Fault("demo"), Fault("demo", "read"), Fault("other")):
        registry.add(fault, 0.0)
    assert expected == [each.id for each in registry.pick(1.0, always, upstream, tool)]


@given(st.floats(0, 1, exclude_max=True), st.floats(0.1, 100))
@example(0.499, 50.0)
@example(0.5, 50.0)
def test_a_fault_befalls_its_share(drawn: float, percent: float) -> None:
    """Of a hundred attempts so many, as draws are spread evenly."""
    registry = Registry()
    registry.add(Fault("demo", percent=percent), 0.0)
    assert (drawn * 100 < percent) == bool(registry.pick(1.0, lambda: drawn, "demo", ""))


def test_each_fault_is_drawn_for_by_itself() -> None:
    """Two of ten percent are not one of twenty."""
    registry = Registry()
    registry.add(Fault("demo", percent=10), 0.0)
    registry.add(Fault("demo", percent=10), 0.0)
    draws = iter([0.5, 0.05])
    assert ["f2"] == [each.id for each in registry.pick(1.0, lambda: next(draws), "demo", "")]


def test_of_several_faults_waits_add_up_and_the_rest_is_the_firsts() -> None:
    """There is one answer, and one way to lose it."""
    faults = (
        Fault("demo", latency_seconds=1.0, slow_stream_seconds=0.1, instead=Instead.STATUS, code=503),
        Fault("demo", latency_seconds=2.0, jitter_seconds=1.0, slow_stream_seconds=0.2, drop_stream_events=5),
        Fault("demo", drop_stream_events=1, instead=Instead.RESET, duplicate=True),
    )
    picked = [Active(f"f{number}", fault, 9.0) for number, fault in enumerate(faults, 1)]
    plan = Plan(picked, tool_call(), lambda: 0.75)
    assert (3.5, 5, True, Instead.STATUS, 503) == (
        plan.wait_seconds,
        plan.drop_after,
        plan.duplicates,
        plan.instead,
        plan.code,
    )
    assert pytest.approx(0.3) == plan.slow_seconds
    by_first = {"latency": "f1", "slow_stream": "f1", "error_status": "f1"}
    assert {**by_first, "jitter": "f2", "drop_stream": "f2", "duplicate": "f3"} == plan.by


# what comes instead


@pytest.mark.parametrize(
    ("fault", "kind", "expected"),
    [
        (
            Fault("demo", instead=Instead.RESET),
            "reset",
            Failed(FailureKind.RESET, "injected fault: the connection was reset", sent=Sent.YES),
        ),
        (
            Fault("demo", instead=Instead.GARBAGE),
            "garbage",
            Failed(FailureKind.PROTOCOL, "injected fault: answered with garbage instead of JSON", sent=Sent.ANSWERED),
        ),
        (
            Fault("demo", instead=Instead.STATUS, code=503),
            "error_status",
            Replied(503, [(b"content-type", b"text/plain; charset=utf-8")], b"injected fault\n", NO_ANSWER),
        ),
    ],
)
async def test_the_server_is_not_asked_for_what_comes_instead(fault: Fault, kind: str, expected: Outcome) -> None:
    """What is said to have failed has not been done."""
    bench = Bench(fault)
    call = tool_call()
    assert expected == await bench.ask(call)
    assert (1000.0 if isinstance(expected, Replied) else 0.0) == call.attempts[0].first_byte_at
    assert ([], [Decided("fault", kind, call, detail="f1")]) == (bench.asked, bench.told)


@pytest.mark.parametrize(
    ("fault", "error", "result", "verdict"),
    [
        (
            Fault("demo", instead=Instead.ERROR, code=-32603),
            {"code": -32603, "message": "injected fault"},
            None,
            Verdict(-32603, "injected fault"),
        ),
        (
            Fault("demo", instead=Instead.TOOL_ERROR),
            None,
            {"content": [{"type": "text", "text": "injected fault"}], "isError": True},
            Verdict(is_tool_error=True),
        ),
    ],
)
async def test_an_error_comes_under_the_callers_id(fault: Fault, error: Any, result: Any, verdict: Verdict) -> None:
    """As the server would send it."""
    outcome = await Bench(fault).ask(tool_call(request_id="a"))
    assert isinstance(outcome, Replied)
    tree = msgspec.json.decode(outcome.body or b"")
    assert ("2.0", "a", error, result) == (tree["jsonrpc"], tree["id"], tree.get("error"), tree.get("result"))
    assert (200, [(b"content-type", b"application/json")], verdict) == (
        outcome.status,
        outcome.headers,
        outcome.verdict,
    )


async def test_a_result_has_the_form_of_its_revision() -> None:
    """2026-07-28 says of what kind a result is."""
    bench = Bench(Fault("demo", instead=Instead.TOOL_ERROR))
    for revision, expected in (("2026-07-28", "complete"), ("2025-11-25", None)):
        outcome = await bench.ask(tool_call(revision=revision))
        assert isinstance(outcome, Replied)
        assert expected == msgspec.json.decode(outcome.body or b"")["result"].get("resultType")


async def test_a_server_that_never_answers_is_waited_for_as_long_as_any() -> None:
    """Unless a deadline ends it before; it looks like a request that was sent."""
    bench = Bench(Fault("demo", instead=Instead.TIMEOUT, latency_seconds=1.0))
    call = tool_call()
    outcome = await bench.ask(call)
    expected = Failed(FailureKind.TIMEOUT, "injected fault: no answer", timer="idle", after_seconds=SILENCE)
    assert (expected, 1000.0, 0.0) == (outcome, call.attempts[0].sent_at, call.attempts[0].first_byte_at)
    own = await bench.ask(tool_call(idle_seconds=5.0))
    assert replace(expected, after_seconds=5.0) == own
    assert SILENCE + 5.0 == asyncio.get_running_loop().time() - 1000.0


async def test_a_timeout_can_be_cancelled() -> None:
    """As every wait."""
    bench = Bench(Fault("demo", instead=Instead.TIMEOUT))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await bench.ask(tool_call())


@pytest.mark.parametrize(
    ("instead", "call", "befalls"),
    [
        (Instead.TOOL_ERROR, call_of("tools/list"), False),
        (Instead.TOOL_ERROR, tool_call(), True),
        (Instead.ERROR, call_of("notifications/initialized", None), False),
        (Instead.ERROR, call_with(), False),
        (Instead.ERROR, call_of("tools/list"), True),
        (Instead.GARBAGE, call_of("notifications/initialized", None), False),
        (Instead.RESET, call_with(), True),
        (Instead.STATUS, call_of("notifications/initialized", None), True),
    ],
)
async def test_a_kind_that_cannot_befall_a_message_is_left_out(instead: Instead, call: Call, befalls: bool) -> None:
    """The server answers as ever, and nothing is told."""
    bench = Bench(Fault("demo", instead=instead, code=500))
    outcome = await bench.ask(call)
    assert (befalls, not befalls, befalls) == (outcome is not OK, bool(bench.asked), bool(bench.told))


# what is done to an answer


async def test_an_answer_comes_later() -> None:
    """By the latency, give or take the jitter; never before it is there."""
    for fault, drawn, expected in [
        (Fault("demo", latency_seconds=2.0), 0.0, 2.0),
        (Fault("demo", latency_seconds=2.0, jitter_seconds=0.5), 0.0, 1.5),
        (Fault("demo", latency_seconds=2.0, jitter_seconds=0.5), 0.5, 2.0),
        (Fault("demo", jitter_seconds=0.5), 0.0, 0.0),
        (Fault("demo", latency_seconds=2.0, instead=Instead.RESET), 0.0, 2.0),
    ]:
        assert pytest.approx(expected) == await seconds(Bench(fault, draw=lambda: drawn).ask(tool_call()))  # noqa: B023 - awaited here


async def test_what_a_wait_costs_is_told() -> None:
    """On the span."""
    bench = Bench(Fault("demo", latency_seconds=2.0, jitter_seconds=0.5))
    call = tool_call()
    assert OK == await bench.ask(call)
    assert [
        Decided("fault", "latency", call, seconds=1.5, detail="f1"),
        Decided("fault", "jitter", call, seconds=1.5, detail="f1"),
    ] == bench.told


async def test_a_late_answer_was_asked_for_at_once() -> None:
    """As with a slow server, whoever gives up before cannot know what was done."""
    bench = Bench(Fault("demo", latency_seconds=2.0))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await bench.ask(tool_call())
    assert 1 == len(bench.asked)


async def test_a_streams_head_comes_later_and_each_event_too() -> None:
    """Comments come when they come."""
    bench = Bench(Fault("demo", latency_seconds=2.0, slow_stream_seconds=0.5))
    call = tool_call()
    assert pytest.approx(3.0) == await seconds(bench.ask(call, b": hi\n\n" + PROGRESS, ANSWER))
    assert (([200], [EVENTS]), b": hi\n\n" + PROGRESS + ANSWER) == (head(call), written(call))
    assert [
        Decided("fault", "latency", call, seconds=2.0, detail="f1"),
        Decided("fault", "slow_stream", call, seconds=0.5, detail="f1"),
    ] == bench.told


async def test_events_are_told_apart_however_the_bytes_come() -> None:
    """A piece that no event ends in is relayed at the end."""
    bench = Bench(Fault("demo", slow_stream_seconds=1.0))
    call = tool_call()
    stream = PROGRESS + ANSWER + b"data: torn"
    assert pytest.approx(2.0) == await seconds(bench.ask(call, stream[:30], stream[30:90], stream[90:]))
    assert stream == written(call)


async def test_a_stream_breaks_after_so_many_events() -> None:
    """The upstream is left, and what was not relayed was not seen."""
    bench = Bench(Fault("demo", drop_stream_events=2))
    call = tool_call()
    outcome = await bench.ask(call, PROGRESS, PROGRESS + ANSWER, ANSWER)
    assert Failed(FailureKind.RESET, "injected fault: the stream was dropped") == outcome
    assert (2 * PROGRESS, True, None) == (written(call), call.committed, call.answer)
    assert (bench.asked, [Decided("fault", "drop_stream", call, detail="f1")]) == (bench.cancelled, bench.told)


async def test_a_stream_that_breaks_before_its_first_event_commits_to_nothing() -> None:
    """It may be tried again; after one it may not."""
    for events, expected in ((0, (b"", False)), (1, (PROGRESS, True))):
        call = tool_call()
        await Bench(Fault("demo", drop_stream_events=events)).ask(call, PROGRESS, PROGRESS)
        assert expected == (written(call), call.committed)


async def test_a_stream_that_breaks_after_its_answer_has_answered() -> None:
    """Nothing is lost, nor what it said."""
    outcome = await Bench(Fault("demo", drop_stream_events=1)).ask(tool_call(), ANSWER, PROGRESS)
    assert Replied(200, EVENTS, None, PLAIN) == outcome
    call, failed = tool_call(), Verdict(is_tool_error=True)

    async def upstream(attempt: Attempt) -> Outcome:
        await attempt.sink.open(200, EVENTS)
        attempt.call.answered(b"1", failed)
        await attempt.sink.write(ANSWER)
        await attempt.sink.write(PROGRESS)
        raise AssertionError

    outcome = await Bench(Fault("demo", drop_stream_events=1)).layer(attempt_of(call), upstream)
    assert Replied(200, EVENTS, None, failed) == outcome


@pytest.mark.parametrize(("revision", "resumes"), [("2025-11-25", True), ("2026-07-28", False)])
async def test_a_stream_with_event_ids_that_breaks_can_be_resumed(revision: str, resumes: bool) -> None:
    """Up to 2025-11-25 the client comes back for the rest."""
    bench = Bench(Fault("demo", drop_stream_events=1))
    outcome = await bench.ask(tool_call(revision=revision), b"id: 1\ndata:\n\n", ANSWER)
    assert resumes == (Replied(200, EVENTS, None, NO_ANSWER) == outcome)
    assert resumes != isinstance(outcome, Failed)


async def test_one_event_with_an_id_is_enough_to_come_back_with() -> None:
    """Later ones need not have one."""
    bench = Bench(Fault("demo", drop_stream_events=2))
    outcome = await bench.ask(tool_call(revision="2025-11-25"), b"id: 1\ndata:\n\n", PROGRESS, ANSWER)
    assert Replied(200, EVENTS, None, NO_ANSWER) == outcome


async def test_what_an_earlier_try_did_stands_when_a_stream_breaks() -> None:
    """It had committed the call, or answered it."""
    call = tool_call(committed=True)
    assert isinstance(await Bench(Fault("demo", drop_stream_events=0)).ask(call, PROGRESS), Failed)
    assert (True, None) == (call.committed, call.answer)
    call = tool_call(answer=PLAIN)
    assert Replied(200, EVENTS, None, PLAIN) == await Bench(Fault("demo", drop_stream_events=0)).ask(call, PROGRESS)


async def test_a_large_reply_comes_slowly_and_whole() -> None:
    """Piece by piece."""
    call = tool_call()
    bench = Bench(Fault("demo", slow_stream_seconds=1.0))
    assert pytest.approx(2.0) == await seconds(bench.ask(call, b"{..", b"..}", headers=[]))
    assert b"{....}" == written(call)


async def test_a_shorter_stream_does_not_break() -> None:
    """And nothing is told."""
    bench = Bench(Fault("demo", drop_stream_events=2))
    assert Replied(200, EVENTS, None, PLAIN) == await bench.ask(tool_call(), PROGRESS, ANSWER)
    assert [] == bench.told


async def test_a_large_reply_breaks_too() -> None:
    """It streams without events: pieces count."""
    call = tool_call()
    outcome = await Bench(Fault("demo", drop_stream_events=1)).ask(call, b"{..", b"..}", headers=[])
    assert (b"{..", True) == (written(call), isinstance(outcome, Failed))


async def test_events_come_twice() -> None:
    """Messages do; what says nothing does not."""
    bench = Bench(Fault("demo", duplicate=True))
    call = tool_call()
    await bench.ask(call, b": hi\n\nid: 1\ndata:\n\n" + ANSWER)
    assert b": hi\n\nid: 1\ndata:\n\n" + 2 * ANSWER == written(call)
    assert [Decided("fault", "duplicate", call, detail="f1")] == bench.told


async def test_an_answer_comes_twice() -> None:
    """In a stream, if the client takes one."""
    reply = Replied(
        200, [(b"content-type", b"application/json"), (b"content-length", b"36"), (b"x", b"y")], OK.body, PLAIN
    )
    call = tool_call(headers=ACCEPTS)
    bench = Bench(Fault("demo", duplicate=True))
    outcome = await bench.ask(call, outcome=reply)
    assert Replied(200, [*EVENTS, (b"x", b"y")], None, PLAIN) == outcome
    assert [Decided("fault", "duplicate", call, detail="f1")] == bench.told
    assert ([200], [[*EVENTS, (b"x", b"y")]]) == head(call)
    assert (2 * sse.encode(OK.body or b""), PLAIN, True) == (written(call), call.answer, call.committed)
    call = tool_call(headers=ACCEPTS)
    outcome = await Bench(Fault("demo", duplicate=True)).ask(call, outcome=TOOL_ERROR)
    assert Replied(200, EVENTS, None, TOOL_ERROR.verdict) == outcome
    assert TOOL_ERROR.verdict == call.answer


@pytest.mark.parametrize(
    ("call", "outcome"),
    [
        (tool_call(), OK),
        (call_of("notifications/initialized", None, headers=ACCEPTS), ACCEPTED),
        (tool_call(headers=ACCEPTS), status(401)),
    ],
)
async def test_what_cannot_come_twice_comes_once(call: Call, outcome: Outcome) -> None:
    """The client takes no stream, or it is no answer."""
    bench = Bench(Fault("demo", duplicate=True))
    assert outcome is await bench.ask(call, outcome=outcome)
    assert [] == bench.told


# and otherwise nothing


async def test_without_faults_an_attempt_passes_untouched() -> None:
    """Neither its sink nor its answer is looked at."""
    for bench in (
        Bench(),
        Bench(Fault("other", instead=Instead.RESET)),
        Bench(Fault("demo", percent=50), draw=lambda: 0.5),
    ):
        call = tool_call()
        assert TOOL_ERROR is await bench.ask(call, outcome=TOOL_ERROR)
        assert (call.sink, [], call.attempts) == (call.attempts[0].sink, bench.told, bench.asked)


async def test_a_fault_of_one_tool_befalls_that_tool() -> None:
    """No other, and no list."""
    bench = Bench(Fault("demo", "add", instead=Instead.RESET))
    assert [True, False, False] == [
        isinstance(await bench.ask(call), Failed)
        for call in (tool_call("add"), tool_call("sub"), call_of("tools/list"))
    ]


async def test_prompts_are_no_tools() -> None:
    """Though both have names."""
    bench = Bench(Fault("demo", "add", instead=Instead.RESET))
    call = call_with(body_of("prompts/get", {"name": "add"}))
    assert OK is await bench.ask(call)


async def test_a_client_that_goes_takes_the_attempt_with_it() -> None:
    """While it waits, and while it streams."""
    bench = Bench(Fault("demo", slow_stream_seconds=60.0))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await bench.ask(tool_call(), PROGRESS)
    assert bench.asked == bench.cancelled


async def test_a_timeout_of_somebody_else_is_not_taken_for_a_dropped_stream() -> None:
    """It is a bug like any other."""

    async def broken(attempt: Attempt) -> Outcome:
        raise TimeoutError

    bench = Bench(Fault("demo", drop_stream_events=1))
    with pytest.raises(TimeoutError):
        await bench.layer(attempt_of(tool_call()), broken)
