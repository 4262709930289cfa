"""A reply's head, held back while the call may still be tried again.

Only an event of the reply commits a call (DESIGN §4, commit rule). A head or a comment alone does not,
so they wait here: for the first event, or until whoever holds them releases them. Once a head is out,
a later attempt goes on inside the same event stream.
"""

from collections.abc import Callable

from weir.core.call import Call, Headers, Sink
from weir.core.outcome import Replied
from weir.protocol import sse

HEAD_HOLD_SECONDS = 1.0
"""How long a head may wait for the first event: beyond that clients and middleboxes take silence for a stall."""

# comments are keep-alives, one in some seconds; more than this before the first event is not held but passed
HELD_BYTES_LIMIT = 4096


class HeldReply:
    """The sink of one attempt of a call."""

    __slots__ = ("_call", "_comments", "_head", "_on_held", "_sink")

    def __init__(self, call: Call, on_held: "Callable[[HeldReply], None]") -> None:
        self._call = call
        self._sink: Sink = call.sink
        self._on_held = on_held
        self._head: tuple[int, Headers] | None = None
        self._comments = b""

    async def open(self, status: int, headers: Headers) -> None:
        """Hold the head; when an earlier attempt's is out already this one is not needed."""
        if not self._call.head_sent:
            self._head = (status, headers)
            self._on_held(self)

    async def write(self, chunk: bytes) -> None:
        """Pass bytes on, after the head; hold a comment."""
        if self._head is not None and chunk.startswith(b":") and b"data" not in chunk:
            self._comments += chunk
            if len(self._comments) <= HELD_BYTES_LIMIT:
                return
            chunk = b""
        await self.release()
        if chunk:
            await self._sink.write(chunk)

    async def release(self) -> None:
        """Let the head out. The call can still be tried again, inside the stream that it opened."""
        if self._head is None:
            return
        (status, headers), self._head = self._head, None
        comments, self._comments = self._comments, b""
        if self._call.head_sent:
            # another attempt's went out while this one was held
            return
        self._call.head_sent = True
        await self._sink.open(status, headers)
        if comments:
            await self._sink.write(comments)

    async def settle(self, reply: Replied) -> Replied:
        """The final reply of the call: into the stream when a head is out, else as it is."""
        if reply.body is None:
            await self.release()
            return reply
        if not self._call.head_sent:
            return reply
        await self._sink.write(sse.encode(reply.body))
        self._call.committed = True
        return Replied(reply.status, reply.headers, None, reply.verdict)
