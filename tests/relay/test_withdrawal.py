"""Telling a server that an answer is not wanted: only under an id that is one request's and nobody else's."""

import asyncio

import pytest

from support.policed import PlayedUpstream, attempt_of, status, tool_call
from support.virtual_loop import VIRTUAL, turns
from weir.core.call import Attempt
from weir.relay.withdrawal import Withdrawal

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


def sent(session: str, wire_id: bytes) -> Attempt:
    """An attempt that went out."""
    attempt = attempt_of(tool_call(session=session))
    attempt.sent_at, attempt.wire_id = 1.0, wire_id
    return attempt


@pytest.mark.parametrize(
    ("session", "wire_id", "told"),
    [("s", b"1", 1), ("s", b'"weir-1"', 1), ("", b'"weir-1"', 1), ("", b"1", 0)],
    ids=["session", "session and own id", "own id", "a client's id without a session"],
)
async def test_only_a_session_or_an_id_of_weirs_own_says_whose_request_it_is(
    session: str, wire_id: bytes, told: int
) -> None:
    """Another client's request may have the same id as one that has no session."""
    upstream = PlayedUpstream(status(202))
    withdrawal = Withdrawal(upstream, asyncio.get_running_loop().time)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(withdrawal.run())
        await turns()
        withdrawal(sent(session, wire_id))
        await turns()
        task.cancel()
    assert told == len(upstream.attempts)
