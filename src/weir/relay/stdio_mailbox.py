"""What a stdio server said and an open reply has yet to write, in order and bounded."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from weir.core.budget import Held
from weir.core.call import Attempt, Call, Sink
from weir.core.outcome import Blame, Failed, FailureKind, Refused
from weir.protocol.envelope import Message


class Letter(NamedTuple):
    """One message of the server. `is_last`: nothing follows it on this reply."""

    message: Message
    body: bytes
    is_last: bool = False


class Mailbox:
    """Where the messages for one open reply wait: a POST's (see Exchange) or a GET's.

    It takes what it is given, the answer at least must get in; who fills it asks `is_full` and slows the
    server. `over` is why the reply ends early, and None may stand for an end that is no failure.
    """

    __slots__ = (
        "_held",
        "_letters",
        "_waiter",
        "active_at",
        "call",
        "full_since",
        "is_over",
        "is_streaming",
        "lack",
        "limit",
        "over",
        "scope",
        "sink",
        "size",
        "wire_id",
        "written_at",
    )

    def __init__(self, attempt: Attempt, limit: "Bounds", now: float) -> None:
        self.call: Call = attempt.call
        self.sink: Sink = attempt.sink
        self.wire_id = attempt.wire_id
        """The id the client's own server is to know the request by: not the client's, of a later attempt."""
        self.limit = limit
        self.size = 0
        self.lack: Blame | None = None
        """Whose fault it is that weir has no room for what it holds; None: there is room."""
        self.active_at = now
        """When the server last said something here."""
        self.written_at = now
        """When something was last written down the stream."""
        self.full_since = 0.0
        self.is_streaming = False
        """Its head is out, and events may follow."""
        self.is_over = False
        self.over: Failed | Refused | None = None
        self.scope: asyncio.Timeout | None = None
        self._held = Held(attempt.call.account)
        self._letters: deque[Letter] = deque()
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_full(self) -> bool:
        return self.lack is not None or self.fills(1.0)

    def fills(self, share: float) -> bool:
        """Whether it holds at least so many times its limit."""
        return len(self._letters) >= self.limit.messages * share or self.size >= self.limit.size_bytes * share

    @property
    def is_empty(self) -> bool:
        return not self._letters

    @property
    def is_cancelled(self) -> bool:
        """Its client has cancelled it, and may still be answered."""
        return self.over is not None and self.over.kind is FailureKind.CANCELLED

    def put(self, letter: Letter) -> None:
        """Add one message."""
        self._letters.append(letter)
        self._resize(self.size + len(letter.body))
        self._wake()

    async def take(self) -> Letter | None:
        """The next message; None when there will be none (`over` says why)."""
        while not self._letters:
            if self.is_over:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        letter = self._letters.popleft()
        self._resize(self.size - len(letter.body))
        return letter

    def finish(self, over: Failed | None) -> None:
        """End the reply when what already waits has been written."""
        if not self.is_over:
            self.is_over = True
            self.over = over
            self._wake()

    def abort(self, over: Failed | Refused) -> None:
        """End the reply now, even one that waits for its client to read."""
        self.is_over = True
        self.over = over
        self.leftovers()
        if self.scope is not None:
            self.scope.reschedule(asyncio.get_running_loop().time())

    def leftovers(self) -> list[Letter]:
        """Take all that was not written."""
        letters = list(self._letters)
        self._letters.clear()
        self._resize(0)
        return letters

    def _resize(self, size: int) -> None:
        grows, self.size = size > self.size, size
        lack = self._held.resize(size)
        if grows:
            self.lack = self.lack or lack
        elif not self._letters:
            self.lack = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Bounds(NamedTuple):
    """How much may wait in one place."""

    messages: int
    size_bytes: int


# a burst of progress or log lines passes; more than that is a client that does not read
_BOUNDS = Bounds(256, 4 * 1024 * 1024)


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """How much of what a server said may wait."""

    reply: Bounds = _BOUNDS
    """For one open reply whose client reads slowly; then the server is slowed down."""
    orphans: Bounds = _BOUNDS
    """For nobody in particular, until a stream opens; then the oldest are dropped."""


class Exchange(Mailbox):
    """A POST that waits for its answer, or for several (a batch)."""

    __slots__ = ("answer", "asks_logs", "is_sent", "pending", "renamed", "tokens", "told_silent_since")

    def __init__(self, attempt: Attempt, limit: Bounds, now: float) -> None:
        super().__init__(attempt, limit, now)
        self.pending: dict[bytes, bytes] = {}
        """The ids still unanswered: the key of the id that the server knows → the client's own."""
        self.tokens: dict[bytes, bytes] = {}
        """Likewise of progress tokens."""
        self.renamed = b""
        """The id under which the server knows it, where that is not the client's own."""
        self.answer: Message | None = None
        """The last answer that came."""
        self.is_sent = True
        """False while it waits for a server that does not read: the server can say nothing about it yet."""
        self.asks_logs: bool | None = None
        """Whether its caller asked for log messages; None until somebody wants to know."""
        self.told_silent_since = -1.0
        """The silence that was told of."""
