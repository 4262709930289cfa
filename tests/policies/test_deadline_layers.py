"""The two layers of a deadline, in virtual time: who is cancelled, what the caller is told, what the server learns."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from support.policed import (
    LOST,
    OK,
    PlayedUpstream,
    Told,
    attempt_of,
    body_of,
    call_of,
    call_with,
    clock_of_loop,
    status,
    tool_call,
)
from support.virtual_loop import VIRTUAL, turns
from weir.core.call import Attempt, Call
from weir.core.events import Decided
from weir.core.outcome import Blame, Failed, FailureKind, Mode, Outcome, Replied, Sent
from weir.policies.deadline import (
    LOOK_AGAIN_SECONDS,
    Deadline,
    DeadlineSettings,
    Limits,
)
from weir.policies.deadline_wire import DEADLINE_HEADER
from weir.protocol.envelope import DEADLINE_KEY, peek

pytestmark = pytest.mark.anyio

LIMITS = Limits(attempt_seconds=60.0, total_seconds=120.0, client_input_seconds=600.0)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


class Stand:
    """A call through both layers to a played upstream, in virtual time."""

    def __init__(self, upstream: Callable[[Attempt], Awaitable[Outcome]], **settings: Any) -> None:
        self.told = Told()
        self.withdrawn: list[Attempt] = []
        self.clock = clock_of_loop()
        made = DeadlineSettings(**{"limits": LIMITS, **settings})
        self.deadline = Deadline(made, self.told.append, self.clock, self.withdrawn.append)
        self._upstream = upstream
        self.began = self.clock()

    async def __call__(self, call: Call) -> Outcome:
        """Serve it."""
        return await self.deadline.total(call, self.once)

    async def once(self, call: Call) -> Outcome:
        """One attempt."""
        attempt = attempt_of(call, len(call.attempts) + 1)
        outcome = await self.deadline.attempt(attempt, self._upstream)
        attempt.outcome = outcome
        return outcome

    def seconds(self) -> float:
        """Since the beginning."""
        return self.clock() - self.began


class Stalled:
    """A server that takes the request and says nothing."""

    def __init__(self, is_sent: bool = True) -> None:
        self.is_sent = is_sent
        self.attempts: list[Attempt] = []
        self.cancelled = 0

    async def __call__(self, attempt: Attempt) -> Outcome:
        """Never answer."""
        self.attempts.append(attempt)
        if self.is_sent:
            attempt.sent_at = 1.0
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError


def after(seconds: float, outcome: Outcome = OK) -> Callable[[Attempt], Awaitable[Outcome]]:
    """A server that takes its time."""

    async def answer(attempt: Attempt) -> Outcome:
        attempt.sent_at = 1.0
        await asyncio.sleep(seconds)
        return outcome

    return answer


def failed(outcome: Outcome) -> Failed:
    """The outcome, which must be a failure by a timer."""
    assert isinstance(outcome, Failed)
    assert FailureKind.TIMEOUT is outcome.kind
    return outcome


async def test_what_is_answered_in_time_is_left_alone() -> None:
    """No event, no failure, nothing that stays behind."""
    stand = Stand(after(59.0))
    assert OK is await stand(tool_call())
    assert [] == stand.told
    await asyncio.sleep(1000.0)


async def test_an_attempt_that_takes_too_long_is_cancelled_and_says_which_timer() -> None:
    """After how long, and who was waited for."""
    server = Stalled()
    stand = Stand(server)
    outcome = failed(await stand(tool_call()))
    assert pytest.approx(60.0, abs=0.01) == stand.seconds()
    assert 1 == server.cancelled
    assert ("attempt", 60.0, Blame.UPSTREAM, Sent.YES) == (
        outcome.timer,
        outcome.after_seconds,
        outcome.blame,
        outcome.sent,
    )
    assert "no answer within 60 s (timer 'attempt'); weir was waiting for the MCP server" == outcome.detail


async def test_what_had_not_been_sent_is_said_to_be_unsent() -> None:
    """So that even an unsafe call may be tried again."""
    stand = Stand(Stalled(is_sent=False))
    assert Sent.NO is failed(await stand(tool_call())).sent
    assert [] == stand.withdrawn


async def test_the_server_is_told_that_nobody_waits_any_more() -> None:
    """After its exchange has ended."""
    server = Stalled()
    stand = Stand(server)
    await stand(tool_call())
    assert server.attempts == stand.withdrawn


async def test_the_total_ends_an_attempt_as_that_attempts_outcome() -> None:
    """Whoever stands between the two layers learns what happened, and sees no cancellation."""
    server = PlayedUpstream(after(50.0, LOST), after(50.0, LOST), after(50.0))
    stand = Stand(server)
    seen: list[Outcome] = []

    async def thrice(call: Call) -> Outcome:
        seen.extend([await stand.once(call) for _ in range(3)])
        return seen[-1]

    outcome = failed(await stand.deadline.total(tool_call(), thrice))
    assert pytest.approx(120.0, abs=0.01) == stand.seconds()
    assert [LOST, LOST, outcome] == seen
    assert "total" == outcome.timer
    assert Blame.UPSTREAM is outcome.blame


async def test_an_attempt_for_which_nothing_is_left_is_not_made() -> None:
    """The upstream is not asked."""
    server = PlayedUpstream(OK)
    stand = Stand(server)

    async def late(call: Call) -> Outcome:
        try:
            await asyncio.sleep(500.0)
        except asyncio.CancelledError:
            return await stand.once(call)
        raise AssertionError

    outcome = failed(await stand.deadline.total(tool_call(), late))
    assert ("total", Sent.NO, []) == (outcome.timer, outcome.sent, server.attempts)


async def test_the_total_runs_while_the_call_waits_for_its_turn() -> None:
    """Nobody upstream is to blame for a queue, and nothing was sent."""
    stand = Stand(PlayedUpstream(OK))

    async def queue(call: Call) -> Outcome:
        await asyncio.sleep(500.0)
        return await stand.once(call)

    outcome = failed(await stand.deadline.total(tool_call(), queue))
    assert pytest.approx(120.0, abs=0.01) == stand.seconds()
    assert ("total", Blame.WEIR, Sent.NO) == (outcome.timer, outcome.blame, outcome.sent)
    assert outcome.detail.endswith("weir was waiting for its turn")


@pytest.mark.parametrize("last", [LOST, status(503)])
async def test_between_attempts_the_last_real_outcome_is_what_the_caller_gets(last: Outcome) -> None:
    """The total ran out while another try waited for its place."""
    stand = Stand(PlayedUpstream(last))

    async def again(call: Call) -> Outcome:
        await stand.once(call)
        await asyncio.sleep(500.0)
        raise AssertionError

    assert last is await stand.deadline.total(tool_call(), again)


async def test_progress_extends_an_attempt_up_to_the_total() -> None:
    """The timer that had been set finds the newest progress, and says once that it had to wait longer."""
    clock = clock_of_loop()

    async def working(attempt: Attempt) -> Outcome:
        while True:
            await asyncio.sleep(25.0)
            attempt.call.progressed(clock())

    stand = Stand(working)
    outcome = failed(await stand(tool_call()))
    assert pytest.approx(120.0, abs=0.01) == stand.seconds()
    assert "total" == outcome.timer
    assert ["extended"] == stand.told.actions()


async def test_silence_after_progress_ends_the_attempt() -> None:
    """Counted from the progress; the text says so."""
    clock = clock_of_loop()

    async def stuck(attempt: Attempt) -> Outcome:
        await asyncio.sleep(25.0)
        attempt.call.progressed(clock())
        await asyncio.sleep(1000.0)
        raise AssertionError

    stand = Stand(stuck)
    outcome = failed(await stand(tool_call()))
    assert pytest.approx(85.0, abs=0.01) == stand.seconds()
    assert outcome.detail.startswith("no answer and no progress for 60 s (timer 'attempt')")


async def test_progress_on_the_get_stream_finds_its_call_by_session_and_token() -> None:
    """Some servers send it there. Another session's equal token is somebody else's."""
    body = body_of("tools/call", {"name": "add", "_meta": {"progressToken": 7}})
    news = peek(body_of("notifications/progress", {"progressToken": 7, "progress": 1}, None))
    stand = Stand(after(110.0))
    async with asyncio.TaskGroup() as group:
        mine = group.create_task(stand(call_with(body, session="s-1")))
        other = group.create_task(stand(call_with(body, session="s-2")))
        await asyncio.sleep(55.0)
        stand.deadline.progressed(call_with(session="s-1"), news)
        await asyncio.sleep(0.0)
    assert OK is mine.result()
    assert "attempt" == failed(other.result()).timer
    stand.deadline.progressed(call_with(session="s-1"), news)


async def test_clocks_stand_while_the_client_is_asked_and_the_calls_deadline_moves_on() -> None:
    """400 s of thinking, within a total of 120 s."""
    clock = clock_of_loop()

    async def asking(attempt: Attempt) -> Outcome:
        await asyncio.sleep(30.0)
        attempt.call.ask_began(clock(), "elicitation/create")
        await asyncio.sleep(400.0)
        attempt.call.ask_ended(clock())
        await asyncio.sleep(29.0)
        return OK

    stand, call = Stand(asking), tool_call()
    assert OK is await stand(call)
    assert pytest.approx(stand.began + 120.0 + 400.0) == call.deadline_at


async def test_after_the_answer_the_clocks_go_on_where_they_stood() -> None:
    """To the hundredth of a second or so: the timer looked while the client was asked."""
    clock = clock_of_loop()

    async def asking(attempt: Attempt) -> Outcome:
        await asyncio.sleep(59.0)
        attempt.call.ask_began(clock(), "elicitation/create")
        await asyncio.sleep(300.0)
        attempt.call.ask_ended(clock())
        await asyncio.sleep(1000.0)
        raise AssertionError

    stand = Stand(asking)
    assert "attempt" == failed(await stand(tool_call())).timer
    assert pytest.approx(360.0, abs=2 * LOOK_AGAIN_SECONDS) == stand.seconds()


async def test_a_client_that_does_not_answer_is_to_blame_itself() -> None:
    """The text names what it was asked."""
    clock = clock_of_loop()

    async def asking(attempt: Attempt) -> Outcome:
        attempt.sent_at = 1.0
        await asyncio.sleep(30.0)
        attempt.call.ask_began(clock(), "sampling/createMessage")
        await asyncio.sleep(10_000.0)
        raise AssertionError

    stand = Stand(asking)
    outcome = failed(await stand(tool_call()))
    assert pytest.approx(630.0, abs=0.01) == stand.seconds()
    assert ("client_input", 600.0, Blame.DOWNSTREAM) == (outcome.timer, outcome.after_seconds, outcome.blame)
    assert outcome.detail.endswith("weir was waiting for the client's answer to sampling/createMessage")
    assert 1 == len(stand.withdrawn)


async def test_a_caller_that_waits_no_longer_shortens_the_total_and_bears_the_blame() -> None:
    """Else an impatient client could open the breaker for all."""
    stand = Stand(Stalled())
    outcome = failed(await stand(tool_call(headers=[(DEADLINE_HEADER, b"250")])))
    assert pytest.approx(0.25, abs=0.01) == stand.seconds()
    assert ("total", Blame.DOWNSTREAM) == (outcome.timer, outcome.blame)
    assert outcome.detail.startswith("no answer within 0.25 s, as long as the caller waits (timer 'total')")


async def test_a_caller_cannot_make_the_total_longer() -> None:
    """It is the operator's limit."""
    stand, call = Stand(Stalled()), tool_call(headers=[(DEADLINE_HEADER, b"9000000")])
    outcome = failed(await stand(call))
    assert ("attempt", Blame.UPSTREAM) == (outcome.timer, outcome.blame)
    assert stand.began + 120.0 == call.deadline_at


async def test_each_attempt_tells_the_server_what_is_left_by_then() -> None:
    """In milliseconds, in `_meta` and as a header."""
    told: list[tuple[Any, bytes]] = []

    async def noting(attempt: Attempt) -> Outcome:
        meta = msgspec.json.decode(attempt.body)["params"]["_meta"]
        told.append((meta[DEADLINE_KEY], dict(attempt.headers)[DEADLINE_HEADER]))
        await asyncio.sleep(40.0)
        return LOST

    stand = Stand(noting)

    async def twice(call: Call) -> Outcome:
        await stand.once(call)
        return await stand.once(call)

    await stand.deadline.total(tool_call(), twice)
    assert [(120000, b"120000"), (80000, b"80000")] == told


async def test_a_tool_can_have_limits_of_its_own() -> None:
    """A prompt of that name has not."""
    slow = Limits(attempt_seconds=90.0, idle_seconds=70.0)
    stand = Stand(after(80.0), tools={"slow": slow})
    call = tool_call("slow")
    assert OK is await stand(call)
    assert 70.0 == call.idle_seconds
    prompt = call_with(body_of("prompts/get", {"name": "slow"}))
    assert "attempt" == failed(await stand(prompt)).timer


@pytest.mark.parametrize("call", [call_with(verb=b"GET"), call_of("subscriptions/listen"), call_of("tasks/result")])
async def test_long_lived_streams_have_no_limits(call: Call) -> None:
    """Only silence ends them."""
    stand = Stand(after(100_000.0))
    assert OK is await stand(call)
    assert math.inf == call.deadline_at


async def test_messages_without_an_answer_have_limits_too() -> None:
    """A server that does not take a notification would hold it for ever. It is not edited."""
    server = Stalled()
    stand = Stand(server)
    body = body_of("notifications/cancelled", {"requestId": 1}, None)
    assert "attempt" == failed(await stand(call_with(body))).timer
    assert body == server.attempts[0].body


async def test_a_stream_that_does_not_end_after_its_answer_is_closed_and_is_no_failure() -> None:
    """The client has what it asked for: a second answer would be a fault of weir's."""

    async def lingering(attempt: Attempt) -> Outcome:
        attempt.sent_at = 1.0
        attempt.call.status = 200
        attempt.call.answered(b"1", OK.verdict)
        await asyncio.sleep(1000.0)
        raise AssertionError

    stand = Stand(lingering)
    outcome = await stand(tool_call())
    assert isinstance(outcome, Replied)
    assert (200, None, OK.verdict) == (outcome.status, outcome.body, outcome.verdict)
    assert [] == stand.withdrawn


async def test_a_cancellation_from_outside_passes() -> None:
    """The client went away: that is no timeout, and weir invents no cancellation of its own."""
    server = Stalled()
    stand = Stand(server)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(stand(tool_call()))
        await asyncio.sleep(10.0)
        task.cancel()
    assert task.cancelled()
    assert 1 == server.cancelled
    assert [] == stand.withdrawn
    await asyncio.sleep(1000.0)


async def test_a_cancellation_from_outside_passes_even_in_the_moment_of_a_timeout() -> None:
    """Both at once: the task is not kept alive."""
    server = Stalled()
    stand = Stand(server)
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        early, late = (group.create_task(stand(tool_call())) for _ in range(2))
        loop.call_at(stand.began + 60.0, early.cancel)
        await turns()
        loop.call_at(stand.began + 60.0, late.cancel)
    assert early.cancelled()
    assert late.cancelled()
    assert 2 == server.cancelled


async def test_the_limit_of_a_call_that_has_ended_does_not_hit_the_next_one_of_its_task() -> None:
    """One task serves a client's connection for long."""
    stand = Stand(PlayedUpstream(after(50.0), after(50.0), after(50.0)))
    for _ in range(3):
        assert OK is await stand(tool_call())


async def test_whoever_swallows_the_cancellation_is_not_cancelled_twice() -> None:
    """An outcome that came all the same is the outcome, and the task is as it was."""

    async def stubborn(attempt: Attempt) -> Outcome:
        try:
            await asyncio.sleep(1000.0)
        except asyncio.CancelledError:
            return OK
        raise AssertionError

    stand = Stand(stubborn)
    assert OK is await stand(tool_call())
    task = asyncio.current_task()
    assert task is not None
    assert 0 == task.cancelling()


async def test_attempts_in_tasks_of_their_own_have_their_limits() -> None:
    """As hedges are; each ends by itself, and the call that waits for them learns of it."""
    stand = Stand(Stalled())
    outcomes: list[Outcome] = []

    async def race(call: Call) -> Outcome:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(stand.once(call))
            await asyncio.sleep(70.0)
            second = group.create_task(stand.once(call))
        outcomes.extend((first.result(), second.result()))
        return outcomes[-1]

    outcome = failed(await stand.deadline.total(tool_call(), race))
    assert ["attempt", "total"] == [failed(each).timer for each in outcomes]
    assert "total" == outcome.timer
    assert pytest.approx(120.0, abs=2 * LOOK_AGAIN_SECONDS) == stand.seconds()


async def test_a_thousand_calls_each_end_in_their_own_time() -> None:
    """One timer serves them all."""
    stand = Stand(Stalled())
    ended: list[tuple[float, float]] = []

    async def one(seconds: float) -> None:
        began = stand.clock()
        await stand(tool_call(headers=[(DEADLINE_HEADER, b"%d" % (seconds * 1000))]))
        ended.append((seconds, stand.clock() - began))

    async with asyncio.TaskGroup() as group:
        for number in range(1000):
            group.create_task(one((number * 37 % 500 + 1) / 10))
    assert 1000 == len(ended)
    assert all(pytest.approx(wanted, abs=0.005) == had for wanted, had in ended)


async def test_shadow_tells_what_would_have_timed_out_and_changes_nothing() -> None:
    """Neither the call nor what goes upstream; a caller's deadline passes as it came."""
    seen: list[Attempt] = []

    async def slow(attempt: Attempt) -> Outcome:
        seen.append(attempt)
        await asyncio.sleep(200.0)
        return OK

    stand = Stand(slow, mode=Mode.SHADOW)
    call = tool_call(headers=[(DEADLINE_HEADER, b"250")])
    assert OK is await stand(call)
    assert [("would_time_out", True, 60.0, "attempt")] == [
        (each.action, each.is_shadow, each.seconds, each.detail) for each in stand.told.of(Decided)
    ]
    assert math.inf == call.deadline_at
    assert (call.body, [(DEADLINE_HEADER, b"250")]) == (seen[0].body, seen[0].headers)


async def test_off_does_nothing() -> None:
    """It is not in the stack; if it is all the same, it passes everything."""
    stand = Stand(after(10_000.0), mode=Mode.OFF)
    assert OK is await stand(tool_call())
    assert [] == stand.told
