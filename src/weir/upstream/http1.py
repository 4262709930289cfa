"""A small HTTP/1.1 client for one server: a pool of connections, and requests on them. It knows no MCP.

The edge uses it through `Client`, so that another client can take its place.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from weir.core.outcome import FailureKind, Sent
from weir.upstream.connection import Connection
from weir.upstream.dialing import Dialer
from weir.upstream.exchange import Exchange, Unanswered

_ENDS_A_LINE = b"\r\n\0"


class Request(NamedTuple):
    """What to ask. `lines` are the headers as they are written, `name: value`.

    They must be end-to-end ones and complete: Host and Content-Length are the caller's.
    """

    verb: bytes
    target: bytes
    lines: Sequence[bytes]
    body: bytes


class Client(Protocol):
    """Asks one server."""

    def send(self, request: Request) -> Exchange | None:
        """Send at once if a connection stands ready, else None.

        Raises:
            Unanswered: the request cannot be written as HTTP.
        """

    async def connect_and_send(self, request: Request, seconds: float | None = None) -> Exchange:
        """Send as soon as there is a connection, which may take so long; None: as the client is set.

        Raises:
            Unanswered: there is none in time, or the request cannot be written as HTTP.
        """

    async def aclose(self) -> None:
        """Close all connections; exchanges under way fail."""


@dataclass(slots=True, frozen=True)
class PoolSettings:
    """What may be spent on one server.

    `connections`: open at a time, further requests wait. `connect_seconds`: for waiting, DNS, TCP, TLS and
    proxy together. `idle_seconds`: without a byte from the server while a reply is awaited or read.
    `reply_buffer_bytes`: a larger reply is a stream.
    """

    connections: int = 100
    connect_seconds: float = 5.0
    idle_seconds: float = 300.0
    reply_buffer_bytes: int = 4 * 1024 * 1024


class Watcher(Protocol):
    """Told what the pool does."""

    def connected(self, seconds: float) -> None:
        """A new connection stands, after so long."""

    def crowded(self) -> None:
        """All connections are in use: a request waits."""


class Pool:
    """The client: connections to one server. The one used last is used next, so that spare ones grow old and go."""

    def __init__(
        self, dialer: Dialer, settings: PoolSettings, clock: Callable[[], float], watcher: Watcher | None = None
    ) -> None:
        self._dialer = dialer
        self._settings = settings
        self._buffer_bytes = settings.reply_buffer_bytes
        self._clock = clock
        self._watcher = watcher
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        # of the permitted number: being opened, or promised to one who waited
        self._reserved = 0
        # each is given a free connection, or None for the right to open one
        self._waiters: OrderedDict[asyncio.Future[Connection | None], None] = OrderedDict()
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    def send(self, request: Request) -> Exchange | None:
        """See Client."""
        idle = self._idle
        if not idle:
            return None
        head = _write_head(request)
        now = self._clock()
        while idle:
            connection = idle.pop()
            if connection.is_usable(now):
                return connection.ask(head, request.body, self._buffer_bytes, is_bodiless=request.verb == b"HEAD")
            connection.drop()
        return None

    async def connect_and_send(self, request: Request, seconds: float | None = None) -> Exchange:
        """See Client."""
        head = _write_head(request)
        seconds = self._settings.connect_seconds if seconds is None else max(0.0, seconds)
        try:
            async with asyncio.timeout(seconds):
                connection = await self._acquire()
        except TimeoutError:
            detail = f"no connection within {seconds:g} s (timer 'connect')"
            raise Unanswered(FailureKind.TIMEOUT, detail, Sent.NO, timer="connect", after_seconds=seconds) from None
        return connection.ask(head, request.body, self._buffer_bytes, is_bodiless=request.verb == b"HEAD")

    async def aclose(self) -> None:
        """See Client."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_exception(_closed())
        for connection in list(self._open):
            connection.close()
        # an aborted transport closes its socket in the loop's next turn
        await asyncio.sleep(0)

    # the owner's side of a connection

    def freed(self, connection: Connection) -> None:
        """It may carry another request: whoever has waited longest gets it."""
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = connection.loop.call_later(connection.keep_seconds, self._sweep)

    def gone(self, connection: Connection) -> None:
        """It is closed: its place is free."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._offer_place()

    # the rest

    async def _acquire(self) -> Connection:
        if self._is_closed:
            raise _closed()
        if not self._has_place():
            given = await self._wait()
            if given is not None and given.is_usable(self._clock()):
                return given
            if given is not None:
                # it died on the way here: its place is ours, not the next one's
                self._reserved += 1
                given.drop()
        else:
            self._reserved += 1
        return await self._open_reserved()

    def _has_place(self) -> bool:
        return len(self._open) + self._reserved < self._settings.connections

    async def _wait(self) -> Connection | None:
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        if self._watcher is not None:
            self._watcher.crowded()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._waiters.pop(waiter, None)
            elif waiter.exception() is None:
                self._hand_back(waiter.result())
            raise

    def _hand_back(self, given: Connection | None) -> None:
        """Whoever it was given to has been cancelled in the same turn."""
        if given is not None:
            if not given.is_gone:
                self.freed(given)
        else:
            self._reserved -= 1
            self._offer_place()

    def _offer_place(self) -> None:
        while self._waiters and self._has_place():
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                self._reserved += 1
                waiter.set_result(None)

    async def _open_reserved(self) -> Connection:
        began = self._clock()
        try:
            connection = await self._dialer.dial(self._new)
        except BaseException:
            self._reserved -= 1
            self._offer_place()
            raise
        self._reserved -= 1
        if self._is_closed:
            connection.drop()
            raise _closed()
        if not connection.is_gone:
            self._open.add(connection)
        if self._watcher is not None:
            self._watcher.connected(self._clock() - began)
        return connection

    def _new(self) -> Connection:
        return Connection(self, self._clock, self._settings.idle_seconds)

    def _sweep(self) -> None:
        """Close what has been unused for too long; one timer for all."""
        self._sweeper = None
        now = self._clock()
        for connection in [each for each in self._idle if now - each.idle_since >= each.keep_seconds]:
            connection.drop()
        if self._idle:
            left = min(each.idle_since + each.keep_seconds - now for each in self._idle)
            self._sweeper = self._idle[0].loop.call_later(max(left, 0.001), self._sweep)


def _closed() -> Unanswered:
    return Unanswered(FailureKind.CONNECT, "weir has closed its connections", Sent.NO)


def _write_head(request: Request) -> bytes:
    """The request's head.

    Raises:
        Unanswered: a value would end its line early.
    """
    verb, target, lines, _ = request
    head = b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (verb, target, b"\r\n".join(lines))
    # one CR LF for each line and for the end; any other, and any NUL, came with a value
    if len(head) - len(head.translate(None, _ENDS_A_LINE)) != 2 * len(lines) + 4 or b" " in target:
        raise Unanswered(FailureKind.INTERNAL, "the request cannot be written as HTTP", Sent.NO)
    return head
