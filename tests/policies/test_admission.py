"""Admission as a layer, in virtual time: who gets a place, who waits, who is refused, and that places come back."""

import asyncio
from itertools import pairwise

import pytest

from support.admitting import Stand, refused, started, taking
from support.policed import (
    CLIENT_GONE,
    LATE,
    LOST,
    OK,
    UNREACHED,
    PlayedUpstream,
    attempt_of,
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
from weir.core.call import Call
from weir.core.events import Decided
from weir.core.outcome import Mode, Outcome, RefusalKind, Refused
from weir.policies.admission import answer_seconds, rank_of
from weir.policies.admission_queue import Places, Rank

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


async def test_a_call_that_finds_a_place_passes() -> None:
    """It has a slot while it runs, and nothing is told."""
    stand, call = Stand(), tool_call()
    before = len(stand.told)
    async with asyncio.TaskGroup() as group:
        (task,) = await started(group, stand, [call])
        assert call.slot is not None
        stand.gate.answer(0, OK)
    assert OK is task.result()
    assert not call.slot
    assert (0.0, before) == (call.queued_seconds, len(stand.told))


async def test_the_next_one_waits_until_a_place_is_free() -> None:
    """How long is noted in the call, told as an event, and visible as the length of the queue."""
    stand = Stand()
    calls = [tool_call(request_id=number) for number in range(2)]
    async with asyncio.TaskGroup() as group:
        await started(group, stand, calls)
        await asyncio.sleep(3.0)
        assert calls[:1] == stand.inside
        stand.gate.answer(0, OK)
        await turns()
        assert calls == stand.inside
        stand.gate.answer(1, OK)
    assert [0.0, 3.0] == [call.queued_seconds for call in calls]
    assert [Decided("admission", "queued", calls[1], seconds=3.0, detail="upstream")] == stand.told.of(Decided)
    assert [1.0, 0.0] == stand.levels("queue")


async def test_a_full_queue_refuses_and_the_upstream_is_not_asked() -> None:
    """In one line, with when to come again, once that is known."""
    stand = Stand(limit=1, queue=1)
    for _ in range(200):
        await stand.layer(tool_call(), taking(0.1))
    async with asyncio.TaskGroup() as group:
        await started(group, stand, [tool_call(), tool_call()])
        call = tool_call()
        outcome = refused(await stand.serve(call))
        assert Decided("admission", "refused", call, detail="upstream") == stand.told.of(Decided)[-1]
        assert 1 == len(stand.inside)
        assert "MCP server 'demo' is busy: 1 calls run, 1 wait." == outcome.detail
        assert "upstream" == outcome.scope
        assert pytest.approx(0.2, rel=0.05) == outcome.retry_after_seconds
        stand.gate.answer(0, OK)
        await turns()
        stand.gate.answer(1, OK)
    assert 1 == stand.told.actions().count("refused")


async def test_who_waits_too_long_is_refused() -> None:
    """And has left the queue."""
    stand = Stand(timeout=5.0)
    async with asyncio.TaskGroup() as group:
        await started(group, stand, [tool_call()])
        call = tool_call(queued_seconds=1.0)
        outcome = refused(await stand.serve(call))
        assert pytest.approx(6.0) == call.queued_seconds
        assert [
            Decided("admission", "queued", call, seconds=5.0, detail="upstream"),
            Decided("admission", "refused", call, detail="upstream"),
        ] == stand.told.of(Decided)
        assert "MCP server 'demo' is busy: this call had no place within 5 s." == outcome.detail
        stand.gate.answer(0, OK)
    assert 0.0 == stand.levels("queue")[-1]
    assert OK is await stand.layer(tool_call(), PlayedUpstream(OK))


async def test_a_queue_of_no_seconds_is_none() -> None:
    """queue_timeout: 0s."""
    stand = Stand(timeout=0.0)
    async with asyncio.TaskGroup() as group:
        await started(group, stand, [tool_call()])
        refused(await stand.serve(tool_call()))
        assert ["refused"] == stand.told.actions()
        stand.gate.answer(0, OK)


async def test_lists_make_room_for_calls() -> None:
    """The youngest of them is refused, and is told why."""
    stand = Stand(queue=2)
    async with asyncio.TaskGroup() as group:
        _, _, listing = await started(group, stand, [tool_call(), call_of("tools/list"), call_of("tools/list")])
        urgent = [tool_call(), tool_call()]
        await started(group, stand, urgent)
        assert refused(listing.result()).detail.endswith("this call let more urgent calls go first.")
        for number in range(4):
            stand.gate.answer(number, OK)
            await turns()
        assert urgent == stand.inside[1:3]


@pytest.mark.parametrize(
    "call",
    [
        call_with(verb=b"GET"),
        call_with(verb=b"DELETE"),
        call_of("subscriptions/listen"),
        call_of("tasks/result"),
        call_of("initialize"),
        call_of("ping"),
        call_with(body_of("notifications/cancelled", {"requestId": 1}, None)),
        call_with(b'{"jsonrpc":"2.0","id":1,"result":{}}'),
    ],
)
async def test_what_is_exempt_neither_waits_nor_takes_a_place(call: Call) -> None:
    """However full it is."""
    stand = Stand(queue=0)
    async with asyncio.TaskGroup() as group:
        await started(group, stand, [tool_call()])
        assert OK is await stand.layer(call, PlayedUpstream(OK))
        assert call.slot is None
        stand.gate.answer(0, OK)


async def test_a_batch_and_what_cannot_be_read_take_a_place() -> None:
    """They may be anything."""
    stand = Stand(queue=0)
    for call in (batch_of(body_of("tools/call", {"name": "add"})), call_with(b"\xff nonsense")):
        async with asyncio.TaskGroup() as group:
            await started(group, stand, [tool_call()])
            refused(await stand.serve(call))
            stand.gate.answer(-1, OK)


async def test_a_call_that_is_cancelled_gives_its_place_back_once() -> None:
    """Mid-call."""
    stand = Stand(queue=1)
    async with asyncio.TaskGroup() as group:
        first, _ = await started(group, stand, [tool_call(), tool_call()])
        first.cancel()
        await turns()
        assert 2 == len(stand.inside)
        refused_now = group.create_task(stand.serve(tool_call()))
        await turns()
        stand.gate.answer(1, OK)
        await turns()
        stand.gate.answer(2, OK)
    assert OK is refused_now.result()
    assert OK is await stand.layer(tool_call(), PlayedUpstream(OK))


async def test_a_call_that_is_cancelled_in_the_queue_leaves_it() -> None:
    """The one behind it is let in."""
    stand = Stand()
    async with asyncio.TaskGroup() as group:
        _, second, third = await started(group, stand, [tool_call(request_id=number) for number in range(3)])
        await asyncio.sleep(1.0)
        second.cancel()
        await turns()
        stand.gate.answer(0, OK)
        await turns()
        stand.gate.answer(1, OK)
    assert second.cancelled()
    assert OK is third.result()


async def test_a_place_given_to_one_who_is_cancelled_in_that_moment_is_not_lost() -> None:
    """It goes to the next in the queue."""
    stand = Stand()
    async with asyncio.TaskGroup() as group:
        _, second, third = await started(group, stand, [tool_call(request_id=number) for number in range(3)])
        stand.gate.answer(0, OK)
        await asyncio.sleep(0)
        # the place is the second's now, and it does not know yet
        second.cancel()
        await turns()
        assert 2 == len(stand.inside)
        stand.gate.answer(1, OK)
    assert second.cancelled()
    assert OK is third.result()


async def test_a_place_given_in_the_moment_of_the_timeout_is_taken() -> None:
    """Nobody is refused who has a place."""
    stand = Stand(timeout=5.0)
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        _, second = await started(group, stand, [tool_call(), tool_call()])
        loop.call_at(loop.time() + 5.0, stand.gate.answer, 0, OK)
        await asyncio.sleep(5.0)
        await turns()
        if len(stand.gate.waiting) > 1:
            stand.gate.answer(1, OK)
    # whichever came first: nothing is lost
    assert OK is second.result() or refused(second.result())
    assert OK is await stand.layer(tool_call(), PlayedUpstream(OK))


async def test_an_exception_gives_the_place_back_too() -> None:
    """It is a bug somewhere; it must not cost a place for ever."""
    stand = Stand(queue=0)

    async def broken(call: Call) -> Outcome:
        raise KeyError

    for _ in range(3):
        with pytest.raises(KeyError):
            await stand.layer(tool_call(), broken)


# what the upstream is like


async def bursts_of_a_serial_server(stand: Stand, outcome: Outcome = OK) -> None:
    """Four times five calls at once to a server that serves one at a time, for a second each."""
    one = asyncio.Lock()

    async def serial(call: Call) -> Outcome:
        attempt_of(call)
        async with one:
            await asyncio.sleep(1.0)
        return outcome

    for _ in range(4):
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(stand.through(tool_call(), serial))
        await asyncio.sleep(10.0)


async def test_a_server_that_serves_one_call_at_a_time_is_told_of() -> None:
    """Once, as a level."""
    stand = Stand(limit=8, watches_serial=True)
    await bursts_of_a_serial_server(stand)
    assert [1.0] == stand.levels("serial")


async def test_in_shadow_a_server_is_watched_as_well() -> None:
    """That changes nothing anyhow; what was not answered says nothing."""
    stand = Stand(limit=8, watches_serial=True, mode=Mode.SHADOW)
    told = []
    for outcome in (UNREACHED, OK):
        await bursts_of_a_serial_server(stand, outcome)
        told.append(stand.levels("serial"))
    assert [[], [1.0]] == told


async def test_a_server_is_watched_where_nothing_is_limited() -> None:
    """Calls neither wait nor are refused; a tool's own limit is no reason to overlook the others."""
    for tools in ({}, {"other": Places(1)}):
        stand = Stand(places=None, tools=tools, watches_serial=True, mode=Mode.OFF)
        await bursts_of_a_serial_server(stand)
        assert [1.0] == stand.levels("serial")


async def test_an_adaptive_limit_follows_the_server_and_tells_what_it_found() -> None:
    """The whole layer in an overload: 1,280 calls a second for 16 places of 50 ms."""
    stand = Stand(places=Places(64, 32, 5.0, adaptive=True))
    clock, places = clock_of_loop(), asyncio.Semaphore(16)
    latencies: list[float] = []
    outcomes = {True: 0, False: 0}

    async def upstream(call: Call) -> Outcome:
        attempt_of(call)
        async with places:
            await asyncio.sleep(0.045 + 0.01 * (call.message.id[-1] % 10) / 9)
        return OK

    async def one(number: int) -> None:
        began = clock()
        outcome = await stand.layer(tool_call(request_id=number), upstream)
        outcomes[outcome is OK] += 1
        if outcome is OK and began > settled:
            latencies.append(clock() - began)

    settled = clock() + 4.0
    async with asyncio.TaskGroup() as group:
        for number in range(1280 * 8):
            group.create_task(one(number))
            await asyncio.sleep(1 / 1280)
    levels = stand.levels("limit")
    assert pytest.approx(16, rel=0.2) == levels[-1]
    assert all(before != after for before, after in pairwise(levels))
    assert len(latencies) >= 0.9 * 320 * 4
    assert sorted(latencies)[int(0.99 * len(latencies))] <= 2.5 * 0.05
    assert 1280 * 8 == sum(outcomes.values())


# the pure part


def test_ranks_are_those_of_the_methods() -> None:
    """What cannot be read, and a batch, is somebody's who waits."""
    assert Rank.LIST is rank_of(call_of("tools/list"))
    assert Rank.INTERACTIVE is rank_of(tool_call())
    assert Rank.CONTROL is rank_of(call_of("ping"))
    assert Rank.INTERACTIVE is rank_of(batch_of(body_of("tools/list")))
    assert Rank.INTERACTIVE is rank_of(call_with(b"nonsense"))


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (OK, 3.0),
        (rpc_error(-32603), 3.0),
        (LATE, 3.0),
        (status(503), None),
        (UNREACHED, None),
        (LOST, None),
        (CLIENT_GONE, None),
        (None, None),
        (Refused(RefusalKind.CIRCUIT_OPEN, "no"), None),
    ],
)
def test_answers_and_waiting_in_vain_say_how_long_a_server_takes(
    outcome: Outcome | None, expected: float | None
) -> None:
    """The time the client was asked is not the server's; a refusal is no time at all."""
    call = tool_call(client_seconds=2.0)
    attempt_of(call)
    assert expected == answer_seconds(call, outcome, 5.0)


def test_a_call_of_several_attempts_says_nothing() -> None:
    """Its time is that of all of them."""
    call = tool_call()
    attempt_of(call)
    attempt_of(call, 2)
    assert answer_seconds(call, OK, 5.0) is None
