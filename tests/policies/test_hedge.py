"""Hedge: when a read is late, how two tries become one answer, and that nothing is left behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.policed import (
    LOST,
    RecordingSink,
    Told,
    attempt_of,
    body_of,
    call_of,
    call_with,
    clock_of_loop,
    rpc_error,
    status,
    tool_call,
)
from support.virtual_loop import VIRTUAL, turns
from weir.core.call import Attempt, Call, Headers, Peer, Slot, Transport
from weir.core.events import AttemptFinished, Decided
from weir.core.held import HEAD_HOLD_SECONDS, HeldReply
from weir.core.layer import compose
from weir.core.outcome import NO_ANSWER, PLAIN, Blame, Failed, FailureKind, Mode, Outcome, Replied, Sent
from weir.policies.hedge import (
    KINDS_LIMIT,
    LATENCIES_KEPT,
    LATENCIES_MIN,
    Hedge,
    HedgeMeans,
    HedgeSettings,
    Latencies,
    is_hedgeable,
)
from weir.protocol import sse
from weir.telemetry.observe import ObserveAttempt
from weir.telemetry.settings import TracesSettings
from weir.telemetry.tracing import Tracing

pytestmark = pytest.mark.anyio

LATE = 0.5
FIXED = HedgeSettings(Mode.ENFORCE, after_seconds=LATE)
LEARNED = HedgeSettings(Mode.ENFORCE)
EVENTS: Headers = [(b"content-type", b"text/event-stream")]
JSON: Headers = [(b"content-type", b"application/json")]
READ, LIST = ("resources/read", ""), ("tools/list", "")
FIRST = Replied(200, JSON, b'{"jsonrpc":"2.0","id":1,"result":{"from":1}}', PLAIN)
SECOND = Replied(200, JSON, b'{"jsonrpc":"2.0","id":1,"result":{"from":2}}', PLAIN)
COMMENT, PROGRESS = b": waiting\n\n", sse.encode(body_of("notifications/progress", {"progress": 1}, None))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


class Place:
    """Places for second tries. `free`: how many there are."""

    def __init__(self, free: int = 9) -> None:
        self.free = free

    def take(self, call: Call) -> Slot | None:
        """One, if it is free."""
        if not self.free:
            return None
        self.free -= 1
        return self

    def release(self) -> None:
        self.free += 1

    async def acquire(self) -> bool:
        raise AssertionError("a hedge never waits for a place")

    def hand_over(self, heir: object) -> None: ...


Script = Callable[[Attempt], Awaitable[Outcome]]


def after(seconds: float, outcome: Outcome) -> Script:
    """Answer in so many seconds."""

    async def play(attempt: Attempt) -> Outcome:
        await asyncio.sleep(seconds)
        return outcome

    return play


def streaming(*steps: float | bytes, outcome: Outcome | None = None, headers: Headers = EVENTS) -> Script:
    """Open a stream, then wait (numbers) and write (bytes)."""

    async def play(attempt: Attempt) -> Outcome:
        await attempt.sink.open(200, headers)
        for step in steps:
            if isinstance(step, bytes):
                attempt.call.committed |= not step.startswith(b":")
                await attempt.sink.write(step)
            else:
                await asyncio.sleep(step)
        return outcome or Replied(200, headers, None, PLAIN)

    return play


class Bench:
    """A hedge, what it may spend, and an upstream that plays one script a try."""

    def __init__(self, settings: HedgeSettings, *scripts: Script) -> None:
        self.told, self.place, self.budget = Told(), Place(), 9
        self.attempts: list[Attempt] = []
        self.cancelled: list[Attempt] = []
        self.given_up: list[Attempt] = []
        self.running = 0
        self._scripts = [*scripts]
        means = HedgeMeans(
            self._withdraw,
            self.place.take,
            lambda: b'"fresh"',
            lambda call: call.message.name == "get",
            self.given_up.append,
        )
        observe = ObserveAttempt(
            Tracing(TracesSettings(), lambda bits: 1, enabled=False), self.told.append, clock_of_loop()
        )
        self.hedge = Hedge("demo", settings, means, compose([observe], self._play), self.told.append, clock_of_loop())

    def _withdraw(self) -> bool:
        self.budget -= 1
        return self.budget >= 0

    async def _play(self, attempt: Attempt) -> Outcome:
        self.attempts.append(attempt)
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        self.running += 1
        try:
            return await script(attempt)
        except asyncio.CancelledError:
            self.cancelled.append(attempt)
            raise
        finally:
            self.running -= 1

    async def ask(self, call: Call) -> Outcome:
        """What the hinge does where no retry is configured."""
        return await self.hedge(attempt_of(call))

    def decided(self) -> list[str]:
        """The hedge's decisions, in order."""
        return [event.action for event in self.told.of(Decided)]


@asynccontextmanager
async def started(work: Awaitable[Outcome]) -> AsyncIterator[asyncio.Task[Outcome]]:
    """Something under way."""

    async def run() -> Outcome:
        return await work

    async with asyncio.TaskGroup() as group:
        yield group.create_task(run())


def read(**facts: Any) -> Call:
    """A resources/read."""
    return call_with(body_of("resources/read", {"uri": "file:///a"}), **facts)


def sink_of(call: Call) -> RecordingSink:
    """What went down."""
    assert isinstance(call.sink, RecordingSink)
    return call.sink


# when a call is late


def test_nothing_is_late_before_enough_is_known() -> None:
    """Twenty calls of that kind."""
    latencies = Latencies(95)
    for number in range(LATENCIES_MIN - 1):
        latencies.add(READ, float(number))
    assert latencies.late_after(READ) is None
    latencies.add(READ, 19.0)
    assert (19.0, None) == (latencies.late_after(READ), latencies.late_after(LIST))


@pytest.mark.parametrize(("percentile", "expected"), [(50, 50.0), (90, 90.0), (95, 95.0), (99, 99.0), (99.9, None)])
def test_a_percentile_of_what_such_calls_took(percentile: float, expected: float | None) -> None:
    """A hundred of them; for a p99.9 that is too few."""
    latencies = Latencies(percentile)
    for number in range(112):
        latencies.add(READ, float(min(number, 99)))
    late = latencies.late_after(READ)
    assert expected is None if late is None else pytest.approx(expected, abs=12) == late


def test_old_latencies_are_forgotten() -> None:
    """A server that became slow is slow, not late."""
    latencies = Latencies(95)
    for seconds in [0.1] * LATENCIES_KEPT + [2.0] * LATENCIES_KEPT:
        latencies.add(READ, seconds)
    assert 2.0 == latencies.late_after(READ)


def test_late_is_counted_anew_now_and_then() -> None:
    """Sixteen calls later."""
    latencies = Latencies(95)
    for seconds in [1.0] * LATENCIES_MIN + [9.0] * 15:
        latencies.add(READ, seconds)
    assert 1.0 == latencies.late_after(READ)
    latencies.add(READ, 9.0)
    assert 9.0 == latencies.late_after(READ)
    for _ in range(15):
        latencies.add(READ, 20.0)
    assert 9.0 == latencies.late_after(READ)


def test_what_is_kept_is_bounded() -> None:
    """Tools are the server's to invent."""
    latencies = Latencies(95)
    for number in range(KINDS_LIMIT + 1):
        for _ in range(LATENCIES_MIN):
            latencies.add(("tools/call", f"t{number}"), 1.0)
    assert (1.0, None) == tuple(latencies.late_after(("tools/call", f"t{number}")) for number in (0, KINDS_LIMIT))


@given(st.lists(st.floats(0, 100), min_size=LATENCIES_MIN, max_size=600), st.floats(1, 99.9))
def test_late_is_always_a_latency_that_was_seen(taken: list[float], percentile: float) -> None:
    """Never more than the longest, never less than the shortest of those kept."""
    latencies = Latencies(percentile)
    for seconds in taken:
        latencies.add(READ, seconds)
    late = latencies.late_after(READ)
    assert late is None or late in taken[-LATENCIES_KEPT - 16 :]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (read(), True),
        (call_of("tools/list"), True),
        (tool_call("get"), True),
        (tool_call("put"), False),
        (call_of("resources/subscribe"), False),
        (call_of("unknown/read"), False),
        (call_of("ping"), False),
        (call_of("initialize"), False),
        (call_of("tasks/result"), False),
        (call_of("subscriptions/listen"), False),
        (call_with(), False),
        (call_with(body_of("resources/read", {"uri": "a", "_meta": {"progressToken": 7}})), False),
        (call_with(body_of("resources/read", {"uri": "a", "requestState": "x"})), False),
        (call_with(b'{"jsonrpc":"2.0","id":1,"method":"tools/list","id":2}'), False),
        (call_with(body_of("notifications/initialized", None, None)), False),
    ],
)
def test_only_what_changes_nothing_may_run_twice_at_once(call: Call, expected: bool) -> None:
    """And only without a progress token, which two active requests may not share."""
    assert expected == is_hedgeable(call, lambda call: call.message.name == "get")


# two tries, one answer


async def test_a_call_in_time_is_one_try() -> None:
    """Nothing is taken, nothing is told, nothing is left."""
    bench = Bench(FIXED, after(0.4, FIRST))
    call = read()
    assert FIRST == await bench.ask(call)
    await asyncio.sleep(10)
    assert (1, [], 9, 9) == (len(call.attempts), bench.decided(), bench.budget, bench.place.free)


async def test_a_late_call_gets_the_second_tries_answer() -> None:
    """The first try is cancelled, and says why it ended."""
    bench = Bench(FIXED, after(60, FIRST), after(0.1, SECOND))
    call, clock = read(), clock_of_loop()
    began = clock()
    assert SECOND == await bench.ask(call)
    assert pytest.approx(0.6) == clock() - began
    assert [
        Decided("hedge", "hedged", call, seconds=LATE),
        Decided("hedge", "won", call),
    ] == bench.told.of(Decided)
    assert [call.attempts[0]] == bench.cancelled == bench.given_up
    outrun = Failed(FailureKind.CANCELLED, "another try of this call answered first", Blame.WEIR)
    ended = bench.told.of(AttemptFinished)
    assert {1: outrun, 2: SECOND} == {event.attempt.number: event.outcome for event in ended}


async def test_the_second_try_has_an_id_and_a_number_of_its_own() -> None:
    """The upstream would take the same id for the same request."""
    bench = Bench(FIXED, after(60, FIRST), after(0.1, SECOND))
    call = read()
    await bench.ask(call)
    first, second = call.attempts
    assert [(1, b"1"), (2, b'"fresh"')] == [(each.number, each.wire_id) for each in (first, second)]
    assert call.body.replace(b'"id":1', b'"id":"fresh"') == second.body
    assert pytest.approx(LATE) == second.started_at - 1000.0


async def test_what_the_layers_did_to_the_first_try_is_not_done_to_the_second() -> None:
    """They will do it themselves."""

    async def marking(attempt: Attempt) -> Outcome:
        attempt.headers, attempt.target = [(b"x-try", b"1")], b"/other"
        return await after(60, FIRST)(attempt)

    bench = Bench(FIXED, marking, after(0.1, SECOND))
    call = read(target=b"/mcp")
    await bench.ask(call)
    assert ([], b"/mcp") == (call.attempts[1].headers, call.attempts[1].target)


async def test_the_one_that_was_outrun_says_so() -> None:
    """The second one, too; one that had failed by itself keeps its failure."""
    outrun = Failed(FailureKind.CANCELLED, "another try of this call answered first", Blame.WEIR)
    for second, expected in ((after(60, SECOND), outrun), (after(0.1, LOST), LOST)):
        bench = Bench(FIXED, after(1, FIRST), second)
        await bench.ask(read())
        ended = bench.told.of(AttemptFinished)
        assert {1: FIRST, 2: expected} == {event.attempt.number: event.outcome for event in ended}


async def test_the_first_try_may_still_win() -> None:
    """The second one is cancelled, and its place is free again."""
    bench = Bench(FIXED, after(0.6, FIRST), after(60, SECOND))
    call = read()
    assert FIRST == await bench.ask(call)
    assert bench.cancelled == bench.given_up
    assert ([call.attempts[1]], ["hedged"], 9, 0) == (bench.cancelled, bench.decided(), bench.place.free, bench.running)


@pytest.mark.parametrize("nothing", [LOST, status(503), Replied(200, JSON, b"", NO_ANSWER)])
async def test_what_is_no_answer_leaves_the_other_try_running(nothing: Outcome) -> None:
    """Whichever of the two it is."""
    assert SECOND == await Bench(FIXED, after(0.6, nothing), after(3, SECOND)).ask(read())
    assert FIRST == await Bench(FIXED, after(3, FIRST), after(0.1, nothing)).ask(read())


async def test_two_failures_are_the_first_tries_failure() -> None:
    """What a retry is decided from."""
    bench = Bench(FIXED, after(3, LOST), after(0.1, status(500)))
    assert LOST == await bench.ask(read())
    bench = Bench(FIXED, after(0.6, LOST), after(3, status(500)))
    assert LOST == await bench.ask(read())


async def test_an_error_is_an_answer() -> None:
    """The server has spoken."""
    assert rpc_error(-32602) == await Bench(FIXED, after(60, FIRST), after(0.1, rpc_error(-32602))).ask(read())


async def test_a_failure_in_time_is_the_hinges_matter() -> None:
    """Retrying is decided there, with its own wait."""
    bench = Bench(FIXED, after(0.1, LOST))
    assert LOST == await bench.ask(read())
    assert [] == bench.decided()


async def test_later_tries_are_not_hedged() -> None:
    """A call has one second chance of this kind."""
    bench = Bench(FIXED, after(60, FIRST))
    assert FIRST == await bench.hedge(attempt_of(read(), number=2))
    assert [] == bench.decided()


# streams


async def test_the_first_event_decides_between_two_streams() -> None:
    """Heads and comments do not; the loser's events go nowhere."""
    answer = sse.encode(SECOND.body or b"")
    bench = Bench(FIXED, streaming(COMMENT, 60.0, PROGRESS), streaming(0.1, COMMENT, 0.1, PROGRESS, 5.0, answer))
    call = read()
    outcome = await bench.ask(call)
    assert (None, [200]) == (outcome.body, sink_of(call).heads)  # type: ignore[union-attr]  # a reply
    assert COMMENT + PROGRESS + answer == b"".join(sink_of(call).written)
    assert ["hedged", "won"] == bench.decided()


@pytest.mark.parametrize("event", [COMMENT + PROGRESS, b"id: 7\n\n"], ids=["after a comment", "without data"])
async def test_an_event_is_one_whatever_comes_before_it_in_its_piece(event: bytes) -> None:
    """And comments of the one that won go on."""
    bench = Bench(FIXED, streaming(2.0, PROGRESS), streaming(0.1, event, COMMENT, PROGRESS))
    call = read()
    await bench.ask(call)
    assert event + COMMENT + PROGRESS == b"".join(sink_of(call).written)
    assert ["hedged", "won"] == bench.decided()


async def test_a_stream_that_has_begun_is_not_hedged() -> None:
    """What was told cannot be taken back."""
    bench = Bench(FIXED, streaming(0.1, PROGRESS, 60.0, PROGRESS))
    call = read()
    await bench.ask(call)
    assert ([], PROGRESS * 2) == (bench.decided(), b"".join(sink_of(call).written))


async def test_a_second_try_is_stopped_by_the_firsts_first_event() -> None:
    """Not only by its end."""
    bench = Bench(FIXED, streaming(1.0, PROGRESS, 60.0), streaming(5.0, PROGRESS))
    call = read()
    async with started(bench.ask(call)):
        await asyncio.sleep(1.1)
        assert [call.attempts[1]] == bench.cancelled
        assert 1 == bench.running


async def test_a_stream_that_breaks_after_it_won_is_broken() -> None:
    """The other try is gone by then."""
    bench = Bench(FIXED, after(60, FIRST), streaming(PROGRESS, outcome=LOST))
    assert LOST == await bench.ask(read())


async def test_a_head_waits_a_second_and_the_winner_goes_on_in_its_stream() -> None:
    """A whole reply becomes the stream's one event."""
    bench = Bench(FIXED, streaming(60.0), after(3, SECOND))
    call = read()
    async with started(bench.ask(call)) as asking:
        await asyncio.sleep(0.9)
        assert [] == sink_of(call).heads
        await asyncio.sleep(0.2)
        assert [200] == sink_of(call).heads
    assert sse.encode(SECOND.body or b"") == b"".join(sink_of(call).written)
    assert (None, True) == (asking.result().body, call.committed)  # type: ignore[union-attr]  # a reply


async def test_only_one_of_two_heads_goes_out() -> None:
    """Both were held; the second one's stream goes on under the first one's head."""
    bench = Bench(FIXED, streaming(60.0), streaming(5.0, PROGRESS))
    call = read()
    await bench.ask(call)
    assert ([200], PROGRESS) == (sink_of(call).heads, b"".join(sink_of(call).written))


async def test_a_hinge_that_retries_settles_for_itself() -> None:
    """It may have its own reasons not to take a reply."""
    bench = Bench(FIXED, streaming(60.0), after(3, rpc_error(-32603)))
    call = read()
    attempt = attempt_of(call)
    attempt.sink = held = HeldReply(call, lambda held: None)
    outcome = await bench.hedge(attempt)
    assert (rpc_error(-32603), []) == (outcome, sink_of(call).written)
    assert isinstance(outcome, Replied)
    settled = await held.settle(outcome)
    assert isinstance(settled, Replied)
    assert settled.body is None
    assert 1 == len(sink_of(call).written)


async def test_a_stream_of_something_else_cannot_go_on_in_events() -> None:
    """A reply too large to be held: the other try is waited for, whichever head came first."""
    for opens in (0.1, 0.9):

        async def large(attempt: Attempt, opens: float = opens) -> Outcome:
            await asyncio.sleep(opens)
            return await streaming(1.0, b"{", 0.1, b"}", headers=JSON)(attempt)

        bench = Bench(FIXED, streaming(10.0, PROGRESS), large)
        call = read()
        await bench.ask(call)
        assert ([200], PROGRESS) == (sink_of(call).heads, b"".join(sink_of(call).written))


async def test_a_stream_of_something_else_goes_down_as_it_is() -> None:
    """Head and bytes, of whichever try is first."""
    bench = Bench(FIXED, streaming(0.1, b"{", 60.0, b"}", headers=JSON))
    call = read()
    await bench.ask(call)
    assert ([200], b"{}", []) == (sink_of(call).heads, b"".join(sink_of(call).written), bench.decided())
    bench = Bench(FIXED, after(60, FIRST), streaming(0.1, b"{", 0.1, b"}", headers=JSON))
    call = read()
    await bench.ask(call)
    assert ([200], b"{}") == (sink_of(call).heads, b"".join(sink_of(call).written))


@pytest.mark.parametrize("headers", [JSON, EVENTS])
async def test_an_empty_stream_is_relayed_as_one(headers: Headers) -> None:
    """Head and end."""
    bench = Bench(FIXED, streaming(headers=headers, outcome=Replied(200, headers, None, NO_ANSWER)))
    call = read()
    assert Replied(200, headers, None, NO_ANSWER) == await bench.ask(call)
    assert [200] == sink_of(call).heads


# what it may spend


async def test_without_a_place_there_is_no_second_try() -> None:
    """An upstream at its limit is not asked more; and no budget is spent."""
    bench = Bench(FIXED, after(3, FIRST))
    bench.place.free = 0
    call = read()
    assert FIRST == await bench.ask(call)
    assert ([Decided("hedge", "no_slot", call)], 9) == (bench.told.of(Decided), bench.budget)


async def test_without_a_budget_there_is_no_second_try() -> None:
    """The place is given back."""
    bench = Bench(FIXED, after(3, FIRST))
    bench.budget = 0
    call = read()
    assert FIRST == await bench.ask(call)
    assert ([Decided("hedge", "budget_exhausted", call)], 9) == (bench.told.of(Decided), bench.place.free)


async def test_late_is_learned_from_what_answered() -> None:
    """Errors and failures teach nothing; a try that was outrun took at least as long as its rival."""
    bench = Bench(LEARNED, after(0.1, FIRST))
    for _ in range(LATENCIES_MIN):
        await bench.ask(read())
    assert pytest.approx(0.1) == bench.hedge._latencies.late_after(READ)
    bench = Bench(LEARNED, after(0.1, LOST), after(0.2, rpc_error(-32602)))
    for _ in range(2 * LATENCIES_MIN):
        await bench.ask(read())
    assert bench.hedge._latencies.late_after(READ) is None


async def test_time_spent_asking_the_client_is_not_the_upstreams() -> None:
    """A person thinks for as long as it takes."""

    async def asking(attempt: Attempt) -> Outcome:
        clock = clock_of_loop()
        attempt.call.ask_began(clock())
        await asyncio.sleep(100)
        attempt.call.ask_ended(clock())
        await asyncio.sleep(0.2)
        return FIRST

    bench = Bench(LEARNED, asking)
    for _ in range(LATENCIES_MIN):
        await bench.ask(read())
    assert pytest.approx(0.2) == bench.hedge._latencies.late_after(READ)


async def test_shadow_only_says_when() -> None:
    """Nothing is held, taken or tried."""
    bench = Bench(HedgeSettings(Mode.SHADOW, after_seconds=LATE), after(0.6, FIRST), streaming(0.1, PROGRESS, 3.0))
    call = read()
    assert FIRST == await bench.ask(call)
    assert [Decided("hedge", "would_hedge", call, True, LATE)] == bench.told.of(Decided)
    assert call.sink is bench.attempts[0].sink
    await bench.ask(read())
    assert (1, 9, 9) == (len(bench.decided()), bench.budget, bench.place.free)


# leaving


@pytest.mark.parametrize("at", [0.2, 0.7])
async def test_a_client_that_goes_ends_both_tries(at: float) -> None:
    """Before and after the second one began."""
    bench = Bench(FIXED, after(60, FIRST), after(60, SECOND))
    async with started(bench.ask(read())) as asking:
        await asyncio.sleep(at)
        asking.cancel()
        await turns()
    assert (True, 0, 9, {}) == (asking.cancelled(), bench.running, bench.place.free, bench.hedge._racing)
    assert [] == bench.given_up
    await asyncio.sleep(60)
    assert (1 if at < LATE else 2) == len(bench.attempts)


async def test_a_cancellation_by_message_ends_the_second_try() -> None:
    """It names the id the client knows, which is the first try's."""
    bench = Bench(FIXED, after(3, FIRST), after(60, SECOND))
    cancelling = call_with(body_of("notifications/cancelled", {"requestId": 1}, None), session="s")
    other = call_with(body_of("notifications/cancelled", {"requestId": 1}, None), session="t")
    async with started(bench.ask(read(session="s"))) as asking:
        await asyncio.sleep(1)
        bench._scripts[:] = [after(0, Replied(202, [], b"", NO_ANSWER))]
        await bench.ask(other)
        assert [] == bench.cancelled
        await bench.ask(cancelling)
        await turns()
        assert [2] == [attempt.number for attempt in bench.cancelled]
        assert bench.cancelled == bench.given_up
    assert FIRST == asking.result()


@pytest.mark.parametrize(
    ("at", "second", "given_up"),
    [
        (0.2, after(60, SECOND), [2]),
        (1.0, after(0.1, LOST), []),
        (1.0, streaming(PROGRESS, 5.0), [1]),
    ],
    ids=["it has not begun", "it has failed", "it has won"],
)
async def test_a_cancellation_by_message_leaves_a_second_try_that_is_not_under_way(
    at: float, second: Script, given_up: list[int]
) -> None:
    """There is nothing of it to end; the loser of the race is given up as ever."""
    bench = Bench(FIXED, after(3, FIRST), second)
    cancelling = call_with(body_of("notifications/cancelled", {"requestId": 1}, None), session="s")
    async with started(bench.ask(read(session="s"))):
        await asyncio.sleep(at)
        left = [*bench._scripts]
        bench._scripts[:] = [after(0, Replied(202, [], b"", NO_ANSWER))]
        await bench.ask(cancelling)
        bench._scripts[:] = left
    assert given_up == [attempt.number for attempt in bench.given_up]


async def test_a_second_try_that_was_withdrawn_leaves_the_firsts_failure() -> None:
    """Also when nobody else is running any more."""
    bench = Bench(FIXED, after(0.7, LOST), after(60, SECOND))
    cancelling = call_with(body_of("notifications/cancelled", {"requestId": 1}, None), session="s")
    async with started(bench.ask(read(session="s"))) as asking:
        await asyncio.sleep(1)
        bench._scripts[:] = [after(0, Replied(202, [], b"", NO_ANSWER))]
        await bench.ask(cancelling)
    assert (LOST, 9) == (asking.result(), bench.place.free)


async def test_without_a_session_no_notification_ends_a_second_try() -> None:
    """Two clients have chosen the same id, and nobody can tell which of them it is from."""
    bench = Bench(FIXED, after(3, FIRST), after(1, SECOND))
    cancelling = call_with(body_of("notifications/cancelled", {"requestId": 1}, None))
    async with started(bench.ask(read())) as asking:
        await asyncio.sleep(1)
        bench._scripts[:] = [after(0, Replied(202, [], b"", NO_ANSWER))]
        await bench.ask(cancelling)
    assert SECOND == asking.result()


async def test_on_a_pipe_a_notification_ends_the_second_try_without_a_session() -> None:
    """There is one client."""
    bench = Bench(FIXED, after(3, FIRST), after(1, SECOND))
    cancelling = call_with(body_of("notifications/cancelled", {"requestId": 1}, None), peer=Peer(Transport.STDIO))
    async with started(bench.ask(read(peer=Peer(Transport.STDIO)))) as asking:
        await asyncio.sleep(1)
        bench._scripts[:] = [after(0, Replied(202, [], b"", NO_ANSWER))]
        await bench.ask(cancelling)
    assert FIRST == asking.result()


async def test_two_calls_of_one_id_are_two_races() -> None:
    """The end of one leaves the other as it is."""
    bench = Bench(FIXED, after(0.7, FIRST), after(60, SECOND), after(60, SECOND), after(60, SECOND))
    async with started(bench.ask(read(session="s"))), started(bench.ask(read(session="s"))) as other:
        await asyncio.sleep(1)
        assert 1 == len(bench.hedge._racing)
        other.cancel()
    assert {} == bench.hedge._racing


@pytest.mark.parametrize("key", ["task", "Task", "ta\\u0073k"], ids=["as written", "another case", "escaped"])
async def test_a_call_that_asks_for_a_task_is_not_hedged(key: str) -> None:
    """There would be two tasks."""
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"look","%b":{"ttl":1}}}' % key.encode()
    assert not is_hedgeable(call_with(body), lambda call: True)


async def test_both_answers_in_one_turn_are_one_answer() -> None:
    """The later one is ignored."""
    bench = Bench(FIXED, after(1.0, FIRST), after(0.5, SECOND))
    call = read()
    assert await bench.ask(call) in (FIRST, SECOND)
    assert (0, 9) == (bench.running, bench.place.free)


async def test_a_bug_in_a_second_try_comes_to_light() -> None:
    """At the edge that asked, and nothing runs on."""

    async def broken(attempt: Attempt) -> Outcome:
        raise RuntimeError("a bug")

    bench = Bench(FIXED, after(60, FIRST), broken)
    with pytest.raises(ExceptionGroup, match="unhandled"):
        await bench.ask(read())
    assert (0, 9) == (bench.running, bench.place.free)


async def test_a_timeout_of_somebody_else_is_not_taken_for_the_end_of_a_race() -> None:
    """It is a bug like any other."""

    async def broken(attempt: Attempt) -> Outcome:
        raise TimeoutError

    with pytest.raises(ExceptionGroup, match="unhandled"):
        await Bench(FIXED, broken).ask(read())


@pytest.mark.parametrize("first", [FIRST, Replied(503, JSON, b"busy", NO_ANSWER)])
async def test_no_head_goes_out_behind_the_end(first: Replied) -> None:
    """In the turn in which the other try's head had waited long enough, the first one ended."""
    lasts = LATE + HEAD_HOLD_SECONDS
    second = streaming(HEAD_HOLD_SECONDS, outcome=LOST)
    bench, call = Bench(FIXED, after(lasts, first), second), read()
    sink = call.sink
    assert isinstance(sink, RecordingSink)
    outcome = await bench.ask(call)
    is_whole = isinstance(outcome, Replied) and outcome.body is not None
    assert is_whole is not bool(sink.heads)


async def test_an_error_page_is_a_failure_in_the_stream_that_the_other_try_began() -> None:
    """Its head is out, its answer never came; what no event can say is not said in one."""
    page = Replied(503, JSON, b"<html>", NO_ANSWER)
    bench, call = Bench(FIXED, after(4.0, page), streaming(2.0, outcome=LOST)), read()
    sink = call.sink
    assert isinstance(sink, RecordingSink)
    outcome = await bench.ask(call)
    assert Failed(FailureKind.PROTOCOL, "answered with HTTP 503", sent=Sent.ANSWERED) == outcome
    assert ([200], []) == (sink.heads, sink.written)
