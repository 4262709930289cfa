"""A reply's head, held back while the call may still be tried again.

Only an event of the reply commits a call (ARCHITECTURE.md, commit rule). A head or a comment alone does not,
so they wait here: for the first event, or until whoever holds them releases them. Once a head is out,
a later attempt goes on inside the same event stream.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from weir.core.call import Call, Headers, Sink
from weir.core.outcome import Failed, FailureKind, Outcome, Replied, Sent
from weir.protocol import sse
from weir.protocol.media_types import is_event_stream

HEAD_HOLD_SECONDS: Final = 1.0
"""How long a head may wait for the first event: beyond that clients and middleboxes take silence for a stall."""

# comments are keep-alives, one in some seconds; more than this before the first event is not held but passed
HELD_BYTES_LIMIT: Final = 4096

_EVENT_BEGINS: Final = b"event: message\r\ndata: "
_EVENT_ENDS: Final = b"\r\n\r\n"
_LINE_END: Final = re.compile(rb"[\r\n]")


class Cancellable(Protocol):
    """A timer or a task."""

    def cancel(self) -> object:
        """It is not needed any more."""


class HeldReply:
    """The sink of one attempt of a call.

    `on_held` is told when a head is held; it says False where it need not be. Whoever releases it from another task
    sets `waker` to the timer, then to the task, and `releasing` to the task.
    """

    __slots__ = ("_comments", "_frame", "_head", "_on_held", "_sink", "call", "releasing", "waker")

    def __init__(self, call: Call, on_held: "Callable[[HeldReply], bool | None]") -> None:
        self.call = call
        self._sink: Sink = call.sink
        self._on_held = on_held
        self._head: tuple[int, Headers] | None = None
        self._comments = b""
        self._frame = b""
        self.waker: Cancellable | None = None
        self.releasing: Awaitable[None] | None = None

    async def open(self, status: int, headers: Headers) -> None:
        """Hold the head; when an earlier attempt's is out already this one is not needed."""
        if not self.call.head_sent:
            self._head = (status, headers)
            if self._on_held(self) is False:
                await self.release()
        elif not is_event_stream(headers):
            # a body too large to be judged: as it comes it becomes the data of one event
            self._frame = _EVENT_BEGINS

    async def write(self, chunk: bytes) -> None:
        """Pass bytes on, after the head; hold a comment."""
        if self._head is not None and chunk.startswith(b":") and b"data" not in chunk:
            self._comments += chunk
            if len(self._comments) <= HELD_BYTES_LIMIT:
                return
            chunk = b""
        await self.release()
        if self.releasing is not None:
            # the head must be out before what follows it
            await self.releasing
        if chunk:
            await self._sink.write(self._framed(chunk) if self._frame else chunk)

    def _framed(self, chunk: bytes) -> bytes:
        begin = _EVENT_BEGINS if self._frame is _EVENT_BEGINS else b""
        self._frame = _EVENT_ENDS
        # line ends in JSON stand between its tokens, where one is as good as two
        return begin + _LINE_END.sub(b"\r\ndata: ", chunk)

    async def release(self) -> None:
        """Let the head out. The call can still be tried again, inside the event stream that it opened."""
        if self._head is None:
            return
        (status, headers), self._head = self._head, None
        comments, self._comments = self._comments, b""
        if self.call.head_sent:
            # another attempt's went out while this one was held
            return
        self.call.head_sent = True
        if not is_event_stream(headers):
            self.call.committed = True
        await self._sink.open(status, headers)
        if comments:
            await self._sink.write(comments)

    def drop(self) -> None:
        """The attempt is over: a head that is still held never goes out."""
        self._head = None
        if self.waker is not None:
            self.waker.cancel()

    async def end(self) -> None:
        """No more of the attempt will come."""
        if self._frame is _EVENT_ENDS:
            await self._sink.write(_EVENT_ENDS)
        self._frame = b""

    async def settle(self, reply: Replied) -> Outcome:
        """The final reply of the call: into the stream when a head is out, else as it is."""
        if self.releasing is not None:
            await self.releasing
        if reply.body is None:
            await self.release()
            await self.end()
            return reply
        if not self.call.head_sent:
            return reply
        if not reply.verdict.answered:
            # an error page cannot go on in an event stream
            return Failed(FailureKind.PROTOCOL, f"answered with HTTP {reply.status}", sent=Sent.ANSWERED)
        await self._sink.write(sse.encode(reply.body))
        self.call.committed = True
        return Replied(reply.status, reply.headers, None, reply.verdict)
