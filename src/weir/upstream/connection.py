"""One HTTP/1.1 connection to a server, and one exchange at a time on it (RFC 9112).

Built for few wake-ups: an exchange has one future, resolved when the reply is complete and small, or
at its head when it is a stream, or when a body outgrows the buffer.
"""

import asyncio
import select
from collections.abc import Callable
from typing import cast

import httptools

from weir.core.call import Headers
from weir.core.outcome import FailureKind, Sent

MAX_HEAD_BYTES = 64 * 1024
"""Of a reply's head, its trailers, and anything else that is not body: more is no honest server."""
MAX_HEADERS = 256
"""Fields in a reply's head; ten times what servers send."""
STREAM_HIGH_WATER_BYTES = 64 * 1024
"""What a stream may hold that its reader has not taken yet; then the socket is left unread."""
KEEP_IDLE_SECONDS = 4.0
"""How long an unused connection is kept: below the 5 s keep-alive of uvicorn and Node.js."""
MAX_KEEP_IDLE_SECONDS = 60.0
"""The same where the server announces a longer `Keep-Alive: timeout`."""
KEEP_ALIVE_MARGIN_SECONDS = 1.0
"""Taken off an announced timeout: the server's clock started earlier than ours."""
JOINED_WRITE_BYTES = 64 * 1024
"""A body up to this size is copied behind the head to save a system call."""

_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"content-type", b"connection", b"keep-alive"))
_EVENT_STREAM = b"text/event-stream"


class Unanswered(Exception):  # noqa: N818 - the outcome it becomes is called so
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


class Exchange:
    """One request on one connection, and its reply as it arrives."""

    __slots__ = (
        "_broken",
        "_connection",
        "_mark",
        "_pieces",
        "_size",
        "_waiter",
        "arrived",
        "first_byte_at",
        "has_head",
        "headers",
        "is_bodiless",
        "is_complete",
        "is_stream",
        "status",
    )

    def __init__(self, connection: "Connection", arrived: "asyncio.Future[None]", mark: int, *, is_bodiless: bool):
        self.arrived = arrived
        self.status = 0
        self.headers: Headers = []
        self.first_byte_at = 0.0
        self.has_head = False
        self.is_stream = False
        self.is_complete = False
        self.is_bodiless = is_bodiless
        self._connection = connection
        self._broken: Unanswered | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._mark = mark
        self._waiter: asyncio.Future[None] | None = None

    async def reply(self) -> None:
        """Wait until `status` and `headers` stand, and the body too unless `is_stream`.

        Raises:
            Unanswered: the connection failed first.
        """
        await self.arrived

    def body(self) -> bytes:
        """The whole body of a complete reply that is no stream."""
        pieces = self._pieces
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

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
            self._waiter = self._connection.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        taken = self.body()
        self._pieces.clear()
        self._size = 0
        self._connection.resume()
        return taken

    def close(self) -> None:
        """Done with it. A connection whose reply has not ended is closed at once."""
        if not self.is_complete:
            self._connection.abandon(self)

    def take_head(self, status: int, headers: Headers, *, is_stream: bool) -> None:
        """Called by the connection: the head is complete."""
        self.status, self.headers, self.has_head = status, headers, True
        if is_stream:
            self._become_stream()

    def take(self, piece: bytes) -> bool:
        """Called by the connection: bytes of the body. True when the reader is too slow for more."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._size <= self._mark:
            return False
        if not self.is_stream:
            self._become_stream()
        return self._size > STREAM_HIGH_WATER_BYTES

    def _become_stream(self) -> None:
        self.is_stream, self._mark = True, STREAM_HIGH_WATER_BYTES
        if not self.arrived.done():
            self.arrived.set_result(None)

    def end(self, broken: Unanswered | None) -> None:
        """Called by the connection: nothing more will come."""
        self._broken, self.is_complete = broken, broken is None
        if not self.arrived.done():
            if broken is None:
                self.arrived.set_result(None)
            else:
                self.arrived.set_exception(broken)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connection(asyncio.Protocol):
    """A protocol for `create_connection`. `on_free` is called when it may be reused, `on_gone` once when it may not."""

    def __init__(
        self,
        clock: Callable[[], float],
        idle_seconds: float,
        on_free: Callable[["Connection"], None],
        on_gone: Callable[["Connection"], None],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.idle_since = 0.0
        self.keep_seconds = KEEP_IDLE_SECONDS
        self._clock = clock
        self._idle_seconds = idle_seconds
        self._on_free = on_free
        self._on_gone = on_gone
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._exchange: Exchange | None = None
        self._headers: Headers = []
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        # bytes received since the last byte of a body
        self._dry = 0
        self._is_paused = False
        self._is_gone = False
        self._is_interim = False
        self._is_finished = False
        self._is_spoiled = False
        self._is_until_eof = False

    # what the pool and the exchange ask of it

    def ask(self, head: bytes, body: bytes, buffer_bytes: int, *, is_bodiless: bool = False) -> Exchange:
        """Send one request. `buffer_bytes`: a reply body up to this size is waited for.

        Raises:
            Unanswered: the connection is closed; nothing was sent.
        """
        transport = self._transport
        if self._is_gone or transport is None or transport.is_closing():
            raise Unanswered(FailureKind.CONNECT, "the connection was closed before the request", Sent.NO)
        exchange = Exchange(self, self.loop.create_future(), buffer_bytes, is_bodiless=is_bodiless)
        self._exchange = exchange
        self._headers = []
        self._heard_at = self._clock()
        if self._timer is None:
            self._timer = self.loop.call_later(self._idle_seconds, self._watch)
        if len(body) <= JOINED_WRITE_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        return exchange

    def is_usable(self, now: float) -> bool:
        """Whether an unused connection may carry another request: young enough, nothing received, not ended."""
        if self._is_gone or now - self.idle_since >= self.keep_seconds:
            return False
        return self._poll is None or not self._poll.poll(0)

    def resume(self) -> None:
        """The reader has caught up."""
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._heard_at = self._clock()
            self._transport.resume_reading()

    def abandon(self, exchange: Exchange) -> None:
        """The exchange is given up half-way: the reply's rest would be taken for the next reply."""
        if self._exchange is exchange:
            self._exchange = None
            self._drop()

    def close(self) -> None:
        """End it; an exchange under way fails."""
        self._fail(FailureKind.RESET, "weir is closing its connections")
        self._drop()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        # uvloop's transports have the interface without the class
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(sock.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; its callbacks run inside."""
        exchange = self._exchange
        if exchange is None:
            self._drop()
            return
        self._heard_at = now = self._clock()
        if not exchange.first_byte_at:
            exchange.first_byte_at = now
        self._dry += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._is_spoiled = True
            if not self._is_finished:
                self._garbage(f"the reply is not HTTP/1.1: {error}")
        if self._is_finished:
            self._settle()
        elif self._dry > MAX_HEAD_BYTES:
            self._garbage(f"more than {MAX_HEAD_BYTES} bytes without a body")

    def eof_received(self) -> bool:
        """The server has closed its side: that ends a reply without a length, and cuts off any other."""
        self._ended("the server closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, one way or another."""
        self._ended("the connection was reset" if exc is not None else "the connection was closed")
        self._drop()

    # httptools

    def on_message_begin(self) -> None:
        """A reply begins. Behind a complete one there must be none."""
        if self._is_finished:
            self._is_spoiled = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of the trailers, which go nowhere."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Decide what the reply is: interim, complete at its head, buffered, or a stream."""
        exchange, headers, status = self._exchange, self._headers, self._parser.get_status_code()
        self._headers = []
        if exchange is None or self._is_spoiled or self._is_finished:
            return
        self._is_interim = status < 200
        if self._is_interim:
            if status == 101:
                self._garbage("the server switched protocols without being asked (101)")
            return
        if self._is_oversized(headers):
            self._garbage("the reply's head is too large")
            return
        self._take_head(exchange, status, headers)

    def on_body(self, piece: bytes) -> None:
        """Bytes of the body."""
        self._dry = 0
        if self._exchange is not None and not self._is_finished and self._exchange.take(piece):
            self._pause()

    def on_message_complete(self) -> None:
        """The reply ends here."""
        if self._is_interim:
            self._is_interim = False
        elif self._exchange is not None and not self._is_finished:
            self._is_finished = True
            if not self._parser.should_keep_alive():
                self._is_spoiled = True

    # the rest

    def _is_oversized(self, headers: Headers) -> bool:
        if len(headers) > MAX_HEADERS:
            return True
        return self._dry > MAX_HEAD_BYTES and sum(len(n) + len(v) for n, v in headers) > MAX_HEAD_BYTES

    def _take_head(self, exchange: Exchange, status: int, headers: Headers) -> None:
        length, codings, is_stream = -1, b"", False
        for name, value in headers:
            if name not in _FRAMING:
                continue
            if name == b"content-type":
                is_stream = value[: len(_EVENT_STREAM)].lower() == _EVENT_STREAM
            elif name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                codings = value.strip().lower()
            elif name == b"keep-alive":
                self._heed_keep_alive(value)
        if codings not in (b"", b"chunked"):
            self._garbage("the reply has a transfer coding that was not asked for")
            return
        exchange.take_head(status, headers, is_stream=is_stream or length > exchange._mark)
        self._is_until_eof = length < 0 and not codings and status not in (204, 304)
        if exchange.is_bodiless:
            self._is_finished = self._is_spoiled = True

    def _heed_keep_alive(self, value: bytes) -> None:
        for part in value.split(b","):
            name, _, number = part.strip().partition(b"=")
            if name.lower() == b"timeout" and number.isdigit():
                kept = int(number[:9]) - KEEP_ALIVE_MARGIN_SECONDS
                self.keep_seconds = max(0.0, min(kept, MAX_KEEP_IDLE_SECONDS))

    def _pause(self) -> None:
        if not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def _settle(self) -> None:
        """The reply is complete: the connection is free again, or closed."""
        exchange, transport = self._exchange, self._transport
        assert exchange is not None
        assert transport is not None
        self._exchange, self._is_finished, self._dry = None, False, 0
        if self._is_spoiled or transport.is_closing():
            self._drop()
        elif transport.get_write_buffer_size():
            # answered before it had read the request: what is left would be read as the next one
            self._drop()
        else:
            self.resume()
            self.idle_since = self._heard_at
            self._on_free(self)
        exchange.end(None)

    def _ended(self, how: str) -> None:
        exchange = self._exchange
        if exchange is None:
            self._drop()
        elif exchange.has_head and self._is_until_eof:
            self._is_spoiled = True
            self._settle()
        elif exchange.has_head:
            self._fail(FailureKind.RESET, f"{how} in the middle of the reply")
        else:
            self._fail(FailureKind.RESET, f"{how} before the reply")

    def _garbage(self, detail: str) -> None:
        self._fail(FailureKind.PROTOCOL, detail)

    def _fail(self, kind: FailureKind, detail: str, *, timer: str = "", after_seconds: float = 0.0) -> None:
        exchange, self._exchange = self._exchange, None
        self._is_spoiled = True
        if exchange is not None:
            sent = Sent.ANSWERED if exchange.has_head else Sent.YES
            exchange.end(Unanswered(kind, detail, sent, timer=timer, after_seconds=after_seconds))
        self._drop()

    def _watch(self) -> None:
        """The idle timer: set once, it looks when the last byte came and sets itself again."""
        self._timer = None
        if self._exchange is None or self._is_gone:
            return
        silent = 0.0 if self._is_paused else self._clock() - self._heard_at
        if silent >= self._idle_seconds:
            detail = f"no byte from the server for {self._idle_seconds:g} s"
            self._fail(FailureKind.TIMEOUT, detail, timer="idle", after_seconds=self._idle_seconds)
        else:
            # never below a millisecond: the loop's timers and the clock differ in precision
            self._timer = self.loop.call_later(max(self._idle_seconds - silent, 0.001), self._watch)

    def _drop(self) -> None:
        """Close at once, without waiting for the other side; tell the pool, once."""
        if self._is_gone:
            return
        self._is_gone = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        self._on_gone(self)
