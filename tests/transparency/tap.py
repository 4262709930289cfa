"""A tap on a TCP connection: forwards bytes both ways and keeps them, and reads them as HTTP/1.1 exchanges."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from support.rawhttp import Head, Headers

_BODILESS = (204, 304)


@dataclass(frozen=True)
class Message:
    """A request or reply as it was on the wire."""

    line: bytes
    headers: Headers
    body: bytes
    chunks: tuple[int, ...] = ()
    """Sizes of the chunks of a chunked body."""

    def values(self, name: bytes) -> list[bytes]:
        """Values of a header, its name in lower case."""
        return [value for key, value in self.headers if key.lower() == name]


@dataclass(frozen=True)
class Pair:
    """A request and its reply; an exchange that was cut has what came of it."""

    request: Message
    reply: Message | None


@dataclass
class _Connection:
    up: bytearray = field(default_factory=bytearray)
    down: bytearray = field(default_factory=bytearray)


class Tap:
    """Listens on a port, forwards to another, and keeps all bytes."""

    def __init__(self) -> None:
        self.port = 0
        self.target = 0
        self._connections: list[_Connection] = []

    def begin(self, target: int) -> None:
        """Forwards to this port from now on, and forgets what was kept."""
        self.target = target
        for one in self._connections:
            one.up.clear()
            one.down.clear()

    def pairs(self) -> list[Pair]:
        """Every exchange, connection by connection."""
        return [pair for one in self._connections for pair in _pairs(bytes(one.up), bytes(one.down))]

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forwards one connection until both sides have ended."""
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        one = _Connection()
        self._connections.append(one)
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(reader, back, one.up))
            group.create_task(_pump(there, writer, one.down))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            kept += data
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(ConnectionError, RuntimeError):
        writer.close()


@contextlib.asynccontextmanager
async def tapping() -> AsyncIterator[Tap]:
    """A tap on a free port, until the block ends."""
    tap = Tap()
    server = await asyncio.start_server(tap.accept, "127.0.0.1", 0)
    tap.port = server.sockets[0].getsockname()[1]
    try:
        yield tap
    finally:
        server.close()


def _pairs(up: bytes, down: bytes) -> list[Pair]:
    pairs: list[Pair] = []
    while up:
        request, up = _message(up, None)
        reply = None
        if down:
            reply, down = _message(down, request.line.split(b" ")[0])
        pairs.append(Pair(request, reply))
    return pairs


def _message(data: bytes, verb: bytes | None) -> tuple[Message, bytes]:
    """The first message of a stream and the bytes after it. `verb`: of the request that a reply belongs to."""
    raw, _, rest = data.partition(b"\r\n\r\n")
    line, *rows = raw.split(b"\r\n")
    headers = [(name, value.strip(b" \t")) for name, _, value in (row.partition(b":") for row in rows)]
    head = Head(line, headers)
    if verb is not None and (verb == b"HEAD" or int(line.split(b" ")[1]) in _BODILESS):
        return Message(line, headers, b""), rest
    if b"chunked" in head.get(b"transfer-encoding").lower():
        return _chunked(line, headers, rest)
    length = head.get(b"content-length")
    if not length and verb is not None:
        return Message(line, headers, rest), b""
    size = int(length or b"0")
    return Message(line, headers, rest[:size]), rest[size:]


def _chunked(line: bytes, headers: Headers, rest: bytes) -> tuple[Message, bytes]:
    body, sizes = bytearray(), []
    while rest:
        size_line, _, rest = rest.partition(b"\r\n")
        size = int(size_line.split(b";")[0], 16)
        body += rest[:size]
        rest = rest[size + 2 :]
        if not size:
            break
        sizes.append(size)
    return Message(line, headers, bytes(body), tuple(sizes)), rest
