"""The HTTP server of one port: uvicorn's, on sockets that are bound already, with limits on what it accepts.

uvicorn takes the process's signals; here the owner of both ports keeps them.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from socket import socket
from typing import Any

import uvicorn

from weir.downstream.acceptor import Acceptor, AcceptSettings, Place
from weir.downstream.exchange import Exchange
from weir.downstream.server import ClientConnection, OnRefused, ServerSettings


class Server(uvicorn.Server):
    """A uvicorn server on sockets that are bound already. It leaves signals to whoever runs it, limits TLS handshakes,
    and tells when its drain cuts calls off."""

    def __init__(self, config: uvicorn.Config, settings: ServerSettings, on_limit: Callable[[str], None]) -> None:
        super().__init__(config)
        self._settings = settings
        self._drain_seconds = settings.drain_seconds
        self._on_limit = on_limit
        self._group: asyncio.TaskGroup | None = None
        self._accepting: list[asyncio.Task[None]] = []
        self._acceptors: list[Acceptor] = []

    @property
    def open_connections(self) -> int:
        """Connections that stand or shake hands."""
        return sum(each.open for each in self._acceptors)

    async def serve(self, sockets: list[socket] | None = None) -> None:
        """Serve until `should_exit`."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await super().serve(sockets)
            finally:
                self._stop_accepting()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signals."""
        yield

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen. A handshake has the time of a head."""
        assert self._group is not None
        settings = self._settings
        accepting = AcceptSettings(
            settings.connections,
            settings.connections_of_one_client,
            settings.tls,
            settings.head_seconds if settings.tls is not None else None,
            settings.spares,
            settings.serves_on_reserve,
        )
        for each in sockets or []:
            acceptor = Acceptor(each, accepting, self._make, self._on_limit)
            self._acceptors.append(acceptor)
            self._accepting.append(self._group.create_task(acceptor.run()))
        # uvicorn looks after servers of the loop's, and there are none
        self.servers = []
        self.started = True

    def _make(self, place: Place) -> Any:
        connection: Any = self.config.http_protocol_class
        return connection(place, config=self.config, server_state=self.server_state, app_state={})

    def _stop_accepting(self) -> None:
        for acceptor in self._acceptors:
            acceptor.stop()
        for task in self._accepting:
            task.cancel()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Take nothing new, let what is being answered end, and end what still runs after `drain_seconds`."""
        self._stop_accepting()
        for each in sockets or []:
            each.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self._drain_seconds):
                await self._wait_tasks_to_complete()
        except TimeoutError:
            if self.server_state.tasks:
                self._on_limit("drain_deadline")
            for task in self.server_state.tasks:
                task.cancel("the drain's deadline has passed")


def build_server(
    app: Callable[[Exchange], Awaitable[None]],
    settings: ServerSettings,
    on_limit: Callable[[str], None],
    on_refused: OnRefused = lambda status, reason, address: None,
) -> Server:
    """Returns a server that hands each exchange to `app`; `on_limit` is told each limit that a client runs into.

    `on_refused` is told status, reason and client of each request that is refused before it is an exchange.
    """
    tls = settings.tls
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=partial(ClientConnection, settings, on_limit, on_refused),  # type: ignore[arg-type]  # only ever called
        ws="none",
        lifespan="off",
        loop="none",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ssl_context_factory=(lambda _config, _default: tls) if tls is not None else None,
    )
    return Server(config, settings, on_limit)
