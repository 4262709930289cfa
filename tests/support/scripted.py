"""HTTP servers that do exactly what a test tells them, byte by byte, on loopback."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from support.limits import HANG_SECONDS
from support.rawhttp import abort

ENOUGH_SECONDS = HANG_SECONDS
"""Nothing on loopback takes that long: a test that waits longer has failed."""


class Visit:
    """One connection a client has made. `number` counts from 1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader = reader
        self.writer = writer
        self.number = number

    async def request(self) -> tuple[bytes, bytes]:
        """The head and the body of the next request.

        Raises:
            asyncio.IncompleteReadError: the client has closed the connection.
        """
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return head, await self.reader.readexactly(length)

    async def send(self, *pieces: bytes) -> None:
        """Write, each piece by itself."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def answer(self, body: bytes, *headers: bytes, status: bytes = b"200 OK") -> None:
        """A plain reply with a length."""
        lines = [b"HTTP/1.1 " + status, b"Content-Type: application/json", *headers]
        lines.append(b"Content-Length: %d\r\n\r\n" % len(body))
        await self.send(b"\r\n".join(lines) + body)

    async def chunk(self, data: bytes) -> None:
        """One chunk of a chunked body; an empty one ends it."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Visit], Awaitable[None]]


class Scripted:
    """A running server: its port, how many connections it has had, and how many have been closed by the client."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._visits: list[Visit] = []
        self._moved = asyncio.Condition()
        self._running = 0
        self.port = 0
        self.errors: list[BaseException] = []

    @property
    def connections(self) -> int:
        """Connections accepted so far."""
        return len(self._visits)

    def url(self, scheme: str = "http", host: str = "127.0.0.1") -> str:
        """Where it listens."""
        return f"{scheme}://{host}:{self.port}"

    async def finished(self) -> None:
        """Wait until every script has ended."""
        async with asyncio.timeout(ENOUGH_SECONDS), self._moved:
            await self._moved.wait_for(lambda: self._running == 0)

    async def serve(self, visit: Visit) -> None:
        """Play the script on one connection, then close it."""
        try:
            await self._script(visit)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        except Exception as error:  # noqa: BLE001 - shown when the server is closed
            self.errors.append(error)
        finally:
            visit.writer.close()
            self._running -= 1
        async with self._moved:
            self._moved.notify_all()

    def visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Visit:
        """Note a new connection."""
        visit = Visit(reader, writer, len(self._visits) + 1)
        self._visits.append(visit)
        self._running += 1
        return visit

    def hang_up(self) -> None:
        """Close whatever is still open."""
        for visit in self._visits:
            abort(visit.writer.transport)


@contextlib.asynccontextmanager
async def scripted(
    script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Scripted]:
    """A server that plays `script` on every connection. Errors inside the script fail the test."""
    running = Scripted(script)
    tasks: list[asyncio.Task[None]] = []
    async with asyncio.TaskGroup() as group:

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.append(group.create_task(running.serve(running.visited(reader, writer))))

        server = await asyncio.start_server(connected, host, 0, ssl=tls, limit=1024 * 1024)
        running.port = server.sockets[0].getsockname()[1]
        try:
            yield running
        finally:
            server.close()
            running.hang_up()
            for task in tasks:
                task.cancel()
    if running.errors:
        raise running.errors[0]


@contextlib.contextmanager
def black_hole() -> Iterator[tuple[str, int]]:
    """An address that swallows connection attempts: a listener whose queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()
