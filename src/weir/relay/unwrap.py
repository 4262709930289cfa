"""A reply taken apart: the sink of a client that wants messages, not HTTP."""

import asyncio
from collections.abc import Awaitable, Callable

from weir.core.call import Headers
from weir.protocol import sse
from weir.protocol.media_types import is_event_stream

Begun = Callable[[int, Headers], None]
Take = Callable[[bytes], Awaitable[None]]


class Unwrap:
    """Hands out the data of each message event while the reply arrives; any other body is kept until the end.

    Comments, priming events and events of other types say nothing to a client of a pipe and end here.
    `last_event_id` and `retry_seconds` are what the stream said about its resumption.
    """

    __slots__ = (
        "_begun",
        "_body",
        "_limit_bytes",
        "_splitter",
        "_take",
        "is_over_limit",
        "last_event_id",
        "limit",
        "messages",
        "received_bytes",
        "retry_seconds",
    )

    def __init__(self, begun: Begun, take: Take, limit_bytes: int, resumed: "Unwrap | None" = None) -> None:
        self._begun = begun
        self._take = take
        self._limit_bytes = limit_bytes
        self._splitter: sse.Splitter | None = None
        self._body: list[bytes] = []
        self.limit: asyncio.Timeout | None = None
        self.is_over_limit = False
        self.received_bytes = 0
        self.messages = 0
        self.last_event_id: bytes = resumed.last_event_id if resumed is not None else b""
        self.retry_seconds: float | None = resumed.retry_seconds if resumed is not None else None

    async def open(self, status: int, headers: Headers) -> None:
        """The head: tells the owner, who may learn a session from it."""
        if is_event_stream(headers):
            self._splitter = sse.Splitter(self._limit_bytes)
        self._begun(status, headers)

    async def write(self, chunk: bytes) -> None:
        """Hand on the messages that `chunk` completes; returns when they have been taken."""
        self.received_bytes += len(chunk)
        if self._splitter is None:
            self._keep(chunk)
            return
        for event in self._splitter.feed(chunk):
            self._note(event)
            if event.is_message and event.data is not None:
                self.messages += 1
                await self._take(event.data)

    def cut(self, after_seconds: float) -> None:
        """Let the exchange end by then, whatever the server does."""
        if self.limit is not None:
            self.limit.reschedule(asyncio.get_running_loop().time() + after_seconds)

    @property
    def body(self) -> bytes:
        """The body of a reply that is no event stream and yet came in pieces."""
        return b"".join(self._body)

    def _keep(self, chunk: bytes) -> None:
        self._body.append(chunk)
        if self.received_bytes > self._limit_bytes:
            self._body.clear()
            self._overflow()

    def _note(self, event: sse.Event) -> None:
        if event.id is not None:
            self.last_event_id = event.id
        if event.retry is not None:
            self.retry_seconds = event.retry / 1000
        if event.is_opaque:
            self._overflow()

    def _overflow(self) -> None:
        self.is_over_limit = True
        self.cut(0)
