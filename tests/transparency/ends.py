"""The two ends of a conversation, on either transport: a client that says exactly what it is told and keeps what it
hears, and a server that does the same. A driver (conversation.py) makes both speak one transcript."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from support.rawhttp import JSON_POST, LIMIT_SECONDS, Exchange, ScriptedServer, ask, fetch
from transparency.headers import routing_headers

PIPE_SERVER = [sys.executable, str(Path(__file__).with_name("pipe_server.py"))]
_LINE_BYTES = 1 << 24


@dataclass
class Heard:
    """A message as it arrived; on HTTP with what carried it."""

    body: bytes
    exchange: Exchange | None = None


class Client(Protocol):
    """The asking end."""

    inbox: asyncio.Queue[bytes]

    async def say(self, body: bytes) -> None:
        """Send one message."""

    async def listen(self) -> None:
        """Open the stream for what the server says by itself, where the transport has one."""


class Server(Protocol):
    """The answering end. `on` is the id text of the request that a message belongs to, b"" for none."""

    inbox: asyncio.Queue[Heard]

    async def say(self, body: bytes, on: bytes, *, is_last: bool) -> None:
        """Send one message."""


def kind_of(body: bytes) -> str:
    """request, notification, response, batch, or opaque."""
    try:
        message: Any = json.loads(body)
    except ValueError:
        return "opaque"
    if isinstance(message, list):
        return "batch"
    if "method" in message:
        return "request" if "id" in message else "notification"
    return "response"


def identity(body: bytes) -> bytes:
    """The id text of a request or response; a batch goes by its first request's."""
    message = json.loads(body)
    if isinstance(message, list):
        message = next((one for one in message if "id" in one), {})
    return json.dumps(message.get("id")).encode()


def events(stream: bytes) -> list[bytes]:
    """The messages of a piece of an SSE stream."""
    found = []
    for event in stream.replace(b"\r\n", b"\n").split(b"\n\n"):
        data = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
        if any(data):
            found.append(b"\n".join(data))
    return found


class HttpClient:
    """A Streamable HTTP client: one POST a message, all replies and streams into one inbox."""

    def __init__(self, port: int, group: asyncio.TaskGroup) -> None:
        self.inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._port = port
        self._group = group
        self._session: list[tuple[bytes, bytes]] = []
        self._revision = b""
        self._tasks: list[asyncio.Task[None]] = []
        self.statuses: list[int] = []

    async def say(self, body: bytes) -> None:
        """POST it; what comes back arrives in the inbox."""
        self._tasks.append(self._group.create_task(self._post(body)))

    async def _post(self, body: bytes) -> None:
        headers = [*JSON_POST, *self._session, *routing_headers(body, self._revision)]
        async with ask(self._port, "POST", "/mcp", headers, body) as answer:
            self.statuses.append(answer.head.status)
            if session := answer.head.get(b"mcp-session-id"):
                self._session = [(b"Mcp-Session-Id", session)]
            if answer.head.get(b"content-type").startswith(b"text/event-stream"):
                await self._stream(answer)
            elif reply := await answer.rest():
                self._note_revision(reply)
                await self.inbox.put(reply)

    async def _stream(self, answer: Any) -> None:
        while event := await answer.event():
            for message in events(event):
                self._note_revision(message)
                await self.inbox.put(message)

    def _note_revision(self, reply: bytes) -> None:
        if b'"protocolVersion"' in reply and kind_of(reply) == "response":
            self._revision = json.loads(reply).get("result", {}).get("protocolVersion", "").encode()

    async def listen(self) -> None:
        """Open the GET stream and wait for its head."""
        is_open = asyncio.Event()
        self._tasks.append(self._group.create_task(self._get(is_open)))
        await is_open.wait()

    async def _get(self, is_open: asyncio.Event) -> None:
        headers = [(b"Accept", b"text/event-stream"), *self._session]
        if self._revision:
            headers.append((b"MCP-Protocol-Version", self._revision))
        async with ask(self._port, "GET", "/mcp", headers) as answer:
            assert 200 == answer.head.status
            is_open.set()
            await self._stream(answer)

    async def close(self) -> None:
        """End the session, as a polite client does, and drop what is still open."""
        for task in self._tasks:
            task.cancel()
        if self._session:
            await fetch(self._port, "DELETE", "/mcp", self._session)


class StdioClient:
    """A client on the pipes of a process that serves it."""

    def __init__(self, process: asyncio.subprocess.Process, group: asyncio.TaskGroup) -> None:
        self.inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._process = process
        self._reading = group.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            await self.inbox.put(line.rstrip(b"\n"))

    async def say(self, body: bytes) -> None:
        """Write one line."""
        assert self._process.stdin is not None
        self._process.stdin.write(body + b"\n")
        await self._process.stdin.drain()

    async def listen(self) -> None:
        """Nothing to open: everything comes on stdout."""

    async def close(self) -> int:
        """End of input; wait for the process to end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        code = await self._process.wait()
        await self._reading
        return code


@contextlib.asynccontextmanager
async def stdio_client(argv: Sequence[str | Path], log: Path, group: asyncio.TaskGroup) -> AsyncIterator[StdioClient]:
    """A client of a process started for it."""
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors, limit=_LINE_BYTES
        )
        client = StdioClient(process, group)
        try:
            yield client
            async with asyncio.timeout(LIMIT_SECONDS):
                assert 0 == await client.close(), f"see {log}"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


class HttpServer:
    """A Streamable HTTP server: JSON when the answer comes first, else SSE; one GET stream."""

    def __init__(self, listener: ScriptedServer) -> None:
        self.inbox: asyncio.Queue[Heard] = asyncio.Queue()
        self.listener = listener
        self.deleted = 0
        self._open: dict[bytes, Exchange] = {}
        self._streaming: set[bytes] = set()
        self._get: Exchange | None = None
        self._has_get = asyncio.Event()
        listener.script = self._serve

    async def _serve(self, exchange: Exchange) -> None:
        verb = exchange.request.verb
        if verb == b"GET":
            await exchange.open()
            self._get = exchange
            self._has_get.set()
            await exchange.gone()
        elif verb == b"DELETE":
            self.deleted += 1
            await exchange.reply(200)
        else:
            await self._take(exchange)

    async def _take(self, exchange: Exchange) -> None:
        body = exchange.request.body
        await self.inbox.put(Heard(body, exchange))
        if kind_of(body) in ("notification", "response"):
            await exchange.reply(202)
            return
        self._open[identity(body)] = exchange
        await exchange.answered.wait()

    async def say(self, body: bytes, on: bytes, *, is_last: bool) -> None:
        """On the request's own reply, else on the GET stream."""
        if not on:
            await self._has_get.wait()
            assert self._get is not None
            await self._get.write(b"data: %b\n\n" % body)
            return
        exchange = self._open[on]
        if is_last and on not in self._streaming:
            await exchange.json(body, headers=self._session_of(exchange))
        else:
            await self._stream(exchange, on, body, is_last=is_last)
        if is_last:
            del self._open[on]
            self._streaming.discard(on)
            exchange.answered.set()

    async def _stream(self, exchange: Exchange, on: bytes, body: bytes, *, is_last: bool) -> None:
        if on not in self._streaming:
            self._streaming.add(on)
            await exchange.open(200, [(b"content-type", b"text/event-stream"), *self._session_of(exchange)])
        await exchange.write(b"event: message\ndata: %b\n\n" % body)
        if is_last:
            await exchange.end()

    def _session_of(self, exchange: Exchange) -> list[tuple[bytes, bytes]]:
        is_opening = b'"initialize"' in exchange.request.body
        return [(b"mcp-session-id", b"5e55-1011")] if is_opening else []


class StdioServer:
    """A stdio server whose pipes end here (pipe_server.py); the child that heard the last message speaks next."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.inbox: asyncio.Queue[Heard] = asyncio.Queue()
        self.port = 0
        self._group = group
        self._writer: asyncio.StreamWriter | None = None

    @property
    def argv(self) -> list[str]:
        """The command that is this server."""
        return [*PIPE_SERVER, str(self.port)]

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A child has started."""
        self._group.create_task(self._read(reader, writer))

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                self._writer = writer
                await self.inbox.put(Heard(line.rstrip(b"\n")))
        writer.transport.abort()

    async def say(self, body: bytes, on: bytes, *, is_last: bool) -> None:
        """Write one line, whatever it belongs to."""
        assert self._writer is not None
        self._writer.write(body + b"\n")
        await self._writer.drain()


@contextlib.asynccontextmanager
async def stdio_server(group: asyncio.TaskGroup) -> AsyncIterator[StdioServer]:
    """A stdio server to start with its `argv`."""
    server = StdioServer(group)
    listener = await asyncio.start_server(server.connected, "127.0.0.1", 0, limit=_LINE_BYTES)
    server.port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield server
