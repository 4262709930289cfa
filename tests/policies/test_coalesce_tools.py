"""Calls of tools that the operator calls reads: they are shared as reads are."""

import pytest

from support.coalescing import JSON, coalescing, read, reply_of, result
from support.policed import body_of, call_with, tool_call
from support.virtual_loop import VIRTUAL
from weir.core.call import Call
from weir.core.outcome import PLAIN, Mode, Replied
from weir.policies.coalesce import CoalesceSettings

pytestmark = pytest.mark.anyio

READS = {"find": CoalesceSettings(Mode.ENFORCE)}
WATCHED = {"find": CoalesceSettings(Mode.SHADOW)}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


@pytest.mark.parametrize("general", [Mode.ENFORCE, Mode.SHADOW, Mode.OFF])
async def test_a_tool_that_only_reads_is_shared_whatever_holds_for_other_reads(general: Mode) -> None:
    """Each caller gets its own id; other tools are left alone."""
    async with coalescing(CoalesceSettings(general, tools=READS)) as bench:
        tasks = await bench.calls(tool_call("find", 1), tool_call("find", 2), tool_call("add", 3), tool_call("add", 4))
        assert ["find", "add", "add"] == [call.message.name for call in bench.upstream.calls]
        for number in range(3):
            await bench.upstream.ends(number)
        assert [result(b"%d" % number) for number in (1, 2, 3, 4)] == [(await reply_of(task)).body for task in tasks]
        assert ["joined"] == bench.told.actions()


async def test_only_the_tool_may_be_shared() -> None:
    """Where the policy is off for everything else."""
    async with coalescing(CoalesceSettings(Mode.OFF, tools=READS)) as bench:
        await bench.calls(read(1), read(2))
        assert 2 == len(bench.upstream.calls)


async def test_other_arguments_are_another_question() -> None:
    """And so is another tool's."""
    ask = [body_of("tools/call", {"name": "find", "arguments": {"q": q}}, q) for q in (1, 2)]
    async with coalescing(CoalesceSettings(tools=READS)) as bench:
        await bench.calls(*(call_with(body) for body in ask))
        assert 2 == len(bench.upstream.calls)


async def test_a_prompt_of_that_name_is_no_tool() -> None:
    """It is shared as prompts are, by the general word."""
    async with coalescing(CoalesceSettings(Mode.OFF, tools=READS)) as bench:
        await bench.calls(*(call_with(body_of("prompts/get", {"name": "find"}, number)) for number in (1, 2)))
        assert 2 == len(bench.upstream.calls)


async def test_a_call_that_becomes_a_task_is_its_senders_own() -> None:
    """Two callers of one task would cancel each other."""
    tasked = [
        call_with(body_of("tools/call", {"name": "find", "arguments": {}, "task": {"ttl": 1}}, number))
        for number in (1, 2)
    ]
    async with coalescing(CoalesceSettings(tools=READS)) as bench:
        await bench.calls(*tasked)
        assert 2 == len(bench.upstream.calls)


@pytest.mark.parametrize("kind", [b"input_required", b"task"])
async def test_an_answer_that_begins_a_dialogue_is_the_leaders_alone(kind: bytes) -> None:
    """A follower asks for itself."""
    async with coalescing(CoalesceSettings(tools=READS)) as bench:
        leader, follower = await bench.calls(tool_call("find", 1), tool_call("find", 2))
        begun = result(b"1", b'{"resultType":"%b","requestState":"s"}' % kind)
        await bench.upstream.ends(0, Replied(200, JSON, begun, PLAIN))
        assert begun == (await reply_of(leader)).body
        assert 2 == len(bench.upstream.calls)
        whole = result(b"2", b'{"resultType":"complete"}')
        await bench.upstream.ends(1, Replied(200, JSON, whole, PLAIN))
        assert whole == (await reply_of(follower)).body
        assert ["joined", "alone"] == bench.told.actions()


async def _is_outdated(settings: CoalesceSettings, between: Call) -> bool:
    """Whether a read joins one that began before the other call ended."""
    async with coalescing(settings) as bench:
        await bench.calls(read(1), between)
        await bench.upstream.ends(1)
        await bench.call(read(2))
        return len(bench.upstream.calls) == 3


async def test_what_only_reads_outdates_nothing() -> None:
    """Unless it is in shadow: then all else is as if nothing were said of the tool."""
    assert not await _is_outdated(CoalesceSettings(Mode.ENFORCE, tools=READS), tool_call("find", 9))
    assert await _is_outdated(CoalesceSettings(Mode.ENFORCE, tools=WATCHED), tool_call("find", 9))
    assert await _is_outdated(CoalesceSettings(Mode.ENFORCE, tools=READS), tool_call("add", 9))


async def test_in_shadow_it_is_told_that_calls_would_join() -> None:
    """One after the other's end would not."""
    async with coalescing(CoalesceSettings(tools=WATCHED)) as bench:
        await bench.calls(tool_call("find", 1), tool_call("find", 2), tool_call("find", 3))
        assert 3 == len(bench.upstream.calls)
        await bench.upstream.ends(1)
        await bench.call(tool_call("find", 4))
        await bench.upstream.ends(0)
        await bench.call(tool_call("find", 5))
        assert ["would_join"] * 3 == bench.told.actions()
        assert all(event.is_shadow for event in bench.told)
