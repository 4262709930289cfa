"""HTTP/1.1 as bytes, both ends: a server that records what it got and says exactly what a test scripts, and a client
that sends exactly what it is told and keeps what it got. Nothing is added, normalised or interpreted."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from support.limits import HANG_SECONDS

Headers = Sequence[tuple[bytes, bytes]]

LIMIT_SECONDS = HANG_SECONDS
"""No exchange of a test takes longer; a hang is a failed test."""
_BUFFER_BYTES = 1 << 18
"""A head fits; and a side that does not read makes the other one wait soon."""
_BODILESS = (204, 304)


class NoReplyError(Exception):
    """The peer closed the connection before a whole head, or before the body that the head promised."""


@dataclass(frozen=True)
class Head:
    """A request line or status line, and the headers as they came."""

    line: bytes
    headers: Headers

    def get(self, name: bytes) -> bytes:
        """The first value of a header, b"" when absent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), b"")

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass(frozen=True)
class Request(Head):
    """What the scripted server got."""

    body: bytes = b""

    @property
    def verb(self) -> bytes:
        """GET, POST, ..."""
        return self.line.split(b" ")[0]

    @property
    def target(self) -> bytes:
        """Path and query as on the wire."""
        return self.line.split(b" ")[1]


@dataclass(frozen=True)
class Reply(Head):
    """What the client got, the transfer coding undone."""

    body: bytes = b""

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.line.split(b" ")[1])


def abort(transport: asyncio.WriteTransport) -> None:
    """Close at once. asyncio's own transports fail when they had been closed with something left to send."""
    if transport.get_write_buffer_size() or not transport.is_closing():
        transport.abort()


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """A head, or None when the peer closed before a byte of it.

    Raises:
        NoReplyError: it closed within the head.
    """
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise NoReplyError(repr(error.partial)) from error
        return None
    line, *rows = raw[:-4].split(b"\r\n")
    pairs = (row.split(b":", 1) for row in rows)
    return Head(line, [(name, value.strip(b" \t")) for name, value in pairs])


async def read_chunks(reader: asyncio.StreamReader, head: Head, *, until_close: bool) -> AsyncIterator[bytes]:
    """The pieces of a body as its head frames it; chunk by chunk when chunked.

    Raises:
        NoReplyError: the peer closed before the end.
    """
    try:
        if head.get(b"transfer-encoding").lower() == b"chunked":
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                yield (await reader.readexactly(size + 2))[:-2]
            await reader.readuntil(b"\r\n")
        elif length := head.get(b"content-length"):
            yield await reader.readexactly(int(length))
        elif until_close:
            while piece := await reader.read(65536):
                yield piece
    except asyncio.IncompleteReadError as error:
        raise NoReplyError(f"the body ended early: {error.partial[-200:]!r}") from error


class Exchange:
    """One request at the scripted server, and the means to answer it."""

    def __init__(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.reader = reader
        self.writer = writer
        self.answered = asyncio.Event()

    async def raw(self, data: bytes) -> None:
        """Write bytes to the connection as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, status: int, headers: Headers = (), body: bytes = b"") -> None:
        """A complete reply with its length."""
        await self.raw(_head(f"HTTP/1.1 {status} Scripted", [*headers, (b"content-length", b"%d" % len(body))]) + body)

    async def json(self, body: bytes, status: int = 200, headers: Headers = ()) -> None:
        """A complete JSON reply."""
        await self.reply(status, [(b"content-type", b"application/json"), *headers], body)

    async def open(self, status: int = 200, headers: Headers = ((b"content-type", b"text/event-stream"),)) -> None:
        """The head of a chunked reply."""
        await self.raw(_head(f"HTTP/1.1 {status} Scripted", [*headers, (b"transfer-encoding", b"chunked")]))

    async def write(self, data: bytes) -> None:
        """One chunk."""
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        """The last chunk."""
        await self.raw(b"0\r\n\r\n")

    async def gone(self) -> None:
        """Wait until the peer has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def abort(self) -> None:
        """Close the connection at once."""
        self.writer.transport.abort()


Script = Callable[[Exchange], Awaitable[None]]


async def unscripted(exchange: Exchange) -> None:
    """The script of a server that has none."""
    await exchange.reply(500, [], b"unscripted " + exchange.request.line)


@dataclass
class ScriptedServer:
    """A server on 127.0.0.1 that runs `script` for each request and records all in `got`; port 0: any that is free."""

    script: Script = unscripted
    got: list[Request] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    port: int = 0
    tls: ssl.SSLContext | None = None
    connections: int = 0
    _group: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)
    _server: asyncio.Server | None = None
    _is_closing: bool = False
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", self.port, limit=_BUFFER_BYTES, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._is_closing = True
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(kind, error, trace)

    @property
    def url(self) -> str:
        """Its MCP address."""
        return f"http://127.0.0.1:{self.port}/mcp"

    def stop_listening(self) -> None:
        """Refuse new connections; those that are open go on."""
        assert self._server is not None
        self._server.close()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_closing:
            # accepted while the server was closing
            writer.transport.abort()
            return
        self.connections += 1
        task = self._group.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # not in the task itself: one that is cancelled before it has begun never runs
        task.add_done_callback(lambda _: abort(writer.transport))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await read_head(reader):
                body = b"".join([piece async for piece in read_chunks(reader, head, until_close=False)])
                request = Request(head.line, head.headers, body)
                self.got.append(request)
                await self.script(Exchange(request, reader, writer))
        except (ConnectionError, NoReplyError):
            pass
        except Exception as error:  # noqa: BLE001 - a script that fails must fail its test, not the server's group
            self.errors.append(error)


class Answer:
    """A reply that the client reads while it arrives."""

    def __init__(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = Reply(head.line, head.headers)
        self._writer = writer
        self._chunks = read_chunks(reader, head, until_close=self.head.status not in _BODILESS)
        self._buffer = b""

    async def chunk(self) -> bytes:
        """The next piece of the body, b"" at its end."""
        async with asyncio.timeout(LIMIT_SECONDS):
            return await anext(self._chunks, b"")

    async def event(self) -> bytes:
        """The bytes up to and including the blank line that ends the next event (either line ending); what is left at
        the end. A blank line after which nothing has begun ends none.
        """
        while not (end := _event_end(self._buffer.lstrip(b"\r\n"))):
            if not (piece := await self.chunk()):
                end = len(self._buffer)
                break
            self._buffer += piece
        buffer = self._buffer.lstrip(b"\r\n")
        event, self._buffer = buffer[:end], buffer[end:]
        return event

    async def rest(self) -> bytes:
        """All that is left of the body."""
        pieces, self._buffer = [self._buffer], b""
        while piece := await self.chunk():
            pieces.append(piece)
        return b"".join(pieces)

    def drop(self) -> None:
        """Close the connection at once, as a client that vanishes does."""
        abort(self._writer.transport)


def _event_end(buffer: bytes) -> int:
    ends = [at + len(gap) for gap in (b"\n\n", b"\r\n\r\n") if (at := buffer.find(gap)) >= 0]
    return min(ends, default=0)


def _head(line: str, headers: Headers) -> bytes:
    return line.encode() + b"\r\n" + b"".join(b"%b: %b\r\n" % pair for pair in headers) + b"\r\n"


def request_bytes(verb: str, target: str, headers: Headers = (), body: bytes = b"") -> bytes:
    """A request as it stands on the wire; Host and Content-Length are added when the headers bring none."""
    names = {name.lower() for name, _ in headers}
    extra = [] if b"host" in names else [(b"Host", b"127.0.0.1")]
    if body and not names & {b"content-length", b"transfer-encoding"}:
        extra.append((b"Content-Length", b"%d" % len(body)))
    return _head(f"{verb} {target} HTTP/1.1", [*extra, *headers]) + body


@contextlib.asynccontextmanager
async def ask(
    port: int, verb: str, target: str = "/mcp", headers: Headers = (), body: bytes = b""
) -> AsyncIterator[Answer]:
    """Send one request on a connection of its own; yields when the reply's head is there.

    Raises:
        NoReplyError: the server closed without a whole head.
    """
    async with connection(port) as (reader, writer):
        writer.write(request_bytes(verb, target, headers, body))
        async with asyncio.timeout(LIMIT_SECONDS):
            yield Answer(await await_head(reader), reader, writer)


async def await_head(reader: asyncio.StreamReader) -> Head:
    """The head of a reply, interim ones (1xx) skipped.

    Raises:
        NoReplyError: the server closed instead.
    """
    async with asyncio.timeout(LIMIT_SECONDS):
        while head := await read_head(reader):
            if not head.line.startswith(b"HTTP/1.1 1"):
                return head
    raise NoReplyError("closed without a reply")


@contextlib.asynccontextmanager
async def connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection, closed at once when the block ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_BUFFER_BYTES)
    try:
        yield reader, writer
    finally:
        abort(writer.transport)


async def fetch(port: int, verb: str, target: str = "/mcp", headers: Headers = (), body: bytes = b"") -> Reply:
    """One whole exchange on a connection of its own."""
    async with ask(port, verb, target, headers, body) as answer:
        return Reply(answer.head.line, answer.head.headers, await answer.rest())


JSON_POST: Headers = (
    (b"Content-Type", b"application/json"),
    (b"Accept", b"application/json, text/event-stream"),
)
"""What every MCP client sends with a POST."""


async def post(port: int, body: bytes, headers: Headers = (), target: str = "/mcp") -> Reply:
    """One MCP POST."""
    return await fetch(port, "POST", target, [*JSON_POST, *headers], body)
