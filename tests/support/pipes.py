"""A client on a pair of pipes, and a server played behind the call handler."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from weir.core.call import Call, Headers, header
from weir.core.outcome import NO_ANSWER, Outcome, Replied
from weir.downstream.descriptors import Input
from weir.downstream.stdio import StdioDownstream
from weir.protocol import sse

PATIENCE_SECONDS = 10.0
JSON: Headers = [(b"content-type", b"application/json")]
EVENTS: Headers = [(b"content-type", b"text/event-stream")]


class PipeClient:
    """The client's ends of weir's stdin and stdout."""

    def __init__(self) -> None:
        self.weir_in, self._stdin = os.pipe()
        self._stdout, self.weir_out = os.pipe()
        self._source = Input(self._stdout)
        self._heard = b""

    def say(self, *lines: bytes) -> None:
        """Write whole lines."""
        os.write(self._stdin, b"".join(line + b"\n" for line in lines))

    def write(self, data: bytes) -> None:
        """Write bytes as they are."""
        os.write(self._stdin, data)

    async def hear(self) -> bytes:
        """The next line of weir's stdout, without its end; b"" when stdout is closed."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while b"\n" not in self._heard:
                chunk = await self._source.read()
                if not chunk:
                    return b""
                self._heard += chunk
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    async def hear_all(self) -> list[bytes]:
        """Every line until stdout is closed."""
        lines = []
        while line := await self.hear():
            lines.append(line)
        return lines

    def hang_up(self) -> None:
        """Close weir's stdin."""
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def stop_reading(self) -> None:
        """Close the reading end of weir's stdout."""
        if self._stdout >= 0:
            os.close(self._stdout)
            self._stdout = -1

    def close_weirs_ends(self) -> None:
        """What the end of weir's process would do."""
        os.close(self.weir_in)
        os.close(self.weir_out)

    def close(self) -> None:
        """Close what is still open of the client's own."""
        self.hang_up()
        self.stop_reading()


@asynccontextmanager
async def piped(downstream: StdioDownstream) -> AsyncIterator[PipeClient]:
    """`downstream` at work for one client; its run is awaited at the end."""
    client = PipeClient()

    async def run() -> None:
        try:
            await downstream.run(client.weir_in, client.weir_out)
        finally:
            client.close_weirs_ends()

    try:
        async with asyncio.timeout(3 * PATIENCE_SECONDS), asyncio.TaskGroup() as group:
            group.create_task(run())
            yield client
            client.hang_up()
    finally:
        client.close()


Answer = Callable[[Call], Awaitable[Outcome | None]]


class PlayedServer:
    """A Streamable HTTP server behind the call handler: the first of `answers` that does not say None answers."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = [*answers]
        self.calls: list[Call] = []
        self._arrived = asyncio.Condition()

    async def __call__(self, call: Call) -> Outcome:
        """Record the call and answer it."""
        self.calls.append(call)
        async with self._arrived:
            self._arrived.notify_all()
        for answer in self.answers:
            outcome = await answer(call)
            if outcome is not None:
                return outcome
        return Replied(405, [], b"", NO_ANSWER) if call.verb != b"POST" else accepted()

    async def received(self, count: int) -> list[Call]:
        """The calls so far, once there are `count`."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: len(self.calls) >= count)
        return self.calls

    async def receives(self, wanted: Callable[[Call], bool]) -> Call:
        """The first call that is wanted, once it has come."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._arrived:
            await self._arrived.wait_for(lambda: any(map(wanted, self.calls)))
        return next(filter(wanted, self.calls))

    def methods(self) -> list[str]:
        """The methods of the POSTs so far, other verbs as they are."""
        return [call.message.method if call.verb == b"POST" else call.verb.decode() for call in self.calls]


def accepted() -> Replied:
    """202: what answers a notification or a response."""
    return Replied(202, [], b"", NO_ANSWER)


def json_reply(body: bytes, status: int = 200, *more: tuple[bytes, bytes]) -> Replied:
    """A whole JSON body."""
    return Replied(status, [*JSON, *more], body)


def result(call: Call, text: bytes = b"{}", *more: tuple[bytes, bytes]) -> Replied:
    """A result under the request's own id."""
    return json_reply(b'{"jsonrpc":"2.0","id":' + call.message.id + b',"result":' + text + b"}", 200, *more)


async def stream(call: Call, *events: bytes) -> Replied:
    """A reply of server-sent events, raw."""
    await call.sink.open(200, EVENTS)
    for event in events:
        await call.sink.write(event)
    return Replied(200, EVENTS, None, NO_ANSWER)


def event(data: bytes, id: bytes | None = None) -> bytes:  # noqa: A002 - the field's name
    """One message event."""
    return sse.encode(data, id=id)


def sent(call: Call, name: bytes) -> bytes:
    """One header of a call, b"" when it is not there."""
    return header(call.headers, name)
