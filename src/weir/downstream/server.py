"""One connection of a client: uvicorn's, with the limits it lacks.

uvicorn caps neither header bytes nor their number and has no time limit on heads (docs/decisions/0001).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from weir.core.budget import Account, Budget
from weir.downstream.acceptor import Place
from weir.downstream.exchange import STATUS_LINES, Exchange
from weir.downstream.identity import peer_address
from weir.downstream.message_ends import MessageEnds
from weir.downstream.request_head import BadHeadError, read_head, refusal_text, without_upgrade
from weir.downstream.unread import Unread

LINGER_SECONDS: Final = 5.0
"""For a client to stop sending a body that nobody wants and to take the answer, as nginx's lingering_timeout."""

WAITING_LIMIT_BYTES: Final = 64 * 1024
"""A client may send so much behind a request that is not answered yet; beyond it the socket is left unread.

Below the limit the socket is read, because only reading tells that the client has left.
"""

OnRefused = Callable[[int, str, str], None]


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Limits of one port. The defaults are always on."""

    host: str
    port: int
    tls: SSLContext | None = None
    header_limit_bytes: int = 64 * 1024  # what nginx and Envoy take at most by default, within a factor of two
    header_limit_count: int = 100  # Apache's LimitRequestFields default
    head_seconds: float = 10.0  # a whole head, and a TLS handshake; more is a slow-loris
    body_silence_seconds: float = 30.0  # a body below the least rate for this long is a slow-loris too
    client_read_seconds: float = 60.0  # a reply that waits for its client is taken at the least rate over this time
    keep_alive_seconds: float = 75.0  # above what clients and load balancers use (60 s), so that they close first
    drain_seconds: float = 30.0
    least_bytes_per_second: int = 500  # Apache's MinRate: what sends or reads more slowly holds memory for nothing
    connections: int = 10_000
    connections_of_one_client: int = 10_000
    spares: Callable[[str], bool] = lambda address: False
    """Whether an address stands for many clients (a trusted proxy)."""
    serves_on_reserve: bool = False
    budget: Budget = field(default_factory=lambda: Budget(256 * 1024 * 1024))
    """Counts all request bodies and large replies; shared by what else holds memory for clients."""


class ClientConnection(HttpToolsProtocol):
    """One downstream connection."""

    cycle: Exchange | None  # type: ignore[assignment]  # ours, not uvicorn's

    def __init__(
        self,
        settings: ServerSettings,
        on_limit: Callable[[str], None],
        on_refused: OnRefused,
        place: Place,
        **uvicorns: Any,
    ) -> None:
        super().__init__(**uvicorns)
        self.settings = settings
        self._place = place
        self.account: Account = settings.budget.account(place.client)
        self._unsent_bytes = 0
        self._on_limit = on_limit
        self._on_refused = on_refused
        self._task: asyncio.Task[None] | None = None
        self._ends = MessageEnds()
        self._waiting = bytearray()
        self._is_deaf = self._is_lost = self._is_unread = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._awaits_head = True
        self._idle_since = 0.0
        self._url = b""
        self.cycle = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # asyncio hands a Transport
        super().connection_made(transport)
        if self.client is not None:
            self.client = (peer_address(self.client[0]), self.client[1])
        settings = self.settings
        self._unread = Unread(
            transport, self.loop, settings.client_read_seconds, settings.least_bytes_per_second, self._nothing_is_read
        )
        self._head_timer = self.loop.call_later(settings.head_seconds, self._head_is_late)
        self.timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        self._place.release()
        self._give_back_unsent()
        self._stop_head_timer()
        self._unread.stop()
        self._unset_keepalive_if_required()
        self.flow.resume_writing()
        self._waiting.clear()
        self._is_deaf = True
        if self.cycle is not None and not self.cycle.is_complete:
            self.cycle.client_gone()
            if self._task is not None:
                # the client is gone: what is being done for it ends here, upstream exchange included
                self._task.cancel("client disconnected")
        self.parser = None  # type: ignore[assignment]  # as uvicorn does: nothing is parsed any more
        self._is_lost = True
        if self._task is None:
            self._let_go()

    def _let_go(self) -> None:
        """Nothing happens here any more: let go of what points back, so that memory is free without the collector.

        A body of 16 MiB is to be free when its connection ends, and a collection may be minutes away.
        """
        self.cycle = None
        self._unread.stop()
        self.account.leave()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._is_unread = True
        self._unread.held()
        # it is there already and must go out: it only makes room for less of what is to come
        self._give_back_unsent()
        self._unsent_bytes = self.transport.get_write_buffer_size()
        self.account.hold(self._unsent_bytes)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._is_unread = False
        self._unread.released()
        self._give_back_unsent()
        if self._waiting and not self._is_answering():
            self._go_on()

    def _give_back_unsent(self) -> None:
        self.account.give_back(self._unsent_bytes)
        self._unsent_bytes = 0

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        if self._waiting or self._is_answering() or (self._is_unread and self._awaits_head):
            # pipelined: it is looked at when the call under way has ended, and its client has read the answer
            self._waiting += data
            if len(self._waiting) > WAITING_LIMIT_BYTES:
                self.flow.pause_reading()
            return
        if self._awaits_head and not self._head_bytes and (head_bytes := self._ends.head_of(data)):
            self._parse_request(data, head_bytes)
            return
        self._parse_and_keep(data)

    def _is_answering(self) -> bool:
        """Whether a whole request has been read and its reply is not written yet."""
        return self._awaits_head and self.cycle is not None and not self.cycle.is_complete

    def _parse_request(self, data: bytes, head_bytes: int) -> None:
        """Feed the parser a head, and what came behind it."""
        self._head_bytes = head_bytes
        if head_bytes == len(data):
            self._feed(data)
            self._check_partial_head()
            return
        # bytes and no views: a copy of so few costs less
        self._feed(data[:head_bytes])
        rest = data[head_bytes:]
        if self._ends.body_left == len(rest) and not self._is_deaf:
            self._ends.body_left = 0
            self._feed(rest)
        else:
            self._parse_and_keep(rest)

    def _parse_and_keep(self, data: bytes) -> None:
        """Feed the parser; what is behind the end of a request waits."""
        taken = self._parse(data)
        if taken < len(data):
            self._waiting += data[taken:]

    def _parse(self, data: bytes | bytearray) -> int:
        """Feed the parser up to the end of one request; returns how much of `data` was taken."""
        at, size = 0, len(data)
        with memoryview(data) as view:
            while at < size and not self._is_deaf and not self._is_answering():
                end = self._ends.next_cut(data, at)
                if self._awaits_head:
                    self._head_bytes += end - at
                with view[at:end] as piece:
                    self._feed(piece)
                at = end
        self._check_partial_head()
        return at

    def _feed(self, piece: bytes | memoryview) -> None:
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self._decline_upgrade()
        except httptools.HttpParserError:
            self._malformed()

    def _decline_upgrade(self) -> None:
        """Begin the request again, without its offer: the parser drops the body of one that offers an upgrade.

        Nothing is ever upgraded. Java's HttpClient offers h2c with the first request of each connection.
        """
        verb = self.parser.get_method()
        if verb == b"CONNECT":
            self._reject(400, "malformed_http")
            return
        text = without_upgrade(verb, self._url, self.parser.get_http_version(), self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(memoryview(text))

    def _malformed(self) -> None:
        """The parser can make nothing of the bytes: of a head, or of the body of a request under way."""
        exchange = self.cycle
        if self._awaits_head or exchange is None or exchange.is_complete:
            self._reject(400, "malformed_http")
            return
        self._on_limit("malformed_http")
        self._is_deaf = True
        exchange.broke_off()

    def _go_on(self) -> None:
        """The call under way has ended: parse what has arrived behind it, once the client has read the answer."""
        if self._is_unread:
            return
        if self._waiting:
            taken = self._parse(self._waiting)
            # dropping the front of a bytearray moves no bytes
            del self._waiting[:taken]
        if self.flow.read_paused and len(self._waiting) <= WAITING_LIMIT_BYTES:
            self.flow.resume_reading()

    def _check_partial_head(self) -> None:
        if self._is_deaf or not self._awaits_head or not self._head_bytes:
            return
        if self._head_bytes > self.settings.header_limit_bytes:
            self._reject(431, "header_size")
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.settings.head_seconds, self._head_is_late)

    def on_message_begin(self) -> None:
        self._url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._awaits_head:
            # a trailer: it comes after all checks of the head, and without a limit (RFC 9110, section 6.5.1)
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            # see _decline_upgrade
            return
        self._stop_head_timer()
        if self._head_bytes > self.settings.header_limit_bytes:
            self._reject(431, "header_size")
            return
        if len(self.headers) > self.settings.header_limit_count:
            self._reject(431, "header_count")
            return
        try:
            head = read_head(self._url, self.headers, self.parser.get_http_version())
        except BadHeadError as error:
            self._reject(error.status, error.reason)
            return
        self._awaits_head = False
        self._ends.body_left = head.body_length
        exchange = Exchange(self, self.parser.get_method().decode("ascii"), head)
        self.cycle = exchange
        self._start(exchange)

    def _start(self, exchange: Exchange) -> None:
        # the task's owner is uvicorn's Server: it keeps it in `tasks`, drains and cancels it
        exchange.task = self._task = self.loop.create_task(exchange.run(self.app))
        self.tasks.add(self._task)

    def on_body(self, body: bytes) -> None:
        if self.cycle is not None and not self.cycle.is_complete and self.cycle.feed(body):
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        if self._awaits_head:
            # of a request that was refused, or begins again without its offer of an upgrade
            return
        self._awaits_head = True
        self._head_bytes = 0
        if self.cycle is not None:
            self.cycle.feed_end()

    # from the exchange

    def exchange_complete(self, exchange: Exchange) -> None:
        """The reply is written: close, take the next pipelined request, or wait for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if not exchange.keep_alive:
            if exchange.is_request_complete:
                self._hang_up()
            else:
                self._linger()
            return
        self._idle_since = self.loop.time()
        self._go_on()

    def exchange_over(self, exchange: Exchange) -> None:
        """The exchange's task ends; the connection can go on only after a complete reply."""
        if exchange.task is not None:
            self.tasks.discard(exchange.task)
        if exchange.task is self._task:
            # else it is the next pipelined request's already
            self._task = None
        if not exchange.is_complete and not self.transport.is_closing():
            # closing without the body's proper end is what tells the client that it is not whole
            exchange.flush()
            self._hang_up()
        if self._is_lost and self._task is None:
            self._let_go()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that nobody uses. One timer looks now and then, instead of one for each request."""
        is_idle = self.cycle is not None and self.cycle.is_complete and not self._head_bytes
        left = self._idle_since + self.settings.keep_alive_seconds - self.loop.time() if is_idle else 0.0
        if is_idle and left <= 0:
            self._hang_up()
            return
        self.timeout_keep_alive_task = self.loop.call_later(
            left if is_idle else self.settings.keep_alive_seconds, self.timeout_keep_alive_handler
        )

    def shutdown(self) -> None:
        """Drain: an idle connection closes now, a busy one after its reply."""
        if self.cycle is None or self.cycle.is_complete:
            self._hang_up()
        else:
            self.cycle.keep_alive = False

    def _linger(self) -> None:
        """Let the client send the rest to nobody: closed at once, it would be told of a reset and not of the answer."""
        self._is_deaf = True
        self._stop_head_timer()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._head_timer = self.loop.call_later(LINGER_SECONDS, self._hang_up)

    def _hang_up(self) -> None:
        """Close, when the client has taken what was written."""
        self.transport.close()
        self._unread.closing()

    # limits

    def _nothing_is_read(self) -> None:
        self._on_limit("client_read")
        self.transport.abort()

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._head_bytes:
            self._reject(408, "head_seconds")
        else:
            self._hang_up()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _reject(self, status: int, limit: str) -> None:
        """Answer before there is a request to speak of, and close."""
        if self._is_deaf or self.transport.is_closing():
            return
        self._on_limit(limit)
        self._on_refused(status, limit, self.client[0] if self.client else "")
        self.transport.write(STATUS_LINES[status] + refusal_text(limit))
        self._linger()
