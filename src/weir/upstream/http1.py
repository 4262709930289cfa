"""A small HTTP/1.1 client for one server: a pool of connections, and requests on them.

Nothing here knows MCP. `Client` is what the edge needs; `Pool` is this implementation of it.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from weir.core.call import Headers
from weir.core.outcome import FailureKind, Sent
from weir.upstream.connection import Connection, Exchange, Unanswered

__all__ = ["Client", "Exchange", "Pool", "PoolSettings", "Unanswered"]


class Reply(Protocol):
    """A reply as it arrives; `Exchange` documents the members."""

    status: int
    headers: Headers
    is_stream: bool
    first_byte_at: float

    async def reply(self) -> None: ...
    def body(self) -> bytes: ...
    async def read(self) -> bytes: ...
    def close(self) -> None: ...


class Client(Protocol):
    """Asks one server over HTTP."""

    async def connection(self) -> Connection: ...


@dataclass(slots=True, frozen=True)
class PoolSettings:
    """Where the server is and what may be spent on reaching it.

    `connections`: open at a time, further requests wait. `connect_seconds`: for waiting, DNS, TCP, TLS and
    the proxy together. `idle_seconds`: without a byte from the server while a reply is awaited or read.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    connections: int = 100
    connect_seconds: float = 5.0
    idle_seconds: float = 300.0


class Pool:
    """Connections to one server: the one used last is used next, so that the others can grow old and go.

    `on_opened` is told how many seconds each new connection took.
    """

    def __init__(
        self, settings: PoolSettings, clock: Callable[[], float], on_opened: Callable[[float], None] = lambda _: None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._on_opened = on_opened
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._connecting = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    def idle_connection(self) -> Connection | None:
        """A connection that stands and may be used at once, or None."""
        idle = self._idle
        now = self._clock()
        while idle:
            connection = idle.pop()
            if connection.is_usable(now):
                return connection
            connection.close()
        return None

    async def connect(self) -> Connection:
        """A connection: a new one, or one that came free while waiting for one of the permitted number.

        Raises:
            Unanswered: with `Sent.NO`; not reached within `connect_seconds`, refused, or TLS failed.
        """
        seconds = self._settings.connect_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._connect_or_wait()
        except TimeoutError:
            raise Unanswered(
                FailureKind.TIMEOUT,
                f"no connection within {seconds:g} s",
                Sent.NO,
                timer="connect",
                after_seconds=seconds,
            ) from None

    async def _connect_or_wait(self) -> Connection:
        while len(self._open) + self._connecting >= self._settings.connections:
            await self._wait()
            connection = self.idle_connection()
            if connection is not None:
                return connection
        if self._is_closed:
            raise Unanswered(FailureKind.CONNECT, "weir is shutting down", Sent.NO)
        return await self._open_one()

    async def _wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake()
            raise
        finally:
            if not waiter.done():
                self._waiters.remove(waiter)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _open_one(self) -> Connection:
        began = self._clock()
        self._connecting += 1
        try:
            connection = await self._dial()
        except BaseException:
            self._connecting -= 1
            self._wake()
            raise
        self._connecting -= 1
        self._open.add(connection)
        self._on_opened(self._clock() - began)
        return connection

    async def _dial(self) -> Connection:
        settings = self._settings
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self._clock, settings.idle_seconds, self._freed, self._gone),
                settings.host,
                settings.port,
                ssl=settings.tls,
                server_hostname=settings.host if settings.tls else None,
            )
        except ssl.SSLError as error:
            raise Unanswered(FailureKind.TLS, f"TLS failed: {error.reason or error}", Sent.NO) from None
        except OSError as error:
            raise Unanswered(FailureKind.CONNECT, f"cannot connect: {error.strerror or error}", Sent.NO) from None
        return connection

    def _freed(self, connection: Connection) -> None:
        self._idle.append(connection)
        if self._waiters:
            self._wake()
        if self._sweeper is None:
            self._sweeper = connection.loop.call_later(connection.keep_seconds, self._sweep)

    def _gone(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._wake()

    def _sweep(self) -> None:
        """Close what has been unused for too long; one timer for all of them."""
        self._sweeper = None
        now = self._clock()
        for connection in [each for each in self._idle if now - each.idle_since >= each.keep_seconds]:
            connection.close()
        if self._idle:
            due = min(each.idle_since + each.keep_seconds for each in self._idle)
            self._sweeper = self._idle[0].loop.call_later(max(due - now, 0.001), self._sweep)

    async def aclose(self) -> None:
        """Close every connection; exchanges under way fail, waiters too."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._open):
            connection.close()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(Unanswered(FailureKind.CONNECT, "weir is shutting down", Sent.NO))
        # aborted transports close their sockets in the loop's next turn
        await asyncio.sleep(0)
