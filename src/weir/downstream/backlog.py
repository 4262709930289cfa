"""A client's messages in the order they were written, until each is done. Bounded: then nothing more is read."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from weir.protocol.envelope import Kind
from weir.relay.posting import Posting


class BacklogLimits(NamedTuple):
    """How many messages, and bytes of them, may be under way."""

    messages: int
    size_bytes: int


class Backlog:
    """Hands out postings in order. While a gate is closed only responses pass it.

    A server may ask (a ping) before it has answered `initialize`; the answer must not wait for that.
    `on_full` is called when reading has to stop for the sake of the limits.
    """

    def __init__(self, limits: BacklogLimits, on_full: Callable[[], None]) -> None:
        self._limits = limits
        self._on_full = on_full
        self._waiting: deque[Posting] = deque()
        self._gate: Posting | None = None
        self._is_ended = False
        self._count = 0
        self._size_bytes = 0
        self._changed = asyncio.Event()
        self._freed = asyncio.Event()

    async def put(self, posting: Posting) -> None:
        """Add a message when there is room for it."""
        while self._count >= self._limits.messages or self._size_bytes >= self._limits.size_bytes:
            self._on_full()
            self._freed.clear()
            await self._freed.wait()
        self._count += 1
        self._size_bytes += len(posting.body)
        self._waiting.append(posting)
        self._changed.set()

    def end(self) -> None:
        """No more messages come."""
        self._is_ended = True
        self._changed.set()

    async def take(self) -> Posting | None:
        """The next message that may go; None when all have gone and no more come."""
        while True:
            found = self._next()
            if found is not None or (self._is_ended and not self._waiting):
                return found
            self._changed.clear()
            await self._changed.wait()

    def free(self, posting: Posting) -> None:
        """A message that was taken is done."""
        self._count -= 1
        self._size_bytes -= len(posting.body)
        self._freed.set()

    def close_gate(self, gate: Posting) -> None:
        """Hold everything but responses back until `gate` is settled."""
        self._gate = gate
        gate.on_settled(self._changed.set)

    def _next(self) -> Posting | None:
        if not self._waiting:
            return None
        if self._gate is None or self._gate.is_settled:
            self._gate = None
            return self._waiting.popleft()
        for posting in self._waiting:
            if posting.message.kind is Kind.RESPONSE:
                self._waiting.remove(posting)
                return posting
        return None
