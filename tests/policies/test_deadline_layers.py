"""The two layers of a deadline, in virtual time: who is cancelled, what the caller is told, what the server learns."""

import asyncio

import pytest

from support.policed import (
    LOST,
    OK,
    PlayedUpstream,
    body_of,
    call_with,
    clock_of_loop,
    status,
    tool_call,
)
from support.timing import Stalled, Stand, after, failed
from support.virtual_loop import VIRTUAL
from weir.core.call import Attempt, Call
from weir.core.events import Decided
from weir.core.outcome import Blame, Outcome, Sent
from weir.policies.deadline import (
    LOOK_AGAIN_SECONDS,
)
from weir.protocol.envelope import peek

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


async def test_what_is_answered_in_time_is_left_alone() -> None:
    """No event, no failure, nothing that stays behind."""
    stand = Stand(after(59.0))
    assert OK is await stand(tool_call())
    assert [] == stand.told
    await asyncio.sleep(1000.0)


async def test_an_attempt_that_takes_too_long_is_cancelled_and_says_which_timer() -> None:
    """After how long, and who was waited for."""
    server = Stalled()
    stand = Stand(server)
    outcome = failed(await stand(tool_call()))
    assert pytest.approx(60.0, abs=0.01) == stand.seconds()
    assert 1 == server.cancelled
    assert ("attempt", 60.0, Blame.UPSTREAM, Sent.YES) == (
        outcome.timer,
        outcome.after_seconds,
        outcome.blame,
        outcome.sent,
    )
    assert "no answer within 60 s (timer 'attempt'); weir was waiting for the MCP server" == outcome.detail


async def test_what_had_not_been_sent_is_said_to_be_unsent() -> None:
    """So that even an unsafe call may be tried again."""
    stand = Stand(Stalled(is_sent=False))
    assert Sent.NO is failed(await stand(tool_call())).sent
    assert [] == stand.withdrawn


async def test_the_server_is_told_that_nobody_waits_any_more() -> None:
    """After its exchange has ended."""
    server = Stalled()
    stand = Stand(server)
    await stand(tool_call())
    assert server.attempts == stand.withdrawn


async def test_the_total_ends_an_attempt_as_that_attempts_outcome() -> None:
    """Whoever stands between the two layers learns what happened, and sees no cancellation."""
    server = PlayedUpstream(after(50.0, LOST), after(50.0, LOST), after(50.0))
    stand = Stand(server)
    seen: list[Outcome] = []

    async def thrice(call: Call) -> Outcome:
        seen.extend([await stand.once(call) for _ in range(3)])
        return seen[-1]

    outcome = failed(await stand.deadline.total(tool_call(), thrice))
    assert pytest.approx(120.0, abs=0.01) == stand.seconds()
    assert [LOST, LOST, outcome] == seen
    assert "total" == outcome.timer
    assert Blame.UPSTREAM is outcome.blame


async def test_an_attempt_for_which_nothing_is_left_is_not_made() -> None:
    """The upstream is not asked."""
    server = PlayedUpstream(OK)
    stand = Stand(server)

    async def late(call: Call) -> Outcome:
        try:
            await asyncio.sleep(500.0)
        except asyncio.CancelledError:
            return await stand.once(call)
        raise AssertionError

    outcome = failed(await stand.deadline.total(tool_call(), late))
    assert ("total", Sent.NO, []) == (outcome.timer, outcome.sent, server.attempts)


async def test_the_total_runs_while_the_call_waits_for_its_turn() -> None:
    """Nobody upstream is to blame for a queue, and nothing was sent."""
    stand = Stand(PlayedUpstream(OK))

    async def queue(call: Call) -> Outcome:
        await asyncio.sleep(500.0)
        return await stand.once(call)

    outcome = failed(await stand.deadline.total(tool_call(), queue))
    assert pytest.approx(120.0, abs=0.01) == stand.seconds()
    assert ("total", Blame.WEIR, Sent.NO) == (outcome.timer, outcome.blame, outcome.sent)
    assert outcome.detail.endswith("weir was waiting for its turn")


@pytest.mark.parametrize("last", [LOST, status(503)])
async def test_between_attempts_the_last_real_outcome_is_what_the_caller_gets(last: Outcome) -> None:
    """The total ran out while another try waited for its place."""
    stand = Stand(PlayedUpstream(last))

    async def again(call: Call) -> Outcome:
        await stand.once(call)
        await asyncio.sleep(500.0)
        raise AssertionError

    assert last is await stand.deadline.total(tool_call(), again)


async def test_progress_extends_an_attempt_up_to_the_total() -> None:
    """The timer that had been set finds the newest progress, and says once that it had to wait longer."""
    clock = clock_of_loop()

    async def working(attempt: Attempt) -> Outcome:
        while True:
            await asyncio.sleep(25.0)
            attempt.call.progressed(clock())

    stand, call = Stand(working), tool_call()
    outcome = failed(await stand(call))
    assert pytest.approx(120.0, abs=0.01) == stand.seconds()
    assert "total" == outcome.timer
    assert [Decided("deadline", "extended", call, detail="attempt")] == stand.told.of(Decided)


async def test_silence_after_progress_ends_the_attempt() -> None:
    """Counted from the progress; the text says so."""
    clock = clock_of_loop()

    async def stuck(attempt: Attempt) -> Outcome:
        await asyncio.sleep(25.0)
        attempt.call.progressed(clock())
        await asyncio.sleep(1000.0)
        raise AssertionError

    stand = Stand(stuck)
    outcome = failed(await stand(tool_call()))
    assert pytest.approx(85.0, abs=0.01) == stand.seconds()
    assert outcome.detail.startswith("no answer and no progress for 60 s (timer 'attempt')")


async def test_progress_on_the_get_stream_finds_its_call_by_session_and_token() -> None:
    """Some servers send it there. Another session's equal token is somebody else's."""
    body = body_of("tools/call", {"name": "add", "_meta": {"progressToken": 7}})
    news = peek(body_of("notifications/progress", {"progressToken": 7, "progress": 1}, None))
    stand = Stand(after(110.0))
    async with asyncio.TaskGroup() as group:
        mine = group.create_task(stand(call_with(body, session="s-1")))
        other = group.create_task(stand(call_with(body, session="s-2")))
        await asyncio.sleep(55.0)
        stand.deadline.progressed(call_with(session="s-1"), news)
        await asyncio.sleep(0.0)
    assert OK is mine.result()
    assert "attempt" == failed(other.result()).timer
    assert {} == stand.deadline._by_token
    stand.deadline.progressed(call_with(session="s-1"), news)


async def test_progress_without_a_token_is_nobodys() -> None:
    """Not even of a call that gave none."""
    stand = Stand(after(110.0))
    body = body_of("tools/call", {"name": "add", "_meta": {}})
    async with asyncio.TaskGroup() as group:
        task = group.create_task(stand(call_with(body, session="s-1")))
        await asyncio.sleep(55.0)
        news = peek(body_of("notifications/progress", {"progress": 1}, None))
        stand.deadline.progressed(call_with(session="s-1"), news)
    assert "attempt" == failed(task.result()).timer


async def test_of_two_calls_with_one_token_the_later_one_keeps_it() -> None:
    """The client's mistake; the end of the earlier takes nothing from the later."""
    body = body_of("tools/call", {"name": "add", "_meta": {"progressToken": 7}})
    news = peek(body_of("notifications/progress", {"progressToken": 7, "progress": 1}, None))
    stand = Stand(after(50.0))
    async with asyncio.TaskGroup() as group:
        group.create_task(stand(call_with(body, session="s-1")))
        await asyncio.sleep(10.0)
        later = call_with(body, session="s-1")
        group.create_task(stand(later))
        await asyncio.sleep(45.0)
        stand.deadline.progressed(call_with(session="s-1"), news)
    assert stand.began + 55.0 == later.progress_at


async def test_clocks_stand_while_the_client_is_asked_and_the_calls_deadline_moves_on() -> None:
    """400 s of thinking, within a total of 120 s."""
    clock = clock_of_loop()

    async def asking(attempt: Attempt) -> Outcome:
        await asyncio.sleep(30.0)
        attempt.call.ask_began(clock(), "elicitation/create")
        await asyncio.sleep(400.0)
        attempt.call.ask_ended(clock())
        await asyncio.sleep(29.0)
        return OK

    stand, call = Stand(asking), tool_call()
    assert OK is await stand(call)
    assert pytest.approx(stand.began + 120.0 + 400.0) == call.deadline_at


async def test_after_the_answer_the_clocks_go_on_where_they_stood() -> None:
    """To the hundredth of a second or so: the timer looked while the client was asked."""
    clock = clock_of_loop()

    async def asking(attempt: Attempt) -> Outcome:
        await asyncio.sleep(59.0)
        attempt.call.ask_began(clock(), "elicitation/create")
        await asyncio.sleep(300.0)
        attempt.call.ask_ended(clock())
        await asyncio.sleep(1000.0)
        raise AssertionError

    stand = Stand(asking)
    assert "attempt" == failed(await stand(tool_call())).timer
    assert pytest.approx(360.0, abs=2 * LOOK_AGAIN_SECONDS) == stand.seconds()


async def test_a_client_that_does_not_answer_is_to_blame_itself() -> None:
    """The text names what it was asked."""
    clock = clock_of_loop()

    async def asking(attempt: Attempt) -> Outcome:
        attempt.sent_at = 1.0
        await asyncio.sleep(30.0)
        attempt.call.ask_began(clock(), "sampling/createMessage")
        await asyncio.sleep(10_000.0)
        raise AssertionError

    stand = Stand(asking)
    outcome = failed(await stand(tool_call()))
    assert pytest.approx(630.0, abs=0.01) == stand.seconds()
    assert ("client_input", 600.0, Blame.DOWNSTREAM) == (outcome.timer, outcome.after_seconds, outcome.blame)
    assert outcome.detail.endswith("weir was waiting for the client's answer to sampling/createMessage")
    assert 1 == len(stand.withdrawn)
