"""A client's messages in the order they were written."""

import asyncio

import pytest

from support.played import INITIALIZE, INITIALIZED, call_of
from weir.downstream.backlog import Backlog, BacklogLimits
from weir.relay.posting import posting_of

pytestmark = pytest.mark.anyio

RESPONSE = b'{"jsonrpc":"2.0","id":"p","result":{}}'


def unlimited() -> Backlog:
    """A backlog that is never full."""
    return Backlog(BacklogLimits(1000, 1 << 20), lambda: None)


async def take(backlog: Backlog) -> bytes | None:
    """The next message's bytes, None when there are no more; the test fails where it would have to wait."""
    async with asyncio.timeout(0.5):
        posting = await backlog.take()
    return posting.body if posting is not None else None


async def test_messages_come_in_the_order_they_were_written() -> None:
    """And the end comes last."""
    backlog = unlimited()
    lines = [call_of(b"1"), INITIALIZED, RESPONSE]
    for line in lines:
        await backlog.put(posting_of(line))
    backlog.end()
    assert [*lines, None] == [await take(backlog) for _ in range(4)]


async def test_only_responses_pass_a_closed_gate() -> None:
    """When it opens the others follow in their order."""
    backlog = unlimited()
    gate = posting_of(INITIALIZE)
    backlog.close_gate(gate)
    for line in (INITIALIZED, RESPONSE, call_of(b"1")):
        await backlog.put(posting_of(line))
    assert RESPONSE == await take(backlog)
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(take(backlog))
        await asyncio.sleep(0)
        assert not taking.done()
        gate.settle()
    assert INITIALIZED == taking.result()
    assert call_of(b"1") == await take(backlog)


async def test_a_gate_that_is_settled_already_is_open() -> None:
    """The answer may have come before anybody waited for it."""
    backlog = unlimited()
    gate = posting_of(INITIALIZE)
    gate.settle()
    backlog.close_gate(gate)
    await backlog.put(posting_of(INITIALIZED))
    assert INITIALIZED == await take(backlog)


async def test_the_end_does_not_drop_what_a_gate_holds_back() -> None:
    """stdin may end while the handshake is on its way."""
    backlog = unlimited()
    gate = posting_of(INITIALIZE)
    backlog.close_gate(gate)
    await backlog.put(posting_of(INITIALIZED))
    backlog.end()
    gate.settle()
    assert [INITIALIZED, None] == [await take(backlog) for _ in range(2)]


@pytest.mark.parametrize("limits", [BacklogLimits(1, 1 << 20), BacklogLimits(1000, 10)])
async def test_when_it_is_full_the_next_message_waits_until_one_is_done(limits: BacklogLimits) -> None:
    """By number or by bytes; the first message always has room."""
    full: list[bool] = []
    backlog = Backlog(limits, lambda: full.append(True))
    first = posting_of(call_of(b"1"))
    await backlog.put(first)
    async with asyncio.TaskGroup() as group:
        putting = group.create_task(backlog.put(posting_of(call_of(b"2"))))
        await asyncio.sleep(0)
        assert call_of(b"1") == await take(backlog)
        await asyncio.sleep(0)
        assert not putting.done()
        backlog.free(first)
    assert call_of(b"2") == await take(backlog)
    assert [True] == full
