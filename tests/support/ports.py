"""The HTTP server by itself: on a free port of 127.0.0.1, with a tiny application behind it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Any

from support.limits import HANG_SECONDS
from weir.app.listen import bind
from weir.config.quantities import Address
from weir.downstream.exchange import Exchange
from weir.downstream.server import ServerSettings
from weir.downstream.serving import Server, build_server

LIMIT = 1_000_000
"""Bytes that `echo` takes."""


class Port:
    """A running server, and what it said about limits."""

    def __init__(self, server: Server, port: int, limits: list[str]) -> None:
        self.server = server
        self.port = port
        self.limits = limits

    async def ask_slowly(self, request: bytes) -> bytes:
        """The same, a byte at a time."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(HANG_SECONDS):
                for number in range(len(request)):
                    writer.write(request[number : number + 1])
                    await asyncio.sleep(0)
                return await reader.read()
        finally:
            writer.close()

    async def ask(self, request: bytes) -> bytes:
        """Send bytes and read until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        try:
            async with asyncio.timeout(HANG_SECONDS):
                return await reader.read()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def serving(app: Any, *, send_buffer: int = 0, **limits: Any) -> AsyncIterator[Port]:
    """The server, with these settings."""
    reached: list[str] = []
    listener = bind(Address("127.0.0.1", 0), "test")
    if send_buffer:
        # the connections inherit it
        listener.setsockopt(SOL_SOCKET, SO_SNDBUF, send_buffer)
    server = build_server(app, ServerSettings("127.0.0.1", 0, **limits), reached.append)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(sockets=[listener]))
        try:
            yield Port(server, listener.getsockname()[1], reached)
        finally:
            server.should_exit = True


async def echo(exchange: Exchange) -> None:
    """Answer with the request's body."""
    body = await exchange.body(LIMIT)
    exchange.reply(200, [(b"content-length", b"%d" % len(body))], body)


def post(body: bytes, *headers: bytes, close: bool = True) -> bytes:
    """A POST as bytes."""
    lines = [b"POST /mcp HTTP/1.1", b"host: localhost", b"content-length: %d" % len(body), *headers]
    if close:
        lines.append(b"connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
