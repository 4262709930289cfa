"""One request to an HTTP server and its reply as it arrives; and how it can fail."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from weir.core.budget import UNCOUNTED_BYTES, Account
from weir.core.call import Headers
from weir.core.outcome import Blame, FailureKind, Sent

STREAM_HIGH_WATER_BYTES: Final = 64 * 1024
"""What a stream may hold that its reader has not taken yet; beyond it the socket is left unread."""

_NO_NAMES: Final[frozenset[bytes]] = frozenset()


class Unanswered(Exception):  # noqa: N818 - it becomes an outcome, and this is the outcome's word
    """No complete reply came. `detail` is one line without secrets; `sent` is what the server can have seen."""

    def __init__(
        self, kind: FailureKind, detail: str, sent: Sent, *, timer: str = "", after_seconds: float = 0.0
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.sent = sent
        self.timer = timer
        self.after_seconds = after_seconds
        self.is_undone = False
        """It was sent, and the way it failed proves that it was not carried out."""
        self.is_stale = False
        """A connection that had served before ended before any byte of this reply: the server may have closed it as
        unused while the request was on its way.
        """


class Shortage(Unanswered):
    """weir had no place, descriptor or port for the request: nothing was sent, and the server is not to blame."""

    def __init__(self, detail: str, caused_by: Blame | None = None, *, limit: str = "") -> None:
        super().__init__(FailureKind.CONNECT, detail, Sent.NO)
        self.caused_by = caused_by
        self.limit = limit
        """The name of the limit that was reached; "" where the watcher has been told of it."""


class Line(Protocol):
    """What an exchange needs of the connection it runs on."""

    loop: asyncio.AbstractEventLoop

    def limit_silence(self, exchange: "Exchange", seconds: float, told: Callable[[], None] | None = None) -> None:
        """The server may be silent so long in this exchange."""

    def resume(self, exchange: "Exchange") -> None:
        """Its reader has caught up."""

    def abandon(self, exchange: "Exchange") -> None:
        """It is given up before its end."""


class Exchange:
    """One request that was sent, and its reply.

    `arrived` is done when the head stands, and the whole body too unless `is_stream`; it raises Unanswered when
    the connection failed first. It is the only thing to wait for in an exchange with a small reply.
    The head: `status` (0 for "not yet"), `headers`, and what they say: `is_events`, the body is a stream of
    server-sent events; `coding`, the body's content coding, b"" for none; `local`, the names of headers that are
    not to be passed on, empty when there is none; `is_for_clients`, it names a place or sets a cookie.
    `sent_at` and `first_byte_at` are instants, 0.0 for "not yet".
    """

    __slots__ = (
        "_broken",
        "_buffer_bytes",
        "_charged_bytes",
        "_line",
        "_mark",
        "_pieces",
        "_size",
        "_waiter",
        "account",
        "arrived",
        "coding",
        "excuse",
        "first_byte_at",
        "headers",
        "is_complete",
        "is_events",
        "is_for_clients",
        "is_stream",
        "local",
        "needs_head_only",
        "sent_at",
        "status",
    )

    def __init__(self, line: Line, buffer_bytes: int, sent_at: float) -> None:
        self.arrived: asyncio.Future[None] = line.loop.create_future()
        self.status = 0
        self.headers: Headers = []
        self.coding = b""
        self.local: frozenset[bytes] = _NO_NAMES
        self.is_events = self.is_for_clients = False
        self.needs_head_only = False
        """Set by the reader: a success without an announced length is handed on before its end."""
        self.is_stream = False
        self.is_complete = False
        self.sent_at = sent_at
        self.first_byte_at = 0.0
        self.excuse: Callable[[], bool] | None = None
        """Set by the reader: whether the server may be silent now, because it waits for somebody else."""
        self._line = line
        self._broken: Unanswered | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._buffer_bytes = buffer_bytes
        self._mark = min(buffer_bytes, UNCOUNTED_BYTES)
        self.account: Account | None = None
        """Set by the reader: who holds what a large reply takes while it is waited for; None: it is not counted."""
        self._charged_bytes = 0
        self._waiter: asyncio.Future[None] | None = None

    def limit_silence(self, seconds: float, told: Callable[[], None] | None = None) -> None:
        """The server may be silent for so long, and not as the client is set.

        With `told` nothing ends: it is called when the server was silent for so long.
        """
        self._line.limit_silence(self, seconds, told)

    def body(self) -> bytes:
        """The whole body of a reply that is no stream."""
        pieces = self._pieces
        if len(pieces) != 1:
            # not kept twice: a large one is looked at and relayed for some time
            pieces[:] = (b"".join(pieces),)
        return pieces[0]

    @property
    def is_read(self) -> bool:
        """The reply has ended, and all of it was read."""
        return self.is_complete and not self._pieces

    async def read(self) -> bytes:
        """The bytes of a stream that have arrived since the last read; b"" at its end.

        Raises:
            Unanswered: the stream broke off, or the server was silent for too long.
        """
        while not self._pieces:
            if self._broken is not None:
                raise self._broken
            if self.is_complete:
                return b""
            self._waiter = self._line.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        taken = self.body()
        self._pieces.clear()
        self._size = 0
        self._line.resume(self)
        return taken

    def close(self) -> None:
        """Done with it. Unless the reply has ended, its connection is closed at once."""
        if not self.is_complete:
            self._line.abandon(self)
        if self._broken is not None:
            # its frames hold this exchange, which holds it
            self._broken.__traceback__ = None
        self._give_back()

    # the connection's side

    def take_head(self, status: int, headers: Headers, length: int) -> None:
        """The head is complete. `length` is the body's, -1 when it is not announced."""
        self.status = status
        self.headers = headers
        if (
            self.is_events
            or (length > self._mark and not self._grow(length))
            or (self.needs_head_only and length < 0 and 200 <= status < 300)
        ):
            self._become_stream()

    def take(self, piece: bytes) -> bool:
        """Bytes of the body. True when its reader is too slow for more."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._size <= self._mark:
            return False
        if not self.is_stream:
            if self._grow(self._size):
                return False
            self._become_stream()
        return self._size > self._mark

    def _grow(self, size: int) -> bool:
        """Whether so much of a reply may be waited for: within the limit, and there is room for it."""
        if size > self._buffer_bytes:
            return False
        # twice as much each time: few steps for a reply that does not say how long it is
        mark = min(max(size, 2 * self._mark), self._buffer_bytes)
        if self.account is not None:
            if self.account.take(mark - self._mark) is not None:
                return False
            self._charged_bytes += mark - self._mark
        self._mark = mark
        return True

    def _give_back(self) -> None:
        if self._charged_bytes and self.account is not None:
            self.account.give_back(self._charged_bytes)
            self._charged_bytes = 0

    def end(self, broken: Unanswered | None = None) -> None:
        """Nothing more will come; `broken` unless that is as it should be."""
        self._broken, self.is_complete = broken, broken is None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        elif self.arrived.done():
            return
        elif broken is None:
            self.arrived.set_result(None)
        else:
            self.arrived.set_exception(broken)
            # a reader that was cancelled in the same turn never asks: that is no forgotten error
            self.arrived.exception()

    def _become_stream(self) -> None:
        self.is_stream, self._mark = True, STREAM_HIGH_WATER_BYTES
        self._give_back()
        if not self.arrived.done():
            self.arrived.set_result(None)
