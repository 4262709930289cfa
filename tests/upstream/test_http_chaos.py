"""The HTTP edge against a server that does anything, for clients that leave at any moment."""

import asyncio
import random
from typing import Any

import pytest

from support.edges import SSE_HEAD, Edge, edge_to
from support.scripted import ENOUGH_SECONDS, Visit, scripted
from weir.core.outcome import FailureKind, Replied
from weir.protocol.sse import encode

pytestmark = pytest.mark.anyio

CALLS, AT_ONCE = 400, 12


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Both loops: weir runs on uvloop where there is one."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


class Unreliable:
    """A server that draws what it does with each request; every answer it gives carries the request's own mark."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)

    async def script(self, visit: Visit) -> None:
        """Play."""
        while True:
            _, body = await visit.request()
            mark = body.split(b'"mark":"')[1].split(b'"')[0]
            result = b'{"jsonrpc":"2.0","id":7,"result":{"mark":"%b"}}' % mark
            act = self._draw.choice(
                (self.answer, self.answer, self.stream, self.say_too_much, self.break_off, self.large)
            )
            if not await act(visit, result):
                return

    async def answer(self, visit: Visit, result: bytes) -> bool:
        """As it should be, in arbitrary pieces."""
        reply = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(result) + result
        )
        place = self._draw.randrange(len(reply))
        await visit.send(reply[:place], reply[place:])
        return self._draw.random() < 0.9

    async def stream(self, visit: Visit, result: bytes) -> bool:
        """As a stream."""
        await visit.send(SSE_HEAD)
        await visit.chunk(b": hello\n\n")
        await asyncio.sleep(0)
        await visit.chunk(encode(result))
        await visit.chunk(b"")
        return True

    async def large(self, visit: Visit, result: bytes) -> bool:
        """Larger than the buffer."""
        await visit.answer(result + b" " * 200_000)
        return True

    async def say_too_much(self, visit: Visit, result: bytes) -> bool:
        """The answer, and behind it the beginning of one that nobody asked for."""
        forged = b"HTTP/1.1 200 OK\r\nContent-Length: 48\r\n\r\n" + result.replace(b'"mark":"', b'"mark":"forged')
        await visit.answer(result)
        await visit.send(forged[: self._draw.randrange(len(forged))])
        return True

    async def break_off(self, visit: Visit, result: bytes) -> bool:
        """Somewhere, somehow."""
        reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(result) + result
        await visit.send(reply[: self._draw.randrange(len(reply))])
        if self._draw.random() < 0.5:
            visit.reset()
        return False


@pytest.mark.parametrize("seed", range(3))
async def test_no_call_ever_gets_the_answer_of_another(seed: int) -> None:
    """Nothing hangs, nothing raises, nothing is mixed up, nothing stays open."""
    draw = random.Random(seed)
    answered = 0

    async def call(edge: Edge, number: int) -> None:
        nonlocal answered
        mark = b"%d-%d" % (seed, number)
        request = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"arguments":{"mark":"%b"}}}' % mark
        attempt, sink = edge.prepare(request), edge.sink
        outcome = await edge.run(attempt)
        if isinstance(outcome, Replied):
            assert b'"mark":"%b"' % mark in (sink.body if outcome.body is None else outcome.body)
            answered += 1
        else:
            assert outcome.kind in (FailureKind.RESET, FailureKind.CONNECT)

    async def client(edge: Edge, group: asyncio.TaskGroup, numbers: range) -> None:
        for number in numbers:
            task = group.create_task(call(edge, number))
            if draw.random() < 0.2:
                for _ in range(draw.randrange(12)):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait([task])

    async with scripted(Unreliable(seed).script) as server:
        async with (
            edge_to(server, connections=AT_ONCE // 2, reply_buffer_bytes=100_000) as edge,
            asyncio.timeout(ENOUGH_SECONDS),
            asyncio.TaskGroup() as group,
        ):
            for place in range(AT_ONCE):
                group.create_task(client(edge, group, range(place, CALLS, AT_ONCE)))
        await server.finished()
    assert answered > CALLS / 4
