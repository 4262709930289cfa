"""One HTTP/1.1 connection to a server, with one exchange at a time on it (RFC 9112)."""

import asyncio
import select
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

import httptools

from weir.core.call import Headers
from weir.core.outcome import FailureKind, Sent
from weir.protocol.headers import HOP_BY_HOP, named_by
from weir.protocol.media_types import EVENT_STREAM, media_type
from weir.protocol.numbers import whole_number
from weir.upstream import tls
from weir.upstream.exchange import Exchange, Unanswered
from weir.upstream.places import Places
from weir.upstream.reuse import announced_seconds

MAX_HEAD_BYTES: Final = 64 * 1024
"""Of a reply's head, its trailers, and anything else that is not body: more is no honest server."""
MAX_HEADERS: Final = 256
"""Fields in a reply's head; ten times what servers send."""
KEEP_IDLE_SECONDS: Final = 4.0
"""How long an unused connection is kept: below the 5 s keep-alive of uvicorn and Node.js."""
JOINED_WRITE_BYTES: Final = 64 * 1024
"""A body up to this size is copied behind the head, which is cheaper than handing over two buffers."""
# a length that is there and cannot be read; -1 is one that is not there
_NO_LENGTH: Final = -2
_TIMER_PRECISION_SECONDS: Final = 0.001
"""A loop counts its timers in milliseconds; the clock is finer."""
_FOR_CLIENTS: Final = frozenset((b"location", b"content-location", b"set-cookie"))
"""Headers of a reply that an HTTP client acts on without being asked."""
_TELLING: Final = HOP_BY_HOP | _FOR_CLIENTS | {b"content-length", b"content-type", b"content-encoding"}
"""Headers of a reply that say how it is to be read, go no further, or are meant for an HTTP client."""


class Owner(Protocol):
    """Who holds the connection: told when it may be reused, and once when it never may be again."""

    def freed(self, connection: "Connection") -> None: ...
    def ended_early(self, unused_seconds: float) -> None:
        """The server ended a connection that had been unused for so long, or a request that was sent on it then."""

    def gone(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """A protocol for `loop.create_connection`. `idle_seconds`: the silence of the server that ends an exchange."""

    def __init__(self, owner: Owner, clock: Callable[[], float], idle_seconds: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.idle_since = 0.0
        self.keep_seconds = KEEP_IDLE_SECONDS
        # the owner's: which place it takes while it is in use, and for whom
        self.places: Places | None = None
        self.client: object = None
        self._owner = owner
        self._clock = clock
        self._idle_seconds = idle_seconds
        # None once the connection is lost
        self._parser: Any = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._exchange: Exchange | None = None
        # an exchange with a silence limit of its own, that limit, and who is told if it ends nothing
        self._special: tuple[Exchange, float, Callable[[], None] | None] | None = None
        self._headers: Headers = []
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        # bytes received since the last byte of a body
        self._dry = 0
        self._is_paused = False
        self._is_gone = False
        # how long it had been unused when the request was written; -1.0 on a connection that has served none before
        self._unused_seconds = -1.0
        # of the reply being parsed: its framing; answers a HEAD; a 1xx; complete; the last one here; without a length
        self._length = -1
        self._transfer_codings = b""
        self._is_bodiless = False
        self._is_interim = False
        self._is_finished = False
        self._is_last = False
        self._is_until_eof = False

    def ask(self, head: bytes, body: bytes, buffer_bytes: int, now: float, *, is_bodiless: bool = False) -> Exchange:
        """Send one request at the instant `now`, which is read before the write: that wakes the server.

        A reply body up to `buffer_bytes` is waited for; `is_bodiless`: none follows (HEAD).

        Raises:
            Unanswered: the connection is closed; nothing was sent.
        """
        transport = self._transport
        if self._is_gone or transport is None or transport.is_closing():
            raise Unanswered(FailureKind.CONNECT, "the server closed the connection before the request", Sent.NO)
        self._heard_at = now
        if self.idle_since:
            self._unused_seconds = now - self.idle_since
        if len(body) <= JOINED_WRITE_BYTES:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        self._is_bodiless = is_bodiless
        self._exchange = exchange = Exchange(self, buffer_bytes, now)
        if self._timer is None:
            self._timer = self.loop.call_later(self._idle_seconds, self._watch)
        return exchange

    @property
    def is_gone(self) -> bool:
        """Closed, or about to be."""
        return self._is_gone

    def is_usable(self, now: float) -> bool:
        """Whether it may carry another request: young enough, nothing received, not ended."""
        if self._is_gone or now - self.idle_since >= self.keep_seconds:
            return False
        # the loop tells of an end only in its next turn; the kernel knows of it now
        return self._poll is None or not self._poll.poll(0)

    def limit_silence(self, exchange: Exchange, seconds: float, told: Callable[[], None] | None = None) -> None:
        """For this exchange the server may be silent so long, instead of as long as for others.

        `told` is called when it was, and the exchange goes on.
        """
        if self._exchange is not exchange:
            return
        self._special = (exchange, seconds, told)
        if seconds < self._idle_seconds:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_later(seconds, self._watch)

    def resume(self, exchange: Exchange) -> None:
        """The reader of `exchange` has caught up."""
        if self._is_paused and self._exchange is exchange:
            self._read_on()

    def abandon(self, exchange: Exchange) -> None:
        """`exchange` is given up half-way: the rest of its reply would be taken for the next one."""
        if self._exchange is exchange:
            self._exchange = None
            self.drop()

    def close(self) -> None:
        """End it; an exchange under way fails."""
        self._fail(FailureKind.CANCELLED, "weir closed the connection")

    def drop(self) -> None:
        """Close at once, without waiting for the other side, and tell the owner. Once."""
        if self._is_gone:
            return
        self._is_gone = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        self._owner.gone(self)

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
            self.drop()
            return
        self._heard_at = now = self._clock()
        if not exchange.first_byte_at:
            exchange.first_byte_at = now
        self._dry += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._is_last = True
            if not self._is_finished:
                self._garbage(f"the reply is not HTTP/1.1: {error}")
        if self._is_finished:
            self._settle(exchange)
        elif self._dry > MAX_HEAD_BYTES:
            self._garbage(f"more than {MAX_HEAD_BYTES} bytes of the reply are not body")

    def eof_received(self) -> bool:
        """The server has closed its side: that ends a reply without a length, and cuts off any other."""
        if self._is_until_eof and self._exchange is not None:
            self._is_last = True
            self._settle(self._exchange)
        else:
            self._cut_off(FailureKind.RESET, "the server closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, one way or another."""
        if isinstance(exc, ssl.SSLError):
            has_served = self.idle_since > 0 or (self._exchange is not None and self._exchange.first_byte_at > 0)
            is_undone = not has_served and tls.refuses_certificate(tls.alert_of(exc))
            self._cut_off(FailureKind.TLS, tls.described(exc), is_undone=is_undone)
        else:
            self._cut_off(FailureKind.RESET, "the connection was reset" if exc else "the connection was closed")
        # both point back here: without this only the collector would free the connection and its last reply
        self._parser = self._special = None

    # httptools

    def on_message_begin(self) -> None:
        """A reply begins. Behind a complete one there must be none."""
        if self._is_finished:
            self._is_last = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head, or of the trailers, which go nowhere."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Decide what the reply is: interim, complete at its head, buffered, or a stream."""
        exchange, headers = self._exchange, self._headers
        self._headers = []
        if exchange is None or self._is_finished:
            return
        status = self._parser.get_status_code()
        if status >= 200:
            self._take_head(exchange, status, headers)
        elif status == 101 or status < 100:
            self._garbage(f"the server answers with status {status}, which nothing asked for")
        else:
            self._is_interim = True

    def on_body(self, piece: bytes) -> None:
        """Bytes of the body."""
        self._dry = 0
        if self._exchange is not None and not self._is_finished and self._exchange.take(piece):
            self._pause()

    def on_message_complete(self) -> None:
        """The reply ends here."""
        self._headers = []
        if self._is_interim:
            self._is_interim = False
        elif self._exchange is not None and not self._is_finished:
            self._is_finished = True
            if not self._parser.should_keep_alive():
                self._is_last = True

    # the rest

    def _take_head(self, exchange: Exchange, status: int, headers: Headers) -> None:
        self._length, self._transfer_codings = -1, b""
        for name, value in headers:
            if name in _TELLING:
                self._heed(exchange, name, value)
        if self._dry > MAX_HEAD_BYTES or len(headers) > MAX_HEADERS or self._transfer_codings not in (b"", b"chunked"):
            fault = self._fault(headers)
            if fault:
                self._garbage(fault)
                return
        if self._is_bodiless:
            self._is_finished = self._is_last = True
            self._length, exchange.is_events = -1, False
        elif self._length < 0:
            self._is_until_eof = not self._transfer_codings and status not in (204, 304)
        exchange.take_head(status, headers, self._length)

    def _heed(self, exchange: Exchange, name: bytes, value: bytes) -> None:
        if name == b"content-type":
            exchange.is_events = media_type(value) == EVENT_STREAM
        elif name == b"content-length":
            length = whole_number(value.strip())
            self._length = length if length is not None else _NO_LENGTH
        elif name == b"content-encoding":
            exchange.coding = b"" if value.strip().lower() == b"identity" else value
        elif name in _FOR_CLIENTS:
            exchange.is_for_clients = True
        else:
            self._heed_hop(exchange, name, value)

    def _heed_hop(self, exchange: Exchange, name: bytes, value: bytes) -> None:
        if not exchange.local:
            exchange.local = HOP_BY_HOP
        if name == b"transfer-encoding":
            self._transfer_codings += value.strip().lower()
        elif name == b"keep-alive":
            seconds = announced_seconds(value)
            self.keep_seconds = seconds if seconds is not None else self.keep_seconds
        elif name == b"connection":
            exchange.local |= named_by(value)

    def _fault(self, headers: Headers) -> str:
        """What is wrong with a head that the parser has accepted, "" if nothing."""
        if self._length == _NO_LENGTH:
            return "the reply's Content-Length is no number"
        if self._transfer_codings not in (b"", b"chunked"):
            return "the reply has a transfer coding that was not asked for"
        if len(headers) > MAX_HEADERS:
            return f"the reply has more than {MAX_HEADERS} header fields"
        if self._dry > MAX_HEAD_BYTES and sum(len(name) + len(value) for name, value in headers) > MAX_HEAD_BYTES:
            return f"the reply's head is larger than {MAX_HEAD_BYTES} bytes"
        return ""

    def _pause(self) -> None:
        if not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def _read_on(self) -> None:
        self._is_paused = False
        self._heard_at = self._clock()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _settle(self, exchange: Exchange) -> None:
        """The reply is complete: the connection is free again, or closed."""
        transport = self._transport
        self._exchange, self._is_finished, self._is_until_eof, self._dry = None, False, False, 0
        self._special = None
        # answered before it had read all of the request: it would read the rest as the next one
        if self._is_last or transport is None or transport.get_write_buffer_size():
            self.drop()
        else:
            if self._is_paused:
                self._read_on()
            self.idle_since = self._heard_at
            self._owner.freed(self)
        exchange.end()

    def _cut_off(self, kind: FailureKind, how: str, *, is_undone: bool = False) -> None:
        exchange = self._exchange
        where = "in the middle of the reply" if exchange and exchange.status else "before the reply"
        error = Unanswered(kind, f"{how} {where}", Sent.ANSWERED if exchange and exchange.status else Sent.YES)
        error.is_undone = is_undone
        if exchange is None:
            if self.idle_since and not self._is_gone:
                self._owner.ended_early(self._clock() - self.idle_since)
        elif self._unused_seconds >= 0 and not exchange.first_byte_at:
            error.is_stale = True
            self._owner.ended_early(self._unused_seconds)
        self._end(error)

    def _garbage(self, detail: str) -> None:
        self._fail(FailureKind.PROTOCOL, detail)

    def _fail(self, kind: FailureKind, detail: str, *, timer: str = "", after_seconds: float = 0.0) -> None:
        """Nothing more can be read here."""
        sent = Sent.ANSWERED if self._exchange is not None and self._exchange.status else Sent.YES
        self._end(Unanswered(kind, detail, sent, timer=timer, after_seconds=after_seconds))

    def _end(self, error: Unanswered) -> None:
        exchange, self._exchange = self._exchange, None
        self._special = None
        self._is_finished = False
        if exchange is not None:
            exchange.end(error)
        self.drop()

    def _watch(self) -> None:
        """The idle timer: set once, it looks when the last byte came and sets itself again."""
        self._timer = None
        exchange = self._exchange
        if exchange is None or self._is_gone:
            return
        now = self._clock()
        if self._is_paused or (exchange.excuse is not None and exchange.excuse()):
            self._heard_at = now
        left, limit = self._silence_left(exchange, now)
        if left > 0:
            # no later than any other exchange would need it, which may be the next one here
            pause = max(min(left, self._idle_seconds), _TIMER_PRECISION_SECONDS)
            self._timer = self.loop.call_later(pause, self._watch)
            return
        detail = f"no byte from the server for {limit:g} s (timer 'idle')"
        self._fail(FailureKind.TIMEOUT, detail, timer="idle", after_seconds=limit)

    def _silence_left(self, exchange: Exchange, now: float) -> tuple[float, float]:
        """How much longer the server may be silent, and the limit that this is of."""
        silent, idle_seconds, special = now - self._heard_at, self._idle_seconds, self._special
        if special is not None and special[0] is exchange:
            _, limit, told = special
            if told is None:
                return limit - silent, limit
            if silent < limit:
                return min(limit, idle_seconds) - silent, idle_seconds
            told()
        self._special = None
        return idle_seconds - silent, idle_seconds
