"""Retry beside a breaker, a queue and a hedge: what it may spend, what it gives back, and what the caller gets."""

import asyncio

import pytest

from support.composed import standing
from support.policed import LOST, OK, UNREACHED, PlayedUpstream, call_of, tool_call
from support.virtual_loop import VIRTUAL, turns
from weir.core.call import Attempt
from weir.core.outcome import Mode, Outcome, RefusalKind, Refused
from weir.policies.admission_queue import Places
from weir.policies.breaker import BreakerSettings
from weir.policies.hedge import HedgeSettings
from weir.policies.retry import RetrySettings

pytestmark = pytest.mark.anyio

BACKOFF = 1.0
RETRY = RetrySettings(
    attempts=5, initial_seconds=BACKOFF, max_seconds=BACKOFF, budget_ratio=4.0, budget_min_per_second=0.0
)
"""Each call brings four retries, and time brings none."""
POOR = RetrySettings(initial_seconds=BACKOFF, max_seconds=BACKOFF, budget_ratio=0.5, budget_min_per_second=0.0)
"""Every second call brings one."""
BREAKER = BreakerSettings(consecutive_failures=2, open_seconds=30.0, half_open_probes=1)
HEDGE = HedgeSettings(Mode.ENFORCE, after_seconds=0.5)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


async def test_a_breaker_that_opens_ends_the_loop_with_the_last_real_failure() -> None:
    """The refusal is not what became of the call, is no attempt, and is not paid for."""
    upstream = PlayedUpstream(LOST, UNREACHED)
    async with standing(upstream, retry=RETRY, breaker=BREAKER) as stand:
        call = call_of("tools/list")
        assert UNREACHED is await stand.serve(call)
        assert (2, 2) == (len(upstream.attempts), len(call.attempts))
        assert 4.0 - 1.0 == stand.budget()


async def test_an_open_breaker_refuses_once_and_spends_no_budget() -> None:
    """Nothing is tried again that was never tried."""
    upstream = PlayedUpstream(UNREACHED)
    async with standing(upstream, retry=RETRY, breaker=BREAKER) as stand:
        await stand.serve(call_of("tools/list"))
        before, at = stand.budget(), stand.seconds()
        call = tool_call()
        refused = await stand.serve(call)
        assert isinstance(refused, Refused)
        assert RefusalKind.CIRCUIT_OPEN is refused.kind
        assert ([], 2, before + 4.0, at) == (call.attempts, len(upstream.attempts), stand.budget(), stand.seconds())


async def test_retries_count_at_the_breaker_one_by_one() -> None:
    """It learns from attempts: a call that a retry saved has shown it a failure and a success."""
    upstream = PlayedUpstream(LOST, OK, LOST, OK, LOST, OK)
    async with standing(upstream, retry=RETRY, breaker=BREAKER) as stand:
        outcomes = [await stand.serve(call_of("tools/list", number)) for number in range(3)]
        assert stand.layers.breaker is not None
        assert ([OK] * 3, "closed") == (outcomes, stand.layers.breaker.state().state)


async def test_backing_off_frees_the_place() -> None:
    """Who only waits keeps nobody else waiting."""
    upstream = PlayedUpstream(UNREACHED, OK)
    async with standing(upstream, retry=RETRY, places=Places(1, 0, 5.0)) as stand:
        first = await stand.call(call_of("tools/list", 1))
        assert OK is await stand.serve(call_of("tools/list", 2))
        assert (False, 0.0) == (first.done(), stand.seconds())
        assert OK is await first
        assert BACKOFF == stand.seconds()


async def test_a_retry_that_finds_no_place_ends_with_the_last_real_failure() -> None:
    """The place went to another call, which keeps it for longer than the queue may be."""

    async def serve(attempt: Attempt) -> Outcome:
        if attempt.call.message.id == b"1":
            return UNREACHED
        await asyncio.sleep(100.0)
        return OK

    async with standing(serve, retry=RETRY, places=Places(1, 4, 5.0)) as stand:
        first = await stand.call(call_of("tools/list", 1))
        second = await stand.call(call_of("tools/list", 2))
        assert UNREACHED is await first
        assert (BACKOFF + 5.0, 8.0) == (stand.seconds(), stand.budget())
        assert OK is await second


async def test_a_cancelled_back_off_gives_back_what_it_took() -> None:
    """Place and budget are as before."""
    upstream = PlayedUpstream(UNREACHED, OK)
    async with standing(upstream, retry=RETRY, places=Places(1, 0, 5.0)) as stand:
        first = await stand.call(call_of("tools/list", 1))
        first.cancel()
        await turns()
        assert (True, 4.0) == (first.cancelled(), stand.budget())
        assert OK is await stand.serve(call_of("tools/list", 2))


async def stalling(attempt: Attempt) -> Outcome:
    """The caller's own id is answered late, another one at once."""
    if attempt.number == 1:
        await asyncio.sleep(10.0)
    return OK


async def test_a_hedge_is_paid_for_like_a_retry() -> None:
    """One budget for all that is done twice."""
    async with standing(stalling, retry=RETRY, hedge=HEDGE, places=Places(2, 0, 5.0)) as stand:
        assert OK is await stand.serve(call_of("tools/list"))
        assert (0.5, 4.0 - 1.0) == (stand.seconds(), stand.budget())


async def test_without_a_budget_a_late_call_is_waited_for() -> None:
    """Two calls bring one second try: the first goes without."""
    async with standing(stalling, retry=POOR, hedge=HEDGE, places=Places(2, 0, 5.0)) as stand:
        assert OK is await stand.serve(call_of("tools/list", 1))
        assert 10.0 == stand.seconds()
        assert OK is await stand.serve(call_of("tools/list", 2))
        assert (10.5, 0.0) == (stand.seconds(), stand.budget())
        assert ["budget_exhausted", "hedged", "won"] == stand.told.actions()


async def test_a_hedge_takes_no_place_that_a_call_could_want() -> None:
    """All places are in use: the second try is not made, and not paid for."""
    async with standing(stalling, retry=RETRY, hedge=HEDGE, places=Places(1, 4, 60.0)) as stand:
        assert OK is await stand.serve(call_of("tools/list"))
        assert (10.0, 4.0) == (stand.seconds(), stand.budget())


async def test_the_place_of_a_hedge_comes_back_when_the_caller_goes() -> None:
    """Both tries end, and both places are free."""

    async def never(attempt: Attempt) -> Outcome:
        if attempt.call.message.id == b"1":
            await asyncio.sleep(1000.0)
        return OK

    async with standing(never, retry=RETRY, hedge=HEDGE, places=Places(2, 0, 5.0)) as stand:
        first = await stand.call(call_of("tools/list", 1))
        await asyncio.sleep(1.0)
        first.cancel()
        await turns(10)
        held = [await stand.call(tool_call(request_id=number)) for number in (2, 3)]
        assert [OK, OK] == [await each for each in held]
        assert "hedged" in stand.told.actions()
