"""Shadow mode of everything at once, and pairs that meet seldom."""

import asyncio
from dataclasses import replace

import pytest

from support.coalescing import ENFORCE, read
from support.coalescing import SHADOW as SHADOW_COALESCE
from support.composed import standing
from support.policed import LOST, OK, UNREACHED, Gate, PlayedUpstream, call_of, tool_call
from support.virtual_loop import VIRTUAL
from weir.core.call import Attempt
from weir.core.outcome import Failed, Mode, Outcome, RefusalKind, Refused
from weir.policies.admission_queue import Places
from weir.policies.breaker import BreakerSettings
from weir.policies.deadline import DeadlineSettings, Limits
from weir.policies.hedge import HedgeSettings
from weir.policies.rate_limit import RateLimitSettings
from weir.policies.retry import RetrySettings

pytestmark = pytest.mark.anyio

SECONDS = 1.0
LIMITS = Limits(attempt_seconds=5.0, total_seconds=10.0, client_input_seconds=600.0)
TWO_A_MINUTE = (RateLimitSettings(("client",), 2, 60.0),)
RETRY = RetrySettings(attempts=2, initial_seconds=SECONDS, max_seconds=SECONDS, budget_ratio=4.0)
BREAKER = BreakerSettings(consecutive_failures=1, open_seconds=30.0, half_open_probes=1)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


async def test_in_shadow_all_policies_together_change_nothing() -> None:
    """Every one of them would have acted, and none did: each call is one attempt with its own outcome, as it came."""
    upstream = PlayedUpstream(lambda attempt: slow_failure())
    async with standing(
        upstream,
        deadline=DeadlineSettings(replace(LIMITS, is_enforced=False)),
        rate_limits=(RateLimitSettings(("client",), 1, 60.0, Mode.SHADOW),),
        coalesce=SHADOW_COALESCE,
        retry=RetrySettings(Mode.SHADOW),
        breaker=BreakerSettings(Mode.SHADOW, consecutive_failures=1),
    ) as stand:
        calls = [read(number) for number in range(4)]
        tasks = [await stand.call(call) for call in calls]
        assert [LOST] * 4 == [await task for task in tasks]
        assert LOST is await stand.serve(read(4))
        assert (5, 40.0) == (len(upstream.attempts), stand.seconds())
        assert all(attempt.body == attempt.call.body for attempt in upstream.attempts)
        assert {"would_refuse", "would_join", "would_retry", "would_time_out"} <= set(stand.told.actions())
        assert all(event.is_shadow for event in stand.told if hasattr(event, "is_shadow"))


async def slow_failure() -> Outcome:
    """Later than the deadline."""
    await asyncio.sleep(20.0)
    return LOST


async def test_a_retry_takes_no_token() -> None:
    """A rate limit counts calls."""
    upstream = PlayedUpstream(LOST, OK, LOST, OK)
    async with standing(upstream, rate_limits=TWO_A_MINUTE, retry=RETRY) as stand:
        assert [OK, OK] == [await stand.serve(call_of("tools/list", number)) for number in (1, 2)]
        assert isinstance(await stand.serve(call_of("tools/list", 3)), Refused)


async def test_a_call_that_an_open_breaker_refused_gives_its_token_back() -> None:
    """A refusal consumes nothing, whoever refuses."""
    upstream = PlayedUpstream(UNREACHED, OK)
    async with standing(upstream, rate_limits=TWO_A_MINUTE, breaker=BREAKER) as stand:
        await stand.serve(tool_call(request_id=1))
        for number in (2, 3, 4):
            refused = await stand.serve(tool_call(request_id=number))
            assert isinstance(refused, Refused)
            assert RefusalKind.CIRCUIT_OPEN is refused.kind
        await asyncio.sleep(30.0)
        assert OK is await stand.serve(tool_call(request_id=5))


async def test_a_shared_read_that_backs_off_frees_its_place() -> None:
    """The place is its leader's."""
    upstream = PlayedUpstream(LOST, OK)
    async with standing(upstream, coalesce=ENFORCE, retry=RETRY, places=Places(1, 0, 5.0)) as stand:
        shared = await stand.call(read(1))
        assert OK is await stand.serve(tool_call(request_id=2))
        assert 0.0 == stand.seconds()
        assert isinstance(await shared, type(OK))
        assert SECONDS == stand.seconds()


async def test_a_hedge_of_a_probe_is_refused_and_the_probe_decides() -> None:
    """Half-open lets one attempt through: the second try is none, and the first closes the circuit."""
    gate = Gate()

    async def first_fails(attempt: Attempt) -> Outcome:
        return UNREACHED if attempt.call.message.id == b"0" else await gate(attempt)

    async with standing(
        first_fails,
        retry=RetrySettings(attempts=1, budget_ratio=4.0),
        hedge=HedgeSettings(Mode.ENFORCE, after_seconds=0.5),
        breaker=BREAKER,
        places=Places(4, 0, 5.0),
    ) as stand:
        await stand.serve(call_of("tools/list", 0))
        await asyncio.sleep(30.0)
        probe = await stand.call(call_of("tools/list", 1))
        await asyncio.sleep(1.0)
        gate.answer(0, OK)
        assert OK is await probe
        assert stand.layers.breaker is not None
        assert (1, "closed") == (len(gate.waiting), stand.layers.breaker.state().state)


async def test_no_retry_is_begun_that_the_total_would_cut_off() -> None:
    """The caller has the real failure at once, not a timeout later."""
    limits = Limits(attempt_seconds=9.5, total_seconds=10.0, client_input_seconds=600.0)

    async def stalls(attempt: Attempt) -> Outcome:
        attempt.sent_at = stand.clock()
        await asyncio.sleep(1000.0)
        return OK

    async with standing(stalls, deadline=DeadlineSettings(limits=limits), retry=RETRY) as stand:
        outcome = await stand.serve(call_of("tools/list"))
        assert isinstance(outcome, Failed)
        assert ("attempt", 9.5) == (outcome.timer, stand.seconds())
        assert ["deadline_too_near"] == stand.told.actions()


async def test_a_total_that_ends_before_a_retry_gives_the_last_real_failure() -> None:
    """It waits for the place that it freed, in vain. What it was to pay is given back, and so is its turn."""
    long = Limits(attempt_seconds=600.0, total_seconds=600.0, client_input_seconds=600.0)
    deadline = DeadlineSettings(limits=LIMITS, tools={"add": long})
    gate = Gate()

    async def serve(attempt: Attempt) -> Outcome:
        return UNREACHED if attempt.call.message.id == b"1" else await gate(attempt)

    retry = RetrySettings(attempts=2, initial_seconds=SECONDS, budget_ratio=4.0, budget_min_per_second=0.0)
    async with standing(serve, deadline=deadline, retry=retry, places=Places(1, 4, 60.0)) as stand:
        first = await stand.call(call_of("tools/list", 1))
        second = await stand.call(tool_call("add", 2))
        assert UNREACHED is await first
        assert (LIMITS.total_seconds, 8.0) == (stand.seconds(), stand.budget())
        gate.answer(0, OK)
        assert OK is await second
        third = await stand.call(tool_call("add", 3))
        gate.answer(1, OK)
        assert OK is await third
