"""Callers that go away, and servers that ask the client, with several policies on."""

import asyncio

import pytest

from support.coalescing import ENFORCE, read, result
from support.composed import standing
from support.policed import LOST, OK, Gate, PlayedUpstream, RecordingSink, tool_call
from support.virtual_loop import VIRTUAL, turns
from weir.core.call import Attempt
from weir.core.outcome import PLAIN, Failed, Outcome, RefusalKind, Refused, Replied
from weir.policies.admission_queue import Places
from weir.policies.breaker import BreakerSettings
from weir.policies.deadline import DeadlineSettings, Limits
from weir.policies.retry import RetrySettings

pytestmark = pytest.mark.anyio

DEADLINE = DeadlineSettings(limits=Limits(attempt_seconds=60.0, total_seconds=120.0, client_input_seconds=600.0))
BREAKER = BreakerSettings(consecutive_failures=1, open_seconds=30.0, half_open_probes=1)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


async def half_open(gate: Gate, attempt: Attempt) -> Outcome:
    """The first attempt fails, the others wait at the gate."""
    return LOST if attempt.call.message.id == b"0" else await gate(attempt)


async def test_a_cancelled_probe_gives_its_permit_back() -> None:
    """The next caller probes, and closes the circuit."""
    gate = Gate()
    async with standing(lambda attempt: half_open(gate, attempt), breaker=BREAKER, retry=RetrySettings()) as stand:
        await stand.serve(tool_call(request_id=0))
        await asyncio.sleep(30.0)
        probe = await stand.call(tool_call(request_id=1))
        refused = await stand.serve(tool_call(request_id=2))
        assert isinstance(refused, Refused)
        assert RefusalKind.CIRCUIT_OPEN is refused.kind
        probe.cancel()
        await turns()
        again = await stand.call(tool_call(request_id=3))
        gate.answer(1, OK)
        assert OK is await again
        assert stand.layers.breaker is not None
        assert "closed" == stand.layers.breaker.state().state


async def test_a_probe_that_runs_into_its_deadline_has_failed() -> None:
    """A timeout is not a cancellation, although it cancels: the circuit opens again."""
    gate = Gate()
    async with standing(lambda attempt: half_open(gate, attempt), breaker=BREAKER, deadline=DEADLINE) as stand:
        await stand.serve(tool_call(request_id=0))
        await asyncio.sleep(30.0)
        outcome = await stand.serve(tool_call(request_id=1))
        assert isinstance(outcome, Failed)
        assert stand.layers.breaker is not None
        assert ("attempt", "open") == (outcome.timer, stand.layers.breaker.state().state)


async def test_the_leader_of_a_shared_read_may_go() -> None:
    """The other caller has its answer, under its own id, from one call."""
    gate = Gate()
    async with standing(gate, coalesce=ENFORCE, places=Places(2, 0, 5.0), deadline=DEADLINE) as stand:
        leader = await stand.call(read(1))
        follower = await stand.call(read(2))
        leader.cancel()
        await turns()
        gate.answer(0, Replied(200, [], result(b"1"), PLAIN))
        reply = await follower
        assert isinstance(reply, Replied)
        assert (result(b"2"), 1) == (reply.body, len(gate.waiting))
        assert leader.cancelled()


async def test_a_shared_read_that_all_left_is_ended_and_frees_its_place() -> None:
    """Nobody waits for it any more."""
    gate = Gate()
    async with standing(gate, coalesce=ENFORCE, places=Places(2, 0, 5.0)) as stand:
        callers = [await stand.call(read(number)) for number in (1, 2)]
        for caller in callers:
            caller.cancel()
        await turns(10)
        assert gate.waiting[0].cancelled()
        held = [await stand.call(tool_call(request_id=number)) for number in (3, 4)]
        for number in (1, 2):
            gate.answer(number, OK)
        assert [OK, OK] == [await each for each in held]


async def test_a_shared_read_is_tried_again_once_for_all() -> None:
    """Coalescing stands outside retry."""
    body = Replied(200, [], result(b"1"), PLAIN)
    upstream = PlayedUpstream(LOST, body)
    async with standing(upstream, coalesce=ENFORCE, retry=RetrySettings(), places=Places(4, 0, 5.0)) as stand:
        callers = [await stand.call(read(number)) for number in (1, 2, 3)]
        replies = [await each for each in callers]
        assert [result(b"1"), result(b"2"), result(b"3")] == [getattr(reply, "body", reply) for reply in replies]
        assert 2 == len(upstream.attempts)


async def test_a_follower_has_its_own_deadline() -> None:
    """It came later, and waits for as long as it may: each caller's total is its own."""
    gate = Gate()
    async with standing(gate, coalesce=ENFORCE, deadline=DEADLINE) as stand:
        leader = await stand.call(read(1))
        await asyncio.sleep(30.0)
        follower = await stand.call(read(2))
        outcomes = [await leader, await follower]
        assert all(isinstance(outcome, Failed) for outcome in outcomes), outcomes
        assert stand.seconds() <= 150.0


class Asking:
    """A server that asks the client, which takes its time, and then answers."""

    def __init__(self, stand_seconds: float, own_seconds: float) -> None:
        self.stand_seconds = stand_seconds
        self.own_seconds = own_seconds

    async def __call__(self, attempt: Attempt) -> Outcome:
        call, now = attempt.call, asyncio.get_running_loop().time
        attempt.sent_at = now()
        call.ask_began(now(), "elicitation/create")
        await asyncio.sleep(self.stand_seconds)
        call.ask_ended(now())
        await asyncio.sleep(self.own_seconds)
        return OK


ASKED = {
    "deadline": DEADLINE,
    "retry": RetrySettings(),
    "breaker": BreakerSettings(consecutive_failures=1, slow_over_seconds=10.0, slow_rate=0.1, min_calls=1),
}


async def test_clocks_stand_still_while_the_client_is_asked() -> None:
    """500 s of thinking are neither the server's timeout nor its slowness."""
    async with standing(Asking(500.0, 5.0), **ASKED) as stand:
        call = tool_call()
        assert OK is await stand.serve(call)
        assert (505.0, 500.0) == (stand.seconds(), call.client_seconds)
        assert stand.layers.breaker is not None
        assert "closed" == stand.layers.breaker.state().state


async def test_clocks_go_on_when_the_client_has_answered() -> None:
    """The server's own time is counted from where it stood."""
    async with standing(Asking(500.0, 1000.0), **ASKED) as stand:
        outcome = await stand.serve(tool_call())
        assert isinstance(outcome, Failed)
        assert ("attempt", 560.0) == (outcome.timer, stand.seconds())


async def test_a_client_that_never_answers_is_not_the_servers_failure() -> None:
    """The client's own timer ends the call, and the breaker stays closed."""
    async with standing(Asking(5000.0, 0.0), **ASKED) as stand:
        outcome = await stand.serve(tool_call())
        assert isinstance(outcome, Failed)
        assert ("client_input", 600.0) == (outcome.timer, stand.seconds())
        assert stand.layers.breaker is not None
        assert ("closed", 1) == (stand.layers.breaker.state().state, len(outcome.detail.splitlines()))


async def test_what_was_relayed_before_a_failure_is_not_asked_again() -> None:
    """The commit rule holds across layers: one attempt, nothing twice in the caller's stream."""

    async def half(attempt: Attempt) -> Outcome:
        await attempt.sink.open(200, [(b"content-type", b"text/event-stream")])
        attempt.call.committed = True
        await attempt.sink.write(b'data: {"jsonrpc":"2.0","method":"notifications/message"}\n\n')
        return LOST

    async with standing(half, **ASKED) as stand:
        call = read(1)
        sink = call.sink
        assert LOST is await stand.serve(call)
        assert isinstance(sink, RecordingSink)
        assert ([200], 1, 1) == (sink.heads, len(sink.written), len(call.attempts))
