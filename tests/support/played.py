"""A Streamable HTTP server played behind the call handler, and the messages of a small conversation with it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from support.pipes import PATIENCE_SECONDS
from weir.core.call import Attempt, Call, Headers, header
from weir.core.events import Notice
from weir.core.outcome import NO_ANSWER, Outcome, Replied
from weir.downstream.stdio import StdioDownstream, StdioSettings
from weir.protocol import sse
from weir.relay.http_client import HttpClientSettings, Wiring

JSON: Headers = [(b"content-type", b"application/json")]
EVENTS: Headers = [(b"content-type", b"text/event-stream")]
INITIALIZE = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}'
INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
HTTP = HttpClientSettings("demo", b"/mcp")
PLAIN = StdioSettings(HTTP)
ENVELOPE = b'"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}'

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


def call_of(raw_id: bytes, tool: bytes = b"slow") -> bytes:
    """A legacy tools/call."""
    return b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"name":"%b"}}' % (raw_id, tool)


def modern_call_of(raw_id: bytes, tool: bytes = b"slow") -> bytes:
    """A tools/call with its envelope."""
    return b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"name":"%b",%b}}' % (raw_id, tool, ENVELOPE)


def cancelled(raw_id: bytes) -> bytes:
    """The client withdraws a request."""
    return b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%b}}' % raw_id


class Told:
    """What telemetry was told."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.finished: list[tuple[Call, Outcome]] = []

    def finish(self, call: Call, outcome: Outcome) -> None:
        """A call is over."""
        self.finished.append((call, outcome))

    def notices(self) -> list[str]:
        """The texts for the operator."""
        return [each.text for each in self.events if isinstance(each, Notice)]


def edge(server: PlayedServer, settings: StdioSettings = PLAIN, told: Told | None = None) -> StdioDownstream:
    """A stdio edge before a played server."""
    told = told or Told()
    return StdioDownstream(settings, Wiring(server, told.finish, told.events.append, time.monotonic))


async def handshake(call: Call) -> Outcome | None:
    """Answer initialize as a server with sessions does."""
    if call.message.method != "initialize":
        return None
    return result(call, b'{"protocolVersion":"2025-11-25"}', (b"mcp-session-id", b"s-1"))


async def echo(call: Call) -> Outcome | None:
    """Answer every request with an empty result."""
    return result(call) if call.is_request else None


def when(method: str, answer: Answer) -> Answer:
    """Let `answer` answer one method only."""

    async def only(call: Call) -> Outcome | None:
        return await answer(call) if call.message.method == method else None

    return only


def gives(outcome: Outcome, method: str = "tools/call") -> Answer:
    """One outcome for every call of a method."""

    async def give(call: Call) -> Outcome:
        return outcome

    return when(method, give)


class Held:
    """An answer that waits until it is let go."""

    def __init__(self, then: Answer = echo, method: str = "tools/call") -> None:
        self.go = asyncio.Event()
        self.cancelled = asyncio.Event()
        self._then = then
        self._method = method

    async def __call__(self, call: Call) -> Outcome | None:
        """Wait, then answer."""
        if call.message.method != self._method:
            return None
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return await self._then(call)


async def within(event: asyncio.Event) -> None:
    """Wait for an event, not for ever."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await event.wait()


def mark_sent(call: Call) -> None:
    """Note that an upstream edge has written the call's request."""
    attempt = Attempt(call, 1, 0.0)
    attempt.sent_at = 1.0
    call.attempts.append(attempt)
