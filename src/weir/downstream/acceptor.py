"""Accepts connections: so many at once, so many of one client, and never a port that is dead without a word.

The loop's own server accepts without a limit, before any TLS handshake, and says nothing where descriptors run out.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from weir.core.origin import network_of
from weir.core.shortage import is_shortage

ACCEPTS_A_TURN = 64
"""Connections taken in one turn of the loop; what is open already is served in between."""
LINGER_SECONDS = 1.0
"""For a refused client to read its answer before the socket is closed."""
LINGERING_LIMIT = 16
"""Refused sockets kept for that long at a time; each takes a descriptor."""
PAUSE_SECONDS = 0.1
"""Before the next try where not even the reserve gives a descriptor."""
RESERVE = 4
"""Descriptors kept closed to all else: one each for a connection that is answered although there are no more."""

_FULL = b"weir has as many connections as it may have\n"
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n" % len(_FULL)
) + _FULL


@dataclass(slots=True, frozen=True)
class AcceptSettings:
    """How many connections one port has."""

    connections: int
    of_one_client: int
    """A client is an IPv4 address or an IPv6 /64."""
    tls: ssl.SSLContext | None = None
    handshake_seconds: float | None = None
    spares: Callable[[str], bool] = lambda address: False
    """Whether an address stands for many clients (a trusted proxy) and has no share."""
    serves_on_reserve: bool = False
    """Serve where there is no descriptor left, and not only say so: what tells how weir is."""


class Place:
    """The place of one connection. `release` gives it back, once."""

    __slots__ = ("_acceptor", "client")

    def __init__(self, acceptor: "Acceptor", client: str) -> None:
        self._acceptor: Acceptor | None = acceptor
        self.client = client

    def release(self) -> None:
        """The connection has ended."""
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is not None:
            acceptor.released(self.client)


class Acceptor:
    """Accepts on one listening socket. `make` makes the protocol of a connection, which releases its place."""

    def __init__(
        self,
        listener: socket.socket,
        settings: AcceptSettings,
        make: Callable[[Place], asyncio.Protocol],
        on_limit: Callable[[str], None],
    ) -> None:
        self._listener = listener
        self._settings = settings
        self._make = make
        self._on_limit = on_limit
        self._clients: dict[str, int] = {}
        self._reserve: list[int] = []
        self._lingering: deque[socket.socket] = deque()
        self._group: asyncio.TaskGroup | None = None
        self.open = 0
        """Connections that stand or shake hands."""

    async def run(self) -> None:
        """Accept until cancelled; connections that stand go on, handshakes under way end."""
        loop = asyncio.get_running_loop()
        self._refill()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                loop.add_reader(self._listener, self._accept)
                await loop.create_future()
        finally:
            self.stop()
            self._close_spare()

    def stop(self) -> None:
        """Accept no more, at once: the listener may be closed now."""
        if self._group is not None:
            self._group = None
            asyncio.get_running_loop().remove_reader(self._listener)

    def released(self, client: str) -> None:
        """One connection of the client less."""
        self.open -= 1
        left = self._clients[client] - 1
        if left:
            self._clients[client] = left
        else:
            del self._clients[client]
        if self._group is not None:
            self._refill()

    def _accept(self) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                connection, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                if not is_shortage(error) or not self._accept_on_reserve():
                    self._pause()
                    return
                continue
            self._welcome(connection, address[0])

    def _welcome(self, connection: socket.socket, address: str) -> None:
        settings, client = self._settings, network_of(address)
        if self.open >= settings.connections:
            self._refuse(connection, "connections")
        elif self._clients.get(client, 0) >= settings.of_one_client and not settings.spares(address):
            self._refuse(connection, "connections_of_client")
        else:
            self._take(connection, client)

    def _take(self, connection: socket.socket, client: str) -> None:
        assert self._group is not None
        self.open += 1
        self._clients[client] = self._clients.get(client, 0) + 1
        self._group.create_task(self._establish(connection, Place(self, client)))

    async def _establish(self, connection: socket.socket, place: Place) -> None:
        settings = self._settings
        try:
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._make(place),
                connection,
                ssl=settings.tls,
                ssl_handshake_timeout=settings.handshake_seconds,
            )
        except OSError:
            # the client left, or does not speak TLS (ssl.SSLError is one too)
            connection.close()
            place.release()
        except BaseException:
            connection.close()
            place.release()
            raise

    def _refuse(self, connection: socket.socket, limit: str) -> None:
        """Answer without reading, and close a moment later: closed at once, a client could lose the answer."""
        self._on_limit(limit)
        self._answer(connection)
        self._lingering.append(connection)
        if len(self._lingering) > LINGERING_LIMIT:
            self._lingering.popleft().close()
        else:
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._close_lingering)

    def _answer(self, connection: socket.socket) -> None:
        if self._settings.tls is not None:
            # nothing can be said before a handshake
            return
        with contextlib.suppress(OSError):
            connection.setblocking(False)
            connection.send(_REFUSAL)
            connection.shutdown(socket.SHUT_WR)

    def _close_lingering(self) -> None:
        if self._lingering:
            self._lingering.popleft().close()

    def _accept_on_reserve(self) -> bool:
        """There is no descriptor: answer one connection with a kept one. False when that is not possible either."""
        self._on_limit("descriptors")
        while self._lingering:
            self._lingering.popleft().close()
        if not self._reserve:
            return False
        os.close(self._reserve.pop())
        try:
            connection, address = self._listener.accept()
        except OSError:
            self._refill()
            return False
        if self._settings.serves_on_reserve:
            self._welcome(connection, address[0])
            return True
        self._answer(connection)
        with contextlib.suppress(OSError):
            # bytes that are left unread would turn the close into a reset, which takes the answer with it
            connection.recv(64 * 1024)
        connection.close()
        self._refill()
        return True

    def _pause(self) -> None:
        """The listener stays readable: look again in a moment, and not at once for ever."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener)
        loop.call_later(PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._group is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _refill(self) -> None:
        with contextlib.suppress(OSError):
            while len(self._reserve) < RESERVE:
                self._reserve.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def _close_spare(self) -> None:
        for descriptor in self._reserve:
            os.close(descriptor)
        self._reserve.clear()
        while self._lingering:
            self._lingering.popleft().close()
