"""How the layers of a deadline end: told by the caller, cancelled from outside, in tasks of their own, in shadow."""

import asyncio
import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from support.policed import (
    LOST,
    OK,
    REFUSED,
    TOOL_ERROR,
    PlayedUpstream,
    body_of,
    call_of,
    call_with,
    clock_of_loop,
    tool_call,
)
from support.timing import LIMITS, Stalled, Stand, after, failed
from support.virtual_loop import VIRTUAL, turns
from weir.core.call import Attempt, Call
from weir.core.events import Decided
from weir.core.outcome import Blame, Outcome, Replied
from weir.policies.deadline import (
    LOOK_AGAIN_SECONDS,
    Limits,
)
from weir.policies.deadline_wire import DEADLINE_HEADER
from weir.protocol.shapes import DEADLINE_KEY

pytestmark = pytest.mark.anyio

SHADOW = replace(LIMITS, is_enforced=False)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


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
        attempt.call.answered(b"1", TOOL_ERROR.verdict)
        await asyncio.sleep(1000.0)
        raise AssertionError

    stand = Stand(lingering)
    outcome = await stand(tool_call())
    assert Replied(200, [], None, TOOL_ERROR.verdict) == outcome
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


async def test_after_attempts_in_tasks_of_their_own_the_total_ends_what_waits() -> None:
    """In time, and not when somebody looks by chance."""
    stand = Stand(after(10.0, LOST))

    async def race_and_wait(call: Call) -> Outcome:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(stand.once(call))
        await asyncio.sleep(1000.0)
        raise AssertionError

    assert LOST is await stand.deadline.total(tool_call(), race_and_wait)
    assert pytest.approx(120.0, abs=0.01) == stand.seconds()


@pytest.mark.parametrize("where", ["in the task of the call", "in tasks of their own", "for several callers"])
async def test_the_server_is_told_once_how_long_is_left(where: str) -> None:
    """Instead of what the caller said, whoever runs the attempt; and nothing stays behind."""
    server = PlayedUpstream(OK)
    stand = Stand(server)
    call = tool_call(headers=[(DEADLINE_HEADER, b"5000")])

    async def beside(call: Call) -> Outcome:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(stand.once(call))
        return task.result()

    if where == "for several callers":
        call.deadline_at = stand.clock() + 5.0
        await stand.once(call)
    else:
        await stand.deadline.total(call, beside if where == "in tasks of their own" else stand.once)
    assert [(DEADLINE_HEADER, b"5000")] == server.attempts[0].headers
    assert ({}, {}) == (stand.deadline._timers._watches, stand.deadline._by_token)


async def test_an_attempt_for_several_callers_waits_for_them_all_the_time_that_one_of_them_has() -> None:
    """Without what their clients were asked meanwhile."""
    clock = clock_of_loop()

    async def asking(attempt: Attempt) -> Outcome:
        attempt.call.ask_began(clock(), "elicitation/create")
        await asyncio.sleep(100.0)
        attempt.call.ask_ended(clock())
        await asyncio.sleep(1000.0)
        raise AssertionError

    stand = Stand(asking)
    call = tool_call()
    call.deadline_at = stand.clock() + 30.0
    outcome = failed(await stand.once(call))
    assert ("total", 30.0, Blame.DOWNSTREAM) == (outcome.timer, outcome.after_seconds, outcome.blame)
    assert pytest.approx(130.0, abs=2 * LOOK_AGAIN_SECONDS) == stand.seconds()


async def test_what_a_call_may_take_to_be_connected_is_noted_in_it() -> None:
    """The edge spends it."""
    stand, call = Stand(after(1.0), limits=Limits(60.0, 120.0, 600.0, connect_seconds=7.0)), tool_call()
    await stand(call)
    assert 7.0 == call.connect_left_seconds


async def test_who_waits_to_try_again_is_told_so() -> None:
    """An earlier try was refused further in."""
    stand = Stand(PlayedUpstream(REFUSED))

    async def again(call: Call) -> Outcome:
        await stand.once(call)
        await asyncio.sleep(500.0)
        raise AssertionError

    outcome = failed(await stand.deadline.total(tool_call(), again))
    assert outcome.detail.endswith("weir was waiting for its turn to try again")


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

    stand = Stand(slow, limits=SHADOW)
    call = tool_call(headers=[(DEADLINE_HEADER, b"250")])
    assert OK is await stand(call)
    assert [Decided("deadline", "would_time_out", call, True, 60.0, "attempt")] == stand.told.of(Decided)
    assert math.inf == call.deadline_at
    assert (call.body, [(DEADLINE_HEADER, b"250")]) == (seen[0].body, seen[0].headers)


async def test_in_shadow_progress_extends_as_it_would() -> None:
    """And is told as what would have been."""
    clock = asyncio.get_running_loop().time

    async def working(attempt: Attempt) -> Outcome:
        for _ in range(4):
            await asyncio.sleep(25.0)
            attempt.call.progressed(clock())
        return OK

    stand = Stand(working, limits=SHADOW)
    assert OK is await stand(tool_call())
    assert [("extended", True)] == [(each.action, each.is_shadow) for each in stand.told.of(Decided)]


@pytest.mark.parametrize("general", [LIMITS, None])
async def test_a_single_tool_may_be_in_shadow_or_off(general: Limits | None) -> None:
    """Whatever holds for the others."""
    stand = Stand(after(70.0), limits=general, tools={"add": SHADOW, "slow": None})
    add, slow = tool_call("add"), tool_call("slow")
    assert (OK, OK) == (await stand(add), await stand(slow))
    assert [Decided("deadline", "would_time_out", add, True, 60.0, "attempt")] == stand.told.of(Decided)
    assert (math.inf, math.inf) == (add.deadline_at, slow.deadline_at)


async def test_a_single_tool_may_have_limits_where_the_others_are_in_shadow() -> None:
    """Its word is its own."""
    stand = Stand(after(70.0), limits=SHADOW, tools={"add": LIMITS})
    assert "attempt" == failed(await stand(tool_call("add"))).timer
    assert OK is await stand(tool_call("other"))


async def test_a_client_that_takes_its_reply_by_drips_is_given_up() -> None:
    """It would keep its place, and is no failure of the server's."""
    clock = asyncio.get_running_loop().time

    async def written(attempt: Attempt) -> Outcome:
        while True:
            attempt.call.unread_began(clock())
            await asyncio.sleep(50.0)
            attempt.call.unread_ended(clock())

    stand = Stand(written)
    ended = failed(await stand(tool_call()))
    assert ("client_input", Blame.DOWNSTREAM, 600.0) == (ended.timer, ended.blame, stand.seconds())
    assert ended.detail.endswith("weir was waiting for the client to read on")


async def test_off_does_nothing() -> None:
    """It is not in the stack; if it is all the same, it passes everything."""
    stand = Stand(after(10_000.0), limits=None)
    assert OK is await stand(tool_call())
    assert [] == stand.told
