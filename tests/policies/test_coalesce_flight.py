"""Coalesce: one shared call, whoever comes and goes, whole or streamed; and what has changed meanwhile."""

import asyncio

import pytest

from support.coalescing import EVENTS, JSON, coalescing, heads, read, reply_of, result, spawn, written
from support.policed import RecordingSink, attempt_of, body_of, call_with, clock_of_loop, tool_call
from support.virtual_loop import VIRTUAL, turns
from weir.core.call import Call, Headers, Peer, Slot, Transport
from weir.core.events import Outlived, ServerNotified
from weir.core.held import HeldReply
from weir.core.outcome import NO_ANSWER, PLAIN, Outcome, RefusalKind, Refused, Replied, Verdict
from weir.policies.coalesce_flight import AHEAD_LIMIT_BYTES
from weir.protocol import sse
from weir.protocol.envelope import peek
from weir.protocol.tracecontext import TraceContext

pytestmark = pytest.mark.anyio

TRACE = TraceContext("1" * 32, "2" * 16)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


# streams


async def test_a_follower_of_a_stream_gets_the_answer_in_one_event() -> None:
    """The leader is relayed every byte."""
    progress = sse.encode(body_of("notifications/progress", {"progressToken": 1, "progress": 1}, None))
    answer = sse.encode(result(b"1"), id=b"e-2")
    async with coalescing() as bench:
        leader, follower = read(1), read("b")
        tasks = await bench.calls(leader, follower)
        await bench.upstream.streams(0, b": hi\n\n" + progress[:20], progress[20:] + answer)
        assert b": hi\n\n" + progress + answer == written(leader)
        assert sse.encode(result(b'"b"')) == written(follower)
        assert [Replied(200, EVENTS, None, PLAIN)] * 2 == [await task for task in tasks]
        assert [PLAIN, PLAIN] == [leader.answer, follower.answer]
        assert [([200], [EVENTS])] * 2 == [heads(call) for call in (leader, follower)]
        assert [(True, True)] * 2 == [(call.head_sent, call.committed) for call in (leader, follower)]


async def test_what_is_no_answer_is_not_taken_for_one() -> None:
    """Another kind of event, and one without data, in the same piece as the answer."""
    other = b"event: other\ndata: " + result(b"1", b'{"other":1}') + b"\n\n"
    async with coalescing() as bench:
        follower = read(2)
        await bench.calls(read(1), follower)
        await bench.upstream.streams(0, b"id: 1\ndata:\n\nid: 2\n\n" + other + sse.encode(result(b"1")))
        assert sse.encode(result(b"2")) == written(follower)


@pytest.mark.parametrize(("asked", "answered"), [("1", b"1"), (1, b'"1"'), ("X1", b'"X1"'), ("X", b'"X"')])
async def test_ids_are_compared_without_their_quotes(asked: int | str, answered: bytes) -> None:
    """And without anything else of them missing."""
    async with coalescing() as bench:
        follower = read(2)
        await bench.calls(read(asked), follower)
        await bench.upstream.streams(0, sse.encode(result(b"77")) + sse.encode(result(answered)), ends=False)
        assert sse.encode(result(b"2")) == written(follower)


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (b'{"jsonrpc":"2.0","id":"1","result":{"isError":true}}', Verdict(is_tool_error=True)),
        (b'{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"x"}}', Verdict(-32603, "x")),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"y"}}', Verdict(-1, "y")),
    ],
)
async def test_a_streamed_answer_is_read_as_the_edges_read_it(data: bytes, verdict: Verdict) -> None:
    """The id in another JSON type, or none on an error."""
    async with coalescing() as bench:
        follower = read(2)
        _, task = await bench.calls(read(1), follower)
        await bench.upstream.streams(0, sse.encode(result(b"77")), sse.encode(data))
        assert verdict == (await reply_of(task)).verdict
        assert 1 == written(follower).count(b"data:")


async def test_a_stream_that_ends_without_an_answer_cannot_be_shared() -> None:
    """The leader may resume it; a follower asks for itself."""
    async with coalescing() as bench:
        tasks = await bench.calls(read(1), read(2))
        await bench.upstream.streams(0, b"id: 1\ndata:\n\n")
        await bench.upstream.ends(1)
        assert result(b"2") == (await reply_of(tasks[1])).body
        assert ["joined", "alone"] == bench.told.actions()


async def test_a_reply_too_large_to_be_held_cannot_be_shared() -> None:
    """It streams, and is no event stream."""
    async with coalescing() as bench:
        tasks = await bench.calls(read(1), read(2))
        await bench.upstream.streams(0, result(b"1"), headers=JSON)
        await bench.upstream.ends(1)
        assert result(b"2") == (await reply_of(tasks[1])).body


async def test_a_stream_with_a_new_cookie_is_the_leaders_alone() -> None:
    """As with a whole reply."""
    async with coalescing() as bench:
        tasks = await bench.calls(read(1), read(2))
        await bench.upstream.streams(0, sse.encode(result(b"1")), headers=[*EVENTS, (b"set-cookie", b"a=b")])
        await bench.upstream.ends(1)
        assert result(b"2") == (await reply_of(tasks[1])).body


async def test_a_leader_that_reads_slowly_keeps_no_follower_waiting() -> None:
    """It is a caller like the others, and the stream goes on without it up to a bound."""

    class Slow(RecordingSink):
        async def write(self, chunk: bytes) -> None:
            await asyncio.sleep(3600)

    noise = b": " + b"x" * 1000 + b"\n\n"
    async with coalescing() as bench:
        leader, follower = read(1, sink=Slow()), read(2)
        tasks = await bench.calls(leader, follower)
        await bench.upstream.streams(0, noise, noise, sse.encode(result(b"1")))
        assert sse.encode(result(b"2")) == written(follower)
        tasks[0].cancel()


async def test_a_stream_waits_for_a_leader_that_is_far_behind() -> None:
    """What is held for it is bounded; when it goes, the stream goes on."""

    class Stuck(RecordingSink):
        async def open(self, status: int, headers: Headers) -> None:
            await asyncio.get_running_loop().create_future()

    noise = b": " + b"x" * (AHEAD_LIMIT_BYTES // 2) + b"\n\n"
    async with coalescing() as bench:
        follower = read(2)
        tasks = await bench.calls(read(1, sink=Stuck()), follower)
        await bench.upstream.streams(0, noise, noise, noise, sse.encode(result(b"1")))
        assert b"" == written(follower)
        tasks[0].cancel()
        await turns()
        assert sse.encode(result(b"2")) == written(follower)


async def test_a_stream_may_be_as_far_ahead_as_the_bound() -> None:
    """And then by one more piece."""

    class Stuck(RecordingSink):
        async def open(self, status: int, headers: Headers) -> None:
            await asyncio.get_running_loop().create_future()

    async with coalescing() as bench:
        follower = read(2)
        tasks = await bench.calls(read(1, sink=Stuck()), follower)
        await bench.upstream.streams(0, b": ".ljust(AHEAD_LIMIT_BYTES - 2) + b"\n\n", sse.encode(result(b"1")))
        assert sse.encode(result(b"2")) == written(follower)
        tasks[0].cancel()


async def test_what_a_later_try_adds_to_an_open_stream_is_shared() -> None:
    """Below, a retry writes its whole reply as an event when a head is out."""
    async with coalescing() as bench:
        leader, follower = read(1), read(2)
        tasks = await bench.calls(leader, follower)
        shared = bench.upstream.calls[0]
        held = HeldReply(shared, lambda held: None)
        await held.open(200, EVENTS)
        await held.release()
        await bench.upstream.ends(0, await held.settle(Replied(200, JSON, result(b"1"), PLAIN)))
        assert sse.encode(result(b"1")) == written(leader)
        assert sse.encode(result(b"2")) == written(follower)
        assert [True, True] == [isinstance(await task, Replied) for task in tasks]


# coming and going


async def test_a_leader_that_goes_does_not_take_the_others_with_it() -> None:
    """The call is theirs too."""
    async with coalescing() as bench:
        tasks = await bench.calls(read(1), read(2), read(3))
        tasks[0].cancel()
        await turns()
        tasks[2].cancel()
        await turns()
        assert [] == bench.upstream.cancelled
        await bench.upstream.ends(0)
        assert result(b"2") == (await reply_of(tasks[1])).body
        assert [True, False, True] == [task.cancelled() for task in tasks]


async def test_the_last_one_to_go_cancels_the_call() -> None:
    """Nothing upstream works for nobody, and nobody joins what is being cancelled."""
    async with coalescing() as bench:
        tasks = await bench.calls(read(1), read(2))
        tasks[0].cancel()
        tasks[1].cancel()
        later = await bench.call(read(3))
        assert [bench.upstream.calls[0]] == bench.upstream.cancelled == bench.finished
        await bench.upstream.ends(1)
        assert result(b"3") == (await reply_of(later)).body


async def test_the_last_one_has_gone_when_the_call_has_ended() -> None:
    """Until then its place is in use, and what is told of its attempts is not complete."""
    ended = asyncio.Event()

    async def slow_to_end(_: Call) -> Outcome:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await ended.wait()
        raise AssertionError

    async with coalescing() as bench:
        tasks = [spawn(bench.policy(read(number), slow_to_end)) for number in (1, 2)]
        await turns()
        for task in tasks:
            task.cancel()
        await turns()
        assert [True, False] == [task.done() for task in tasks]
        ended.set()
        await turns()
        assert [True, True] == [task.cancelled() for task in tasks]


async def test_a_caller_that_goes_at_once_leaves_nothing_behind() -> None:
    """Cancelled in the turn in which it came."""
    async with coalescing() as bench:
        task = spawn(bench.policy(read(1), bench.upstream))
        await asyncio.sleep(0)
        task.cancel()
        await turns()
        again = await bench.call(read(2))
        assert [bench.upstream.calls[0]] == bench.upstream.cancelled
        await bench.upstream.ends(1)
        assert (2, result(b"2")) == (len(bench.upstream.calls), (await reply_of(again)).body)


async def test_tries_after_the_leader_went_are_numbered_on() -> None:
    """Its own list of attempts is its telemetry's to clear."""
    async with coalescing() as bench:
        leader = read(1)
        tasks = await bench.calls(leader, read(2))
        tasks[0].cancel()
        await turns()
        leader.forget()
        shared = bench.upstream.calls[0]
        assert ([], 1) == (leader.attempts, len(shared.attempts))
        await bench.upstream.ends(0)


@pytest.mark.parametrize("ends_well", [True, False])
async def test_tries_after_the_leader_went_are_told_of_when_the_call_has_ended(ends_well: bool) -> None:
    """It has told of those before."""
    async with coalescing() as bench:
        tasks = await bench.calls(read(1), read(2))
        tasks[0].cancel()
        await turns()
        shared = bench.upstream.calls[0]
        retry = attempt_of(shared, 2)
        assert [] == bench.told.of(Outlived)
        if ends_well:
            await bench.upstream.ends(0)
        else:
            tasks[1].cancel()
            await turns()
        (told,) = bench.told.of(Outlived)
        assert (shared, [retry], ends_well) == (told.call, told.call.attempts, isinstance(told.outcome, Replied))


async def test_of_tries_that_a_caller_tells_of_nothing_else_is_told() -> None:
    """The leader stayed, or nothing was tried after it had gone."""
    async with coalescing() as bench:
        tasks = await bench.calls(read(1), read(2), read(3, uri="file:///b"), read(4, uri="file:///b"))
        attempt_of(bench.upstream.calls[0], 2)
        tasks[2].cancel()
        await turns()
        for number in (0, 1):
            await bench.upstream.ends(number)
        assert [] == bench.told.of(Outlived)


async def test_the_leaders_span_has_the_attempts_and_the_followers_links_to_it() -> None:
    """One call, one set of attempts."""
    async with coalescing() as bench:
        leader, follower = read(1, trace=TRACE), read(2)
        await bench.calls(leader, follower)
        await bench.upstream.ends(0)
        assert (TRACE, None, 1, 0) == (follower.link, leader.link, len(leader.attempts), len(follower.attempts))
        assert TRACE == bench.upstream.calls[0].trace


async def test_a_followers_wait_is_told_as_waiting() -> None:
    """Else it would look like weir's own work."""
    async with coalescing() as bench:
        follower = read(2, queued_seconds=0.5)
        await bench.calls(read(1), follower)
        await asyncio.sleep(3)
        await bench.upstream.ends(0)
        assert pytest.approx(3.5) == follower.queued_seconds


async def test_cancelling_one_request_by_message_does_not_cancel_the_others() -> None:
    """2025-11-25 and before cancel with a notification, which the server would obey."""
    async with coalescing() as bench:
        tasks = await bench.calls(read(1, session="s"), read(2, session="s"))
        cancel = call_with(body_of("notifications/cancelled", {"requestId": 1}, None), session="s")
        other = call_with(body_of("notifications/cancelled", {"requestId": 1}, None), session="t")
        assert Replied(202, [], b"", NO_ANSWER) == await (await bench.call(cancel))
        passed = await bench.call(other)
        await bench.upstream.ends(1, Replied(202, [], b"", NO_ANSWER))
        tasks[1].cancel()
        await turns()
        await bench.call(cancel)
        assert [other, cancel] == bench.upstream.calls[1:]
        await bench.upstream.ends(0)
        await bench.upstream.ends(2, Replied(202, [], b"", NO_ANSWER))
        assert 202 == (await reply_of(passed)).status


async def test_when_all_have_cancelled_by_message_the_server_hears_of_it() -> None:
    """Once, by the id that it knows, whoever of them was the last."""
    async with coalescing() as bench:
        await bench.calls(read(1, session="s"), read(2, session="s"))
        for number in (1, 2):
            await bench.call(call_with(body_of("notifications/cancelled", {"requestId": number}, None), session="s"))
        (told,) = bench.upstream.calls[1:]
        assert (b"1", body_of("notifications/cancelled", {"requestId": 1}, None)) == (
            told.message.request_id,
            told.body,
        )
        await bench.upstream.ends(0)
        await bench.upstream.ends(1, Replied(202, [], b"", NO_ANSWER))


async def test_who_stays_alone_cancels_by_the_id_that_the_server_knows() -> None:
    """That of the caller who left. One that names two ids is the server's to understand."""
    async with coalescing() as bench:
        tasks = await bench.calls(read(1, session="s"), read("b", session="s"))
        tasks[0].cancel()
        await turns()
        twice = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"requestId":"b"}}'
        plain = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId": "b"}}'
        for body in (twice, plain):
            await bench.call(call_with(body, session="s"))
        assert [twice, plain.replace(b'"b"', b"1")] == [call.body for call in bench.upstream.calls[1:]]
        await bench.upstream.ends(0)
        for number in (1, 2):
            await bench.upstream.ends(number, Replied(202, [], b"", NO_ANSWER))


async def test_without_a_session_nobody_knows_whose_request_is_cancelled() -> None:
    """Two clients may well have one id, and the word of one is not kept from the server for the other's sake."""
    async with coalescing() as bench:
        await bench.calls(read(1), read(2))
        cancel = call_with(body_of("notifications/cancelled", {"requestId": 1}, None))
        await bench.call(cancel)
        assert [cancel] == bench.upstream.calls[1:]
        on_a_pipe = call_with(body_of("notifications/cancelled", {"requestId": 1}, None), peer=Peer(Transport.STDIO))
        assert 202 == (await reply_of(await bench.call(on_a_pipe))).status
        assert [cancel] == bench.upstream.calls[1:]
        await bench.upstream.ends(0)
        await bench.upstream.ends(1, Replied(202, [], b"", NO_ANSWER))


async def test_who_cancels_a_request_that_nobody_shares_is_heard() -> None:
    """Of the same session, but another id."""
    async with coalescing() as bench:
        await bench.calls(read(1, session="s"), read(2, session="s"))
        cancel = call_with(body_of("notifications/cancelled", {"requestId": 3}, None), session="s")
        await bench.call(cancel)
        assert [cancel] == bench.upstream.calls[1:]
        await bench.upstream.ends(0)
        await bench.upstream.ends(1, Replied(202, [], b"", NO_ANSWER))


# clocks and places


async def test_clocks_stand_still_for_all_while_the_client_is_asked() -> None:
    """Whoever joins or leaves meanwhile."""
    async with coalescing() as bench:
        clock = clock_of_loop()
        leader, early, late = read(1, deadline_at=2000.0), read(2, deadline_at=2500.0), read(3)
        tasks = await bench.calls(leader, early)
        shared = bench.upstream.calls[0]
        assert 2500.0 == shared.deadline_at
        shared.ask_began(clock(), "sampling/createMessage")
        await asyncio.sleep(5)
        await bench.call(late)
        assert {"sampling/createMessage"} == {call.asked_method for call in (leader, early, late, shared)}
        tasks[0].cancel()
        await asyncio.sleep(5)
        shared.ask_ended(clock())
        assert [5.0, 10.0, 5.0, 10.0] == [call.client_seconds for call in (leader, early, late, shared)]
        assert [0, 0, 0, 0] == [call.pending_asks for call in (leader, early, late, shared)]
        await bench.upstream.ends(0)


class Place:
    """A place in a queue. `has_room`: whether it can be taken again."""

    def __init__(self, has_room: bool = True) -> None:
        self.held, self.has_room = 1, has_room

    def release(self) -> None:
        self.held -= 1

    async def acquire(self) -> bool:
        await asyncio.sleep(1)
        self.held += self.has_room
        return self.has_room

    def hand_over(self, heir: Slot) -> None:
        assert isinstance(heir, Place)
        heir.held, self.held = heir.held + self.held, 0


async def take(slot: Slot) -> bool:
    """Wait for a place."""
    return await slot.acquire()


async def test_a_follower_gives_its_place_back_while_it_waits() -> None:
    """One call upstream takes one place."""
    async with coalescing() as bench:
        mine, other = Place(), Place()
        await bench.calls(read(1, slot=mine), read(2, slot=other))
        assert (1, 0) == (mine.held, other.held)
        await bench.upstream.ends(0)


@pytest.mark.parametrize("has_room", [True, False])
async def test_who_goes_alone_after_all_takes_a_place_first(has_room: bool) -> None:
    """Or is told that there is none."""
    async with coalescing() as bench:
        place = Place(has_room)
        tasks = await bench.calls(read(1), read(2, slot=place))
        await bench.upstream.streams(0, b"data: 1\n\n")
        await asyncio.sleep(2)
        assert int(has_room) == place.held
        if has_room:
            await bench.upstream.ends(1)
        outcome = await tasks[1]
        busy = "MCP server 'demo' is busy, and the call that this one had joined gave no answer to share."
        refused = Refused(RefusalKind.OVERLOADED, busy, "upstream")
        assert (Replied(200, JSON, result(b"2"), PLAIN) if has_room else refused) == outcome


async def test_a_back_off_frees_the_leaders_place_while_the_leader_is_there() -> None:
    """And never takes one for somebody who has gone."""
    async with coalescing() as bench:
        place = Place()
        tasks = await bench.calls(read(1, slot=place), read(2))
        slot = bench.upstream.calls[0].slot
        assert slot is not None
        slot.release()
        assert 0 == place.held
        async with asyncio.TaskGroup() as group:
            acquiring = group.create_task(take(slot))
            await turns()
            tasks[0].cancel()
        assert acquiring.result()
        assert 0 == place.held
        assert await slot.acquire()
        slot.release()
        assert 0 == place.held
        await bench.upstream.ends(0)


async def test_a_back_off_takes_the_leaders_place_again() -> None:
    """And is told when there is none."""
    async with coalescing() as bench:
        place = Place()
        await bench.calls(read(1, slot=place), read(2))
        slot = bench.upstream.calls[0].slot
        assert slot is not None
        slot.release()
        assert (True, 1) == (await slot.acquire(), place.held)
        slot.release()
        place.has_room = False
        assert (False, 0) == (await slot.acquire(), place.held)
        await bench.upstream.ends(0)


async def test_a_back_off_goes_on_without_a_place_when_the_leader_has_gone() -> None:
    """None was taken, and so none is given back."""
    async with coalescing() as bench:
        place = Place(has_room=False)
        tasks = await bench.calls(read(1, slot=place), read(2))
        slot = bench.upstream.calls[0].slot
        assert slot is not None
        slot.release()
        async with asyncio.TaskGroup() as group:
            acquiring = group.create_task(take(slot))
            await turns()
            tasks[0].cancel()
        assert (True, 0) == (acquiring.result(), place.held)
        await bench.upstream.ends(0)


# what has changed meanwhile


async def test_nobody_joins_a_read_that_began_before_a_change_was_answered() -> None:
    """A caller that wrote and then reads sees what it wrote."""
    async with coalescing() as bench:
        await bench.calls(read(1), tool_call(request_id=2))
        await bench.upstream.ends(1)
        await bench.call(read(3))
        assert 3 == len(bench.upstream.calls)
        await bench.call(read(4))
        assert 3 == len(bench.upstream.calls)
        await bench.upstream.ends(0)
        await bench.upstream.ends(2)


async def test_after_a_change_reads_are_shared_again() -> None:
    """Also after one whose answer had been streamed."""
    async with coalescing() as bench:
        await bench.call(tool_call(request_id=2))
        await bench.upstream.streams(0, sse.encode(result(b"2")))
        await bench.calls(read(3), read(4))
        assert 2 == len(bench.upstream.calls)
        await bench.upstream.ends(1)


async def test_nobody_joins_a_list_that_began_before_the_list_changed() -> None:
    """The server says when; other announcements, and those of other upstreams, change nothing."""
    async with coalescing() as bench:

        async def reads_after(method: str, upstream: str = "demo") -> int:
            stream = call_with()
            stream.upstream = upstream
            bench.policy.notified(ServerNotified(stream, peek(body_of(method, None, None))))
            await bench.call(read(9))
            return len(bench.upstream.calls)

        await bench.call(read(1))
        assert 1 == await reads_after("notifications/message")
        assert 1 == await reads_after("notifications/tools/list_changed", "other")
        assert 2 == await reads_after("notifications/tools/list_changed")
        assert 3 == await reads_after("notifications/resources/updated")
        for number in range(3):
            await bench.upstream.ends(number)


async def test_a_call_that_ends_after_being_outdated_does_not_end_its_successor() -> None:
    """Both have the same key."""
    async with coalescing() as bench:
        first = await bench.call(read(1))
        bench.policy.notified(
            ServerNotified(call_with(), peek(body_of("notifications/tools/list_changed", None, None)))
        )
        second = await bench.call(read(2))
        await bench.upstream.ends(0)
        third = await bench.call(read(3))
        await bench.upstream.ends(1)
        bodies = [(await reply_of(task)).body for task in (first, second, third)]
        assert ([result(b"1"), result(b"2"), result(b"3")], 2) == (bodies, len(bench.upstream.calls))
