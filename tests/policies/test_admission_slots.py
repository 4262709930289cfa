"""What a place is to others: a slot that a pause frees, a spare one for a hedge, a tool's own, none in shadow."""

import asyncio

import pytest

from support.admitting import Stand, refused, started
from support.policed import (
    LOST,
    OK,
    PlayedUpstream,
    body_of,
    call_with,
    clock_of_loop,
    tool_call,
    two_names,
)
from support.virtual_loop import VIRTUAL, turns
from weir.core.call import Call
from weir.core.events import Decided
from weir.core.outcome import PLAIN, Mode, Outcome
from weir.policies.admission import DELIVERY_SECONDS
from weir.policies.admission_queue import Places

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


async def test_a_pause_frees_the_place_and_takes_one_again_before_all_others() -> None:
    """A retry's back-off."""
    stand = Stand(limit=1, queue=5)
    order: list[str] = []

    async def pausing(call: Call) -> Outcome:
        slot = call.slot
        assert slot is not None
        slot.release()
        slot.release()
        await asyncio.sleep(1.0)
        assert await slot.acquire()
        assert await slot.acquire()
        order.append("back")
        return OK

    async def passing(call: Call) -> Outcome:
        order.append(f"call {call.message.id.decode()}")
        await asyncio.sleep(2.0)
        return OK

    async with asyncio.TaskGroup() as group:
        group.create_task(stand.through(tool_call(), pausing))
        await turns()
        for number in range(3):
            group.create_task(stand.through(tool_call(request_id=number), passing))
    assert ["call 0", "back", "call 1", "call 2"] == order


async def test_who_cannot_come_back_in_time_is_told_so_and_holds_nothing() -> None:
    """The retry then stands by what it has."""
    stand = Stand(limit=1, timeout=5.0)
    back: list[bool] = []

    async def pausing(call: Call) -> Outcome:
        slot = call.slot
        assert slot is not None
        slot.release()
        await asyncio.sleep(1.0)
        back.append(await slot.acquire())
        return LOST

    async with asyncio.TaskGroup() as group:
        task = group.create_task(stand.through(tool_call(), pausing))
        await turns()
        await started(group, stand, [tool_call()])
        await asyncio.sleep(10.0)
        assert ([False], LOST) == (back, task.result())
        refused_next = group.create_task(stand.serve(tool_call()))
        await turns()
        assert not refused_next.done()
        stand.gate.answer(0, OK)
        await turns()
        stand.gate.answer(1, OK)


async def test_a_call_that_is_cancelled_in_its_pause_gives_nothing_back_that_it_does_not_hold() -> None:
    """The place is somebody else's by then."""
    stand = Stand(limit=1, queue=0)

    async def pausing(call: Call) -> Outcome:
        assert call.slot is not None
        call.slot.release()
        await asyncio.sleep(100.0)
        raise AssertionError

    async with asyncio.TaskGroup() as group:
        task = group.create_task(stand.through(tool_call(), pausing))
        await turns()
        await started(group, stand, [tool_call()])
        task.cancel()
        await turns()
        refused(await stand.serve(tool_call()))
        stand.gate.answer(0, OK)


async def test_a_place_is_free_once_its_client_has_held_up_the_reply_for_a_second() -> None:
    """All waits together. The call goes on without it, and gives nothing back a second time."""
    stand, clock = Stand(limit=1, queue=5, timeout=60.0), clock_of_loop()
    waited: list[float] = []

    async def streaming(call: Call) -> Outcome:
        for _ in range(4):
            call.unread_began(clock())
            await asyncio.sleep(0.4)
            call.unread_ended(clock())
            await asyncio.sleep(1.0)
        return OK

    async def passing(call: Call) -> Outcome:
        waited.append(clock())
        return OK

    began = clock()
    async with asyncio.TaskGroup() as group:
        group.create_task(stand.through(tool_call(), streaming))
        await turns()
        group.create_task(stand.through(tool_call(), passing))
    assert [pytest.approx(began + 3.0)] == waited
    assert 0 == stand.layer.bulkheads()[0][0].in_use


async def test_a_place_is_free_at_once_when_the_answer_waits_for_its_client() -> None:
    """Only the delivery is left. A cancelled delivery gives back nothing more."""
    stand, clock = Stand(limit=1, queue=0), clock_of_loop()

    async def streaming(call: Call) -> Outcome:
        call.answered(call.message.id, PLAIN)
        call.unread_began(clock())
        await asyncio.sleep(100.0)
        raise AssertionError

    async with asyncio.TaskGroup() as group:
        task = group.create_task(stand.through(tool_call(), streaming))
        await turns()
        await started(group, stand, [tool_call()])
        task.cancel()
        await turns()
        refused(await stand.serve(tool_call()))
        stand.gate.answer(0, OK)
    assert 0 == stand.layer.bulkheads()[0][0].in_use


async def test_a_client_that_pauses_shortly_keeps_its_place() -> None:
    """A large reply over a network pauses now and then; the timer of a pause does not outlive it."""
    stand, clock = Stand(limit=1, queue=0), clock_of_loop()

    async def streaming(call: Call) -> Outcome:
        for _ in range(4):
            call.unread_began(clock())
            await asyncio.sleep(DELIVERY_SECONDS / 8)
            call.unread_ended(clock())
        await asyncio.sleep(100.0)
        return OK

    async with asyncio.TaskGroup() as group:
        group.create_task(stand.through(tool_call(), streaming))
        await asyncio.sleep(50.0)
        refused(await stand.serve(tool_call()))


async def test_a_spare_place_is_lent_only_when_it_is_free() -> None:
    """A hedge waits for nobody."""
    stand = Stand(limit=2)
    call = tool_call()
    async with asyncio.TaskGroup() as group:
        await started(group, stand, [call])
        spare = stand.layer.spare_place(call)
        assert spare is not None
        assert stand.layer.spare_place(call) is None
        spare.release()
        spare.release()
        assert stand.layer.spare_place(call) is not None
        stand.gate.answer(0, OK)


# tools


SLOW_TOOL = {"slow": Places(limit=1, queue=1, queue_timeout_seconds=2.0)}


async def test_a_spare_place_is_one_of_the_tools_own_too() -> None:
    """Of a tool that has places of its own, as many as those."""
    stand = Stand(limit=4, tools={"slow": Places(1, 0, 5.0)})
    async with asyncio.TaskGroup() as group:
        await started(group, stand, [tool_call("slow")])
        assert stand.layer.spare_place(tool_call("slow", 2)) is None
        assert stand.layer.spare_place(tool_call("quick", 3)) is not None
        stand.gate.answer(0, OK)


@pytest.mark.parametrize("names", [("slow", "quick"), ("quick", "slow"), ("quick", "quick")], ids="-".join)
async def test_a_call_that_may_be_of_any_tool_takes_a_place_of_each(names: tuple[str, str]) -> None:
    """Readers differ in which of two names counts."""
    stand = Stand(limit=4, queue=0, tools={"slow": Places(1, 0, 5.0), "other": Places(1, 0, 5.0)})
    async with asyncio.TaskGroup() as group:
        await started(group, stand, [two_names(*names)])
        for name in ("slow", "other"):
            assert "tool" == refused(await stand.serve(tool_call(name))).scope
        stand.gate.answer(0, OK)
    assert [0, 0, 0] == [bulkhead.in_use for bulkhead, _ in stand.layer.bulkheads()]


async def test_a_tool_with_places_of_its_own_keeps_others_from_nothing() -> None:
    """Its calls wait for each other, and hold no place of the upstream's meanwhile."""
    stand = Stand(limit=2, queue=0, tools=SLOW_TOOL)
    async with asyncio.TaskGroup() as group:
        first, second = await started(group, stand, [tool_call("slow"), tool_call("slow")])
        other = await started(group, stand, [tool_call("quick")])
        assert [True, True] == [not first.done(), not second.done()]
        outcome = refused(await stand.serve(tool_call("slow")))
        assert ("tool", "Tool 'slow' of MCP server 'demo' is busy: 1 calls run, 1 wait.") == (
            outcome.scope,
            outcome.detail,
        )
        stand.gate.answer(1, OK)
        await turns()
        assert OK is other[0].result()
        stand.gate.answer(0, OK)
        await turns()
        stand.gate.answer(2, OK)
    assert [1.0, 0.0] == stand.levels("tool:slow:queue")
    assert [1.0] == stand.levels("tool:slow:limit")


async def test_a_tools_place_is_given_back_when_the_upstream_has_none() -> None:
    """Refused, timed out or cancelled: whichever way it ends."""
    stand = Stand(limit=1, queue=1, timeout=5.0, tools=SLOW_TOOL)
    async with asyncio.TaskGroup() as group:
        await started(group, stand, [tool_call("quick")])
        (waiting,) = await started(group, stand, [tool_call("slow")])
        waiting.cancel()
        await turns()
        assert "upstream" == refused(await stand.serve(tool_call("slow"))).scope
        (again,) = await started(group, stand, [tool_call("slow")])
        stand.gate.answer(0, OK)
        await turns()
        stand.gate.answer(1, OK)
    assert OK is again.result()


async def test_a_prompt_of_that_name_is_no_tool() -> None:
    """It needs no place of the tool's."""
    stand = Stand(limit=3, tools=SLOW_TOOL)
    async with asyncio.TaskGroup() as group:
        await started(group, stand, [call_with(body_of("prompts/get", {"name": "slow"})) for _ in range(2)])
        assert 2 == len(stand.inside)
        stand.gate.answer(0, OK)
        stand.gate.answer(1, OK)


async def test_a_tool_may_have_places_where_its_upstream_has_none() -> None:
    """Its calls wait; all others pass, holding nothing."""
    stand = Stand(places=None, tools={"slow": Places(1, 0, 5.0)})
    other = tool_call("quick", 3)
    async with asyncio.TaskGroup() as group:
        tasks = await started(group, stand, [tool_call("slow", 1), tool_call("slow", 2), other])
        assert "tool" == refused(await tasks[1]).scope
        assert (2, None) == (len(stand.inside), other.slot)
        assert [1.0] == stand.levels("tool:slow:limit")
        for index in range(2):
            stand.gate.answer(index, OK)


@pytest.mark.parametrize(
    ("mode", "of_tool", "expected"),
    [
        (Mode.SHADOW, Mode.ENFORCE, [("would_queue", "upstream", True), ("refused", "tool", False)]),
        (Mode.ENFORCE, Mode.SHADOW, [("would_refuse", "tool", True), ("refused", "upstream", False)]),
        (Mode.SHADOW, Mode.SHADOW, [("would_refuse", "tool", True), ("would_queue", "upstream", True)]),
        (Mode.OFF, Mode.ENFORCE, [("refused", "tool", False)]),
        (Mode.ENFORCE, Mode.OFF, [("refused", "upstream", False)]),
    ],
)
async def test_a_tools_places_have_a_mode_of_their_own(
    mode: Mode, of_tool: Mode, expected: list[tuple[str, str, bool]]
) -> None:
    """What enforces refuses; what watches tells, of calls that are refused too; what is off is not there."""
    queue = 0 if mode is Mode.ENFORCE else 1
    stand = Stand(limit=1, queue=queue, mode=mode, tools={"slow": Places(1, 0, 5.0)}, tool_modes={"slow": of_tool})
    is_refused = any(action == "refused" for action, _, _ in expected)
    async with asyncio.TaskGroup() as group:
        await started(group, stand, [tool_call("slow", number) for number in range(2)])
        assert 2 - is_refused == len(stand.inside)
        assert expected == [(each.action, each.detail, each.is_shadow) for each in stand.told.of(Decided)]
        for index in range(2 - is_refused):
            stand.gate.answer(index, OK)
    assert [0] * len(stand.layer.bulkheads()) == [bulkhead.in_use for bulkhead, _ in stand.layer.bulkheads()]


# shadow


async def test_shadow_lets_everybody_in_and_tells_whom_it_would_not_have() -> None:
    """It holds nothing: no slot, no wait."""
    stand = Stand(limit=1, queue=1, mode=Mode.SHADOW)
    calls = [tool_call(request_id=number) for number in range(3)]
    async with asyncio.TaskGroup() as group:
        await started(group, stand, calls)
        assert calls == stand.inside
        assert [None] * 3 == [call.slot for call in calls]
        assert stand.layer.spare_place(calls[0]) is not None
        for number in range(3):
            stand.gate.answer(number, OK)
    assert [
        Decided("admission", "would_queue", calls[1], True, detail="upstream"),
        Decided("admission", "would_refuse", calls[2], True, detail="upstream"),
    ] == stand.told.of(Decided)
    assert OK is await stand.layer(tool_call(), PlayedUpstream(OK))
    assert 2 == len(stand.told.of(Decided))


async def test_off_does_nothing() -> None:
    """It is not in the stack; if it is all the same, it passes everything."""
    stand = Stand(limit=1, queue=0, mode=Mode.OFF)
    async with asyncio.TaskGroup() as group:
        await started(group, stand, [tool_call(), tool_call()])
        assert 2 == len(stand.inside)
        stand.gate.answer(0, OK)
        stand.gate.answer(1, OK)
