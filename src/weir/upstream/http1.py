"""A small HTTP/1.1 client for one server: a pool of connections, and requests on them. It knows no MCP.

The edge uses it through `Client`, so that another client can take its place.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from weir.core.outcome import Blame, FailureKind, Sent
from weir.upstream.connection import Connection
from weir.upstream.dialing import Dialer
from weir.upstream.exchange import Exchange, Shortage, Unanswered
from weir.upstream.places import Places, Waiter, requests_share, streams_share
from weir.upstream.reuse import Reuse


class Request:
    """What to ask. `lines` are the headers as they are written, `name: value`.

    They must be end-to-end ones and complete: Host and Content-Length are the caller's. `client` stands for who asks
    (None: nobody in particular, see Places). With `is_stream` it may last for ever, and takes no place of the requests.
    `opening`, where it is set, is called when a connection begins to be opened for it.
    """

    # no NamedTuple: made for each call, and compiled it costs a tenth of one
    __slots__ = ("body", "client", "is_stream", "lines", "opening", "target", "verb")

    def __init__(
        self,
        verb: bytes,
        target: bytes,
        lines: Sequence[bytes],
        body: bytes,
        client: Any = None,
        is_stream: bool = False,
    ) -> None:
        self.verb: Final = verb
        self.target: Final = target
        self.lines: Final = lines
        self.body: Final = body
        self.client: Final = client
        self.is_stream: Final = is_stream
        self.opening: Callable[[], None] | None = None


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
            Shortage: weir has no place, no descriptor or no port for it.
            Unanswered: there is none in time, or the request cannot be written as HTTP.
        """

    async def aclose(self) -> None:
        """Close all connections; exchanges under way fail."""


@dataclass(slots=True, frozen=True)
class PoolSettings:
    """What may be spent on one server."""

    connections: int = 100
    """For requests, open at a time; further requests wait."""
    streams: int = 1000
    """For long-lived streams, beside those for requests."""
    connect_seconds: float = 5.0
    """For waiting, DNS, TCP, TLS and proxy together."""
    idle_seconds: float = 300.0
    """Without a byte from the server while a reply is awaited or read."""
    reply_buffer_bytes: int = 4 * 1024 * 1024
    """A larger reply is a stream."""


class Watcher(Protocol):
    """Told what the pool does."""

    def connected(self, seconds: float) -> None:
        """A new connection stands, after so long."""

    def crowded(self, limit: str) -> None:
        """No place is free (`connections` or `streams`): a request waits."""


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
        self._requests = Places("connections", settings.connections, requests_share(settings.connections))
        self._streams = Places("streams", settings.streams, streams_share(settings.streams))
        self._reuse = Reuse()
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    def send(self, request: Request) -> Exchange | None:
        """See Client."""
        idle = self._idle
        if not idle or (self._reuse.limit_seconds != math.inf and not self._may_reuse(idle[-1])):
            return None
        places = self._streams if request.is_stream else self._requests
        if places.taken >= places.share and not places.admits(request.client, self._open):
            return None
        head = _write_head(request)
        now = self._clock()
        while idle:
            connection = idle.pop()
            if connection.is_usable(now):
                places.take(connection, request.client)
                return connection.ask(head, request.body, self._buffer_bytes, now, is_bodiless=request.verb == b"HEAD")
            connection.drop()
        return None

    async def connect_and_send(self, request: Request, seconds: float | None = None) -> Exchange:
        """See Client."""
        head = _write_head(request)
        seconds = self._settings.connect_seconds if seconds is None else max(0.0, seconds)
        places = self._streams if request.is_stream else self._requests
        acquisition = _Acquisition(self, places, request)
        try:
            async with asyncio.timeout(seconds):
                connection = await acquisition.run()
        except TimeoutError:
            if acquisition.is_waiting:
                raise self._crowded(places, request.client) from None
            detail = f"no connection within {seconds:g} s (timer 'connect')"
            raise Unanswered(FailureKind.TIMEOUT, detail, Sent.NO, timer="connect", after_seconds=seconds) from None
        now = self._clock()
        return connection.ask(head, request.body, self._buffer_bytes, now, is_bodiless=request.verb == b"HEAD")

    async def aclose(self) -> None:
        """See Client."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for places in (self._requests, self._streams):
            places.close(_closed())
        for connection in list(self._open):
            connection.close()
        # an aborted transport closes its socket in the loop's next turn
        await asyncio.sleep(0)

    # the owner's side of a connection

    def freed(self, connection: Connection) -> None:
        """It may carry another request: the waiter whose turn it is gets it."""
        if connection.places is not None:
            connection.places.free(connection)
        if self._reuse.limit_seconds == 0.0 and self._reuse.is_off(self._clock()):
            self._keep_to_watch(connection)
            return
        if (self._requests.has_waiters or self._streams.has_waiters) and self._hand_over(connection):
            return
        if self._requests.taken + len(self._idle) >= self._requests.limit:
            # it was a stream's, and there are as many for requests as there may be
            connection.drop()
            return
        self._keep(connection)

    def _hand_over(self, connection: Connection) -> bool:
        for places in (self._requests, self._streams):
            chosen = places.next(self._open)
            if chosen is not None:
                client, waiter = chosen
                places.take(connection, client)
                waiter.set_result(connection)
                return True
        return False

    def ended_early(self, unused_seconds: float) -> None:
        """The server does not keep connections for as long as weir does."""
        self._reuse.ended_early(unused_seconds, self._clock())

    def _may_reuse(self, connection: Connection) -> bool:
        reuse, now = self._reuse, self._clock()
        return reuse.allows(now - connection.idle_since, now)

    def _keep_to_watch(self, connection: Connection) -> None:
        """Nothing is reused: one connection is left unused, to see whether the server still ends it early."""
        if self._idle or self._requests.taken >= self._requests.limit:
            connection.drop()
            return
        self._keep(connection)
        self.offer()

    def _keep(self, connection: Connection) -> None:
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = connection.loop.call_later(connection.keep_seconds, self._sweep)

    def gone(self, connection: Connection) -> None:
        """It is closed: its place is free."""
        self._open.discard(connection)
        if connection.places is not None:
            connection.places.free(connection)
        elif connection in self._idle:
            self._idle.remove(connection)
        self.offer()

    # the side of those who wait

    def take_idle(self, places: Places, client: object) -> Connection | None:
        """A connection that became free in the meantime."""
        while self._idle and self._may_reuse(self._idle[-1]):
            connection = self._idle.pop()
            if connection.is_usable(self._clock()):
                places.take(connection, client)
                return connection
            connection.drop()
        return None

    def check_open(self) -> None:
        """Raises Unanswered once the pool is closed."""
        if self._is_closed:
            raise _closed()

    def admits(self, places: Places, client: object) -> bool:
        """Whether the client may take a place now."""
        return places.admits(client, self._open)

    def is_usable(self, connection: Connection) -> bool:
        """Whether a connection that was handed over may still carry a request."""
        return connection.is_usable(self._clock())

    def tell_crowded(self, places: Places) -> None:
        """A request begins to wait."""
        if self._watcher is not None:
            self._watcher.crowded(places.name)

    def offer(self) -> None:
        """Places may have come free: give each waiter that has one now the right to open a connection."""
        for places in (self._requests, self._streams):
            while (chosen := places.next(self._open)) is not None:
                client, waiter = chosen
                places.reserve(client)
                waiter.set_result(None)

    async def open_reserved(self, places: Places, client: object) -> Connection:
        """Open a connection in a place that is reserved for it.

        Raises:
            Unanswered: it cannot be opened.
        """
        began = self._clock()
        if self._idle and self._requests.taken + len(self._idle) > self._requests.limit:
            # it is kept, and not reused: see Reuse
            self._idle[0].drop()
        try:
            connection = await self._dialer.dial(self._new)
        except BaseException:
            places.opened(client)
            self.offer()
            raise
        places.opened(client)
        if self._is_closed:
            connection.drop()
            raise _closed()
        places.take(connection, client)
        if connection.is_gone:
            places.free(connection)
        else:
            self._open.add(connection)
        if self._watcher is not None:
            self._watcher.connected(self._clock() - began)
        return connection

    def _crowded(self, places: Places, client: object) -> Shortage:
        if places.taken < places.limit and client is not None:
            detail = f"This client has as many {places.name} to the server as one client may have."
            return Shortage(detail, Blame.DOWNSTREAM)
        return Shortage(f"All {places.limit} {places.name} that weir keeps to the server are in use.")

    def _new(self) -> Connection:
        return Connection(self, self._clock, self._settings.idle_seconds)

    def _sweep(self) -> None:
        """Close what has been unused for too long; one timer for all."""
        self._sweeper = None
        now = self._clock()
        for connection in [each for each in self._idle if now - each.idle_since >= each.keep_seconds]:
            self._reuse.outlived()
            connection.drop()
        if self._idle:
            left = min(each.idle_since + each.keep_seconds - now for each in self._idle)
            self._sweeper = self._idle[0].loop.call_later(max(left, 0.001), self._sweep)


class _Acquisition:
    """One request on its way to a connection. `is_waiting`: for a place; the server has nothing to do with that."""

    __slots__ = ("_client", "_opening", "_places", "_pool", "is_waiting")

    def __init__(self, pool: Pool, places: Places, request: Request) -> None:
        self._pool = pool
        self._places = places
        self._client = request.client
        self._opening = request.opening
        self.is_waiting = False

    async def run(self) -> Connection:
        pool, places, client = self._pool, self._places, self._client
        pool.check_open()
        if pool.admits(places, client):
            idle = pool.take_idle(places, client)
            if idle is not None:
                return idle
            places.reserve(client)
            return await self._open()
        given = await self._wait()
        if given is not None:
            if pool.is_usable(given):
                return given
            # it died on the way here: its place is ours, not the next one's
            places.reserve(client)
            given.drop()
        return await self._open()

    def _open(self) -> Coroutine[Any, Any, Connection]:
        if self._opening is not None:
            self._opening()
        return self._pool.open_reserved(self._places, self._client)

    async def _wait(self) -> Connection | None:
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._places.wait(self._client, waiter)
        self._pool.tell_crowded(self._places)
        self.is_waiting = True
        try:
            given = await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._places.forget(self._client, waiter)
            elif waiter.exception() is None:
                self._hand_back(waiter.result())
            raise
        self.is_waiting = False
        return given

    def _hand_back(self, given: Connection | None) -> None:
        """This request was cancelled in the turn in which it was given a connection or a place."""
        if given is None:
            self._places.opened(self._client)
            self._pool.offer()
        elif not given.is_gone:
            self._pool.freed(given)


def _closed() -> Unanswered:
    return Unanswered(FailureKind.CONNECT, "weir has closed its connections", Sent.NO)


def _write_head(request: Request) -> bytes:
    """The request's head.

    Raises:
        Unanswered: a value would end its line early.
    """
    verb, target, lines = request.verb, request.target, request.lines
    head = b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (verb, target, b"\r\n".join(lines))
    # one CR LF for each line and for the end; any other, and any NUL, came with a value
    ends = len(lines) + 2
    if head.count(b"\r") != ends or head.count(b"\n") != ends or 0 in head or b" " in target:
        raise Unanswered(FailureKind.INTERNAL, "the request cannot be written as HTTP", Sent.NO)
    return head
