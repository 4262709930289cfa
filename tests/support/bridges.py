"""A stdio upstream for tests: real processes behind it, calls made by hand in front of it."""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from support.limits import HANG_SECONDS
from support.stdio_children import launching
from support.stdio_script import COMMAND
from weir.core.call import Attempt, Call, Headers, Peer, Transport
from weir.core.outcome import Outcome, Replied
from weir.protocol.envelope import NOTHING, peek
from weir.protocol.headers import mcp_headers
from weir.relay.stdio_pipe import Pipe
from weir.relay.stdio_server import StdioSettings, StdioUpstream
from weir.upstream.child import Child, ChildSettings

MODERN = "2026-07-28"
QUICK = ChildSettings(COMMAND, eof_seconds=0.5, term_seconds=0.5)


class Events(list[Any]):
    """What was emitted; an emitter itself."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    def __call__(self, event: Any) -> None:
        """Keep one."""
        self.append(event)
        self._changed.set()

    def of(self, kind: type) -> list[Any]:
        """The events of one type."""
        return [event for event in self if isinstance(event, kind)]

    async def until(self, kind: type, count: int = 1) -> list[Any]:
        """Wait for that many events of one type."""
        async with asyncio.timeout(HANG_SECONDS):
            while len(self.of(kind)) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.of(kind)


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The instant."""
        return self.now


class RecordingSink:
    """A client that reads when it likes: `reads.clear()` stops it."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.chunks: list[bytes] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self._changed = asyncio.Event()

    async def open(self, status: int, headers: Headers) -> None:
        """Note the head."""
        self.status, self.headers = status, headers
        self._changed.set()

    async def write(self, chunk: bytes) -> None:
        """Note a piece of the body, once the client reads."""
        await self.reads.wait()
        self.chunks.append(chunk)
        self._changed.set()

    async def until(self, condition: Callable[["RecordingSink"], bool]) -> None:
        """Wait until the client has seen what it waits for."""
        async with asyncio.timeout(HANG_SECONDS):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    async def messages(self, count: int) -> list[bytes]:
        """The first messages of the stream, when there are that many."""
        await self.until(lambda sink: len(sink.data()) >= count)
        return self.data()

    async def opened(self) -> None:
        """Wait for the head."""
        await self.until(lambda sink: sink.status != 0)

    def data(self) -> list[bytes]:
        """The data of each event so far."""
        blocks = b"".join(self.chunks).replace(b"\r\n", b"\n").split(b"\n\n")
        lines = [line for block in blocks for line in block.split(b"\n") if line.startswith(b"data: ")]
        return [line.removeprefix(b"data: ") for line in lines]


class Client:
    """Makes calls on a bridge as the downstream edge does."""

    def __init__(self, upstream: StdioUpstream, *, address: str = "127.0.0.1") -> None:
        self.upstream = upstream
        self.session = ""
        self.address = address
        self._ids = itertools.count(1)

    def call(
        self, body: bytes = b"", verb: bytes = b"POST", revision: str = "", sink: RecordingSink | None = None
    ) -> Call:
        """A call with this session's header."""
        message = peek(body) if body else NOTHING
        call = Call(
            upstream="script",
            peer=Peer(Transport.HTTP, self.address),
            sink=sink or RecordingSink(),
            received_at=time.monotonic(),
            verb=verb,
            headers=mcp_headers(message),
            body=body,
            message=message,
        )
        call.session = self.session
        call.revision = revision or call.revision
        return call

    async def send(self, call: Call) -> Outcome:
        """The outcome of a call."""
        attempt = Attempt(call, 1, time.monotonic())
        call.attempts.append(attempt)
        return await self.upstream(attempt)

    async def post(self, body: bytes, sink: RecordingSink | None = None, revision: str = "") -> Outcome:
        """POST one body."""
        return await self.send(self.call(body, revision=revision, sink=sink))

    async def get(self, sink: RecordingSink, revision: str = "") -> Outcome:
        """Open the GET stream."""
        return await self.send(self.call(verb=b"GET", sink=sink, revision=revision))

    async def delete(self) -> Outcome:
        """End the session."""
        return await self.send(self.call(verb=b"DELETE"))

    async def initialize(self, revision: str = "2025-11-25") -> Replied:
        """Open a session and keep its id."""
        outcome = await self.post(request("initialize", {"protocolVersion": revision, "capabilities": {}}, 0))
        assert isinstance(outcome, Replied), outcome
        self.session = dict(outcome.headers)[b"mcp-session-id"].decode()
        return outcome

    async def tool(self, name: str, sink: RecordingSink | None = None, **arguments: Any) -> Outcome:
        """Call a tool of the scripted server in the session."""
        return await self.post(tool(name, next(self._ids), **arguments), sink)


def request(method: str, params: object, raw_id: object = 1) -> bytes:
    """A JSON-RPC request."""
    return json.dumps({"jsonrpc": "2.0", "id": raw_id, "method": method, "params": params}).encode()


def notification(method: str, params: object) -> bytes:
    """A JSON-RPC notification."""
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode()


def tool(name: str, raw_id: object = 1, meta: dict[str, Any] | None = None, **arguments: Any) -> bytes:
    """A tools/call for the scripted server."""
    params: dict[str, Any] = {"name": name, "arguments": arguments}
    if meta is not None:
        params["_meta"] = meta
    return request("tools/call", params, raw_id)


def modern(name: str, raw_id: object = 1, meta: dict[str, Any] | None = None, **arguments: Any) -> bytes:
    """A tools/call with the 2026-07-28 envelope."""
    envelope = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    return tool(name, raw_id, {**envelope, **(meta or {})}, **arguments)


def result_text(outcome: Outcome) -> str:
    """The text of a tool's JSON reply."""
    assert isinstance(outcome, Replied), outcome
    assert outcome.body is not None
    return str(json.loads(outcome.body)["result"]["content"][0]["text"])


@contextlib.asynccontextmanager
async def bridge(
    settings: StdioSettings | None = None,
    child: ChildSettings = QUICK,
    emit: Callable[[Any], None] = lambda event: None,
    on_stderr: Callable[[bytes], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[StdioUpstream]:
    """A stdio upstream while the block lasts."""
    ids = itertools.count(1)

    def spawn() -> Pipe:
        return Child("script", child, started_by, emit, on_stderr)

    upstream = StdioUpstream(settings or StdioSettings("script"), spawn, emit, clock, lambda: f"session-{next(ids)}")
    async with launching(emit) as started_by, asyncio.TaskGroup() as tasks:
        tasks.create_task(upstream.run())
        await asyncio.sleep(0)
        try:
            yield upstream
        finally:
            await upstream.aclose()
