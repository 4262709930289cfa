"""Retries: when there is another attempt, what it looks like, and what the caller gets."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from support.policed import (
    LATE,
    LOST,
    OK,
    REFUSED,
    TOOL_ERROR,
    UNREACHED,
    Gate,
    PlayedUpstream,
    RecordingSink,
    Told,
    batch_of,
    body_of,
    call_of,
    call_with,
    clock_of_loop,
    rpc_error,
    status,
    tool_call,
)
from support.virtual_loop import VIRTUAL, turns
from weir.app.stack import paying
from weir.config.policies import Retry as Section
from weir.core.call import Attempt, Call, Headers
from weir.core.events import Decided
from weir.core.held import HEAD_HOLD_SECONDS
from weir.core.outcome import PLAIN, Blame, Failed, FailureKind, Mode, Outcome, Replied, Sent
from weir.policies.retry import (
    HANDSHAKE_SECONDS,
    LONGEST_RETRY_AFTER_SECONDS,
    WITHDRAWN_LIMIT,
    Retry,
    RetryMeans,
    RetrySettings,
)
from weir.protocol import sse
from weir.protocol.envelope import peek

pytestmark = pytest.mark.anyio

EVENTS: Headers = [(b"content-type", b"text/event-stream")]
EVENT = sse.encode(b'{"jsonrpc":"2.0","method":"notifications/progress"}')


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


class Stand:
    """A hinge before a played upstream, in virtual time. Draws are all 1: waits are the ceilings."""

    def __init__(self, *outcomes: Any, draw: float = 1.0, hinted: bool = False, **settings: Any) -> None:
        self.told = Told()
        self.upstream = PlayedUpstream(*outcomes)
        self.clock = clock_of_loop()
        self.minted = 0
        plenty = {"budget_min_per_second": 1000.0}
        means = RetryMeans(lambda call: hinted, self.told.append, self.clock, lambda: draw, self.mint)
        self.retry = Retry("demo", RetrySettings(**{**plenty, **settings}), self.upstream, means)
        self._paying = paying(self.retry.budget.deposit, self.retry)

    async def ask(self, call: Call) -> Outcome:
        """What becomes of a call, which pays in first."""
        return await self._paying(call)

    def mint(self) -> bytes:
        self.minted += 1
        return b'"weir-%d"' % self.minted

    @property
    def attempts(self) -> list[Attempt]:
        """Those that were made."""
        return self.upstream.attempts

    async def timed(self, call: Call) -> tuple[Outcome, float]:
        """The outcome, and the seconds it took."""
        began = self.clock()
        return await self.ask(call), self.clock() - began


def read() -> Call:
    return call_of("tools/list")


def test_the_defaults_are_those_of_the_configuration() -> None:
    """A section without values means the same in both rooms."""
    said = Section()
    assert RetrySettings() == RetrySettings(
        Mode(said.mode),
        said.attempts,
        said.backoff.initial_seconds,
        said.backoff.max_seconds,
        said.budget.ratio,
        said.budget.min_per_second,
        said.trust_annotations,
    )
    assert (60.0, 8.0) == (LONGEST_RETRY_AFTER_SECONDS, HANDSHAKE_SECONDS)


# attempts and their outcomes


async def test_a_success_is_the_only_attempt() -> None:
    """And passes as it is, through the caller's own id and body."""
    stand, call = Stand(OK), tool_call()
    assert OK is await stand.ask(call)
    assert [(1, b"1", call.body)] == [(each.number, each.wire_id, each.body) for each in call.attempts]
    assert [] == stand.told.of(Decided)


@pytest.mark.parametrize("outcome", [TOOL_ERROR, rpc_error(-32602), status(404), status(413), Replied(200, [], None)])
async def test_an_answer_stands_whatever_it_says(outcome: Outcome) -> None:
    """It passes unchanged."""
    stand = Stand(outcome)
    assert outcome is await stand.ask(read())
    assert 1 == len(stand.attempts)


async def test_a_read_is_tried_until_it_is_answered() -> None:
    """With waits that double."""
    stand = Stand(LOST, status(502), OK)
    outcome, seconds = await stand.timed(read())
    assert OK is outcome
    assert pytest.approx(0.05 + 0.1) == seconds
    decided = [(each.action, each.detail, each.seconds) for each in stand.told.of(Decided)]
    assert [("scheduled", "upstream_reset", 0.05), ("scheduled", "http 502", 0.1)] == decided


async def test_waits_are_drawn_below_a_ceiling_that_doubles_up_to_its_bound() -> None:
    """Full jitter: the draw is all there is between 0 and the ceiling."""
    stand = Stand(LOST, attempts=6, initial_seconds=1.0, max_seconds=5.0)
    await stand.ask(read())
    assert [1.0, 2.0, 4.0, 5.0, 5.0, 0.0] == [each.seconds for each in stand.told.of(Decided)]
    stand = Stand(LOST, draw=0.25, attempts=2, initial_seconds=1.0)
    assert pytest.approx(0.25) == (await stand.timed(read()))[1]


async def test_attempts_are_bounded() -> None:
    """The first one counts; the last outcome is the caller's."""
    last = Failed(FailureKind.RESET, "the last one")
    stand, call = Stand(LOST, UNREACHED, last, OK), read()
    assert last is await stand.ask(call)
    assert [1, 2, 3] == [each.number for each in call.attempts]
    assert pytest.approx([1000.0, 1000.05, 1000.15]) == [each.started_at for each in call.attempts]
    assert ["scheduled", "scheduled", "attempts_exhausted"] == stand.told.actions()
    assert Decided("retry", "attempts_exhausted", call, detail="upstream_reset") == stand.told.of(Decided)[-1]


@pytest.mark.parametrize(
    ("call", "outcome", "attempts"),
    [
        (read(), LOST, 3),
        (read(), LATE, 3),
        (read(), rpc_error(-32603), 3),
        (read(), rpc_error(0), 3),
        (call_of("resources/subscribe"), LOST, 3),
        (call_of("resources/subscribe"), rpc_error(-32603), 1),
        (tool_call("add"), UNREACHED, 3),
        (tool_call("add"), status(503, (b"retry-after", b"1")), 1),
        (call_of("tools/list"), status(503, (b"retry-after", b"1")), 3),
        (tool_call("add"), status(429), 3),
        (tool_call("add"), status(503), 1),
        (tool_call("add"), LOST, 1),
        (tool_call("add"), LATE, 1),
        (tool_call("add"), rpc_error(-32603), 1),
        (tool_call("safe"), LOST, 3),
        (tool_call("safe"), rpc_error(-32603), 3),
        (tool_call("unsafe"), LOST, 1),
        (tool_call("unsafe"), UNREACHED, 3),
        (call_of("nobody/knows"), LOST, 1),
        (call_of("initialize"), UNREACHED, 3),
        (call_of("initialize"), LOST, 1),
        (call_of("server/discover"), LOST, 1),
        (call_of("initialize"), status(503, (b"retry-after", b"1")), 1),
    ],
)
async def test_who_is_tried_again(call: Call, outcome: Outcome, attempts: int) -> None:
    """The whole decision: method, operator's word, what the edge knows."""
    stand = Stand(outcome, tools={"safe": "always", "unsafe": "never"})
    await stand.ask(call)
    assert attempts == len(stand.attempts)


@pytest.mark.parametrize(("hinted", "trusted", "attempts"), [(True, True, 3), (True, False, 1), (False, True, 1)])
async def test_annotations_count_only_from_a_trusted_server(hinted: bool, trusted: bool, attempts: int) -> None:
    """They are hints, and untrusted by default."""
    stand = Stand(LOST, hinted=hinted, trust_annotations=trusted)
    await stand.ask(tool_call())
    assert attempts == len(stand.attempts)


@pytest.mark.parametrize(
    "call",
    [
        call_with(verb=b"GET"),
        call_with(verb=b"DELETE"),
        call_of("subscriptions/listen"),
        call_of("tasks/result"),
        call_with(body_of("notifications/progress", request_id=None)),
        call_with(b'{"jsonrpc":"2.0","id":1,"result":{}}'),
        batch_of(body_of("tools/list")),
    ],
)
async def test_what_is_no_single_request_is_sent_once(call: Call) -> None:
    """Without being held, counted or changed."""
    stand = Stand(UNREACHED)
    assert UNREACHED is await stand.ask(call)
    assert [(1, call.sink, call.body)] == [(each.number, each.sink, each.body) for each in stand.attempts]
    assert [] == stand.told.of(Decided)


# ids


async def test_later_attempts_have_fresh_ids() -> None:
    """Each its own, everything else as it came."""
    stand, call = Stand(LOST, LOST, OK), call_with(b'{ "id" : 7 , "method" : "tools/list" , "params":{"x":1.50} }')
    await stand.ask(call)
    assert [b"7", b'"weir-1"', b'"weir-2"'] == [each.wire_id for each in stand.attempts]
    assert [False, True, True] == [each.is_renamed for each in stand.attempts]
    expected = b'{ "id" : "weir-2" , "method" : "tools/list" , "params":{"x":1.50} }'
    assert expected == stand.attempts[2].body
    assert b"7" == call.message.id


async def test_who_has_two_ids_keeps_them() -> None:
    """It is tried again only if it was never sent, and then its own are unused."""
    stand, call = Stand(UNREACHED, OK), call_with(b'{"id":1,"id":2,"method":"tools/list"}')
    assert OK is await stand.ask(call)
    assert [call.body] * 2 == [each.body for each in stand.attempts]
    assert not stand.attempts[1].is_renamed


def cancels(request_id: Any, session: str = "s") -> Call:
    return call_with(body_of("notifications/cancelled", {"requestId": request_id}, None), session=session)


async def test_a_cancellation_follows_to_the_live_attempt() -> None:
    """The caller names the id it knows."""
    gate = Gate()
    stand = Stand(LOST, gate, status(202))
    call = read()
    call.session = "s"
    async with asyncio.TaskGroup() as group:
        group.create_task(stand.ask(call))
        await asyncio.sleep(1.0)
        await stand.ask(cancels(1))
        gate.answer(0, rpc_error(-32800))
    assert b'"weir-1"' == peek(stand.attempts[2].body).request_id
    assert ["scheduled"] == stand.told.actions()


@pytest.mark.parametrize(("request_id", "session"), [(2, "s"), (1, "other"), (1, "")])
async def test_other_cancellations_pass_as_they_came(request_id: Any, session: str) -> None:
    """Another id, another session, none."""
    gate = Gate()
    stand = Stand(LOST, gate, status(202))
    call = read()
    call.session = "s" if session else ""
    cancelling = cancels(request_id, session)
    async with asyncio.TaskGroup() as group:
        group.create_task(stand.ask(call))
        await asyncio.sleep(1.0)
        await stand.ask(cancelling)
        gate.answer(0, OK)
    assert cancelling.body == stand.attempts[2].body


async def test_after_the_call_its_id_is_its_own_again() -> None:
    """Nothing is kept."""
    stand, call = Stand(LOST, OK), read()
    call.session = "s"
    await stand.ask(call)
    cancelling = cancels(1)
    await stand.ask(cancelling)
    assert cancelling.body == stand.attempts[-1].body


@pytest.mark.parametrize("when", ["during the first attempt", "between attempts"])
async def test_a_call_that_was_withdrawn_is_not_tried_again(when: str) -> None:
    """And costs no budget."""
    gate = Gate()
    stand = Stand(gate, status(202), OK, initial_seconds=1.0, budget_min_per_second=0.0, budget_ratio=1.0)
    call = read()
    call.session = "s"
    async with asyncio.TaskGroup() as group:
        task = group.create_task(stand.ask(call))
        await turns()
        if when == "during the first attempt":
            await stand.ask(cancels(1))
        gate.answer(0, LOST)
        await asyncio.sleep(0.5)
        if when == "between attempts":
            await stand.ask(cancels(1))
    assert LOST is task.result()
    assert ["scheduled", "withdrawn"] == stand.told.actions()
    assert (2, 1.0) == (len(stand.attempts), stand.retry.budget.remaining(stand.clock()))


async def test_withdrawals_are_forgotten_in_their_order() -> None:
    """A bounded number is kept."""
    stand = Stand(status(202))
    for number in range(WITHDRAWN_LIMIT + 1):
        await stand.ask(cancels(number))
    stand.upstream.outcomes = [LOST, OK]
    first, second = call_of("tools/list", 0, session="s"), call_of("tools/list", 1, session="s")
    assert OK is await stand.ask(first)
    stand.upstream.outcomes = [LOST, OK]
    assert LOST is await stand.ask(second)


async def test_a_cancellation_that_names_two_requests_passes_as_it_came() -> None:
    """The server may choose, as without weir."""
    gate = Gate()
    stand = Stand(LOST, gate, status(202))
    body = b'{"method":"notifications/cancelled","params":{"requestId":1,"requestId":1}}'
    async with asyncio.TaskGroup() as group:
        group.create_task(stand.ask(call_of("tools/list", session="s")))
        await asyncio.sleep(1.0)
        await stand.ask(call_with(body, session="s"))
        gate.answer(0, OK)
    assert body == stand.attempts[2].body


# Retry-After, deadline, budget


async def test_a_server_that_says_when_is_believed() -> None:
    """The draw comes on top: those who were told the same would come at the same instant."""
    stand = Stand(status(503, (b"retry-after", b"7")), OK)
    outcome, seconds = await stand.timed(read())
    assert OK is outcome
    assert pytest.approx(7.05) == seconds


async def test_longer_than_what_is_left_the_caller_is_told_at_once() -> None:
    """With the server's own words."""
    stand, call = Stand(status(503, (b"retry-after", b"30")), OK), read()
    call.deadline_at = stand.clock() + 20.0
    assert (status(503, (b"retry-after", b"30")), 0.0) == await stand.timed(call)
    assert ["deadline_too_near"] == stand.told.actions()


async def test_without_a_deadline_too_there_is_a_longest_wait() -> None:
    """An hour is the caller's to wait out."""
    for seconds, attempts in ((LONGEST_RETRY_AFTER_SECONDS, 2), (LONGEST_RETRY_AFTER_SECONDS + 1, 1)):
        stand = Stand(status(429, (b"retry-after", b"%d" % seconds)), OK)
        await stand.ask(tool_call())
        assert attempts == len(stand.attempts)
    assert ["retry_after_too_long"] == stand.told.actions()


async def test_what_would_come_too_late_is_not_begun() -> None:
    """A wait that ends at the deadline is too long."""
    for left, attempts in ((1.0, 1), (1.001, 2)):
        stand, call = Stand(LOST, OK, initial_seconds=1.0), read()
        call.deadline_at = stand.clock() + left
        await stand.ask(call)
        assert attempts == len(stand.attempts)


@pytest.mark.parametrize("method", ["initialize", "server/discover"])
async def test_a_handshake_is_over_soon(method: str) -> None:
    """Clients give up on it: nothing of weir's ends later than eight seconds after it came."""
    stand, call = Stand(UNREACHED, attempts=100, initial_seconds=1.0), call_of(method)
    call.received_at = stand.clock()
    _, seconds = await stand.timed(call)
    assert seconds < HANDSHAKE_SECONDS
    assert "deadline_too_near" == stand.told.actions()[-1]


async def test_retries_end_with_the_budget() -> None:
    """The last real outcome is the caller's."""
    stand = Stand(LOST, budget_ratio=0.2, budget_min_per_second=0.0)
    for _ in range(20):
        assert LOST is await stand.ask(read())
    assert 20 + 4 == len(stand.attempts)
    assert pytest.approx(0.0, abs=1e-6) == stand.retry.budget.remaining(stand.clock())
    assert 4 == stand.told.actions().count("scheduled")


async def test_no_budget_is_no_retry() -> None:
    """Zero means none."""
    stand = Stand(LOST, budget_ratio=0.0, budget_min_per_second=0.0)
    await stand.ask(read())
    assert ["budget_exhausted"] == stand.told.actions()


async def test_the_time_of_one_unreached_connection_is_not_spent_again() -> None:
    """One budget for all attempts of a call."""
    out = Failed(FailureKind.CONNECT, "no connection within 5 s", sent=Sent.NO, timer="connect", after_seconds=5.0)
    stand = Stand(out)
    assert out is await stand.ask(read())
    assert 1 == len(stand.attempts)


async def test_waits_for_a_server_that_is_not_reached_are_spent_on_reaching_it() -> None:
    """One limit, from the first try until the caller has its answer; what is left does not allow the second wait."""
    stand, call = Stand(UNREACHED, attempts=10, initial_seconds=0.1), read()
    call.connect_left_seconds = 0.3
    outcome, seconds = await stand.timed(call)
    assert (UNREACHED, 2) == (outcome, len(stand.attempts))
    assert pytest.approx(0.1) == seconds
    assert pytest.approx(0.2) == call.connect_left_seconds
    assert ["scheduled", "deadline_too_near"] == stand.told.actions()


async def test_a_wait_for_a_server_that_was_reached_costs_nothing_of_that() -> None:
    """It answered, or lost what it had been sent."""
    stand, call = Stand(LOST, status(503, (b"retry-after", b"7")), OK), read()
    call.connect_left_seconds = 0.3
    assert OK is await stand.ask(call)
    assert 0.3 == call.connect_left_seconds


# refusals, cancellation, slots


async def test_a_refusal_further_in_is_no_attempt() -> None:
    """The first one is the caller's answer."""
    stand = Stand(REFUSED)
    assert REFUSED is await stand.ask(read())
    assert (1, []) == (len(stand.attempts), stand.told.of(Decided))


async def test_a_refusal_ends_the_loop_with_the_last_real_failure() -> None:
    """And spends no budget."""
    stand = Stand(LOST, REFUSED, budget_ratio=1.0, budget_min_per_second=0.0)
    call = read()
    assert LOST is await stand.ask(call)
    assert [
        Decided("retry", "scheduled", call, seconds=0.05, detail="upstream_reset"),
        Decided("retry", "refused", call, detail="overloaded"),
    ] == stand.told.of(Decided)
    assert 1.0 == stand.retry.budget.remaining(stand.clock())


async def test_a_caller_that_goes_while_waiting_has_cost_nothing() -> None:
    """Nothing is tried for it any more."""
    stand = Stand(LOST, OK, initial_seconds=10.0, max_seconds=10.0, budget_ratio=1.0, budget_min_per_second=0.0)
    call = call_of("tools/list", session="s")
    task = asyncio.get_running_loop().create_task(stand.ask(call))
    await asyncio.sleep(5.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (1, 1.0) == (len(stand.attempts), stand.retry.budget.remaining(stand.clock()))
    assert [
        Decided("retry", "scheduled", call, seconds=10.0, detail="upstream_reset"),
        Decided("retry", "cancelled", call, detail="upstream_reset"),
    ] == stand.told.of(Decided)
    assert not stand.retry._live


@pytest.mark.parametrize("before", [[], [LOST]])
async def test_a_caller_that_goes_mid_attempt_ends_it(before: list[Outcome]) -> None:
    """The first, or a later one; nothing is kept of it."""
    gate = Gate()
    stand = Stand(*before, gate)
    task = asyncio.get_running_loop().create_task(stand.ask(call_of("tools/list", session="s")))
    await asyncio.sleep(1.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.waiting[0].cancelled()
    assert not stand.retry._live


class Slot:
    """A place that is noted when it is given and taken."""

    def __init__(self, clock: Callable[[], float], *, regained: bool = True) -> None:
        self._clock = clock
        self._regained = regained
        self.log: list[tuple[str, float]] = []

    def release(self) -> None:
        self.log.append(("release", self._clock()))

    async def acquire(self) -> bool:
        self.log.append(("acquire", self._clock()))
        return self._regained

    def hand_over(self, heir: object) -> None: ...


async def test_a_sleep_frees_the_slot() -> None:
    """It is taken again for the attempt."""
    stand, call = Stand(LOST, OK, initial_seconds=2.0), read()
    slot = call.slot = Slot(stand.clock)
    assert OK is await stand.ask(call)
    assert ["release", "acquire"] == [what for what, _ in slot.log]
    assert pytest.approx(2.0) == slot.log[1][1] - slot.log[0][1]


async def test_without_a_slot_there_is_no_attempt() -> None:
    """The last failure stands, and the budget too."""
    stand, call = Stand(LOST, OK, budget_ratio=1.0, budget_min_per_second=0.0), read()
    call.slot = Slot(stand.clock, regained=False)
    assert LOST is await stand.ask(call)
    assert ["scheduled", "no_slot"] == stand.told.actions()
    assert 1.0 == stand.retry.budget.remaining(stand.clock())


# an unknown outcome


@pytest.mark.parametrize("failed", [LOST, LATE])
async def test_what_may_have_been_done_is_said_to_be_unknown(failed: Failed) -> None:
    """With what happened, and how to find out."""
    outcome = await Stand(failed).ask(tool_call("write_file"))
    assert isinstance(outcome, Failed)
    assert FailureKind.OUTCOME_UNKNOWN is outcome.kind
    assert (
        f"{failed.detail}; tool 'write_file' may or may not have run. Find out with a call that only reads,"
        " before asking for the same change again"
    ) == outcome.detail
    assert (failed.blame, failed.sent, failed.timer, failed.after_seconds) == (
        outcome.blame,
        outcome.sent,
        outcome.timer,
        outcome.after_seconds,
    )


async def test_what_happened_ends_with_one_full_stop_at_most() -> None:
    """The sentence goes on after it."""
    outcome = await Stand(Failed(FailureKind.RESET, ".. left by X.")).ask(tool_call("write_file"))
    assert isinstance(outcome, Failed)
    assert outcome.detail.startswith(".. left by X; tool")


async def test_a_method_without_a_name_is_named_itself() -> None:
    """An unknown one."""
    outcome = await Stand(LOST).ask(call_of("vendor/do"))
    assert isinstance(outcome, Failed)
    assert "; vendor/do may or may not have run" in outcome.detail


@pytest.mark.parametrize(
    ("call", "failed"),
    [
        (read(), LOST),
        (tool_call(), UNREACHED),
        (tool_call(), Failed(FailureKind.TLS, "bad", sent=Sent.NO)),
        (tool_call(), Failed(FailureKind.PROTOCOL, "nonsense", sent=Sent.ANSWERED)),
        (tool_call("safe"), LOST),
        (call_of("logging/setLevel"), LOST),
        (tool_call(), Failed(FailureKind.INTERNAL, "a bug", Blame.WEIR)),
        (call_of("initialize"), LOST),
        (call_of("server/discover"), LATE),
    ],
)
async def test_what_is_known_stays_what_it_is(call: Call, failed: Failed) -> None:
    """Never sent, answered, as good done twice, or a handshake, which changes nothing."""
    assert failed is await Stand(failed, tools={"safe": "always"}).retry(call)


# the commit rule


def streams(*chunks: bytes, outcome: Outcome | None = None, pause: float = 0.0, headers: Headers = EVENTS) -> Any:
    """An upstream that opens a reply, and sends chunks, each after a pause."""

    async def upstream(attempt: Attempt) -> Outcome:
        await attempt.sink.open(200, headers)
        for chunk in chunks:
            await asyncio.sleep(pause)
            attempt.call.committed |= not chunk.startswith(b":")
            await attempt.sink.write(chunk)
        await asyncio.sleep(pause)
        return outcome or Replied(200, headers, None, PLAIN)

    return upstream


def sink_of(call: Call) -> RecordingSink:
    assert isinstance(call.sink, RecordingSink)
    return call.sink


class Running:
    """The hinge with the task that releases heads."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Stand:
        await self._group.__aenter__()
        self._task = self._group.create_task(self._stand.retry.run())
        await turns()
        return self._stand

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()
        await self._group.__aexit__(None, None, None)


async def test_an_event_commits_the_call() -> None:
    """It is never tried again."""
    stand, call = Stand(streams(EVENT, outcome=LOST), OK), read()
    assert LOST is await stand.ask(call)
    assert ([200], [EVENT], 1) == (sink_of(call).heads, sink_of(call).written, len(stand.attempts))


async def test_a_head_and_comments_do_not_commit() -> None:
    """They are as if they had never been."""
    stand, call = Stand(streams(b": ping\n\n", outcome=LOST), OK), read()
    assert OK is await stand.ask(call)
    assert ([], [], 2) == (sink_of(call).heads, sink_of(call).written, len(stand.attempts))


async def test_a_held_head_goes_out_with_the_first_event() -> None:
    """Of the attempt that has one."""
    stand, call = Stand(streams(outcome=LOST), streams(b": ping\n\n", EVENT)), read()
    await stand.ask(call)
    assert ([200], [b": ping\n\n", EVENT]) == (sink_of(call).heads, sink_of(call).written)


async def test_a_held_head_goes_out_after_a_second() -> None:
    """Clients and middleboxes take longer silence for a stall."""
    async with Running(Stand(streams(EVENT, pause=3.0))) as stand, asyncio.TaskGroup() as group:
        call = read()
        group.create_task(stand.ask(call))
        await asyncio.sleep(HEAD_HOLD_SECONDS - 0.01)
        assert [] == sink_of(call).heads
        await asyncio.sleep(0.02)
        assert ([200], True, False) == (sink_of(call).heads, call.head_sent, call.committed)
        await asyncio.sleep(4.0)
        assert [EVENT] == sink_of(call).written


async def test_after_a_head_the_retry_goes_on_inside_its_stream() -> None:
    """A JSON reply becomes one event."""
    async with Running(Stand(streams(outcome=LOST, pause=2.0), OK)) as stand:
        call = read()
        outcome = await stand.ask(call)
    assert Replied(200, [], None, PLAIN) == outcome
    assert ([200], [sse.encode(OK.body or b"")]) == (sink_of(call).heads, sink_of(call).written)


async def test_a_second_stream_goes_on_inside_the_first() -> None:
    """With one head."""
    async with Running(Stand(streams(outcome=LOST, pause=2.0), streams(EVENT))) as stand:
        call = read()
        await stand.ask(call)
    assert ([200], [EVENT]) == (sink_of(call).heads, sink_of(call).written)


async def test_an_error_page_cannot_go_on_inside_a_stream() -> None:
    """It ends as a failure, which becomes the stream's last event."""
    async with Running(Stand(streams(outcome=LOST, pause=2.0), status(502), attempts=2)) as stand:
        outcome = await stand.ask(read())
    assert Failed(FailureKind.PROTOCOL, "answered with HTTP 502", sent=Sent.ANSWERED) == outcome


async def test_a_final_failure_after_a_head_stays_a_failure() -> None:
    """The downstream edge writes it into the stream."""
    async with Running(Stand(streams(outcome=LOST, pause=2.0), attempts=2)) as stand:
        call = read()
        assert LOST is await stand.ask(call)
    assert ([200], []) == (sink_of(call).heads, sink_of(call).written)


async def test_a_head_that_is_no_event_stream_commits_when_it_goes_out() -> None:
    """Nothing could follow it."""
    json: Headers = [(b"content-type", b"application/json")]
    async with Running(Stand(streams(outcome=LOST, pause=2.0, headers=json), OK)) as stand:
        call = read()
        assert LOST is await stand.ask(call)
    assert 1 == len(stand.attempts)


async def test_a_head_never_goes_out_after_its_call() -> None:
    """The timer of an attempt ends with it, however it ends."""
    async with Running(Stand(streams(outcome=LOST, pause=0.3), budget_min_per_second=0.0, budget_ratio=0.0)) as stand:
        call, cancelled = read(), read()
        await stand.ask(call)
        task = asyncio.get_running_loop().create_task(stand.ask(cancelled))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.sleep(5.0)
    assert ([], []) == (sink_of(call).heads, sink_of(cancelled).heads)


@pytest.mark.parametrize(
    ("call", "attempts", "expected"),
    [
        (tool_call(), 3, [200]),
        (call_of("initialize"), 3, [200]),
        (call_of("vendor/do"), 3, [200]),
        (read(), 1, [200]),
        (read(), 2, []),
        (call_of("logging/setLevel"), 2, []),
    ],
)
async def test_what_could_not_be_tried_again_is_not_held(call: Call, attempts: int, expected: list[int]) -> None:
    """Its head goes on at once."""
    stand, gate = Stand(None, attempts=attempts), Gate()

    async def upstream(attempt: Attempt) -> Outcome:
        await attempt.sink.open(200, EVENTS)
        return await gate(attempt)

    stand.upstream.outcomes = [upstream]
    async with asyncio.TaskGroup() as group:
        group.create_task(stand.ask(call))
        await turns()
        assert expected == sink_of(call).heads
        gate.answer(0, Replied(200, EVENTS, None, PLAIN))


async def test_the_last_attempt_is_not_held() -> None:
    """There is none after it."""
    stand, call = Stand(LOST, streams(b": ping\n\n"), attempts=2), read()
    await stand.ask(call)
    assert ([200], [b": ping\n\n"]) == (sink_of(call).heads, sink_of(call).written)


class GoneSink(RecordingSink):
    """A client that has gone."""

    async def open(self, status: int, headers: Headers) -> None:
        """Nobody is there."""
        raise BrokenPipeError


async def test_a_client_that_has_gone_takes_nobody_with_it() -> None:
    """Heads of others still go out."""
    async with Running(Stand(streams(EVENT, pause=3.0))) as stand, asyncio.TaskGroup() as group:
        gone, call = read(), read()
        gone.sink = GoneSink()
        tasks = [group.create_task(stand.ask(each)) for each in (gone, call)]
        await asyncio.sleep(2.0)
        tasks[0].cancel()
        assert [200] == sink_of(call).heads


async def test_after_run_has_ended_heads_wait_for_their_event() -> None:
    """Nobody is there to release them; nothing breaks."""
    stand = Stand(streams(EVENT, pause=3.0))
    async with Running(stand):
        pass
    call = read()
    await stand.ask(call)
    assert ([200], [EVENT]) == (sink_of(call).heads, sink_of(call).written)


# shadow


@pytest.mark.parametrize("call", [read(), tool_call("write")])
async def test_shadow_changes_nothing(call: Call) -> None:
    """One attempt, straight through, its outcome as it was; not even `outcome_unknown`."""
    stand = Stand(LOST, OK, mode=Mode.SHADOW)
    assert (LOST, 0.0) == await stand.timed(call)
    assert [call.sink] == [each.sink for each in stand.attempts]
    assert (["would_retry"] if call.message.method == "tools/list" else []) == stand.told.actions()
    assert all(each.is_shadow for each in stand.told.of(Decided))


async def test_shadow_keeps_a_budget_of_its_own() -> None:
    """It says when there would have been none."""
    stand = Stand(LOST, mode=Mode.SHADOW, budget_ratio=0.5, budget_min_per_second=0.0)
    for _ in range(4):
        await stand.ask(read())
    assert ["budget_exhausted", "would_retry"] * 2 == stand.told.actions()


async def test_shadow_passes_a_refusal_on() -> None:
    """As it is."""
    assert REFUSED is await Stand(REFUSED, mode=Mode.SHADOW).ask(read())
