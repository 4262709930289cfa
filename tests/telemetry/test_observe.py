"""The two layers that watch: what they tell, in which order, however a call ends."""

import asyncio
from typing import Any

import pytest

from support.limits import HANG_SECONDS
from support.watched import OK, answer, call_of, tool_call
from weir.core.call import Attempt, Call
from weir.core.events import AttemptFinished, AttemptStarted, CallFinished, CallStarted
from weir.core.outcome import Blame, Failed, FailureKind, Outcome, RefusalKind, Refused, Replied, Verdict
from weir.telemetry.observe import ObserveAttempt, ObserveCall
from weir.telemetry.settings import TracesSettings
from weir.telemetry.tracing import Tracing

pytestmark = pytest.mark.anyio

OFF = Tracing(TracesSettings(), lambda bits: 1, enabled=False)
ON = Tracing(TracesSettings(), lambda bits: 1, enabled=True)


class Told:
    """What was emitted."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.now = 7.0

    @property
    def kinds(self) -> list[type]:
        return [type(event) for event in self.events]


async def test_a_call_is_told_to_begin_before_anything_is_done() -> None:
    """With its place in the trace; its end is told by who sends the reply."""
    told = Told()
    layer = ObserveCall(ON, told.events.append, lambda: told.now)

    async def inner(call: Call) -> Outcome:
        assert [CallStarted] == told.kinds
        assert call.trace is not None
        return OK

    call = call_of(tool_call())
    assert OK is await layer(call, inner)
    assert [CallStarted] == told.kinds
    told.now = 9.0
    layer.finish(call, OK)
    assert ([CallStarted, CallFinished], 9.0, OK) == (told.kinds, call.ended_at, told.events[-1].outcome)


async def test_an_attempt_is_told_with_its_outcome_and_end() -> None:
    """Whatever the outcome."""
    told = Told()
    attempt = Attempt(call_of(tool_call()), 1, 5.0)
    assert OK is not await ObserveAttempt(OFF, told.events.append, lambda: told.now)(attempt, answer)
    assert [AttemptStarted, AttemptFinished] == told.kinds
    assert (7.0, attempt.outcome) == (attempt.ended_at, told.events[-1].outcome)


async def test_a_cancelled_attempt_is_told_to_have_failed_by_the_client() -> None:
    """And the cancellation goes on."""
    told = Told()
    attempt = Attempt(call_of(tool_call()), 1, 5.0)
    reached = asyncio.Event()

    async def inner(attempt: Attempt) -> Outcome:
        reached.set()
        await asyncio.Event().wait()
        return OK

    async with asyncio.timeout(HANG_SECONDS), asyncio.TaskGroup() as tasks:
        layer = ObserveAttempt(OFF, told.events.append, lambda: told.now)
        running = tasks.create_task(layer(attempt, inner))
        await reached.wait()
        running.cancel()
    assert running.cancelled()
    assert Failed(FailureKind.CANCELLED, "the client went away", Blame.DOWNSTREAM) == attempt.outcome
    assert [AttemptStarted, AttemptFinished] == told.kinds


async def test_a_client_that_leaves_with_its_answer_has_not_cancelled() -> None:
    """Many hang up as soon as the answer is there."""
    told = Told()
    call = call_of(tool_call(), status=200)
    attempt = Attempt(call, 1, 5.0)

    async def inner(attempt: Attempt) -> Outcome:
        call.answered(b"1", Verdict(-32603, "no"))
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await ObserveAttempt(OFF, told.events.append, lambda: told.now)(attempt, inner)
    assert Replied(200, [], None, Verdict(-32603, "no")) == attempt.outcome


async def test_a_bug_inside_is_told_as_weirs_fault() -> None:
    """And goes on, to be answered by the edge."""
    told = Told()
    attempt = Attempt(call_of(tool_call()), 1, 5.0)

    async def inner(attempt: Attempt) -> Outcome:
        raise LookupError("SECRET")

    with pytest.raises(LookupError):
        await ObserveAttempt(OFF, told.events.append, lambda: told.now)(attempt, inner)
    assert Failed(FailureKind.INTERNAL, "LookupError", Blame.WEIR) == attempt.outcome


@pytest.mark.parametrize("body", [tool_call(), b"[" + tool_call() + b"]"], ids=["call", "batch"])
async def test_a_refusal_is_no_attempt(body: bytes) -> None:
    """Whoever refuses, and whatever the hinge: neither the call nor its members had one. A failure is one."""
    refused, failed = Refused(RefusalKind.CIRCUIT_OPEN, "no"), Failed(FailureKind.RESET, "lost")
    for outcome, expected in ((refused, 0), (failed, 1)):
        call, told = call_of(body), Told()
        calls = ObserveCall(OFF, told.events.append, lambda: 7.0)
        attempts = ObserveAttempt(OFF, told.events.append, lambda: 7.0)

        async def refuse(attempt: Attempt, outcome: Outcome = outcome) -> Outcome:
            return outcome

        async def hinge(call: Call, attempts: ObserveAttempt = attempts) -> Outcome:
            attempt = Attempt(call, 1, 6.0)
            call.attempts.append(attempt)
            return await attempts(attempt, refuse)

        calls.finish(call, await calls(call, hinge))
        assert [expected] * (1 + len(call.members)) == [len(each.attempts) for each in (call, *call.members)]


async def test_a_batch_is_watched_member_by_member() -> None:
    """Members share the exchange's instants; answers among them are not operations."""
    told = Told()
    body = b"[" + tool_call("a", "1") + b',{"jsonrpc":"2.0","id":9,"result":{}}]'
    call = call_of(body)
    calls = ObserveCall(OFF, told.events.append, lambda: told.now)
    attempts = ObserveAttempt(OFF, told.events.append, lambda: told.now)

    async def hinge(call: Call) -> Outcome:
        attempt = Attempt(call, 1, 6.0)
        call.attempts.append(attempt)
        return await attempts(attempt, answer)

    calls.finish(call, await calls(call, hinge))
    asked, answered = call.members
    assert (7.0, 7.0, 1) == (asked.ended_at, asked.attempts[0].ended_at, len(asked.attempts))
    assert [] == answered.attempts
