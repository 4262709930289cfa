"""What a shared read may take: it is none of its callers' own calls, and has the limits of one all the same."""

import asyncio

import pytest

from support.coalescing import ENFORCE, read, result
from support.composed import standing
from support.policed import Gate, PlayedUpstream, tool_call
from support.virtual_loop import VIRTUAL, turns
from weir.core.call import Attempt, Call, header
from weir.core.outcome import PLAIN, Blame, Failed, FailureKind, Mode, Outcome, Replied
from weir.policies.admission_queue import Places
from weir.policies.deadline import DeadlineSettings, Limits
from weir.policies.hedge import HedgeSettings
from weir.policies.retry import RetrySettings

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
