"""The HTTP edge of weir, pointed at a scripted server, with everything around it noted."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from support.scripted import ENOUGH_SECONDS, Script, Scripted, Visit
from weir.core.call import Attempt, Call, Headers, Peer, Transport
from weir.core.events import LimitReached
from weir.core.outcome import Failed, Replied
from weir.protocol.envelope import NOTHING, Message, peek
from weir.upstream.http import HttpSettings, HttpUpstream

REQUEST = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x"}}'
RESULT = b'{"jsonrpc":"2.0","id":7,"result":{"content":[]}}'
PROGRESS = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}'
QUESTION = b'{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}'
SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nMcp-Session-Id: s\r\nTransfer-Encoding: chunked\r\n\r\n"
)
SSE_HEADERS = [(b"content-type", b"text/event-stream"), (b"mcp-session-id", b"s")]


class Downstream:
    """A sink that keeps what it gets, and can be slow."""

    def __init__(self) -> None:
        self.heads: list[tuple[int, Headers]] = []
        self.chunks: list[bytes] = []
        self.arrived = asyncio.Event()
        self.may_take = asyncio.Event()
        self.may_take.set()

    async def open(self, status: int, headers: Headers) -> None:
        """Take the head."""
        self.heads.append((status, headers))
        self.arrived.set()

    async def write(self, chunk: bytes) -> None:
        """Take bytes."""
        self.chunks.append(chunk)
        self.arrived.set()
        await self.may_take.wait()

    async def something(self) -> None:
        """Wait until more has come."""
        async with asyncio.timeout(ENOUGH_SECONDS):
            await self.arrived.wait()
        self.arrived.clear()

    @property
    def body(self) -> bytes:
        """All of it."""
        return b"".join(self.chunks)


class Asking:
    """The back-channel's side: counts a question as pending, and marks it."""

    def __init__(self) -> None:
        self.told_of: list[str] = []

    def asked(self, call: Call, message: Message, body: bytes) -> bytes:
        """A question."""
        call.ask_began(0.0)
        return body.replace(b"{}", b'{"marked":true}')

    def told(self, call: Call, message: Message) -> None:
        """A notification."""
        self.told_of.append(message.method)


class Edge:
    """An edge under test, with what it emitted and the last call it was given."""

    def __init__(self, settings: HttpSettings) -> None:
        self.events: list[Any] = []
        self.upstream = HttpUpstream(settings, self.events.append, time.monotonic)
        self.sink = Downstream()
        self.attempt = self.prepare()

    def prepare(
        self, body: bytes = REQUEST, *, verb: bytes = b"POST", headers: Headers | None = None, target: bytes = b"/mcp"
    ) -> Attempt:
        """A call and its first attempt."""
        self.sink = Downstream()
        call = Call(
            upstream="u",
            peer=Peer(Transport.HTTP),
            sink=self.sink,
            received_at=time.monotonic(),
            verb=verb,
            target=target,
            headers=headers,
            body=body,
            message=peek(body) if body else NOTHING,
        )
        call.revision = "2025-11-25"
        self.attempt = Attempt(call, 1, time.monotonic())
        return self.attempt

    async def run(self, attempt: Attempt | None = None) -> Replied | Failed:
        """The outcome of an attempt, by default a plain tools/call."""
        async with asyncio.timeout(ENOUGH_SECONDS):
            outcome = await self.upstream(attempt or self.prepare())
        assert isinstance(outcome, Replied | Failed)
        return outcome

    @property
    def limits(self) -> list[str]:
        """The limits that were reported as reached."""
        return [event.limit for event in self.events if isinstance(event, LimitReached)]


@contextlib.asynccontextmanager
async def edge_to(server: Scripted | str, **settings: Any) -> AsyncIterator[Edge]:
    """An edge to a server, closed at the end."""
    url = server if isinstance(server, str) else server.url()
    edge = Edge(replace(HttpSettings("u", url), **settings))
    try:
        yield edge
    finally:
        await edge.upstream.aclose()


def answering(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> Script:
    """A server that answers every request so."""

    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.answer(body, *headers, status=status)

    return script


def streaming(*chunks: bytes) -> Script:
    """A server that answers with a stream of these chunks."""

    async def script(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.send(SSE_HEAD)
            for chunk in (*chunks, b""):
                await visit.chunk(chunk)

    return script
