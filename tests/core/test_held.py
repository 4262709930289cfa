"""A held head: when it goes out, when it never does, and what may still follow it."""

import asyncio

import pytest

from support.policed import OK, RecordingSink, status, tool_call
from support.virtual_loop import VIRTUAL, turns
from weir.core.call import Call, Headers
from weir.core.held import HELD_BYTES_LIMIT, HeldReply
from weir.core.outcome import PLAIN, Failed, FailureKind, Replied, Sent

pytestmark = pytest.mark.anyio

EVENTS: Headers = [(b"content-type", b"text/event-stream")]
JSON: Headers = [(b"content-type", b"application/json")]
EVENT = b"event: message\r\ndata: {}\r\n\r\n"
COMMENT = b": ping\n\n"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL


def held_of(call: Call) -> tuple[HeldReply, RecordingSink]:
    assert isinstance(call.sink, RecordingSink)
    return HeldReply(call, lambda held: None), call.sink


async def test_a_head_waits_for_the_first_event() -> None:
    """Comments before it wait too, in their order."""
    call = tool_call()
    held, sink = held_of(call)
    await held.open(200, EVENTS)
    await held.write(COMMENT)
    assert ([], [], False) == (sink.heads, sink.written, call.head_sent)
    await held.write(EVENT)
    assert ([200], [COMMENT, EVENT], True) == (sink.heads, sink.written, call.head_sent)
    await held.write(COMMENT)
    assert COMMENT == sink.written[-1]


async def test_a_comment_with_an_event_behind_it_is_an_event() -> None:
    """They come in one piece sometimes."""
    held, sink = held_of(tool_call())
    await held.open(200, EVENTS)
    await held.write(COMMENT + EVENT)
    assert ([200], [COMMENT + EVENT]) == (sink.heads, sink.written)


async def test_too_many_comments_are_let_go() -> None:
    """With the head; the event is still to come, and the call can still be tried again."""
    call = tool_call()
    held, sink = held_of(call)
    await held.open(200, EVENTS)
    for _ in range(HELD_BYTES_LIMIT // len(COMMENT) + 1):
        await held.write(COMMENT)
    assert ([200], True, False) == (sink.heads, call.head_sent, call.committed)
    assert len(b"".join(sink.written)) > HELD_BYTES_LIMIT


async def test_what_need_not_be_held_goes_out_at_once() -> None:
    """Whoever holds it says so."""
    call = tool_call()
    await HeldReply(call, lambda held: False).open(200, EVENTS)
    assert isinstance(call.sink, RecordingSink)
    assert [200] == call.sink.heads


async def test_a_dropped_head_never_goes_out() -> None:
    """Nor does what would have released it run."""
    call = tool_call()
    held, sink = held_of(call)
    fired: list[int] = []
    held.waker = asyncio.get_running_loop().call_later(1.0, fired.append, 1)
    await held.open(200, EVENTS)
    held.drop()
    await asyncio.sleep(2.0)
    await held.release()
    assert ([], [], False) == (sink.heads, fired, call.head_sent)


async def test_a_released_event_stream_can_be_continued_and_another_body_cannot() -> None:
    """Nothing else fits behind the head of a JSON body."""
    for headers, committed in ((EVENTS, False), (JSON, True), ([], True)):
        call = tool_call()
        held, sink = held_of(call)
        await held.open(200, headers)
        await held.release()
        assert ([200], committed) == (sink.heads, call.committed)


async def test_a_later_attempt_goes_on_inside_the_stream() -> None:
    """Its own head is not needed; of two that were held, one goes out."""
    call = tool_call()
    (first, sink), (second, _) = held_of(call), held_of(call)
    await first.open(200, EVENTS)
    await second.open(201, EVENTS)
    await first.release()
    await second.write(EVENT)
    third, _ = held_of(call)
    await third.open(202, EVENTS)
    await third.write(EVENT)
    assert ([200], [EVENT, EVENT]) == (sink.heads, sink.written)


async def test_a_complete_reply_becomes_an_event_when_a_head_is_out() -> None:
    """Else it stays what it is."""
    call = tool_call()
    held, sink = held_of(call)
    assert OK is await held.settle(OK)
    await held.open(200, EVENTS)
    await held.release()
    assert Replied(200, [], None, PLAIN) == await held.settle(OK)
    assert [b"event: message\r\ndata: " + (OK.body or b"") + b"\r\n\r\n"] == sink.written
    assert call.committed


async def test_a_stream_without_events_gets_its_head() -> None:
    """At its end."""
    held, sink = held_of(tool_call())
    await held.open(200, EVENTS)
    streamed = Replied(200, EVENTS, None, PLAIN)
    assert streamed is await held.settle(streamed)
    assert [200] == sink.heads


async def test_a_large_body_after_an_event_streams_head_becomes_one_event() -> None:
    """Piece by piece; its line ends become the format's, and it is ended once."""
    call = tool_call()
    call.head_sent = True
    held, sink = held_of(call)
    await held.open(200, JSON)
    for piece in (b'{"a":\r', b"\n1,\n", b'"b":2}'):
        await held.write(piece)
    await held.settle(Replied(200, JSON, None, PLAIN))
    await held.end()
    event = b'event: message\r\ndata: {"a":\r\ndata: \r\ndata: 1,\r\ndata: "b":2}\r\n\r\n'
    assert ([], event) == (sink.heads, b"".join(sink.written))


class SlowSink(RecordingSink):
    """Takes its time with the head."""

    async def open(self, status: int, headers: Headers) -> None:
        """Wait, then note it."""
        await asyncio.sleep(5.0)
        self.written.append(b"head")


async def test_what_follows_a_head_never_overtakes_it() -> None:
    """Even if another task is just sending it."""
    for end in ("write", "settle"):
        call = tool_call(sink=(sink := SlowSink()))
        held = HeldReply(call, lambda held: None)
        await held.open(200, EVENTS)
        async with asyncio.TaskGroup() as group:
            held.releasing = group.create_task(held.release())
            await turns()
            await (held.write(EVENT) if end == "write" else held.settle(OK))
        assert b"head" == sink.written[0]
        assert 2 == len(sink.written)


async def test_what_is_no_answer_cannot_go_on_in_a_stream() -> None:
    """No event can hold an error page. Before a head is out it is a reply as any other."""
    page = status(503)
    held, sink = held_of(tool_call())
    assert page is await held.settle(page)
    call = tool_call()
    call.head_sent = True
    held, sink = held_of(call)
    assert Failed(FailureKind.PROTOCOL, "answered with HTTP 503", sent=Sent.ANSWERED) == await held.settle(page)
    assert [] == sink.written
