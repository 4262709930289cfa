"""What a shared read may take: it is none of its callers' own calls, and has the limits of one all the same."""

import asyncio
from typing import Any

import pytest

from support.coalescing import ENFORCE, EVENTS, read, result
from support.composed import standing
from support.policed import LOST, Gate, PlayedUpstream, RecordingSink, tool_call
from support.virtual_loop import VIRTUAL, turns
from weir.core.call import Attempt, Call, header
from weir.core.outcome import PLAIN, Blame, Failed, FailureKind, Mode, Outcome, Replied, Sent
from weir.policies.admission_queue import Places
from weir.policies.breaker import BreakerSettings
from weir.policies.coalesce import CoalesceSettings
from weir.policies.coalesce_flight import AHEAD_LIMIT_BYTES
from weir.policies.deadline import DeadlineSettings, Limits
from weir.policies.hedge import HedgeSettings
from weir.policies.retry import RetrySettings
from weir.protocol import sse

pytestmark = pytest.mark.anyio

DEADLINE = DeadlineSettings(limits=Limits(attempt_seconds=10.0, total_seconds=30.0))
PLACES = Places(4, 0, 5.0)
LEADERS_TOTAL = DeadlineSettings(limits=Limits(attempt_seconds=100.0, total_seconds=30.0))
ANSWER = Replied(200, [], result(b"1"), PLAIN)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


def failed(outcome: Outcome) -> Failed:
    """The failure that an outcome is."""
    assert isinstance(outcome, Failed), outcome
    return outcome


async def never(_: Attempt) -> Outcome:
    """No answer."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def test_a_try_for_several_callers_has_the_limit_of_a_try() -> None:
    """Nobody waits for the total where one attempt may take less; the server is blamed."""
    async with standing(never, coalesce=ENFORCE, deadline=DEADLINE) as stand:
        callers = [await stand.call(read(number)) for number in (1, 2)]
        outcomes = [failed(await each) for each in callers]
        assert 10.0 == pytest.approx(stand.seconds())
        assert [("attempt", Blame.UPSTREAM)] * 2 == [(each.timer, each.blame) for each in outcomes]


async def test_a_shared_read_that_was_late_is_tried_again() -> None:
    """A stalled try costs its own limit, not the total."""
    upstream = PlayedUpstream(never, ANSWER)
    async with standing(upstream, coalesce=ENFORCE, deadline=DEADLINE, retry=RetrySettings()) as stand:
        callers = [await stand.call(read(number)) for number in (1, 2)]
        replies = [await each for each in callers]
        assert [result(b"1"), result(b"2")] == [getattr(reply, "body", reply) for reply in replies]
        assert 2 == len(upstream.attempts)
        assert 10.0 <= stand.seconds() < 13.0


async def test_both_tries_of_a_hedged_shared_read_have_it() -> None:
    """The second one began later, and ends later."""
    hedge = HedgeSettings(Mode.ENFORCE, after_seconds=2.0)
    async with standing(
        never, coalesce=ENFORCE, deadline=DEADLINE, retry=RetrySettings(attempts=2), hedge=hedge, places=PLACES
    ) as stand:
        outcome = failed(await stand.serve(read(1)))
        assert "attempt" == outcome.timer
        assert 12.0 == pytest.approx(stand.seconds())


async def test_progress_starts_its_clock_again() -> None:
    """As it does that of a call with one caller."""
    gate, seen = Gate(), list[Call]()

    async def progressing(attempt: Attempt) -> Outcome:
        seen.append(attempt.call)
        return await gate(attempt)

    async with standing(progressing, coalesce=ENFORCE, deadline=DEADLINE) as stand:
        caller = await stand.call(read(1))
        await asyncio.sleep(8.0)
        seen[0].progressed(stand.clock())
        assert "attempt" == failed(await caller).timer
        assert 18.0 == pytest.approx(stand.seconds(), abs=0.1)


async def test_a_question_to_the_client_stops_its_clock() -> None:
    """For as long as the client takes."""
    gate, seen = Gate(), list[Call]()

    async def asking(attempt: Attempt) -> Outcome:
        seen.append(attempt.call)
        return await gate(attempt)

    async with standing(asking, coalesce=ENFORCE, deadline=DEADLINE) as stand:
        caller = await stand.call(read(1))
        await asyncio.sleep(8.0)
        seen[0].ask_began(stand.clock())
        await asyncio.sleep(100.0)
        seen[0].ask_ended(stand.clock())
        await asyncio.sleep(1.5)
        assert not caller.done()
        gate.answer(0, ANSWER)
        assert ANSWER is await caller


async def test_whose_total_ends_first_goes_first_and_blames_the_server() -> None:
    """The try goes on for who came later, as long as he may wait."""
    async with standing(never, coalesce=ENFORCE, deadline=LEADERS_TOTAL) as stand:
        leader = await stand.call(read(1))
        await asyncio.sleep(20.0)
        follower = await stand.call(read(2))
        outcome = failed(await leader)
        assert ("total", Blame.UPSTREAM, FailureKind.TIMEOUT) == (outcome.timer, outcome.blame, outcome.kind)
        assert "the MCP server" in outcome.detail
        assert 30.0 == pytest.approx(stand.seconds())
        assert "total" == failed(await follower).timer
        assert 50.0 == pytest.approx(stand.seconds(), abs=0.1)


async def sent_and_never(attempt: Attempt) -> Outcome:
    """No answer, to what the server has."""
    attempt.sent_at = asyncio.get_running_loop().time()
    return await never(attempt)


async def test_a_caller_that_had_joined_is_told_what_it_waited_for() -> None:
    """Not for its turn: what it joined was with the server, and it is the server that did not answer."""
    async with standing(sent_and_never, coalesce=ENFORCE, deadline=LEADERS_TOTAL) as stand:
        leader = await stand.call(read(1, deadline_at=10_000.0))
        await asyncio.sleep(1.0)
        follower = await stand.call(read(2, headers=[(b"weir-deadline-ms", b"5000")]))
        outcome = failed(await follower)
        assert "weir was waiting for the MCP server" in outcome.detail
        assert (Sent.YES, Blame.DOWNSTREAM) == (outcome.sent, outcome.blame)
        leader.cancel()


async def test_a_caller_that_had_joined_is_told_of_the_last_failure() -> None:
    """What it joined waits to try again: why, is the truth about this call too."""
    upstream = PlayedUpstream(LOST, never)
    retry = RetrySettings(initial_seconds=8.0, max_seconds=8.0)
    async with standing(upstream, coalesce=ENFORCE, deadline=LEADERS_TOTAL, retry=retry) as stand:
        leader = await stand.call(read(1))
        follower = await stand.call(read(2, headers=[(b"weir-deadline-ms", b"5000")]))
        assert LOST is await follower
        assert 5.0 == pytest.approx(stand.seconds())
        leader.cancel()


async def test_a_caller_that_waits_no_longer_is_no_failure_of_the_servers() -> None:
    """Else an impatient client could open the breaker for all by way of a read that may be shared."""
    breaker = BreakerSettings(consecutive_failures=1)
    async with standing(sent_and_never, coalesce=ENFORCE, deadline=DEADLINE, breaker=breaker) as stand:
        callers = []
        for number in (1, 2):
            callers.append(await stand.call(read(number, headers=[(b"weir-deadline-ms", b"250")])))
            await asyncio.sleep(0.125)
        outcomes = [failed(await each) for each in callers]
        assert [("total", Blame.DOWNSTREAM)] * 2 == [(each.timer, each.blame) for each in outcomes]
        assert stand.layers.breaker is not None
        assert "closed" == stand.layers.breaker.state().state
        patient = failed(await stand.serve(read(2)))
        assert ("attempt", Blame.UPSTREAM) == (patient.timer, patient.blame)
        assert "open" == stand.layers.breaker.state().state


@pytest.mark.parametrize("coalesce", [ENFORCE, None])
async def test_a_stream_that_goes_on_after_its_answer_brings_no_second_one(coalesce: CoalesceSettings | None) -> None:
    """The total ends it, and there is nothing to add: a call has one answer."""

    async def endless(attempt: Attempt) -> Outcome:
        call = attempt.call
        await attempt.sink.open(200, EVENTS)
        call.committed = True
        call.answered(call.message.id, PLAIN)
        await attempt.sink.write(sse.encode(result(call.message.id)))
        return await never(attempt)

    async with standing(endless, coalesce=coalesce, deadline=LEADERS_TOTAL) as stand:
        outcome = await stand.serve(read(1))
        assert isinstance(outcome, Replied), outcome
        assert (None, PLAIN) == (outcome.body, outcome.verdict)
        assert 30.0 == pytest.approx(stand.seconds())


async def test_the_server_is_told_how_long_the_callers_wait() -> None:
    """A shared read says it as any other call does."""
    gate, seen = Gate(), list[Attempt]()

    async def noting(attempt: Attempt) -> Outcome:
        seen.append(attempt)
        return await gate(attempt)

    async with standing(noting, coalesce=ENFORCE, deadline=DEADLINE) as stand:
        callers = [await stand.call(read(1)), await stand.call(tool_call(request_id=2))]
        await turns()
        for number in range(2):
            gate.answer(number, ANSWER)
        for caller in callers:
            await caller
        for attempt in seen:
            assert b"30000" == header(attempt.headers, b"weir-deadline-ms")


async def test_a_try_that_was_outrun_is_not_what_became_of_the_call() -> None:
    """The first try streams on when the total ends, and the second one is long forgotten."""

    async def begins_late(attempt: Attempt) -> Outcome:
        if attempt.number == 2:
            return await never(attempt)
        attempt.sent_at = asyncio.get_running_loop().time()
        await asyncio.sleep(3.0)
        await attempt.sink.open(200, EVENTS)
        attempt.call.committed = True
        await attempt.sink.write(sse.encode(b'{"jsonrpc":"2.0","method":"notifications/message"}'))
        return await never(attempt)

    hedge = HedgeSettings(Mode.ENFORCE, after_seconds=2.0)
    shared: dict[str, Any] = {"coalesce": ENFORCE, "retry": RetrySettings(), "hedge": hedge, "places": PLACES}
    async with standing(begins_late, deadline=LEADERS_TOTAL, **shared) as stand:
        leader = await stand.call(read(1))
        await asyncio.sleep(1.0)
        follower = await stand.call(read(2))
        outcomes = [failed(await each) for each in (leader, follower)]
        assert [("total", Blame.UPSTREAM)] * 2 == [(each.timer, each.blame) for each in outcomes]
        assert "hedged" in stand.told.actions()


class Deaf(RecordingSink):
    """A client that reads nothing for a while."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    async def write(self, chunk: bytes) -> None:
        await asyncio.sleep(self.seconds)
        self.seconds = 0.0
        await super().write(chunk)


async def test_a_first_caller_that_does_not_read_is_no_failure_of_the_servers() -> None:
    """What is too far ahead of it waits, and the clocks with it."""

    async def flooding(attempt: Attempt) -> Outcome:
        call = attempt.call
        attempt.sent_at = asyncio.get_running_loop().time()
        await attempt.sink.open(200, EVENTS)
        call.committed = True
        for _ in range(4):
            await attempt.sink.write(sse.encode(b"x" * AHEAD_LIMIT_BYTES))
        call.answered(call.message.id, PLAIN)
        await attempt.sink.write(sse.encode(result(call.message.id)))
        return Replied(200, EVENTS, None, PLAIN)

    breaker = BreakerSettings(consecutive_failures=1, slow_over_seconds=5.0, slow_rate=0.1, min_calls=1)
    patient = DeadlineSettings(limits=Limits(attempt_seconds=10.0, total_seconds=600.0))
    async with standing(flooding, coalesce=ENFORCE, deadline=patient, breaker=breaker) as stand:
        outcome = await stand.serve(read(1, sink=Deaf(100.0)))
        assert isinstance(outcome, Replied), outcome
        assert (PLAIN, 100.0) == (outcome.verdict, stand.seconds())
        assert stand.layers.breaker is not None
        assert "closed" == stand.layers.breaker.state().state
