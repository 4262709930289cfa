"""Rate limits and places together, and what waiting for a place costs."""

import asyncio

import pytest

from support.coalescing import ENFORCE, read, result
from support.composed import standing
from support.policed import OK, UNREACHED, Gate, PlayedUpstream, call_of, tool_call
from support.virtual_loop import VIRTUAL, turns
from weir.core.call import Attempt
from weir.core.outcome import PLAIN, Failed, FailureKind, Outcome, RefusalKind, Refused, Replied
from weir.policies.admission_queue import Places
from weir.policies.deadline import DeadlineSettings, Limits
from weir.policies.rate_limit import RateLimitSettings
from weir.policies.retry import RetrySettings

pytestmark = pytest.mark.anyio

TOTAL = 10.0
DEADLINE = DeadlineSettings(limits=Limits(attempt_seconds=8.0, total_seconds=TOTAL, client_input_seconds=600.0))
TWO_A_MINUTE = (RateLimitSettings(("client",), 2, 60.0),)
PATIENT = Places(1, 4, 60.0)
SECONDS = 1.0
ANSWER = Replied(200, [], result(b"1"), PLAIN)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


def timer_of(outcome: Outcome) -> tuple[str, float]:
    """Which timer ran out, and after how long."""
    assert isinstance(outcome, Failed), outcome
    assert FailureKind.TIMEOUT is outcome.kind
    return outcome.timer, outcome.after_seconds


def reason_of(outcome: Outcome) -> RefusalKind:
    """Why it was refused."""
    assert isinstance(outcome, Refused), outcome
    return outcome.kind


async def busy(attempt: Attempt) -> Outcome:
    """The call with id 1 keeps its place for 6 s, others for ever."""
    await asyncio.sleep(6.0 if attempt.call.message.id == b"1" else 1000.0)
    return OK


async def test_waiting_for_a_place_spends_the_total() -> None:
    """After 6 s in the queue, the attempt has 4 s, although it could have 8."""
    async with standing(busy, deadline=DEADLINE, places=PATIENT) as stand:
        first, second = await stand.call(tool_call(request_id=1)), await stand.call(tool_call(request_id=2))
        assert ("total", TOTAL) == timer_of(await second)
        assert (TOTAL, OK) == (stand.seconds(), await first)


async def test_a_call_whose_total_ends_in_the_queue_never_ran() -> None:
    """The upstream is not asked, nobody else waits longer for it, and the queue is as if it had not been."""
    upstream = Gate()
    long = DeadlineSettings(limits=Limits(attempt_seconds=600.0, total_seconds=600.0, client_input_seconds=600.0))
    async with standing(upstream, deadline=long, places=Places(1, 1, 700.0)) as stand:
        first = await stand.call(tool_call(request_id=1))
        await asyncio.sleep(500.0)
        second = await stand.call(tool_call(request_id=2))
        assert RefusalKind.OVERLOADED is reason_of(await stand.serve(tool_call(request_id=3)))
        second.cancel()
        await turns()
        third = await stand.call(tool_call(request_id=4))
        upstream.answer(0, OK)
        assert OK is await first
        await turns()
        upstream.answer(1, OK)
        assert (OK, 2) == (await third, len(upstream.waiting))


async def test_the_total_ends_a_call_that_waits() -> None:
    """With its own timer's name, in time, and the place goes on to the next."""
    upstream = Gate()
    limits = Limits(attempt_seconds=600.0, total_seconds=TOTAL, client_input_seconds=600.0)
    tools = {"slow": Limits(attempt_seconds=600.0, total_seconds=600.0, client_input_seconds=600.0)}
    async with standing(upstream, deadline=DeadlineSettings(limits=limits, tools=tools), places=PATIENT) as stand:
        first = await stand.call(tool_call("slow", 1))
        assert ("total", TOTAL) == timer_of(await stand.serve(tool_call("add", 2)))
        assert (TOTAL, 1) == (stand.seconds(), len(upstream.waiting))
        upstream.answer(0, OK)
        assert OK is await first
        third = await stand.call(tool_call("add", 3))
        upstream.answer(1, OK)
        assert OK is await third


async def test_a_call_without_a_place_gives_its_token_back() -> None:
    """A limit counts what was served: the refused call is not among the two a minute."""
    upstream = Gate()
    async with standing(upstream, rate_limits=TWO_A_MINUTE, places=Places(1, 0, 5.0)) as stand:
        first = await stand.call(tool_call(request_id=1))
        assert RefusalKind.OVERLOADED is reason_of(await stand.serve(tool_call(request_id=2)))
        upstream.answer(0, OK)
        assert OK is await first
        third = await stand.call(tool_call(request_id=3))
        upstream.answer(1, OK)
        assert OK is await third
        assert RefusalKind.RATE_LIMITED is reason_of(await stand.serve(tool_call(request_id=4)))


async def test_a_caller_that_leaves_the_queue_gives_its_token_back() -> None:
    """It had nothing."""
    upstream = Gate()
    async with standing(upstream, rate_limits=TWO_A_MINUTE, places=PATIENT) as stand:
        first = await stand.call(tool_call(request_id=1))
        second = await stand.call(tool_call(request_id=2))
        second.cancel()
        await turns()
        upstream.answer(0, OK)
        assert OK is await first
        third = await stand.call(tool_call(request_id=3))
        upstream.answer(1, OK)
        assert OK is await third


async def test_a_rate_limited_call_takes_no_place() -> None:
    """The cheapest refusal comes first: it says when to come again, not that the server is busy."""
    upstream = Gate()
    async with standing(upstream, rate_limits=TWO_A_MINUTE, places=Places(2, 0, 5.0)) as stand:
        held = [await stand.call(tool_call(request_id=number)) for number in (1, 2)]
        refused = await stand.serve(tool_call(request_id=3))
        assert isinstance(refused, Refused)
        assert (RefusalKind.RATE_LIMITED, 60.0) == (refused.kind, refused.retry_after_seconds)
        for number in (0, 1):
            upstream.answer(number, OK)
        assert [OK, OK] == [await each for each in held]


async def test_control_traffic_passes_when_everything_is_used_up() -> None:
    """A ping is neither counted nor queued."""
    upstream = PlayedUpstream(lambda attempt: busy(attempt) if attempt.call.message.method != "ping" else OK)
    async with standing(upstream, rate_limits=TWO_A_MINUTE, places=Places(1, 0, 5.0)) as stand:
        first = await stand.call(tool_call(request_id=1))
        assert (OK, 0.0) == (await stand.serve(call_of("ping", 2)), stand.seconds())
        assert OK is await first


async def test_a_shared_read_holds_one_place_whoever_leaves() -> None:
    """The place of who leaves is that of who stays: no more run at once than there are places."""
    running, most = 0, 0

    async def counted(attempt: Attempt) -> Outcome:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(10.0)
        finally:
            running -= 1
        return Replied(200, [], result(attempt.call.message.id), PLAIN)

    async with standing(counted, coalesce=ENFORCE, places=Places(3, 9, 60.0)) as stand:
        readers = [await stand.call(read(number)) for number in (1, 2, 3)]
        for reader in readers[:2]:
            reader.cancel()
            await turns()
        others = [await stand.call(tool_call(request_id=number)) for number in range(4, 8)]
        assert result(b"3") == getattr(await readers[2], "body", None)
        for other in others:
            await other
        assert (3, 20.0) == (most, stand.seconds())
        assert stand.layers.admission is not None
        assert [(0, 0)] == [(each.in_use, each.waiting) for each, _ in stand.layers.admission.bulkheads()]


async def test_a_shared_read_whose_leader_left_backs_off_and_comes_back() -> None:
    """Meanwhile its place is somebody's; then it waits for one again, in the name of who stayed."""

    async def upstream(attempt: Attempt) -> Outcome:
        if attempt.call.message.method == "tools/call":
            return await slowly(3.0)
        return UNREACHED if attempt.number == 1 else ANSWER

    retry = RetrySettings(attempts=2, initial_seconds=SECONDS, max_seconds=SECONDS, budget_ratio=4.0)
    async with standing(upstream, coalesce=ENFORCE, retry=retry, places=Places(2, 9, 60.0)) as stand:
        leader, follower = await stand.call(read(1)), await stand.call(read(2))
        leader.cancel()
        await turns()
        others = [await stand.call(tool_call(request_id=number)) for number in (4, 5)]
        assert result(b"2") == getattr(await follower, "body", None)
        assert 3.0 == stand.seconds()
        for other in others:
            await other
        assert stand.layers.admission is not None
        assert [(0, 0)] == [(each.in_use, each.waiting) for each, _ in stand.layers.admission.bulkheads()]


async def slowly(seconds: float) -> Outcome:
    """After a while."""
    await asyncio.sleep(seconds)
    return OK
