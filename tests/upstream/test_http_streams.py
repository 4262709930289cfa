"""The HTTP edge and replies that come as streams."""

import asyncio
import gzip
from typing import Any

import pytest

from support.edges import (
    PROGRESS,
    QUESTION,
    RESULT,
    SSE_HEAD,
    SSE_HEADERS,
    Asking,
    Downstream,
    answering,
    edge_to,
    streaming,
)
from support.scripted import ENOUGH_SECONDS, Visit, scripted
from weir.core.outcome import NO_ANSWER, PLAIN, Failed, FailureKind, Replied, Sent
from weir.protocol.sse import encode

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Both loops: weir runs on uvloop where there is one."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


async def test_a_stream_is_relayed_event_by_event() -> None:
    """Head first, each event when it comes, the verdict at the end."""
    go_on = asyncio.Event()
    chunks = [b": hi\r\n\r\n", b"id: 0\r\ndata:\r\n\r\n", encode(PROGRESS), encode(RESULT), b": bye\r\n\r\n"]

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD)
        for chunk in (*chunks, b""):
            await go_on.wait()
            go_on.clear()
            await visit.chunk(chunk)

    async with scripted(script) as server, edge_to(server) as edge, asyncio.TaskGroup() as group:
        attempt = edge.prepare()
        task = group.create_task(edge.run(attempt))
        await edge.sink.something()
        assert [(200, SSE_HEADERS)] == edge.sink.heads
        for place, chunk in enumerate(chunks):
            go_on.set()
            await edge.sink.something()
            assert chunk == edge.sink.chunks[-1]
            assert (place > 0) is attempt.call.committed
        go_on.set()
        assert Replied(200, SSE_HEADERS, None, PLAIN) == await task


async def test_an_event_in_pieces_is_relayed_whole() -> None:
    """Once, when its blank line has come."""
    event = encode(RESULT)
    pieces = [event[:10], event[10:30], event[30:-1], event[-1:]]
    async with scripted(streaming(*pieces)) as server, edge_to(server) as edge:
        assert Replied(200, SSE_HEADERS, None, PLAIN) == await edge.run()
        assert event == edge.sink.body


async def test_what_is_left_of_an_unfinished_event_is_relayed_too() -> None:
    """The bytes are the client's to judge."""
    async with scripted(streaming(encode(RESULT) + b"data: half")) as server, edge_to(server) as edge:
        assert Replied(200, SSE_HEADERS, None, PLAIN) == await edge.run()
        assert encode(RESULT) + b"data: half" == edge.sink.body


async def test_questions_pass_marked_and_notifications_are_told() -> None:
    """The rest of the stream is as it came."""
    asking = Asking()
    script = streaming(encode(PROGRESS) + encode(QUESTION), encode(RESULT))
    async with scripted(script) as server, edge_to(server) as edge:
        attempt = edge.prepare()
        attempt.call.asker = asking
        assert isinstance(await edge.run(attempt), Replied)
        assert encode(PROGRESS) + encode(QUESTION.replace(b"{}", b'{"marked":true}')) + encode(RESULT) == edge.sink.body
        assert ["notifications/progress"] == asking.told_of


async def test_a_server_that_waits_for_the_client_may_be_silent() -> None:
    """The client thinks about a question for longer than the idle limit; afterwards the limit holds again."""
    is_answered = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD)
        await visit.chunk(encode(QUESTION))
        await is_answered.wait()
        await visit.chunk(encode(PROGRESS))
        await visit.gone()

    async with scripted(script) as server, edge_to(server, idle_seconds=0.15) as edge, asyncio.TaskGroup() as group:
        attempt = edge.prepare()
        attempt.call.asker = Asking()
        task = group.create_task(edge.run(attempt))
        await asyncio.sleep(0.5)
        assert not task.done()
        attempt.call.ask_ended(0.0)
        is_answered.set()
        outcome = await task
        assert isinstance(outcome, Failed)
        assert (FailureKind.TIMEOUT, "idle") == (outcome.kind, outcome.timer)


async def test_a_stream_that_is_cut_before_its_answer_failed() -> None:
    """Whether it ended well or not; what came has been relayed."""

    async def cut(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD)
        await visit.chunk(encode(PROGRESS))

    for script in (cut, streaming(encode(PROGRESS))):
        async with scripted(script) as server, edge_to(server) as edge:
            outcome = await edge.run()
            assert Failed(FailureKind.RESET, "the stream ended before the answer", sent=Sent.YES) == outcome
            assert encode(PROGRESS) == edge.sink.body


async def test_what_is_left_of_an_event_is_kept_back_when_the_answer_never_came() -> None:
    """It would swallow the error that the client gets in its place, and no client reads it. Nothing is committed."""
    async with scripted(streaming(b": hello\n\ndata: half")) as server, edge_to(server) as edge:
        assert isinstance(await edge.run(), Failed)
        assert b": hello\n\n" == edge.sink.body
        assert not edge.attempt.call.committed


async def test_a_polled_stream_is_no_failure() -> None:
    """It ended after an event id."""
    async with scripted(streaming(b"id: 1\ndata:\n\n")) as server, edge_to(server) as edge:
        assert Replied(200, SSE_HEADERS, None, NO_ANSWER) == await edge.run()


async def test_a_get_stream_says_how_it_ended() -> None:
    """Well, or broken off."""

    async def cut(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD)
        await visit.chunk(encode(PROGRESS))

    async with scripted(streaming(encode(PROGRESS))) as server, edge_to(server) as edge:
        assert Replied(200, SSE_HEADERS, None, NO_ANSWER) == await edge.run(edge.prepare(b"", verb=b"GET"))
    async with scripted(cut) as server, edge_to(server) as edge:
        outcome = await edge.run(edge.prepare(b"", verb=b"GET"))
        assert isinstance(outcome, Failed)
        assert (FailureKind.RESET, Sent.ANSWERED) == (outcome.kind, outcome.sent)


async def test_a_get_stream_without_events_has_its_head_relayed() -> None:
    """At once; the client waits for it."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD)
        await visit.gone()

    async with scripted(script) as server, edge_to(server) as edge, asyncio.TaskGroup() as group:
        task = group.create_task(edge.upstream(edge.prepare(b"", verb=b"GET")))
        await edge.sink.something()
        assert [(200, SSE_HEADERS)] == edge.sink.heads
        task.cancel()
        await server.finished()


async def test_a_body_beyond_the_buffer_is_relayed_as_it_comes() -> None:
    """Committed, counted, and not judged."""
    body = RESULT + b" " * 100_000
    async with scripted(answering(body)) as server, edge_to(server, reply_buffer_bytes=10_000) as edge:
        outcome = await edge.run()
        assert isinstance(outcome, Replied)
        assert (None, PLAIN) == (outcome.body, outcome.verdict)
        assert body == edge.sink.body
        assert edge.attempt.call.committed
        assert ["reply_buffer"] == edge.limits


async def test_an_event_beyond_its_limit_is_relayed_and_counted() -> None:
    """Five megabytes in one event."""
    event = encode(b'{"jsonrpc":"2.0","id":7,"result":{"x":"%b"}}' % (b"x" * 5_000_000))
    pieces = [event[at : at + 500_000] for at in range(0, len(event), 500_000)]
    async with scripted(streaming(*pieces)) as server, edge_to(server) as edge:
        assert Replied(200, SSE_HEADERS, None, PLAIN) == await edge.run()
        assert event == edge.sink.body
        assert ["sse_event"] == edge.limits


async def test_a_coded_stream_is_relayed_unread() -> None:
    """Nobody can look into it piece by piece here; it is counted."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD.replace(b"Mcp-Session-Id: s", b"Content-Encoding: gzip"))
        await visit.chunk(gzip.compress(encode(RESULT)))
        await visit.chunk(b"")

    async with scripted(script) as server, edge_to(server) as edge:
        outcome = await edge.run()
        assert isinstance(outcome, Replied)
        assert PLAIN == outcome.verdict
        assert encode(RESULT) == gzip.decompress(edge.sink.body)
        assert ["encoded_reply"] == edge.limits


async def test_a_slow_client_slows_the_server_down() -> None:
    """Events wait in the server's socket, not in weir."""
    event = encode(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"%b"}}' % (b"x" * 60_000))
    sent, is_stuck = 0, asyncio.Event()

    async def script(visit: Visit) -> None:
        nonlocal sent
        await visit.request()
        await visit.send(SSE_HEAD)
        for _ in range(800):
            visit.writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            sent += 1
            try:
                async with asyncio.timeout(0.5):
                    await visit.writer.drain()
            except TimeoutError:
                is_stuck.set()
                await visit.writer.drain()
        await visit.chunk(encode(RESULT))
        await visit.chunk(b"")

    async with scripted(script) as server, edge_to(server) as edge, asyncio.TaskGroup() as group:
        attempt = edge.prepare()
        edge.sink.may_take.clear()
        task = group.create_task(edge.run(attempt))
        async with asyncio.timeout(ENOUGH_SECONDS):
            await is_stuck.wait()
        assert sent < 300
        assert 1 == len(edge.sink.chunks)
        edge.sink.may_take.set()
        assert isinstance(await task, Replied)
        assert event * 800 + encode(RESULT) == edge.sink.body


@pytest.mark.parametrize("moment", ["before the reply", "in the stream", "while writing"])
async def test_a_cancelled_attempt_closes_its_connection(moment: str) -> None:
    """At once, so that a 2026-07-28 server stops working on it."""
    asked = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        asked.set()
        if moment != "before the reply":
            await visit.send(SSE_HEAD)
            await visit.chunk(encode(PROGRESS))
        await visit.gone()

    async with scripted(script) as server, edge_to(server) as edge:
        attempt = edge.prepare()
        if moment == "while writing":
            edge.sink.may_take.clear()
        async with asyncio.timeout(ENOUGH_SECONDS), asyncio.TaskGroup() as group:
            task = group.create_task(edge.run(attempt))
            await asked.wait()
            while moment != "before the reply" and not edge.sink.chunks:
                await edge.sink.something()
            task.cancel()
        assert task.cancelled()
        await server.finished()
        assert attempt.sent_at > 0


async def test_a_client_that_cannot_be_written_to_closes_the_connection() -> None:
    """An error of the sink is not the upstream's, and leaves nothing open."""

    class Broken(Downstream):
        async def write(self, chunk: bytes) -> None:
            """Fail."""
            raise BrokenPipeError

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(SSE_HEAD)
        await visit.chunk(encode(PROGRESS))
        await visit.gone()

    async with scripted(script) as server, edge_to(server) as edge:
        attempt = edge.prepare()
        attempt.sink = Broken()
        with pytest.raises(BrokenPipeError):
            await edge.run(attempt)
        await server.finished()
